# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mounts that change their transport: what there is of the one that they had. Pure functions of what was observed.

A record knows one transport. What is left of the other, because a run was killed or somebody edited the VM, is seen in
the layers themselves: a device with the alias that the mount would have there, or its source.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import _devices, _identity, _input, _layers, _records, _sources
from ._observed import HostView, VmView
from ._wanted import NOT_PERSISTENT, SYSTEMD


def leaving(
    host: t.Optional[HostView], vm: VmView, before: t.Optional[_records.Record], record: _records.Record
) -> t.Optional[_records.Record]:
    """A mount by the transport that it has no more, None when there is nothing of that.

    Args:
        host: None from afar; then only the devices of the VM tell.
        before: the record that there is.
        record: the one that there shall be, or the same where the mount goes.
    """
    if before is not None and before.transport != record.transport:
        return before
    if not _input.can_be_in_view(record.mount_path):
        return None
    bound = host is not None and vm.live is not None and _is_bound(host, vm, record)
    left = bound or _device(vm, record) is not None
    return _by_the_other_transport(vm, record) if left else None


def owed(vm: VmView, record: _records.Record) -> _records.Record:
    """What a mount had in a view, of which an earlier run left it open that it is revoked."""
    gone = _by_the_other_transport(vm, record)
    return dataclasses.replace(gone, intent=_records.UNMOUNTING, revoke=_records.STRICT)


def paths(vm: VmView, records: t.Iterable[_records.Record]) -> set[str]:
    """Where the guest has mounted what is left of the other transports of some mounts."""
    found = (_by_the_other_transport(vm, record) for record in records if _device(vm, record))
    return {record.device_path for record in found}


def _other(record: _records.Record) -> str:
    """What names the device of a mount by its other transport."""
    return record.uuid if record.in_view else _identity.view_uuid(record.vm_instance_uuid)


def _device(vm: VmView, record: _records.Record) -> t.Optional[_devices.Device]:
    """The device of a mount by its other transport, as far as that may be left of it."""
    if not _input.can_be_in_view(record.mount_path) or _has_others(vm, record):
        return None
    alias = _identity.alias(_other(record))
    found = (domain.device(alias) for domain in (vm.live, vm.persistent) if domain is not None)
    return next(filter(None, found), None)


def _is_bound(host: HostView, vm: VmView, record: _records.Record) -> bool:
    """Whether something is left on the host of a mount by its other transport."""
    if _has_others(vm, record):
        # Of the view it has no more than its own bind, which a run that was killed may not have shown yet.
        return record.uuid in host.in_views or host.left_over(record)
    return host.bind(_sources.path(vm.uuid, _other(record))) is not None


def _has_others(vm: VmView, record: _records.Record) -> bool:
    """Whether the device that a mount would have by its other transport is not left of that, but is a view in use."""
    if record.in_view:
        return False
    # One that nobody has a record for is a stray, and goes as such.
    view = _identity.alias(_identity.view_uuid(vm.uuid))
    return any(other.in_view for other in vm.records.values()) or any(found.alias == view for found in vm.strays)


def _by_the_other_transport(vm: VmView, record: _records.Record) -> _records.Record:
    device = _device(vm, record)
    tag = _identity.tag(record.uuid, record.model_name) if record.in_view else _identity.VIEW_TAG
    other = dataclasses.replace(
        record,
        transport=_records.DEVICE if record.in_view else _records.VIEW,
        alias=_identity.alias(_other(record)),
        tag=device.tag if device else tag,
    )
    return dataclasses.replace(other, persistence=SYSTEMD if _layers.keeps_unit(vm, other) else NOT_PERSISTENT)
