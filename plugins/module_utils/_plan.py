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

from . import _guest, _input, _mountinfo, _records
from ._errors import ModelfleetError
from ._observed import (
    FOREIGN,
    MISSING,
    NOT_DUE,
    RIGHT,
    UNKNOWN,
    WRONG,
    HostView,
    Layers,
    ModelKey,
    VmView,
    layers,
)
from ._wanted import AGENT, Wanted

# Steps, in the words that results show.
RECORD = "record"
UNMOUNT = "unmount_in_guest"
DETACH_LIVE = "detach_live"
DETACH_PERSISTENT = "detach_persistent"
UNBIND = "unbind_source"
BIND = "bind_source"
ATTACH = "attach"
ATTACH_LIVE = "attach_live"
ATTACH_PERSISTENT = "attach_persistent"
VERIFY = "verify_read_only"
MOUNT = "mount_in_guest"
REMOUNT = "remount_in_guest"
SETTLE = "settle_record"
FORGET = "forget_record"

_ATTACHES = (ATTACH, ATTACH_LIVE, ATTACH_PERSISTENT)


class Step(t.NamedTuple):
    """One effect. `record` is the mount it is for: as wanted when it sets up, as it was when it takes down."""

    action: str
    record: _records.Record


@dataclasses.dataclass(frozen=True)
class MountPlan:
    """What happens to one mount.

    Attributes:
        wanted: the entry that asked for it.
        before: the record there is, None for none.
        after: the record there will be, None for none.
        layers: what was found, compared with `after`, or with `before` when the mount goes.
        error: why nothing can be done; then there are no steps.
        conditional: what an earlier task of the same play must have made for this to come true.
    """

    wanted: Wanted
    vm_uuid: str
    vm_name: str
    before: t.Optional[_records.Record] = None
    after: t.Optional[_records.Record] = None
    layers: t.Optional[Layers] = None
    steps: tuple[Step, ...] = ()
    error: t.Optional[ModelfleetError] = None
    conditional: tuple[str, ...] = ()

    @property
    def actions(self) -> list[str]:
        return [step.action for step in self.steps]


def plan_present(host: HostView, vm: VmView, wanted: Wanted, check_mode: bool = False) -> MountPlan:
    """The steps that make one mount right, the fewest there are."""
    empty = MountPlan(wanted, vm.uuid, vm.name)
    try:
        return _present(host, vm, wanted, empty, check_mode)
    except ModelfleetError as problem:
        return dataclasses.replace(empty, error=problem)


def plan_absent(host: HostView, vm: VmView, wanted: Wanted, going: set[str]) -> list[MountPlan]:
    """The steps that take away every mount that an entry means; one plan without steps when there is none.

    Args:
        going: UUIDs of mounts that earlier entries take away; the ones of this entry are added.
    """
    empty = MountPlan(wanted, vm.uuid, vm.name)
    plans = []
    for record in sorted(vm.records.values(), key=lambda item: item.mount_path):
        if wanted.matches(record) and record.uuid not in going:
            going.add(record.uuid)
            try:
                plans.append(_absent(host, vm, record, empty))
            except ModelfleetError as problem:
                plans.append(dataclasses.replace(empty, before=record, error=problem))
    return plans or [empty]


def _present(host: HostView, vm: VmView, wanted: Wanted, empty: MountPlan, check_mode: bool) -> MountPlan:
    conditional = _conditions(host, wanted, check_mode)
    key = ModelKey(wanted.model_center, wanted.model_path)
    model = host.models.get(key)
    if isinstance(model, ModelfleetError):
        raise model
    after = wanted.record(vm.uuid, host.centers[wanted.model_center])
    before = vm.records.get(after.uuid)
    _refuse_collision(vm, after)
    found = layers(host, vm, after)
    _refuse_foreign(vm, before, after, found)
    steps = _set_up(vm, before, after, found)
    if any(step.action in _ATTACHES for step in steps):
        _require_able(vm)
    return dataclasses.replace(
        empty, before=before, after=after, layers=found, steps=tuple(steps), conditional=conditional
    )


