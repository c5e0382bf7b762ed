# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Units of somebody else's for the mount point of a model center: lines of fstab, mount and automount units.

They stay as they are and yield: a drop-in keeps systemd from starting them as long as the center's unit is there. Not
disabled or masked: a unit that is made from a line of fstab cannot be disabled, and local-fs.target, which requires it,
could not be reached with a masked one. A condition that is not met is no failure to anybody.

A mount unit in /etc/systemd/system has the name that a center's mount unit must have, and is replaced by it.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from . import _center_files, _mount_lines, _systemd
from ._centers import Center

# Where systemd finds units (systemd.unit(5)); of those below /run, what it has made of fstab.
_PLACES = (
    "/run/systemd/system",
    "/run/systemd/generator",
    "/run/systemd/generator.early",
    "/run/systemd/generator.late",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_FILE = "modelfleet-center.conf"


class Rival(t.NamedTuple):
    """A unit of somebody else's for the mount point of a center, and whether it is active."""

    name: str
    active: bool


def find(mount_point: str, ours: t.Collection[str]) -> list[Rival]:
    """The units of somebody else's for a mount point, in the order in which they are started.

    Args:
        ours: the names of units of model centers.
    """
    names = [unit for unit in _names(mount_point) if _defined(unit, unit in ours)]
    return [Rival(unit, _systemd.show(unit).active) for unit in names]


def _names(mount_point: str) -> tuple[str, str]:
    mount = _mount_lines.unit_name(mount_point)
    return f"{mount.rpartition('.')[0]}.automount", mount


def _defined(unit: str, ours: bool) -> bool:
    """Whether somebody else defines a unit; one that is masked starts nothing."""
    places = _PLACES if ours else (_systemd.UNIT_DIRECTORY, *_PLACES)
    paths = [os.path.join(place, unit) for place in places]
    return any(os.path.exists(path) and os.path.realpath(path) != os.devnull for path in paths)


def wanted(center: Center, unit: str, rivals: t.Iterable[Rival]) -> dict[str, str]:
    """The drop-ins that have units yield to that of a center, by path.

    Args:
        unit: the name of the center's own.
    """
    text = f"""\
# Written by modelfleet.kvm: model center "{center.name}" has taken this place. It is given back when that is absent.

[Unit]
ConditionPathExists=!{os.path.join(_systemd.UNIT_DIRECTORY, unit).replace("%", "%%")}
"""
    return {_path(rival.name): text for rival in rivals if rival.name != unit}


def present(mount_point: str) -> dict[str, str]:
    """The drop-ins of ours that there are for a mount point, by path."""
    found = {path: _center_files.read(path) for path in map(_path, _names(mount_point))}
    return {path: text for path, text in found.items() if text is not None}


def write(mount_point: str, drop_ins: t.Mapping[str, str]) -> None:
    """Make the drop-ins for a mount point what they shall be; none of them, nothing is left."""
    for path, text in drop_ins.items():
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        _center_files.write(path, text, 0o644)
    for path in present(mount_point):
        if path not in drop_ins:
            os.unlink(path)
            with contextlib.suppress(OSError):
                os.rmdir(os.path.dirname(path))


def stop_automounts(rivals: t.Iterable[Rival], timeout: float) -> None:
    """Stop what would mount something when the place is looked at, and lies there until it does.

    Raises:
        ModelfleetError: C(center_mount_failed).
    """
    for rival in rivals:
        if rival.active and rival.name.endswith(".automount"):
            _systemd.call("stop", rival.name, timeout, code="center_mount_failed")


def _path(unit: str) -> str:
    return os.path.join(_systemd.UNIT_DIRECTORY, f"{unit}.d", _FILE)
