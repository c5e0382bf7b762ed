# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where things are, and the environment that every program of the checks gets."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = Path(__file__).resolve().parent / "requirements"

# Settings of whoever runs the checks that would change what the checks see.
_FOREIGN = ("ANSIBLE_", "GALAXY_", "MOLECULE_", "PYENV_", "PYTEST_", "PYTHON", "VIRTUAL_ENV", "MYPY", "RUFF_", "XDG_")


def cache() -> Path:
    """Return the directory for everything that can be made again; the lab keeps its images in the same one."""
    given = os.environ.get("MODELFLEET_LAB_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(given).resolve() if given else Path(base).resolve() / "modelfleet-kvm"


def checkout_id() -> str:
    """Return a short name for this checkout, so that two of them share environments but not copies or logs."""
    return hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]


def real_path() -> str:
    """Return PATH without the shims of version managers.

    A shim answers for interpreters that are not there: ansible-test and Ansible's interpreter discovery
    take it for a Python and fail.
    """
    parts = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return os.pathsep.join(part for part in parts if "shims" not in Path(part).parts)


def interpreter(version: str) -> str | None:
    """Return a Python of this version if the machine has one, in PATH or behind a version manager's shims."""
    path = os.environ.get("PATH", os.defpath).split(os.pathsep)
    managed = [found for part in path for found in Path(part).parent.glob(f"versions/{version}.*/bin")]
    return shutil.which(f"python{version}", path=os.pathsep.join([real_path(), *map(str, managed)]))


def environ(home: Path, programs: Path) -> dict[str, str]:
    """Return the environment for a program: the caller's, less what would bend results, with a home of our own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {
        **kept,
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "MODELFLEET_LAB_CACHE": str(cache()),
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{programs}{os.pathsep}{real_path()}",
    }


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a directory in the cache that is about to be made or changed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
