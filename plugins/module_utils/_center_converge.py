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
    _storage,
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
    _refuse_unreadable(params["name"], known)
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


def _refuse_unreadable(name: str, known: t.Optional[_centers.Unit]) -> None:
    """Refuse to change, or to take for gone, what this release does not understand."""
    damaged = next((found for found in _centers.damaged() if found.name == name), None)
    if damaged is not None:
        raise damaged.problem
    if known is not None:
        _storage.require_readable(known)


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
    if not (disturbing or renamed):
        return []
    # Of a unit that somebody removed the mount may be left, and VMs that have models of it.
    used = known.center if known is not None else center
    users = _center_users.find(used, place.seen.mount, timeout)
    if not force:
        what = "taken away"
        if not disturbing:
            what = "given another UUID"
        elif disturbing[0].action == _center_mount.REMOUNT:
            what = "mounted again"
        _center_users.refuse(used, users, what)
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
        _center_users.refuse(used, _center_users.find(used, place.seen.mount, timeout), "taken away")
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
