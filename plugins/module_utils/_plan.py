# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From what is to what is wanted: the ordered steps, as a pure function of what was observed.

Check mode prints a plan, apply runs it, and both mean the same because it is the same.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import _conversion, _devices, _mount_lines, _records, _refusals, _removal
from ._errors import ModelfleetError
from ._layers import (
    FOREIGN,
    MISSING,
    NOT_DUE,
    RIGHT,
    UNKNOWN,
    WRONG,
    Layers,
    guest_link,
    guest_mount,
    guest_unit,
    has_link,
    keeps_unit,
    layers,
)
from ._observed import HostView, ModelKey, VmView
from ._steps import (
    ATTACH,
    ATTACH_LIVE,
    ATTACH_PERSISTENT,
    ATTACHES,
    BIND,
    DETACH_LIVE,
    DETACH_PERSISTENT,
    DETACH_STRAY,
    FORGET,
    INTERRUPTED,
    LINK,
    LISTED,
    MOUNT,
    ORDER,
    PURGED,
    RECORD,
    RELEASE,
    REMOUNT,
    REMOVE_UNIT,
    RETIRE,
    REVOKE,
    SETTLE,
    STRAY,
    UNLINK,
    UNMOUNT,
    VERIFY,
    WRITE_UNIT,
    MountPlan,
    Step,
)
from ._wanted import AGENT, AUTO, NOT_PERSISTENT, SYSTEMD, Wanted, from_record, nothing


@dataclasses.dataclass(frozen=True)
class Terms:
    """What holds for all mounts of a VM in one run.

    Attributes:
        present: whether the listed mounts shall be there or be gone.
        purge: whether what is not listed goes, of `owner`.
        force: whether what is in use in the guest is taken away all the same.
        strict: whether the host must serve nothing more of what goes from a view.
    """

    present: bool
    check_mode: bool = False
    force: bool = False
    strict: bool = False
    purge: bool = False
    owner: str = ""


def plan_vm(
    host: HostView, vm: VmView, entries: t.Sequence[tuple[int, Wanted]], terms: Terms
) -> dict[int, list[MountPlan]]:
    """What happens to all mounts of a VM, by the index of the entry that asks for it; -1 for what nobody asked for.

    An entry with C(state=absent) may mean several mounts, or none.
    """
    wanted = [mount for _index, mount in entries]
    why = origins(vm, wanted, terms)

    def records(origin: t.Optional[str]) -> list[_records.Record]:
        return [record for record in _by_path(vm) if why.get(record.uuid) == origin]

    plans: dict[int, list[MountPlan]] = {}
    closes = _closes_view(vm, wanted if terms.present else (), why)
    ending = [record for record in records(INTERRUPTED) if record.intent == _records.UNMOUNTING]
    going = [(record, PURGED) for record in records(PURGED)] + [(record, INTERRUPTED) for record in ending]
    unasked = [plan_absent(host, vm, from_record(record), record, terms, origin, closes) for record, origin in going]
    # What cannot go, because it is in use, is in the way of what is listed as anything that stays.
    kept = [plan.before for plan in unasked if plan.before and plan.error]
    begun = [record for record in records(INTERRUPTED) if record not in ending]
    staying = [*records(None), *begun, *kept]
    tags = {record.alias: "" for record, _origin in going if record not in kept}
    if terms.present:
        # A device that a mount shall not have any more takes its tag with it.
        devices = {device.alias for domain in (vm.live, vm.persistent) if domain for device in domain.devices}
        tags.update(dict.fromkeys(_aliases(vm, wanted) & devices, ""))
        tags.update({mount.device_alias(vm.uuid): mount.device_tag(vm.uuid) for mount in wanted})
    others = _refusals.Others(tuple(staying), tags)
    listed = records(LISTED)
    mixture = _refusals.mixture(vm, [*wanted, *staying]) if terms.present else None
    for index, mount in entries:
        if mixture:
            before = vm.records.get(mount.uuid(vm.uuid))
            plans[index] = [MountPlan(mount, vm.uuid, vm.name, before=before, error=mixture)]
        elif terms.present:
            plans[index] = [plan_present(host, vm, mount, others, terms, closes_view=closes)]
        else:
            meant = [record for record in listed if mount.matches(record)]
            listed = [record for record in listed if record not in meant]
            plans[index] = [plan_absent(host, vm, mount, record, terms, LISTED, closes) for record in meant]
            plans[index] = plans[index] or [MountPlan(mount, vm.uuid, vm.name)]
    unasked += [_carry_on(host, vm, record, others, terms, closes) for record in begun]
    if strays_go(wanted, terms):
        coming = _aliases(vm, wanted) if terms.present else set()
        unasked += [_plan_stray(vm, device, terms) for device in vm.strays if device.alias not in coming]
    return {**plans, -1: unasked} if unasked else plans


