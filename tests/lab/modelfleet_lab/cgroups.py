"""Control groups of a host: one group for each machine, in every hierarchy that this machine has.

A group of its own keeps two hosts with cgroup v1 apart (systemd-nspawn alone would have them share the machine's v1
trees, and libvirt's groups in them), makes every process of a host findable, and makes the rest removable.
On a machine that systemd runs, systemd owns the hierarchies: there a scope does this work (see container.py).
"""

from __future__ import annotations

import os
from pathlib import Path

from .mounts import table
from .polling import wait_until

_REMOVE_SECONDS = 10.0


def _hierarchies() -> list[Path]:
    """Return the mount points of all cgroup hierarchies, v1 and v2."""
    return [mount.point for mount in table() if mount.kind in ("cgroup", "cgroup2")]


def has_v1_controllers() -> bool:
    """Tell whether controllers of this machine are on cgroup v1."""
    return any(mount.kind == "cgroup" and "name=" not in mount.options for mount in table())


def create(machine: str) -> list[Path]:
    """Make the groups of a machine and return the files that a process joins them by writing its number to."""
    groups = []
    for hierarchy in _hierarchies():
        group = hierarchy / machine
        group.mkdir(exist_ok=True)
        # A new v1 cpuset has no processors and no memory, and accepts no process before it has.
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (hierarchy / name).exists() and not (group / name).read_text().strip():
                (group / name).write_text((hierarchy / name).read_text())
        groups.append(group / "cgroup.procs")
    return groups


def _below(group: Path) -> list[Path]:
    """Return a group and all groups below it, deepest first."""
    return [Path(path) for path, _, _ in os.walk(group, topdown=False)]


def processes(machine: str) -> list[int]:
    """Return all processes in the groups of a machine."""
    found: set[int] = set()
    for hierarchy in _hierarchies():
        for group in _below(hierarchy / machine):
            found.update(int(pid) for pid in (group / "cgroup.procs").read_text().split())
    return sorted(found)


def machines(prefix: str) -> set[str]:
    """Return the machines whose names start with ``prefix`` and that have a group."""
    return {path.name for hierarchy in _hierarchies() for path in hierarchy.glob(f"{prefix}*")}


def remove(machine: str) -> None:
    """Remove the groups of a machine, in which no process may be left; raises TimedOut when they cannot be removed."""
    # The kernel may need a moment more for processes that have just ended.
    wait_until(f"control groups of {machine} removed", _REMOVE_SECONDS, lambda: _try_remove(machine))


def _try_remove(machine: str) -> bool:
    """Remove the groups of a machine; False when the kernel still holds one."""
    try:
        for hierarchy in _hierarchies():
            for group in _below(hierarchy / machine):
                group.rmdir()
    except OSError:
        return False
    return True
