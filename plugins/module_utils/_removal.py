# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps that take away what there is of a mount. Pure functions of what was observed.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import _conversion, _records, _refusals
from ._layers import RIGHT, WRONG, Layers, device_source, guest_unit, keeps_unit
from ._observed import HostView, VmView
from ._steps import DETACH_LIVE, DETACH_PERSISTENT, RELEASE, REMOVE_UNIT, REVOKE, UNBIND, UNMOUNT, Step
from ._wanted import AGENT


def take_down(host: HostView, vm: VmView, record: _records.Record, found: Layers, force: bool) -> list[Step]:
    """The steps that take away all that there is of a mount, its device included, but for its record."""
    if not force:
        _refusals.refuse_other_uses(vm, record)
    steps = []
    if guest_unit(vm, record) in (RIGHT, WRONG) and keeps_unit(vm, record):
        steps.append(Step(REMOVE_UNIT, record))
    mounted = _refusals.tag_mounted(vm, record)
    if mounted and record.guest == AGENT:
        steps.append(Step(UNMOUNT, dataclasses.replace(record, tag=mounted)))
    if found.live in (RIGHT, WRONG):
        steps.append(Step(DETACH_LIVE, record))
    if found.persistent in (RIGHT, WRONG):
        steps.append(Step(DETACH_PERSISTENT, record))
    if vm.live is not None and host.bind(device_source(record)) is not None:
        steps.append(Step(UNBIND, record))
    return steps


def take_out(
    host: HostView,
    vm: VmView,
    leaving: t.Optional[_records.Record],
    left: t.Optional[Layers],
    force: bool,
    closes_view: bool,
    strict: bool,
) -> list[Step]:
    """The steps that take away what there is of a mount by the transport that it has no more.

    Args:
        strict: whether the host must serve nothing more of it.
    """
    if leaving is None or left is None:
        return []
    if closes_view or not leaving.in_view:
        return take_down(host, vm, leaving, left, force)
    if vm.live is None or not (host.source(leaving) or host.left_over(leaving)):
        return []
    # Others have the view, in which it has a bind still, shown or not.
    if not force:
        _refusals.refuse_covered(host, vm, leaving)
    gone = dataclasses.replace(leaving, intent=_records.UNMOUNTING, revoke=_records.STRICT if strict else "")
    return release(gone)


def release(gone: _records.Record) -> list[Step]:
    """The steps that take a model out of a view in which others stay."""
    return [Step(RELEASE, gone), *([Step(REVOKE, gone)] if gone.strict else [])]


def owes(before: t.Optional[_records.Record], record: _records.Record) -> bool:
    """Whether an earlier run owes that what a mount had in a view is revoked, in which it is no more."""
    return before is not None and before.strict and not record.in_view


def still_owed(
    vm: VmView,
    before: t.Optional[_records.Record],
    record: _records.Record,
    steps: t.Iterable[Step],
    closes_view: bool,
) -> list[Step]:
    """The step that an earlier run owes, unless it is among others already, or the device of the view goes."""
    if not owes(before, record) or vm.live is None or closes_view or any(step.action == REVOKE for step in steps):
        return []
    return [Step(REVOKE, _conversion.owed(vm, record))]
