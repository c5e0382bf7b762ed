"""The overlay that is a host's root file system, and finding and undoing what is mounted or looped below it."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from .errors import LabError
from .processes import run


class Mount(NamedTuple):
    """One line of the mount table."""

    point: Path
    kind: str
    options: str


def table() -> list[Mount]:
    """Return the mount table of this process, oldest mount first."""
    mounts = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, after = line.split(" - ")
        kind, _, options = after.split(" ", 2)
        # The kernel writes blanks and the like in paths as octal escapes.
        point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), before.split()[4])
        mounts.append(Mount(Path(point), kind, options))
    return mounts


def file_system(path: Path) -> str:
    """Return the type of the file system that holds ``path`` or would hold it."""
    return max((m for m in table() if path.is_relative_to(m.point)), key=lambda m: len(m.point.parts)).kind


def mount_overlay(lower: Path, directory: Path) -> Path:
    """Mount ``directory``/root as a writable view of ``lower``, and return it; does nothing when it is mounted."""
    root, upper, work = (directory / part for part in ("root", "upper", "work"))
    if any(mount.point == root for mount in table()):
        return root
    for part in (root, upper, work):
        part.mkdir(parents=True, exist_ok=True)
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    run(["mount", "-t", "overlay", "overlay", "-o", options, str(root)])
    return root


def _release_loops(root: Path) -> None:
    """Detach loop devices whose file lies on the file system mounted at ``root``; they would keep it alive."""
    device = os.stat(root).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in run(["losetup", "--list", "--noheadings", "--output", "NAME,BACK-MAJ:MIN"]).stdout.splitlines():
        name, *backing = line.split()
        if backing == [wanted]:
            run(["losetup", "--detach", name])


def unmount_below(directory: Path) -> None:
    """Unmount everything at and below ``directory``, newest first."""
    for mount in reversed(table()):
        if mount.point.is_relative_to(directory):
            _release_loops(mount.point)
            if run(["umount", str(mount.point)], check=False).returncode != 0:
                run(["umount", "--lazy", str(mount.point)])


def remove_tree(directory: Path) -> None:
    """Delete a directory of the lab; raises LabError rather than deleting through a mount."""
    if any(mount.point.is_relative_to(directory) for mount in table()):
        raise LabError(f"{directory} is not deleted: something is still mounted there")
    if directory.exists():
        shutil.rmtree(directory)
