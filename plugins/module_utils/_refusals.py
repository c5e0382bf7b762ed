# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must not be done to a VM, refused before anything is done. Pure functions of what was observed.

This module util is private to the collection.
"""

from __future__ import annotations

import typing as t

from . import _guest, _guest_unit, _identity, _input, _mountinfo, _records, _steps
from ._errors import ModelfleetError
from ._layers import FOREIGN, MISSING, UNKNOWN, Layers, covered, guest_link
from ._observed import HostView, VmView
from ._wanted import AGENT, AUTO, SYSTEMD, Wanted

# Records are kept in the XML of the VM, of which libvirt sends 4 MiB at most; long paths are three of 1 KiB.
VIEW_MODELS_MAX = 1000

# Linux 5.10: a guest is told of file systems below the view, and does not take their inodes for one another's.
_VIEW_KERNEL = (5, 10)


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
    taken.update(record.tag for record in others.staying if record.alias != after.alias)
    taken.update(tag for alias, tag in others.tags.items() if alias != after.alias)
    if after.tag in taken:
        raise ModelfleetError(
            "tag_in_use", f"VM {vm.name}: another device has the tag '{after.tag}'", vm=vm.name, tag=after.tag
        )


def refuse_nesting(vm: VmView, after: _records.Record) -> None:
    """Refuse a path of a view that lies in that of another model there, or around it, also when that one goes."""
    for record in vm.records.values() if after.in_view else ():
        if record.in_view and record.uuid != after.uuid and _input.overlaps(record.mount_path, after.mount_path):
            raise ModelfleetError(
                "duplicate_mount",
                f"VM {vm.name}: {after.mount_path} and {record.mount_path}, which is in the view, lie in one another",
                vm=vm.name,
                mount_path=record.mount_path,
            )


def refuse_covered(host: HostView, vm: VmView, record: _records.Record) -> None:
    """Refuse to take a model out of a view over which somebody in the guest has mounted something."""
    over = covered(host, vm, record)
    if over:
        raise ModelfleetError(
            "mount_busy",
            f"VM {vm.name}: {_input.show(over.fstype)} is mounted over {record.mount_path} in the guest",
            vm=vm.name,
            mount_path=record.mount_path,
        )


def refuse_foreign(
    host: HostView, vm: VmView, before: t.Optional[_records.Record], after: _records.Record, found: Layers
) -> None:
    """Refuse to cover what somebody else has put there."""
    if found.guest == UNKNOWN:
        require_guest(vm)
    if after.persistence == SYSTEMD and vm.systemd is False:
        raise ModelfleetError(
            "guest_unsupported", f"VM {vm.name}: persistence=systemd, but the guest does not run systemd", vm=vm.name
        )
    defined_by = vm.foreign_units.get(after.device_path)
    unit = vm.units.get(after.device_path)
    if unit is not None:
        defined_by = _guest_unit.replaced_by(after.device_path, unit)
    if after.persistence == SYSTEMD and defined_by:
        raise _guest_unit.error(vm.name, defined_by)
    if not after.in_view:
        unfit = _unusable(vm, after.device_path, after.mount_path)
    elif found.guest in (MISSING, FOREIGN):
        unfit = unfit_for_view(vm, after.mount_path)
    else:
        unfit = None
    if after.linked and guest_link(vm, after) == FOREIGN:
        unfit = unfit or unfit_for_link(vm, after.mount_path)
    if unfit is not None:
        raise unfit
    over = covered(host, vm, after) if after.in_view else None
    if over or (found.guest == FOREIGN and not tag_mounted(vm, before or after)):
        mount = over or _mountinfo.visible(list(vm.guest or ()), after.device_path)
        raise _path_in_use(vm, mount, after.mount_path, after.mount_path)


def unfit_for_view(vm: VmView, mount_path: str) -> t.Optional[ModelfleetError]:
    """Why the guest cannot have a view that it has not mounted yet, as far as it was looked at.

    Args:
        mount_path: of the model that would be in it, for the message.
    """
    if vm.kernel is not None and vm.kernel < _VIEW_KERNEL:
        return ModelfleetError(
            "guest_unsupported",
            f"VM {vm.name}: transport=view needs Linux 5.10 in the guest, which has {vm.kernel[0]}.{vm.kernel[1]}",
            vm=vm.name,
        )
    unusable = _unusable(vm, _identity.VIEW_PATH, mount_path)
    if unusable is not None:
        return unusable
    guest = list(vm.guest or ())
    if _guest.is_mounted(_mountinfo.visible(guest, _identity.VIEW_PATH), _identity.VIEW_TAG):
        return None
    # Of ours it is known whether they go.
    ours = {record.tag for record in vm.records.values()} | {_guest.NO_TAG}
    ours.update(device.tag for device in (vm.live.devices if vm.live else ()) if device.ours)
    for mount in guest:
        there = f"{mount.mount_point}/".startswith(f"{_identity.VIEW_PATH}/")
        if there and not any(_guest.is_mounted(mount, tag) for tag in ours):
            return _path_in_use(vm, mount, _input.show(mount.mount_point), mount_path)
    return None


def unfit_for_link(vm: VmView, mount_path: str) -> t.Optional[ModelfleetError]:
    """Why a new model of a view cannot be seen at a mount path elsewhere, as far as the guest was looked at."""
    unusable = _unusable(vm, mount_path, mount_path)
    if unusable is not None:
        return unusable
    mount = _mountinfo.visible(list(vm.guest or ()), mount_path)
    if mount is not None:
        return _path_in_use(vm, mount, mount_path, mount_path)
    if mount_path not in vm.filled:
        return None
    return ModelfleetError(
        "mount_path_unusable",
        f"VM {vm.name}: {mount_path} cannot be a link to the view in the guest: it is a directory that is not empty",
        vm=vm.name,
        mount_path=mount_path,
    )


def _unusable(vm: VmView, path: str, mount_path: str) -> t.Optional[ModelfleetError]:
    """The error for what stands in the way of a path in the guest, None for nothing."""
    if path not in vm.in_the_way:
        return None
    part, kind = vm.in_the_way[path]
    return ModelfleetError(
        "mount_path_unusable",
        f"VM {vm.name}: {path} cannot be mounted on in the guest: {part} is {kind}",
        vm=vm.name,
        mount_path=mount_path,
    )


def _path_in_use(vm: VmView, mount: t.Optional[_mountinfo.Mount], where: str, mount_path: str) -> ModelfleetError:
    what = f"{_input.show(mount.fstype)} from {_input.show(mount.source)}" if mount else "something"
    return ModelfleetError(
        "mount_path_in_use",
        f"VM {vm.name}: {what} is mounted at {where} in the guest",
        vm=vm.name,
        mount_path=mount_path,
    )


def mixture(vm: VmView, mounts: t.Sequence[t.Union[Wanted, _records.Record]]) -> t.Optional[ModelfleetError]:
    """The error for mounts of a VM that do not go together with its view, which they all share.

    Args:
        mounts: all that the VM shall have.
    """
    in_view = [mount for mount in mounts if mount.in_view]
    if len(in_view) > VIEW_MODELS_MAX:
        return ModelfleetError(
            "too_many_models",
            f"VM {vm.name}: its view would have {len(in_view)} models, more than {VIEW_MODELS_MAX}",
            vm=vm.name,
        )
    hidden = [mount for mount in mounts if not mount.in_view and _input.overlaps(mount.mount_path, _identity.VIEW_PATH)]
    if in_view and hidden:
        return _hidden(vm, in_view, hidden)
    for option, undecided in (("guest", ()), ("persistence", ("", AUTO))):
        values = {getattr(mount, option): mount.mount_path for mount in in_view}
        values = {value: path for value, path in values.items() if value not in undecided}
        if len(values) > 1:
            shown = " and ".join(sorted(values))
            return _conflict(vm, sorted(values.values())[0], f"is in a view with others, for which {option} is {shown}")
    return None


def _hidden(
    vm: VmView,
    in_view: t.Sequence[t.Union[Wanted, _records.Record]],
    hidden: t.Sequence[t.Union[Wanted, _records.Record]],
) -> ModelfleetError:
    """The error for a view that would hide models; of the two kinds the one that is there already has to follow."""
    there = {record.mount_path: record.transport for record in vm.records.values()}
    for mount in (*hidden, *in_view):
        if there.get(mount.mount_path) == mount.transport:
            what = hidden[0].mount_path if mount.in_view else "it"
            problem = f"is mounted with transport={mount.transport}, and the view at {_identity.VIEW_PATH} would hide"
            return _conflict(vm, mount.mount_path, f"{problem} {what}")
    return _conflict(vm, hidden[0].mount_path, f"is where the view is mounted ({_identity.VIEW_PATH}), and not in it")


def _conflict(vm: VmView, path: str, problem: str) -> ModelfleetError:
    return ModelfleetError("transport_conflict", f"VM {vm.name}: {path} {problem}", vm=vm.name, mount_path=path)


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
    ours = _mountinfo.visible(list(vm.guest or ()), record.device_path) if record.guest == AGENT else None
    # While tags change places, a tag that is recorded here already may still be that of another device.
    devices = vm.live.devices if vm.live else ()
    theirs = {device.tag for device in devices if device.alias != record.alias}
    uses = tags(vm, record).union(more) - theirs
    for mount in vm.guest or ():
        elsewhere = record.in_view and _guest.is_of_a_view(mount, list(vm.guest or ()))
        if elsewhere or (mount != ours and any(_guest.is_mounted(mount, tag) for tag in uses)):
            raise ModelfleetError(
                "mount_busy",
                f"VM {vm.name}: the guest has mounted the model by itself at {_input.show(mount.mount_point)}",
                vm=vm.name,
                mount_path=record.mount_path,
            )


def too_few_ports(vm: VmView, plans: t.Iterable[_steps.MountPlan]) -> t.Optional[ModelfleetError]:
    """The error for a VM that cannot take all the devices of its plans, found before the first is attached."""
    devices = {batch.action: len(batch.records) for batch in _steps.batches(plans)}
    needed = devices.get(_steps.ATTACH, 0) + devices.get(_steps.ATTACH_LIVE, 0) - devices.get(_steps.DETACH_LIVE, 0)
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
    mount = _mountinfo.visible(list(vm.guest or ()), record.device_path)
    return next((tag for tag in sorted(tags(vm, record).union(more)) if _guest.is_mounted(mount, tag)), "")
