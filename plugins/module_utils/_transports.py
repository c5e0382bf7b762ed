# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What C(transport=auto) comes to: a pure function of what is wanted, what is recorded and what the guest has shown.

Nothing that is mounted is converted, and nothing is refused that would not be refused by the other transport as well.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import _identity, _input, _records, _refusals
from ._observed import VmView
from ._wanted import AGENT, AUTO, SYSTEMD, Wanted

Mounts = t.Sequence[t.Union[Wanted, _records.Record]]


def chosen(mounts: t.Sequence[Wanted], vm: VmView) -> list[Wanted]:
    """The wanted mounts of a VM, each with a transport.

    What has not been looked at in the guest does not speak against a view.
    """
    records = vm.records
    decided = [_as_mounted(mount, records, vm.uuid) for mount in mounts]
    new = [mount for mount in decided if mount.transport == AUTO]
    if new:
        listed = {mount.uuid(vm.uuid) for mount in decided}
        others: Mounts = [
            *(mount for mount in decided if mount.transport != AUTO),
            *(record for record in records.values() if record.uuid not in listed),
        ]
        inside = _inside(vm, new, others)
        paths = {mount.mount_path for mount in inside}
        beside = [*others, *(mount for mount in new if mount.mount_path not in paths)]
        view = any(other.in_view for other in others) or _can_open(vm, inside, beside)
        decided = [
            _with(mount, _records.VIEW if view and mount.mount_path in paths else _records.DEVICE) for mount in decided
        ]
    # What one says of the view holds for those that leave it open.
    said = {mount.persistence for mount in decided if mount.in_view and mount.persistence != AUTO}
    if len(said) != 1:
        return decided
    return [dataclasses.replace(mount, persistence=min(said)) if mount.in_view else mount for mount in decided]


def _as_mounted(mount: Wanted, records: t.Mapping[str, _records.Record], vm: str) -> Wanted:
    before = records.get(mount.uuid(vm)) if mount.transport == AUTO else None
    return _with(mount, before.transport) if before else mount


def _with(mount: Wanted, transport: str) -> Wanted:
    return dataclasses.replace(mount, transport=transport) if mount.transport == AUTO else mount


def _inside(vm: VmView, new: t.Sequence[Wanted], others: Mounts) -> list[Wanted]:
    """Those of the new models that can be in a view, if there is one.

    Below its mount there is nothing else for them. Those elsewhere might be mounted beside it, so that they only join
    where nothing speaks against it.
    """
    fitting = [mount for mount in new if not mount.tag and _input.can_be_in_view(mount.mount_path)]
    inside = [mount for mount in fitting if _input.is_below_view(mount.mount_path)]
    below = {mount.mount_path for mount in inside}
    members = [*(other for other in others if other.in_view), *inside]
    guests, said = {mount.guest for mount in members}, _said(members)
    rest = (mount for mount in new if mount.mount_path not in below)
    possible = _goes_with(vm, [*(other for other in others if not other.in_view), *rest])
    unfit = _refusals.unfit_for_view(vm, _identity.VIEW_PATH)
    # No link lies in another, nor in one that goes.
    paths = {record.mount_path for record in vm.records.values() if record.in_view}
    above = {part for path in paths for part in _input.parts(path)}
    for mount in fitting:
        agrees = guests <= {mount.guest} and len(said | _said([mount])) < 2
        nested = mount.mount_path in above or paths.intersection(_input.parts(mount.mount_path))
        usable = possible and not nested and (mount.guest != AGENT or unfit is None)
        if mount.mount_path not in below and agrees and usable and _can_be_linked(vm, mount):
            inside.append(mount)
            guests.add(mount.guest)
            said |= _said([mount])
    return inside


def _said(mounts: Mounts) -> set[str]:
    """What is said or was decided of how the guest mounts a view when it boots."""
    return {mount.persistence for mount in mounts} - {"", AUTO}


def _can_be_linked(vm: VmView, mount: Wanted) -> bool:
    """Whether the guest can have the link by which a model of the view is seen elsewhere."""
    return mount.guest != AGENT or _refusals.unfit_for_link(vm, mount.mount_path) is None


def _can_open(vm: VmView, inside: t.Sequence[Wanted], beside: Mounts) -> bool:
    """Whether new models can have a view in a VM that has none.

    Args:
        beside: what else the VM has and gets, all of it by devices.
    """
    guests, said = {mount.guest for mount in inside}, _said(inside)
    if len(guests) != 1 or len(said) > 1:
        return False
    if not _goes_with(vm, beside):
        return False
    if AGENT not in guests:
        return True
    if SYSTEMD in said and _identity.VIEW_PATH in vm.foreign_units:
        return False
    return _refusals.unfit_for_view(vm, _identity.VIEW_PATH) is None


def _goes_with(vm: VmView, beside: Mounts) -> bool:
    """Whether a view would neither hide what a VM has and gets by devices, nor have its tag taken by that."""
    if any(_input.overlaps(other.mount_path, _identity.VIEW_PATH) for other in beside):
        return False
    alias = _identity.alias(_identity.view_uuid(vm.uuid))
    taken = any(domain.tag_taken(_identity.VIEW_TAG, alias) for domain in (vm.live, vm.persistent) if domain)
    return not taken and not any(other.tag == _identity.VIEW_TAG for other in beside)
