"""Names and places of everything the lab makes, in one file so that cleaning up can find all of it.

A lab called ``dev`` with a host ``alpha`` owns: the bridge ``mf-dev``, the machine (and control groups)
``mf-dev-alpha``, the run directory ``/run/modelfleet-lab/dev`` and, on a file system with space, the directory
``<cache>/labs/dev``. Lab names have no dash, so that the prefix ``mf-dev-`` belongs to one lab only.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from .errors import LabError

RUN_DIR = Path("/run/modelfleet-lab")
PREFIX = "mf"

# The name of a network interface has at most 15 characters, "mf-" included.
_LAB_NAME = re.compile(r"[a-z][a-z0-9]{0,11}")
_HOST_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_HOST_NAME_LENGTH = 30


def cache_dir() -> Path:
    """Return the directory of images and of the writable layers of hosts; it may not exist yet."""
    if chosen := os.environ.get("MODELFLEET_LAB_CACHE"):
        return Path(chosen).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base).absolute() / "modelfleet-kvm"


def images_dir() -> Path:
    """Return the directory of the finished images."""
    return cache_dir() / "images"


def lab_data_dir(lab: str) -> Path:
    """Return the directory of the writable layers of a lab's hosts."""
    return cache_dir() / "labs" / lab


def lab_run_dir(lab: str) -> Path:
    """Return the directory of a lab's state, keys, logs and inventory."""
    return RUN_DIR / lab


def bridge_name(lab: str) -> str:
    """Return the name of a lab's bridge."""
    return f"{PREFIX}-{lab}"


def machine_prefix(lab: str) -> str:
    """Return what the machine names of a lab, and of no other lab, start with."""
    return f"{PREFIX}-{lab}-"


def machine_name(lab: str, host: str) -> str:
    """Return the name under which systemd-nspawn and the control groups know a host."""
    return machine_prefix(lab) + host


def check_lab_name(name: str) -> str:
    """Return ``name``, or raise LabError when it cannot be the name of a lab."""
    if not _LAB_NAME.fullmatch(name):
        raise LabError(f"{name!r} cannot be a lab's name: use 1 to 12 of a-z and 0-9, a letter first")
    return name


def check_host_name(name: str) -> str:
    """Return ``name``, or raise LabError when it cannot be the name of a host."""
    if not _HOST_NAME.fullmatch(name) or len(name) > _HOST_NAME_LENGTH:
        raise LabError(
            f"{name!r} cannot be a host's name: use up to {_HOST_NAME_LENGTH} of a-z, 0-9 and single dashes,"
            " a letter first"
        )
    return name
