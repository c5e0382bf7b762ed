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


def chosen(mounts: t.Sequence[Wanted], vm: VmView) -> list[Wanted]:
    """The wanted mounts of a VM, each with a transport.

    What has not been looked at in the guest does not speak against a view.
    """
    records = vm.records
    decided = [_as_mounted(mount, records, vm.uuid) for mount in mounts]
    new = [mount for mount in decided if mount.transport == AUTO]
    if new:
        listed = {mount.uuid(vm.uuid) for mount in decided}
        others: list[t.Union[Wanted, _records.Record]] = [
            *(mount for mount in decided if mount.transport != AUTO),
            *(record for record in records.values() if record.uuid not in listed),
        ]
        view = any(other.in_view for other in others) or _can_open(vm, new, others)
        decided = [_with(mount, _records.VIEW if view and _fits(mount) else _records.DEVICE) for mount in decided]
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


def _fits(mount: Wanted) -> bool:
    """Whether a model can be in a view at all."""
    return not mount.tag and _input.is_in_view(mount.mount_path)


def _can_open(vm: VmView, new: t.Sequence[Wanted], others: t.Sequence[t.Union[Wanted, _records.Record]]) -> bool:
    """Whether new models can have a view in a VM that has none.

    Args:
        others: what else the VM has and gets, all of it by devices.
    """
    inside = [mount for mount in new if _fits(mount)]
    beside = [*others, *(mount for mount in new if not _fits(mount))]
    persistence = {mount.persistence for mount in inside} - {AUTO}
    guests = {mount.guest for mount in inside}
    if len(guests) != 1 or len(persistence) > 1:
        return False
    if any(_input.overlaps(other.mount_path, _identity.VIEW_PATH) for other in beside):
        return False
    if _tag_taken(vm) or any(other.tag == _identity.VIEW_TAG for other in beside):
        return False
    if AGENT not in guests:
        return True
    if SYSTEMD in persistence and _identity.VIEW_PATH in vm.foreign_units:
        return False
    return _refusals.unfit_for_view(vm, _identity.VIEW_PATH) is None


def _tag_taken(vm: VmView) -> bool:
    alias = _identity.alias(_identity.view_uuid(vm.uuid))
    return any(domain.tag_taken(_identity.VIEW_TAG, alias) for domain in (vm.live, vm.persistent) if domain)
