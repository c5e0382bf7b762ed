# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the steps of a plan do to a host and a VM, as pure functions, and what they must never do.

The rules of libvirt and virtiofs stand here as assertions: a plan that breaks one fails the test that runs it.
"""

from __future__ import annotations

import dataclasses

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _input,
    _mount_lines,
    _mountinfo,
    _records,
    _sources,
    _steps,
    _virtiofsd,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._observed import HostView, VmView
from ansible_collections.modelfleet.kvm.tests.unit.builders import READ_ONLY, bind, device, identity, in_guest


def run(host: HostView, vm: VmView, steps: tuple[_steps.Step, ...]) -> tuple[HostView, VmView]:
    """The host and the VM after the steps."""
    for step in steps:
        host, vm = _EFFECTS[step.action](host, vm, step.record)
    return host, vm


def _write(vm: VmView, records: dict[str, _records.Record]) -> VmView:
    everything = tuple(records.values())
    return dataclasses.replace(
        vm,
        live_records=everything if vm.live is not None else (),
        persistent_records=everything if vm.persistent is not None else (),
    )


def _record(host, vm, record):
    intent = record.intent if record.intent == _records.UNMOUNTING else _records.MOUNTING
    return host, _write(vm, {**vm.records, record.uuid: dataclasses.replace(record, intent=intent)})


def _settle(host, vm, record):
    return host, _write(vm, {**vm.records, record.uuid: record})


def _forget(host, vm, record):
    assert record.uuid in vm.records
    kept = {uuid: other for uuid, other in vm.records.items() if uuid != record.uuid}
    return host, _write(vm, kept)


def _unsettled(vm, record):
    assert vm.records[record.uuid].intent != _records.SETTLED, "the intent is written before the first effect"


def _unbind(host, vm, record):
    _unsettled(vm, record)
    path = _sources.path(vm.uuid, record.uuid)
    assert host.bind(path) is not None, "nothing is bound there"
    assert vm.live is None or all(found.source != path for found in vm.live.devices), "a daemon still serves it"
    return _without_bind(host, path), vm


def _without_bind(host, path):
    return dataclasses.replace(
        host,
        mounts=tuple(mount for mount in host.mounts if mount.mount_point != path),
        bound={source: found for source, found in host.bound.items() if source != path},
    )


def _bind(host, vm, record):
    _unsettled(vm, record)
    made = bind(record)
    host = _without_bind(host, made.mount_point)
    bound = {**host.bound, made.mount_point: identity(record.model_path)}
    return dataclasses.replace(host, mounts=(*host.mounts, made), bound=bound), vm


def _plugged(domain, record):
    assert all(found.alias != record.alias for found in domain.devices), "the alias is taken"
    assert all(found.tag != record.tag for found in domain.devices), "the tag is taken"
    return domain._replace(devices=(*domain.devices, device(record)))


def _attach_live(host, vm, record):
    _unsettled(vm, record)
    assert vm.running and vm.live.shared_memory
    source = host.bind(_sources.path(vm.uuid, record.uuid))
    assert source is not None and _sources.enforced(source), "virtiofsd only ever gets a read-only bind"
    serving = {**host.serving, source.mount_point: _virtiofsd.Daemon(frozenset((source.shows,)), 0.0)}
    return dataclasses.replace(host, serving=serving), dataclasses.replace(vm, live=_plugged(vm.live, record))


def _attach_persistent(host, vm, record):
    _unsettled(vm, record)
    return host, dataclasses.replace(vm, persistent=_plugged(vm.persistent, record))


def _attach(host, vm, record):
    return _attach_persistent(*_attach_live(host, vm, record), record)


def _detach_live(host, vm, record):
    _unsettled(vm, record)
    gone = vm.live.device(record.alias)
    assert gone is not None, "the device is not there"
    assert all(mount.source != gone.tag for mount in vm.guest or ()), "libvirt takes a mounted share away"
    live = vm.live._replace(devices=tuple(found for found in vm.live.devices if found != gone))
    serving = {source: shown for source, shown in host.serving.items() if source != gone.source}
    return dataclasses.replace(host, serving=serving), dataclasses.replace(vm, live=live)


def _detach_persistent(host, vm, record):
    _unsettled(vm, record)
    assert vm.persistent.device(record.alias) is not None, "the device is not there"
    kept = tuple(found for found in vm.persistent.devices if found.alias != record.alias)
    return host, dataclasses.replace(vm, persistent=vm.persistent._replace(devices=kept))


def _detach_stray(host, vm, record):
    assert all(kept.alias != record.alias for kept in vm.records.values()), "it has a record"
    assert all(mount.source != record.tag for mount in vm.guest or ()), "libvirt takes a mounted share away"

    def without(domain):
        devices = tuple(found for found in domain.devices if found.alias != record.alias)
        return domain._replace(devices=devices)

    return host, dataclasses.replace(
        vm, live=vm.live and without(vm.live), persistent=vm.persistent and without(vm.persistent)
    )


def _verify(host, vm, record):
    source = host.bind(_sources.path(vm.uuid, record.uuid))
    assert source.shows in host.serving[source.mount_point].shows
    return host, vm


def _mount(host, vm, record):
    assert any(found.tag == record.tag for found in vm.live.devices), "the guest does not know the tag"
    assert _mountinfo.visible(list(vm.guest), record.mount_path) is None, "something is mounted there"
    models = [mount.mount_point for mount in vm.guest if mount.fstype == "virtiofs"]
    assert not any(_input.overlaps(path, record.mount_path) for path in models), "one model would hide another"
    return host, dataclasses.replace(vm, guest=(*vm.guest, in_guest(record)))


def _unmount(host, vm, record):
    _unsettled(vm, record)
    seen = _mountinfo.visible(list(vm.guest), record.mount_path)
    assert seen is not None and seen.source == record.tag, "only what is ours is unmounted"
    rest = list(vm.guest)
    rest.reverse()
    rest.remove(seen)
    rest.reverse()
    return host, dataclasses.replace(vm, guest=tuple(rest), stale=vm.stale - {record.mount_path})


def _remount(host, vm, record):
    seen = _mountinfo.visible(list(vm.guest), record.mount_path)
    assert seen.source == record.tag
    guest = tuple(mount._replace(options=READ_ONLY) if mount is seen else mount for mount in vm.guest)
    return host, dataclasses.replace(vm, guest=guest)


def _write_unit(host, vm, record):
    _unsettled(vm, record)
    present = vm.units[record.mount_path]
    assert present is None or _mount_lines.mount_of_unit(present), "only what is ours is overwritten"
    return host, dataclasses.replace(vm, units={**vm.units, record.mount_path: unit(record)})


def unit(record):
    """The unit of a record in the guest."""
    return _mount_lines.unit(record.tag, record.mount_path, record.uuid)


def _remove_unit(host, vm, record):
    _unsettled(vm, record)
    assert _mount_lines.mount_of_unit(vm.units[record.mount_path]) == record.uuid, "only what is ours is removed"
    return host, dataclasses.replace(vm, units={**vm.units, record.mount_path: None})


_EFFECTS = {
    _steps.RECORD: _record,
    _steps.UNMOUNT: _unmount,
    _steps.DETACH_LIVE: _detach_live,
    _steps.DETACH_PERSISTENT: _detach_persistent,
    _steps.UNBIND: _unbind,
    _steps.BIND: _bind,
    _steps.ATTACH: _attach,
    _steps.ATTACH_LIVE: _attach_live,
    _steps.ATTACH_PERSISTENT: _attach_persistent,
    _steps.DETACH_STRAY: _detach_stray,
    _steps.VERIFY: _verify,
    _steps.MOUNT: _mount,
    _steps.REMOUNT: _remount,
    _steps.WRITE_UNIT: _write_unit,
    _steps.REMOVE_UNIT: _remove_unit,
    _steps.SETTLE: _settle,
    _steps.FORGET: _forget,
}