def origins(vm: VmView, wanted: t.Sequence[Wanted], terms: Terms) -> dict[str, str]:
    """Why a run may change a record, by its UUID; the records that it leaves alone are not in it."""
    claimed = {mount.uuid(vm.uuid) for mount in wanted} if terms.present else set()
    found = {}
    for record in vm.records.values():
        if record.uuid in claimed or (not terms.present and any(mount.matches(record) for mount in wanted)):
            found[record.uuid] = LISTED
        elif terms.purge and record.owner == terms.owner:
            found[record.uuid] = PURGED
        elif record.intent != _records.SETTLED:
            found[record.uuid] = INTERRUPTED
    return found


def _closes_view(vm: VmView, wanted: t.Sequence[Wanted], why: t.Mapping[str, str]) -> bool:
    """Whether no model is left in the view of a VM, so that its device goes as well.

    Args:
        wanted: what shall be there.
        why: see C(origins).
    """
    if any(mount.in_view for mount in wanted):
        return False
    return not any(
        record.in_view and why.get(record.uuid) not in (LISTED, PURGED) and record.intent != _records.UNMOUNTING
        for record in vm.records.values()
    )


def strays_go(wanted: t.Iterable[Wanted], terms: Terms) -> bool:
    """Whether devices without a record are taken away: with all that is not listed, or with all of the VM."""
    return terms.purge or (not terms.present and any(mount.means_all() for mount in wanted))


def _aliases(vm: VmView, wanted: t.Iterable[Wanted]) -> set[str]:
    """The aliases of the devices that may bring wanted mounts, or may have brought them."""
    records = vm.records
    found: set[str] = set()
    for mount in wanted:
        before = records.get(mount.uuid(vm.uuid))
        found.update(mount.device_aliases(vm.uuid), before.aliases if before else ())
    return found


def _by_path(vm: VmView) -> list[_records.Record]:
    return sorted(vm.records.values(), key=lambda record: record.mount_path)


def _carry_on(
    host: HostView, vm: VmView, record: _records.Record, others: _refusals.Others, terms: Terms, closes: bool
) -> MountPlan:
    """Finish what a run began to set up and did not bring to its end."""
    staying = tuple(other for other in _by_path(vm) if other.uuid != record.uuid)
    return plan_present(host, vm, from_record(record), others._replace(staying=staying), terms, INTERRUPTED, closes)


def _plan_stray(vm: VmView, device: _devices.Device, terms: Terms) -> MountPlan:
    """Take a device away that carries an alias of ours and belongs to no mount of this VM."""
    wanted = dataclasses.replace(nothing(vm.name), tag=device.tag)
    plan = MountPlan(wanted, vm.uuid, vm.name, origin=STRAY)
    record = _records.of_stray(vm.uuid, device.alias, device.tag)
    try:
        _refusals.require_settled_state(vm)
        if not terms.force:
            _refusals.refuse_other_uses(vm, record)
    except ModelfleetError as problem:
        return dataclasses.replace(plan, error=problem)
    return dataclasses.replace(plan, steps=(Step(DETACH_STRAY, record),))


def plan_present(
    host: HostView,
    vm: VmView,
    wanted: Wanted,
    others: _refusals.Others,
    terms: Terms,
    origin: str = LISTED,
    closes_view: bool = True,
) -> MountPlan:
    """The steps that make one mount right, the fewest there are.

    Args:
        closes_view: whether no model stays in the view of the VM, or comes into it.
    """
    empty = MountPlan(wanted, vm.uuid, vm.name, origin=origin)
    try:
        return _present(host, vm, wanted, others, terms, empty, closes_view)
    except ModelfleetError as problem:
        return dataclasses.replace(empty, before=vm.records.get(wanted.uuid(vm.uuid)), error=problem)


def plan_absent(
    host: HostView,
    vm: VmView,
    wanted: Wanted,
    record: _records.Record,
    terms: Terms,
    origin: str = LISTED,
    closes_view: bool = True,
) -> MountPlan:
    """The steps that take one mount away.

    Args:
        closes_view: whether no other model stays in the view of the VM.
    """
    empty = MountPlan(wanted, vm.uuid, vm.name, before=record, origin=origin)
    try:
        return _absent(host, vm, record, terms, empty, closes_view)
    except ModelfleetError as problem:
        return dataclasses.replace(empty, error=problem)


