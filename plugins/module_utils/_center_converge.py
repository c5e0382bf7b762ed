# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way through the code for C(model_center_mount): wanted, observed, planned, applied.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import typing as t

from . import (
    _center_apply,
    _center_input,
    _center_mount,
    _center_observe,
    _center_state,
    _center_unit,
    _center_users,
    _centers,
    _converge,
    _domain,
    _input,
    _locks,
    _plan,
    _process,
    _systemd,
    _wanted,
)
from ._errors import ModelfleetError


def converge(params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Make a center what it shall be, or only plan it; returns the result of the module.

    Raises:
        ModelfleetError: every code of a center or its storage.
    """
    params = _input.trimmed(params)
    state, timeout = params["state"], _input.seconds("timeout", params["timeout"])
    # Before anything is touched.
    _center_input.wanted(params, None)
    _process.require_root()
    with contextlib.ExitStack() as stack:
        if not check_mode:
            stack.enter_context(_locks.held([_locks.center(params["name"])], timeout))
        return _converge_locked(params, state, timeout, check_mode)


def _converge_locked(params: dict[str, t.Any], state: str, timeout: float, check_mode: bool) -> dict[str, t.Any]:
    mounting = state == _center_mount.MOUNTED
    units = _centers.units()
    known = _center_mount.find(params["name"], units)
    wish = _center_input.wanted(params, known.center if known else None)
    center = wish.center
    view = _center_observe.observe(center, mounting, units, timeout, wish.secrets, params["take_over"])
    warning = _center_mount.refuse_unhealthy(center, view, params["on_unhealthy"]) if mounting else ""
    other = _center_mount.left(center, view) or _center_mount.find(center.name, units, other_than=view.unit.name)
    previous = _center_observe.observe(other.center, False, units, timeout) if other else None
    steps = _center_mount.plan(state, center, view, previous, params["on_unhealthy"])
    place = previous if previous is not None and previous.ours is not None and previous.mounted else view
    unmounted = _free(center, known, steps, place, params["force"], timeout, check_mode)
    if steps and not check_mode:
        try:
            _center_apply.apply(steps, view, previous, wish.secrets or {}, timeout)
        except ModelfleetError as problem:
            if unmounted:
                # The center is put back, and the VMs from which its models were taken are not.
                problem.details["unmounted"] = unmounted
            raise
    defined = mounting or (state == _center_mount.UNMOUNTED and known is not None)
    return {
        "changed": bool(steps),
        "actions": [step.action for step in steps],
        "unit": view.unit.name,
        "center": center.as_dict() if defined else None,
        "health": view.seen.state if mounting and not steps else None,
        "unmounted": unmounted,
        "warnings": [warning] if warning else [],
        "diff": _diff(state, center, known, view, wish),
    }


def _free(
    center: _centers.Center,
    known: t.Optional[_centers.Unit],
    steps: list[_center_mount.Step],
    place: _center_mount.View,
    force: bool,
    timeout: float,
    check_mode: bool,
) -> list[dict[str, t.Any]]:
    """Refuse to disturb VMs, or take the center's models away from them first.

    Args:
        place: where the center is now.
    """
    disturbing = [step for step in steps if step.action in _center_mount.DISTURBING]
    # The records of VMs name a center by its UUID: under another nobody would know any more that they use it.
    renamed = known is not None and known.center.uuid != center.uuid
    dead = place.seen.state == _center_state.DEAD or not place.mounted
    if dead and all(step.action == _center_mount.REMOUNT for step in disturbing):
        disturbing = []
    if known is None or not (disturbing or renamed):
        return []
    users = _center_users.find(known.center, place.seen.mount, timeout)
    if not force:
        what = "taken away"
        if not disturbing:
            what = "given another UUID"
        elif disturbing[0].action == _center_mount.REMOUNT:
            what = "mounted again"
        _center_users.refuse(known.center, users, what)
    if not users:
        return []
    request = _converge.Request(
        wanted=[_wanted.from_record(record) for user in users for record in user.records],
        terms=_plan.Terms(present=False, check_mode=check_mode, force=True),
        purge=_wanted.PURGE_NONE,
        vms=[],
        planned={},
        deadline=timeout,
    )
    outcomes = _converge.converge(_domain.Host(_domain.SYSTEM, timeout), request) if request.wanted else []
    failure = next((outcome.error for outcome in outcomes if outcome.error), None)
    if failure is not None:
        raise ModelfleetError(
            "center_in_use",
            f"model center '{center.name}' is used, and its models could not be unmounted: {failure.what}",
            vms=[user.name for user in users],
            cause=failure.as_result(),
        )
    if not check_mode:
        _center_users.refuse(known.center, _center_users.find(known.center, place.seen.mount, timeout), "taken away")
    return [user.as_dict() for user in users]


def _diff(
    state: str,
    center: _centers.Center,
    known: t.Optional[_centers.Unit],
    view: _center_mount.View,
    wish: _center_input.Wish,
) -> dict[str, str]:
    mounting = state == _center_mount.MOUNTED
    before = known.text if known else ""
    after = _center_unit.render(center) if mounting else before if state == _center_mount.UNMOUNTED and known else ""
    # Secrets themselves are never shown.
    changed = "\nthe credentials are changed\n" if wish.secrets is not None and not view.secrets else ""
    return {
        "before": before + _mounted_line(center, view.mounted),
        "after": after + _mounted_line(center, mounting) + changed,
    }


def _mounted_line(center: _centers.Center, mounted: bool) -> str:
    return f"\n{center.mount_point} is mounted\n" if mounted else ""


def info(names: t.Optional[list[str]], timeout: float) -> list[dict[str, t.Any]]:
    """What is of the centers of this host. Changes nothing, and never hangs."""
    units = _centers.units()
    found = [unit for unit in units if names is None or unit.center.name in names]
    missing = sorted(set(names or ()) - {unit.center.name for unit in found})
    if missing:
        raise ModelfleetError("center_unknown", f"model center '{missing[0]}' is not defined on this host")
    return [_one(unit, timeout) for unit in found]


def _one(unit: _centers.Unit, timeout: float) -> dict[str, t.Any]:
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
        "center": center.as_dict(),
        "unit": {"name": unit.name, "active": state.active_state, "enabled": state.enabled},
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
