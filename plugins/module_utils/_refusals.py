# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must not be done to a VM, refused before anything is done. Pure functions of what was observed.

This module util is private to the collection.
"""

from __future__ import annotations

import typing as t

from . import _guest, _guest_unit, _input, _mountinfo, _records, _steps
from ._errors import ModelfleetError
from ._layers import FOREIGN, UNKNOWN, Layers
from ._observed import HostView, VmView
from ._wanted import AGENT, SYSTEMD, Wanted


def conditions(host: HostView, wanted: Wanted, check_mode: bool) -> tuple[str, ...]:
    """What an earlier task of the same play must have made, for check mode; in earnest it must be there."""
    found = []
    if wanted.model_center in host.planned:
        found.append(f"model center '{wanted.model_center}' is mounted by an earlier task and holds the model")
    if not host.prepared:
        if not check_mode:
            raise ModelfleetError(
                "host_not_prepared", "the libvirt hook of modelfleet.kvm is not installed on this host"
            )
        found.append("the host is prepared by an earlier task")
    return tuple(found)


class Others(t.NamedTuple):
    """What a mount that shall be there finds beside it in its VM.

    Attributes:
        staying: mounts that this run leaves as they are, or cannot take away.
        tags: what devices that this run may replace or take away have for a tag afterwards, by alias; nothing for none.
            Whatever tags they had are free before the first device is attached.
    """

    staying: tuple[_records.Record, ...]
    tags: t.Mapping[str, str]


def refuse_collision(vm: VmView, after: _records.Record, others: Others) -> None:
    """Refuse what claims the model, the path or the tag of something that stays."""
    for record in others.staying:
        if (record.model_uuid, record.model_version) == (after.model_uuid, after.model_version):
            problem = f"model '{after.model_name}' is already mounted at {record.mount_path}"
        elif _input.overlaps(record.mount_path, after.mount_path):
            problem = f"{after.mount_path} and {record.mount_path}, which is mounted, lie in one another"
        else:
            continue
        raise ModelfleetError("duplicate_mount", f"VM {vm.name}: {problem}", vm=vm.name, mount_path=record.mount_path)
    devices = [device for domain in (vm.live, vm.persistent) if domain is not None for device in domain.devices]
    taken = {device.tag for device in devices if device.alias not in (after.alias, *others.tags)}
    # A mount that stays has its tag also while its device is missing.
    taken.update(record.tag for record in others.staying)
    taken.update(tag for alias, tag in others.tags.items() if alias != after.alias)
    if after.tag in taken:
        raise ModelfleetError(
            "tag_in_use", f"VM {vm.name}: another device has the tag '{after.tag}'", vm=vm.name, tag=after.tag
        )


def refuse_foreign(vm: VmView, before: t.Optional[_records.Record], after: _records.Record, found: Layers) -> None:
    """Refuse to cover what somebody else has put there."""
    if found.guest == UNKNOWN:
        require_guest(vm)
    if after.persistence == SYSTEMD and vm.systemd is False:
        raise ModelfleetError(
            "guest_unsupported", f"VM {vm.name}: persistence=systemd, but the guest does not run systemd", vm=vm.name
        )
    defined_by = vm.foreign_units.get(after.mount_path)
    unit = vm.units.get(after.mount_path)
    if unit is not None:
        defined_by = _guest_unit.replaced_by(after.mount_path, unit)
    if after.persistence == SYSTEMD and defined_by:
        raise _guest_unit.error(vm.name, defined_by)
    if after.mount_path in vm.in_the_way:
        part, kind = vm.in_the_way[after.mount_path]
        raise ModelfleetError(
            "mount_path_unusable",
            f"VM {vm.name}: {after.mount_path} cannot be mounted on in the guest: {part} is {kind}",
            vm=vm.name,
            mount_path=after.mount_path,
        )
    if found.guest == FOREIGN and not tag_mounted(vm, before or after):
        mount = _mountinfo.visible(list(vm.guest or ()), after.mount_path)
        what = f"{_input.show(mount.fstype)} from {_input.show(mount.source)}" if mount else "something"
        raise ModelfleetError(
            "mount_path_in_use",
            f"VM {vm.name}: {what} is mounted at {after.mount_path} in the guest",
            vm=vm.name,
            mount_path=after.mount_path,
        )


def require_guest(vm: VmView) -> None:
    """Refuse a guest whose mount table could not be had."""
    require_settled_state(vm)
    if vm.guest_error is not None:
        raise vm.guest_error
    raise ModelfleetError("agent_unavailable", f"VM {vm.name}: the guest agent does not answer", vm=vm.name)


def require_able(vm: VmView) -> None:
    """Refuse a VM that cannot take a device."""
    require_settled_state(vm)
    domain = vm.live or vm.persistent
    if domain is None or domain.shared_memory:
        return
    prepared = vm.live is not None and vm.persistent is not None and vm.persistent.shared_memory
    where = "live XML; its persistent XML has it, from the next start on" if prepared else "XML"
    raise ModelfleetError(
        "no_shared_memory", f"VM {vm.name} has no shared memory in its {where}", vm=vm.name, prepared=prepared
    )


def require_settled_state(vm: VmView) -> None:
    """Refuse a VM that neither runs nor is shut off."""
    if not vm.running and vm.state != "shutoff":
        raise ModelfleetError("vm_state", f"VM {vm.name} is {vm.state}", vm=vm.name, state=vm.state)


def refuse_other_uses(vm: VmView, record: _records.Record, *more: str) -> None:
    """Refuse to take a device away that is mounted where one unmount at its mount path does not help."""
    # Where the guest mounts by itself, unmounting is its part as well.
    ours = _mountinfo.visible(list(vm.guest or ()), record.mount_path) if record.guest == AGENT else None
    # While tags change places, a tag that is recorded here already may still be that of another device.
    devices = vm.live.devices if vm.live else ()
    theirs = {device.tag for device in devices if device.alias != record.alias}
    uses = tags(vm, record).union(more) - theirs
    for mount in vm.guest or ():
        if mount != ours and any(_guest.is_mounted(mount, tag) for tag in uses):
            raise ModelfleetError(
                "mount_busy",
                f"VM {vm.name}: the guest has mounted the model by itself at {_input.show(mount.mount_point)}",
                vm=vm.name,
                mount_path=record.mount_path,
            )


def too_few_ports(vm: VmView, plans: t.Iterable[_steps.MountPlan]) -> t.Optional[ModelfleetError]:
    """The error for a VM that cannot take all the devices of its plans, found before the first is attached."""
    actions = [action for plan in plans for action in plan.actions]
    needed = sum(actions.count(action) for action in (_steps.ATTACH, _steps.ATTACH_LIVE))
    needed -= actions.count(_steps.DETACH_LIVE)
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


def tags(vm: VmView, record: _records.Record) -> set[str]:
    """The tags under which a mount of ours may be in the guest: the recorded one, and the one its device has."""
    device = vm.live.device(record.alias) if vm.live else None
    return {record.tag} | ({device.tag} if device else set())


def tag_mounted(vm: VmView, record: _records.Record, *more: str) -> str:
    """The tag of a mount of ours that is seen at its mount path in the guest, nothing for none."""
    mount = _mountinfo.visible(list(vm.guest or ()), record.mount_path)
    return next((tag for tag in sorted(tags(vm, record).union(more)) if _guest.is_mounted(mount, tag)), "")