def _set_up(vm: VmView, before: t.Optional[_records.Record], after: _records.Record, found: Layers) -> list[Step]:
    recorded = before is not None and vm.recorded_everywhere(after)
    if found.right and recorded:
        return []
    if found.right:
        return [Step(SETTLE, after)]
    old = before or after
    # virtiofsd keeps what was at its source when it started, so a changed source means a new device.
    replug = found.live == WRONG or (found.live == RIGHT and found.source in (MISSING, WRONG))
    plug = found.live == MISSING or replug
    mounted = _tag_mounted(vm, old, after.tag)
    stale = bool(mounted) and (plug or mounted != after.tag)
    steps = [Step(RECORD, after)]
    if stale or replug:
        _refuse_other_uses(vm, old, after.tag)
    if stale:
        steps.append(Step(UNMOUNT, dataclasses.replace(old, tag=mounted)))
    if replug:
        steps.append(Step(DETACH_LIVE, old))
    if found.persistent == WRONG:
        steps.append(Step(DETACH_PERSISTENT, old))
    if found.source in (MISSING, WRONG):
        steps.append(Step(BIND, after))
    define = found.persistent in (MISSING, WRONG)
    if plug or define:
        steps.append(Step(ATTACH if plug and define else ATTACH_LIVE if plug else ATTACH_PERSISTENT, after))
    if plug:
        steps.append(Step(VERIFY, after))
    if found.guest != NOT_DUE:
        if plug or stale or found.guest == MISSING:
            steps.append(Step(MOUNT, after))
        elif found.guest == WRONG:
            steps.append(Step(REMOUNT, after))
    return [*steps, Step(SETTLE, after)]


def _absent(host: HostView, vm: VmView, record: _records.Record, empty: MountPlan) -> MountPlan:
    _require_settled_state(vm)
    found = layers(host, vm, record)
    if found.guest == UNKNOWN:
        raise _no_agent(vm)
    _refuse_other_uses(vm, record)
    steps = [Step(RECORD, dataclasses.replace(record, intent=_records.UNMOUNTING))]
    mounted = _tag_mounted(vm, record)
    if mounted and record.guest == AGENT:
        steps.append(Step(UNMOUNT, dataclasses.replace(record, tag=mounted)))
    if found.live in (RIGHT, WRONG):
        steps.append(Step(DETACH_LIVE, record))
    if found.persistent in (RIGHT, WRONG):
        steps.append(Step(DETACH_PERSISTENT, record))
    if found.source not in (MISSING, NOT_DUE):
        steps.append(Step(UNBIND, record))
    steps.append(Step(FORGET, record))
    return dataclasses.replace(empty, before=record, layers=found, steps=tuple(steps))


def _conditions(host: HostView, wanted: Wanted, check_mode: bool) -> tuple[str, ...]:
    conditions = []
    if wanted.model_center in host.planned:
        conditions.append(f"model center '{wanted.model_center}' is mounted by an earlier task and holds the model")
    if not host.prepared:
        problem = ModelfleetError(
            "host_not_prepared", "the libvirt hook of modelfleet.kvm is not installed on this host"
        )
        if not check_mode:
            raise problem
        conditions.append("the host is prepared by an earlier task")
    return tuple(conditions)


def _refuse_collision(vm: VmView, after: _records.Record) -> None:
    for record in vm.records.values():
        if record.uuid == after.uuid:
            continue
        if (record.model_uuid, record.model_version) == (after.model_uuid, after.model_version):
            problem = f"model '{after.model_name}' is already mounted at {record.mount_path}"
        elif _input.overlaps(record.mount_path, after.mount_path):
            problem = f"{after.mount_path} and {record.mount_path}, which is mounted, lie in one another"
        else:
            continue
        raise ModelfleetError("duplicate_mount", f"VM {vm.name}: {problem}", vm=vm.name, mount_path=record.mount_path)


