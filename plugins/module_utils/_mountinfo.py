# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mount table, of the host and of a guest: parsing of mountinfo.

This module util is private to the collection.
"""

from __future__ import annotations

import re
import typing as t

# The kernel writes these of a path as three octal digits each.
_ESCAPES = {ord(character): f"\\{ord(character):03o}" for character in " \t\n\\"}
_OCTAL = re.compile(r"\\([0-7]{3})")


class Mount(t.NamedTuple):
    """One line of C(/proc/PID/mountinfo) (proc(5)).

    `device` is the C(major:minor) of the file system, `root` the directory of it that is visible at
    `mount_point`, `options` are those of the mount, `super_options` those of the file system.
    """

    mount_id: int
    parent_id: int
    device: str
    root: str
    mount_point: str
    options: frozenset[str]
    propagation: str
    fstype: str
    source: str
    super_options: frozenset[str] = frozenset()

    @property
    def read_only(self) -> bool:
        """Whether nothing can be written through it: binds and CIFS say so of the mount, FUSE of the file system."""
        return "ro" in self.options or "ro" in self.super_options

    @property
    def shows(self) -> tuple[str, str]:
        """What is visible, wherever it is mounted: the file system and the directory of it."""
        return self.device, self.root


def parse(text: str) -> list[Mount]:
    """All mounts of a mount table in its order; lines that are not mountinfo are left out.

    Only a newline ends a line: the kernel writes other line separators of a path as they are. The text may come from
    a hostile guest: it is parsed, never trusted.
    """
    mounts = []
    for line in text.split("\n"):
        fields = line.split(" ")
        try:
            separator = fields.index("-", 6)
            mounts.append(
                Mount(
                    int(fields[0]),
                    int(fields[1]),
                    fields[2],
                    _unescaped(fields[3]),
                    _unescaped(fields[4]),
                    frozenset(fields[5].split(",")),
                    " ".join(fields[6:separator]),
                    fields[separator + 1],
                    _unescaped(fields[separator + 2]),
                    frozenset(fields[separator + 3].split(",")) if len(fields) > separator + 3 else frozenset(),
                )
            )
        except (ValueError, IndexError):
            continue
    return mounts


def visible(mounts: list[Mount], path: str) -> t.Optional[Mount]:
    """The mount that is seen at a path: of several over one another the one that came last."""
    found = None
    for mount in mounts:
        if mount.mount_point == path:
            found = mount
    return found


def stack(mounts: list[Mount], path: str) -> list[Mount]:
    """All mounts over one another at a path, the one that is seen last."""
    return [mount for mount in mounts if mount.mount_point == path]


def shadow(mounts: list[Mount], mount: Mount) -> t.Optional[Mount]:
    """The mount at a directory further up that hides a mount, None when it can be seen."""
    by_id = {other.mount_id: other for other in mounts}
    seen: set[int] = set()
    while mount.mount_id not in seen:
        seen.add(mount.mount_id)
        for other in mounts:
            if other.parent_id == mount.parent_id and _is_below(mount.mount_point, other.mount_point):
                return other
        if mount.parent_id not in by_id:
            break
        mount = by_id[mount.parent_id]
    return None


def holds(mount_point: str, path: str) -> bool:
    """Whether a path is a mount point, or lies below it."""
    return path == mount_point or _is_below(path, mount_point)


def _is_below(path: str, directory: str) -> bool:
    return path != directory and path.startswith(f"{directory.rstrip('/')}/")


def read(pid: t.Union[int, str] = "self") -> list[Mount]:
    """The mount table of a process of this host, empty when the process is gone."""
    return parse(_table(pid))


def at(path: str) -> list[Mount]:
    """All mounts of this host over one another at a path, the one that is seen last.

    Tables are long where VMs have many models, and of this one only the lines that may be meant are parsed.
    """
    written = path.translate(_ESCAPES)
    return stack(parse("\n".join(line for line in _table("self").split("\n") if f" {written} " in line)), path)


def _table(pid: t.Union[int, str]) -> str:
    try:
        with open(f"/proc/{pid}/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as table:
            return table.read()
    except OSError:
        # EINVAL among others: the process is on its way out.
        return ""


def _unescaped(field: str) -> str:
    if "\\" not in field:
        return field
    return _OCTAL.sub(lambda match: chr(int(match.group(1), 8) & 0xFF), field)