def _present(
    host: HostView,
    vm: VmView,
    wanted: Wanted,
    others: _refusals.Others,
    terms: Terms,
    empty: MountPlan,
    closes_view: bool,
) -> MountPlan:
    conditional = _refusals.conditions(host, wanted, terms.check_mode)
    model = host.models.get(ModelKey(wanted.model_center, wanted.model_path))
    if isinstance(model, ModelfleetError):
        raise model
    before = vm.records.get(wanted.uuid(vm.uuid))
    after = wanted.record(vm.uuid, host.centers[wanted.model_center], persistence(vm, wanted))
    _refusals.refuse_collision(vm, after, others)
    _refusals.refuse_nesting(vm, after)
    leaving, strict = _conversion.leaving(host, vm, before, after), terms.strict or _removal.owes(before, after)
    left = None if leaving is None else layers(host, vm, leaving)
    # What there was by another transport is no earlier state of this one.
    same = before if before is not None and before.transport == after.transport else None
    found = _without_leaving(layers(host, vm, after))
    _refusals.refuse_foreign(host, vm, same, after, found)
    steps = _set_up(host, vm, same, after, found, terms)
    going = _removal.take_out(host, vm, leaving, left, terms.force, closes_view, strict)
    if leaving is not None and has_link(vm, leaving) and not has_link(vm, after):
        going.append(Step(UNLINK, leaving))
    going += _removal.still_owed(vm, before, after, going, closes_view)
    if going or (leaving is not None and same is None):
        steps = _with_record(steps, after, going)
    else:
        # It is the view of others now.
        left = None
    if any(step.action in ATTACHES for step in steps):
        _refusals.require_able(vm)
    return dataclasses.replace(
        empty,
        before=before,
        after=after,
        layers=found,
        leaving=left,
        steps=_in_order(steps),
        conditional=conditional,
    )


def _with_record(steps: t.Sequence[Step], after: _records.Record, more: t.Sequence[Step]) -> list[Step]:
    """More steps, between the intent and the end that a record says."""
    begin = [step.record for step in steps if step.action == RECORD] or [after]
    end = [step for step in steps if step.action == SETTLE] or [Step(SETTLE, after)]
    between = [step for step in steps if step.action not in (RECORD, SETTLE)]
    intended = begin[0]
    if any(step.action == REVOKE for step in more):
        intended = dataclasses.replace(intended, revoke=_records.STRICT)
    return [Step(RECORD, intended), *more, *between, *end]


def _in_order(steps: t.Iterable[Step]) -> tuple[Step, ...]:
    return tuple(sorted(steps, key=lambda step: ORDER.index(step.action)))


def _without_leaving(found: Layers) -> Layers:
    """A device that had the tag of one to come, and was not refused, is detached before that is attached."""
    gone = {FOREIGN: MISSING}
    return found._replace(
        persistent=gone.get(found.persistent, found.persistent), live=gone.get(found.live, found.live)
    )


def persistence(vm: VmView, wanted: Wanted) -> str:
    """How the guest mounts a model when it boots; nothing as long as C(auto) has not been decided for it."""
    if wanted.persistence != AUTO:
        return wanted.persistence
    known = decided(vm, wanted)
    if known:
        return known
    if vm.systemd is None:
        return ""
    free = wanted.device_path not in vm.foreign_units and _mount_lines.can_be_unit(wanted.device_path)
    return SYSTEMD if vm.systemd and free else NOT_PERSISTENT


def decided(vm: VmView, wanted: Wanted) -> str:
    """What C(auto) came to when the mount was made, or the first of the view that it joins; nothing for a new one."""
    before = vm.records.get(wanted.uuid(vm.uuid))
    others = [record for record in _by_path(vm) if record.in_view] if wanted.in_view else []
    # By another transport it is another mount to the guest.
    same = before is not None and before.in_view == wanted.in_view
    for record in (*([before] if before and same else []), *others):
        if record.guest == AGENT and record.persistence:
            return record.persistence
    return ""


