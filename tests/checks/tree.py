# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies of the sources where Ansible's tools look for collections.

A clone can lie anywhere, but the tools want `ansible_collections/modelfleet/kvm`. A link would not do, since
ansible-test follows it.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from . import places

COLLECTION = Path("ansible_collections") / "modelfleet" / "kvm"

# Programs for developers, that only run where the checks run. ansible-test judges what is published, and its tests;
# these are judged by ruff and mypy.
_DEVELOPMENT = ("tests/bench/", "tests/browser/", "tests/checks/", "tests/demo/", "tests/lab/")


def make(purpose: str = "") -> Path:
    """Bring a copy up to date and return the directory for ANSIBLE_COLLECTIONS_PATH.

    Args:
        purpose: A name of the copy's own, for a tool that writes into the tree and must not meet another there,
            without the programs for developers. Nothing: the copy for everybody, with all sources.
    """
    root = places.cache() / "trees" / f"{places.checkout_id()}{purpose and '-'}{purpose}"
    wanted = [path for path in sources() if not (purpose and path.startswith(_DEVELOPMENT))]
    with places.locked(root):
        _copy(places.ROOT, root / COLLECTION, wanted)
    return root


def sources() -> list[str]:
    """Return what git knows or would add, as far as it exists."""
    # The clone may belong to somebody else than root, which git distrusts unless told otherwise.
    git = ["git", "-c", f"safe.directory={places.ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=places.ROOT, check=True, capture_output=True, text=True).stdout
    names = sorted(set(filter(None, listed.split("\0"))))
    return [name for name in names if (places.ROOT / name).is_symlink() or (places.ROOT / name).is_file()]


def _copy(source: Path, target: Path, names: list[str]) -> None:
    """Make target hold these files and no others; those that did not change are left alone."""
    wanted = {target / name for name in names}
    for name in names:
        old, new = source / name, target / name
        if _same(old, new):
            continue
        new.parent.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        shutil.copy2(old, new, follow_symlinks=False)
    for path in sorted(target.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif path not in wanted:
            path.unlink()


def _same(old: Path, new: Path) -> bool:
    """Tell whether a file was copied before and neither side changed since."""
    try:
        before, after = old.lstat(), new.lstat()
    except FileNotFoundError:
        return False
    return (before.st_mode, before.st_size, before.st_mtime_ns) == (after.st_mode, after.st_size, after.st_mtime_ns)
