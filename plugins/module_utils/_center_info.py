# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way through the code for C(model_center_info): what is of the centers of a host.

This module util is private to the collection.
"""

from __future__ import annotations

import os
import typing as t

from . import _center_files, _center_state, _center_unit, _center_users, _centers, _storage, _systemd
from ._errors import ModelfleetError

# The state of a center whose record cannot be understood.
UNREADABLE = "unreadable"

_Any = t.Union[_centers.Unit, _centers.Damaged]


def info(names: t.Optional[list[str]], timeout: float) -> list[dict[str, t.Any]]:
    """What is of the centers of this host. Changes nothing, and never hangs."""
    known: list[tuple[str, _Any]] = [(unit.center.name, unit) for unit in _centers.units()]
    known += [(damaged.name, damaged) for damaged in _centers.damaged()]
    missing = sorted(set(names or ()) - {name for name, _unit in known})
    if missing:
        raise ModelfleetError("center_unknown", f"model center '{missing[0]}' is not defined on this host")
    return [_one(unit, timeout) for name, unit in known if names is None or name in names]


def _one(unit: _Any, timeout: float) -> dict[str, t.Any]:
    if isinstance(unit, _centers.Damaged):
        return _unreadable(unit.path, {"name": unit.name}, unit.problem)
    try:
        _storage.require_readable(unit)
    except ModelfleetError as problem:
        return _unreadable(unit.path, unit.center.as_dict(), problem)
    return _looked_at(unit, timeout)


def _unreadable(path: str, center: dict[str, t.Any], problem: ModelfleetError) -> dict[str, t.Any]:
    """A center of which nothing is asked, because nobody knows what should be there."""
    return {
        **_shown(center, _systemd.show(os.path.basename(path))),
        "state": UNREADABLE,
        "why": problem.what,
        "drift": ["its record cannot be read"],
        "error": problem.as_result(),
    }


def _shown(center: dict[str, t.Any], unit: _systemd.Unit) -> dict[str, t.Any]:
    return {
        "center": center,
        "unit": {"name": unit.name, "active": unit.active_state, "enabled": unit.enabled},
        "state": "",
        "why": "",
        "checks": [],
        "stuck": "",
        "mount": None,
        "daemon": [],
        "capacity": None,
        "keeper": False,
        "users": None,
        "stale_users": None,
        "drift": [],
        "error": None,
    }


def _looked_at(unit: _centers.Unit, timeout: float) -> dict[str, t.Any]:
    center = unit.center
    state = _systemd.show(unit.name)
    seen = _center_state.look(center, unit.name, timeout)
    mount, answers = seen.mount, seen.answers
    users: t.Optional[list[dict[str, t.Any]]] = None
    error = None
    try:
        users = [user.as_dict() for user in _center_users.find(center, mount, timeout)]
    except ModelfleetError as problem:
        error = problem.as_result()
    timer = _systemd.show(_center_unit.timer(center))
    return {
        **_shown(center.as_dict(), state),
        "state": seen.state,
        "why": seen.why,
        "checks": _center_state.checks(seen),
        "stuck": answers.stuck if answers else "",
        "mount": None
        if mount is None
        else {
            "fstype": mount.fstype,
            "source": mount.source,
            "options": sorted(mount.options),
            "read_only": mount.read_only,
            "depth": seen.depth,
        },
        "daemon": _center_state.processes(unit.name),
        "capacity": None
        if answers is None or answers.capacity is None
        else dict(zip(("total_bytes", "available_bytes"), answers.capacity)),
        "keeper": timer.running,
        "users": users,
        "stale_users": None if users is None else [user["vm"] for user in users if user["stale"]],
        "drift": _drift(unit, state, seen, timer),
        "error": error,
    }


def _drift(unit: _centers.Unit, state: _systemd.Unit, seen: _center_state.Seen, timer: _systemd.Unit) -> list[str]:
    """In what a center differs from its record."""
    center = unit.center
    found = []
    if unit.text != _center_unit.render(center):
        found.append("unit edited, or written by another release")
    if _center_files.missing_secrets(center):
        found.append("credentials missing")
    if _center_files.exposed(center.name):
        found.append("credentials not for root alone")
    if state.needs_reload:
        found.append("systemd has not read the unit")
    if state.active and not state.enabled:
        found.append("not mounted at boot")
    if state.enabled and seen.state == _center_state.NOT_MOUNTED:
        found.append("not mounted")
    if seen.state in _center_state.REPAIRABLE or seen.state == _center_state.SHADOWED:
        found.append(seen.state)
    if center.keep_alive and state.enabled and not timer.running:
        found.append("nobody looks after it")
    return found