def _set_up(
    host: HostView,
    vm: VmView,
    before: t.Optional[_records.Record],
    after: _records.Record,
    found: Layers,
    terms: Terms,
) -> list[Step]:
    recorded = before is not None and vm.recorded_everywhere(after)
    left_unit = vm.live is not None and _unit_goes(vm, before, after)
    old = before or after
    binds = found.source in (MISSING, WRONG)
    leaves = after.in_view and binds and (found.source == WRONG or host.left_over(after))
    # Another model is one that somebody may still read; what only comes back from a fault is not waited for.
    another = leaves and before is not None and (before.intent != _records.SETTLED or before.model != after.model)
    owed = before is not None and after.in_view and vm.live is not None and _owed(before, after)
    unsettled = dataclasses.replace(after, revoke=_records.STRICT) if owed or (another and terms.strict) else after
    revoked = [Step(REVOKE, unsettled)] if unsettled.strict else []
    if found.right and not left_unit:
        return [] if recorded else [*revoked, Step(SETTLE, after)]
    # virtiofsd keeps what was at its source when it started, so a changed source means a new device. A view shows it.
    replug = found.live == WRONG or (found.live == RIGHT and binds and not after.in_view)
    plug = found.live == MISSING or replug
    mounted = _refusals.tag_mounted(vm, old, after.tag)
    stale = bool(mounted) and (plug or mounted != after.tag or after.device_path in vm.stale)
    steps = [Step(RECORD, unsettled)]
    if not after.in_view and has_link(vm, after):
        steps.append(Step(UNLINK, after))
    if (stale or replug) and not terms.force:
        _refusals.refuse_other_uses(vm, old, after.tag)
    if left_unit:
        steps.append(Step(REMOVE_UNIT, old))
    if stale:
        steps.append(Step(UNMOUNT, dataclasses.replace(old, tag=mounted)))
    if replug:
        steps.append(Step(DETACH_LIVE, old))
    if found.persistent == WRONG:
        steps.append(Step(DETACH_PERSISTENT, old))
    if binds:
        steps.append(Step(BIND, after))
    define = found.persistent in (MISSING, WRONG)
    if plug or define:
        steps.append(Step(ATTACH if plug and define else ATTACH_LIVE if plug else ATTACH_PERSISTENT, after))
    if plug or (binds and after.in_view):
        steps.append(Step(VERIFY, after))
    mount = guest_mount(vm, after, found.live)
    if mount != NOT_DUE:
        if plug or stale or mount == MISSING:
            steps.append(Step(MOUNT, after))
        elif mount == WRONG:
            steps.append(Step(REMOUNT, after))
        if guest_link(vm, after) == MISSING:
            steps.append(Step(LINK, after))
        if guest_unit(vm, after) in (MISSING, WRONG):
            steps.append(Step(WRITE_UNIT, after))
    if another:
        steps.append(Step(RELEASE, unsettled))
    steps += [*revoked, Step(SETTLE, after)]
    if leaves and not another:
        steps.append(Step(RETIRE, after))
    return steps


def _owed(before: _records.Record, after: _records.Record) -> bool:
    """Whether an earlier run owes that something is revoked, which is still owed whatever this one is asked for."""
    # A model that was to go, and is wanted again, is served anyway.
    again = before.intent == _records.UNMOUNTING and before.model == after.model
    return before.strict and not again


def _unit_goes(vm: VmView, before: t.Optional[_records.Record], after: _records.Record) -> bool:
    """Whether the guest keeps a unit of ours for a mount that shall have none any more."""
    if before is None:
        # One of an earlier time at which it had this transport, left by a change that was cut short.
        return after.persistence == NOT_PERSISTENT and keeps_unit(vm, after)
    return before.persistence == SYSTEMD and keeps_unit(vm, before) and after.persistence != SYSTEMD


def _absent(
    host: HostView, vm: VmView, record: _records.Record, terms: Terms, empty: MountPlan, closes_view: bool
) -> MountPlan:
    _refusals.require_settled_state(vm)
    found = layers(host, vm, record)
    if found.guest == UNKNOWN and not terms.force:
        _refusals.require_guest(vm)
    strict = terms.strict and record.in_view and not closes_view
    gone = dataclasses.replace(record, intent=_records.UNMOUNTING, revoke=_records.STRICT if strict else record.revoke)
    steps = [Step(RECORD, gone)]
    if has_link(vm, record):
        steps.append(Step(UNLINK, record))
    if closes_view or not record.in_view:
        steps += _removal.take_down(host, vm, record, found, terms.force)
    else:
        if not terms.force:
            _refusals.refuse_covered(host, vm, record)
        steps += _removal.release(gone) if vm.live else []
    leaving = _conversion.leaving(host, vm, None, record)
    left = None if leaving is None else layers(host, vm, leaving)
    steps += _removal.take_out(host, vm, leaving, left, terms.force, closes_view, terms.strict or record.strict)
    steps += _removal.still_owed(vm, record, record, steps, closes_view)
    steps.append(Step(FORGET, record))
    return dataclasses.replace(empty, layers=found, leaving=left, steps=_in_order(steps))
