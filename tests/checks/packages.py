# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Debian packages that the checks need, installed where they are missing."""

from __future__ import annotations

import os
import subprocess
import sys

from . import places
from .process import CheckError, Log

_OWN = ["git", "python3-venv"]
# With which the inventory plugin asks the hosts of the lab: PyPI has its bindings as sources only.
_CONTROL_NODE = ["python3-libvirt"]
_LAB = places.ROOT / "tests" / "lab" / "lab"


def missing(lab: bool) -> list[str]:
    """Return what this machine lacks, also for the lab if that is needed."""
    names = [*_OWN, *_CONTROL_NODE, *_of_lab()] if lab else _OWN
    show = ["dpkg-query", "--show", "--showformat=${db:Status-Status} ${Package}\\n", *names]
    # It fails when a name is unknown, and lists the others all the same.
    listed = subprocess.run(show, check=False, capture_output=True, text=True).stdout.splitlines()
    return [name for name in names if f"installed {name}" not in listed]


def install(log: Log, names: list[str]) -> None:
    """Install packages, or say which ones to whoever may not."""
    if not names:
        return
    if os.geteuid() != 0:
        raise CheckError(f"run as root: apt-get install --no-install-recommends {' '.join(names)}")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *names]):
        log.run(["apt-get", "--quiet", *command], cwd=places.ROOT, environ=environ)


def _of_lab() -> list[str]:
    command = [sys.executable, str(_LAB), "requirements", "--packages"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()