def _refuse_foreign(vm: VmView, before: t.Optional[_records.Record], after: _records.Record, found: Layers) -> None:
    if any(domain.tag_taken(after.tag, after.alias) for domain in (vm.live, vm.persistent) if domain is not None):
        raise ModelfleetError(
            "tag_in_use", f"VM {vm.name}: another device has the tag '{after.tag}'", vm=vm.name, tag=after.tag
        )
    if found.guest == UNKNOWN:
        _require_settled_state(vm)
        raise _no_agent(vm)
    if found.guest == FOREIGN and not _tag_mounted(vm, before or after):
        mount = _mountinfo.visible(list(vm.guest or ()), after.mount_path)
        what = f"{mount.fstype} from {mount.source!a}" if mount else "something"
        raise ModelfleetError(
            "mount_path_in_use",
            f"VM {vm.name}: {what} is mounted at {after.mount_path} in the guest",
            vm=vm.name,
            mount_path=after.mount_path,
        )


def _require_able(vm: VmView) -> None:
    _require_settled_state(vm)
    domain = vm.live or vm.persistent
    if domain is not None and not domain.shared_memory:
        raise ModelfleetError(
            "no_shared_memory",
            f"VM {vm.name} has no shared memory in its {'live' if vm.live else 'persistent'} XML",
            vm=vm.name,
        )


def _require_settled_state(vm: VmView) -> None:
    if not vm.running and vm.state != "shutoff":
        raise ModelfleetError("vm_state", f"VM {vm.name} is {vm.state}", vm=vm.name, state=vm.state)


def _refuse_other_uses(vm: VmView, record: _records.Record, *more: str) -> None:
    """Refuse to take a device away that is mounted where one unmount at its mount path does not help."""
    # Where the guest mounts by itself, unmounting is its part as well.
    ours = _mountinfo.visible(list(vm.guest or ()), record.mount_path) if record.guest == AGENT else None
    for mount in vm.guest or ():
        if mount != ours and any(_guest.is_mounted(mount, tag) for tag in _tags(vm, record).union(more)):
            raise ModelfleetError(
                "mount_busy",
                f"VM {vm.name}: the guest has mounted the model by itself at {mount.mount_point!a}",
                vm=vm.name,
                mount_path=record.mount_path,
            )


def _no_agent(vm: VmView) -> ModelfleetError:
    if vm.guest_error is not None:
        return vm.guest_error
    return ModelfleetError("agent_unavailable", f"VM {vm.name}: the guest agent does not answer", vm=vm.name)


def _tags(vm: VmView, record: _records.Record) -> set[str]:
    """The tags under which a mount of ours may be in the guest: the recorded one, and the one its device has."""
    device = vm.live.device(record.alias) if vm.live else None
    return {record.tag} | ({device.tag} if device else set())


def _tag_mounted(vm: VmView, record: _records.Record, *more: str) -> str:
    """The tag of a mount of ours that is seen at its mount path in the guest, nothing for none."""
    mount = _mountinfo.visible(list(vm.guest or ()), record.mount_path)
    return next((tag for tag in sorted(_tags(vm, record).union(more)) if _guest.is_mounted(mount, tag)), "")


def refuse_too_few_ports(vm: VmView, plans: t.Iterable[MountPlan]) -> t.Optional[ModelfleetError]:
    """The error for a VM that cannot take all the devices of its plans, found before the first is attached."""
    actions = [action for plan in plans for action in plan.actions]
    needed = actions.count(ATTACH) + actions.count(ATTACH_LIVE) - actions.count(DETACH_LIVE)
    free = vm.live.free_ports if vm.live else None
    if free is None or needed <= free:
        return None
    return ModelfleetError(
        "no_free_pci_port",
        f"VM {vm.name} needs {needed} free PCIe ports and has {free}",
        vm=vm.name,
        needed=needed,
        free=free,
    )
