# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tables of a fleet, made of what the info modules returned for each host. Pure, and for the controller only.

This plugin util is private to the collection.
"""

from __future__ import annotations

import re
import typing as t

from ..module_utils import _errors
from . import _fleet_due
from ._fleet import ANSWERED, FAILED, NOT_ASKED, UNREACHABLE, Center, Fleet, Host, Mount, Problem, Stray, Vm

# What no module could say, so that the catalogue has no code for it: title and remedy.
_UNSAID = {
    UNREACHABLE: ("The host cannot be reached", "Check that the control node may log in there, then look again."),
    FAILED: ("The host could not be looked at", "Read the message, then look again."),
    NOT_ASKED: ("The host was not looked at", "Look at it too, if it belongs to the fleet."),
}


def fleet(mounts: t.Mapping[str, t.Any], centers: t.Mapping[str, t.Any], title: str, made: str) -> Fleet:
    """Make the tables.

    Args:
        mounts: by the name of each host, what M(modelfleet.kvm.vm_model_mount_info) returned or how it failed, as
            registered by a task; nothing for a host that was not asked.
        centers: the same of M(modelfleet.kvm.model_center_info); hosts may be left out.
        made: when the fleet was looked at.
    """
    parts = [_host(name, mounts.get(name), centers.get(name)) for name in _in_order({**centers, **mounts})]
    return Fleet(
        title,
        made,
        tuple(part.host for part in parts),
        tuple(center for part in parts for center in part.centers),
        tuple(vm for part in parts for vm in part.vms),
        tuple(mount for part in parts for mount in part.mounts),
        tuple(stray for part in parts for stray in part.strays),
    )


class _Part(t.NamedTuple):
    """What one host adds."""

    host: Host
    centers: tuple[Center, ...] = ()
    vms: tuple[Vm, ...] = ()
    mounts: tuple[Mount, ...] = ()
    strays: tuple[Stray, ...] = ()


def _host(name: str, mounts: t.Any, centers: t.Any) -> _Part:
    """What one host adds. An answer of another shape than ours must not keep anything else out of the report."""
    name = _text(name)
    try:
        part = _of_mounts(name, mounts or {})
    except _ODD as error:
        part = _Part(Host(name, FAILED, _odd(error)))
    try:
        found, problem = _of_centers(name, centers or {})
    except _ODD as error:
        found, problem = (), _odd(error)
    return part._replace(centers=found, host=part.host._replace(problem=part.host.problem or problem))


_ODD = (AttributeError, KeyError, TypeError, ValueError)


def _odd(error: Exception) -> Problem:
    return _problem("internal_error", f"what the host returned cannot be read ({type(error).__name__}: {error})")


def _of_mounts(name: str, result: t.Mapping[str, t.Any]) -> _Part:
    state = _state(result, "mounts")
    if state != ANSWERED:
        return _Part(Host(name, state, _problem(_text(result.get("error_code")), _text(result.get("msg")), state)))
    rows = result["mounts"]
    mounts = tuple(_mount(name, row) for row in rows)
    vms = {mount.vm: Vm(name, mount.vm, *_of_vm(row), None) for mount, row in zip(mounts, rows)}
    strays = []
    for row in result.get("strays", ()):
        stray = Stray(name, *(_text(row[field]) for field in Stray._fields[1:]))
        strays.append(stray)
        vms.setdefault(stray.vm, Vm(name, stray.vm, _text(row["vm_instance_uuid"]), "", None))
    for error in result.get("errors", ()):
        vm = _text(error["vm"])
        vms[vm] = vms.get(vm, Vm(name, vm, "", "", None))._replace(problem=_failure(error))
    return _Part(Host(name, ANSWERED, None), (), tuple(vms[vm] for vm in _in_order(vms)), mounts, tuple(strays))


def _of_centers(name: str, result: t.Mapping[str, t.Any]) -> tuple[tuple[Center, ...], t.Optional[Problem]]:
    state = _state(result, "model_centers")
    if state == ANSWERED:
        return tuple(_center(name, center) for center in result["model_centers"]), None
    # Nobody needs to look at the centers.
    said = _text(result.get("error_code")), _text(result.get("msg"))
    return (), None if state == NOT_ASKED else _problem(*said, state)


def _state(result: t.Mapping[str, t.Any], has: str) -> str:
    if result.get("unreachable"):
        return UNREACHABLE
    if result.get("failed"):
        return FAILED
    return ANSWERED if has in result else NOT_ASKED


def _of_vm(row: t.Mapping[str, t.Any]) -> tuple[str, str]:
    return _text(row["record"]["vm_instance_uuid"]), _text(row["vm_state"])


def _mount(host: str, row: t.Mapping[str, t.Any]) -> Mount:
    record, layers = row["record"], row["layers"]
    return Mount(
        host=host,
        vm=_text(row["vm"]),
        model=_text(record["model_name"]),
        model_center=_text(record["model_center_name"]),
        status=_text(row["status"]),
        drift=bool(row["drift"]),
        **{layer: _text(layers[layer]) for layer in ("source", "persistent", "live", "guest")},
        **{field: _text(record[field]) for field in _OF_RECORD},
        source_path=_text(row["source_path"]),
        due=_fleet_due.due(row),
        problem=_failure(row["error"]) if row["error"] else None,
    )


_OF_RECORD = (
    "model_version",
    "model_uuid",
    "model_path",
    "mount_path",
    "transport",
    "tag",
    "owner",
    "account_uuid",
    "uuid",
    "create_date",
    "last_op_date",
)


def _center(host: str, row: t.Mapping[str, t.Any]) -> Center:
    capacity = row["capacity"] or {}
    return Center(
        host,
        _text(row["center"]["name"]),
        _text(row["state"]),
        _text(row["why"]),
        _number(capacity.get("total_bytes")),
        _number(capacity.get("available_bytes")),
        tuple(map(_text, row["drift"])),
        tuple(map(_text, row["stale_users"] or ())),
        _failure(row["error"]) if row["error"] else None,
    )


def _failure(error: t.Mapping[str, t.Any]) -> Problem:
    return _problem(_text(error["error_code"]), _text(error["msg"]))


def _problem(code: str, message: str, state: str = FAILED) -> Problem:
    """A failure, with the remedy apart from the message, which ends with it when it is one of ours."""
    entry = _errors.CATALOGUE.get(code)
    title, remedy = (entry.title, entry.remedy) if entry else _UNSAID[state]
    return Problem(code, title, message[: -len(remedy)].rstrip() if message.endswith(remedy) else message, remedy)


def _text(value: t.Any) -> str:
    return "" if value is None else str(value)


def _number(value: t.Any) -> t.Optional[int]:
    return None if value is None else int(value)


def _in_order(names: t.Iterable[str]) -> list[str]:
    """Names as people count: kvm2 before kvm10."""
    return sorted(names, key=lambda name: [part.zfill(20) for part in re.split(r"([0-9]+)", name)])
