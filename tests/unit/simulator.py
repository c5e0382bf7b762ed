# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the steps of a plan do to a host and a VM, as pure functions, and what they must never do.

The rules of libvirt and virtiofs stand here as assertions: a plan that breaks one fails the test that runs it.
"""

from __future__ import annotations

import dataclasses
import os

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _identity,
    _input,
    _layers,
    _mount_lines,
    _mountinfo,
    _records,
    _sources,
    _steps,
    _views,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._observed import HostView, VmView
from ansible_collections.modelfleet.kvm.tests.unit.builders import (
    READ_ONLY,
    bind,
    device,
    identity,
    in_guest,
    served,
    view,
)


class Busy(Exception):
    """The guest refuses a step, which no plan can know; the run is undone then."""


def run(host: HostView, vm: VmView, steps: tuple[_steps.Step, ...]) -> tuple[HostView, VmView]:
    """The host and the VM after the steps."""
    before = vm
    for step in steps:
        host, vm = _EFFECTS[step.action](host, vm, step.record)
    for record in vm.records.values():
        for was, now in ((before.live, vm.live), (before.persistent, vm.persistent)):
            stays = record.in_view and record.intent != _records.UNMOUNTING
            if stays and was is not None and was.device(record.alias):
                assert now.device(record.alias), "the device is taken away from a model that stays"
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
    assert vm.guest is None or not vm.links.get(record.mount_path), "a link to nowhere stays"
    kept = {uuid: other for uuid, other in vm.records.items() if uuid != record.uuid}
    return host, _write(vm, kept)


def _unsettled(vm, record):
    assert vm.records[record.uuid].intent != _records.SETTLED, "the intent is written before the first effect"


def _unbind(host, vm, record):
    # Of a mount that has another transport now it goes last, when nothing can need it any more.
    converted = vm.records[record.uuid].transport != record.transport
    assert converted or vm.records[record.uuid].intent != _records.SETTLED, "it stays"
    path = _layers.device_source(record)
    assert host.bind(path) is not None, "nothing is bound there"
    assert vm.live is None or all(found.source != path for found in vm.live.devices), "a daemon still serves it"
    if record.in_view:
        others = [other for other in vm.records.values() if other.in_view]
        assert {other.intent for other in others} <= {_records.UNMOUNTING}, "a model of the view stays"
        host = dataclasses.replace(host, in_views={})
        for mount in host.mounts:
            host = _without_bind(host, mount.mount_point) if mount.mount_point.startswith(f"{path}/") else host
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
    if record.in_view:
        host, made = _in_view(host, vm, record)
    host = _without_bind(host, made.mount_point)
    bound = {**host.bound, made.mount_point: identity(record.model_path)}
    return dataclasses.replace(host, mounts=(*host.mounts, made), bound=bound), vm


def _in_view(host, vm, record):
    """The host with a view that shows a new bind, and that bind."""
    root = _views.source(vm.uuid)
    if host.bind(root) is None:
        host = dataclasses.replace(host, mounts=(*host.mounts, view(vm.uuid)), in_views={})
    # Restoring it makes no daemon follow that did not.
    restored = {"propagation": "shared:77", "options": READ_ONLY}
    mounts = [mount._replace(**restored) if mount.mount_point == root else mount for mount in host.mounts]
    host = dataclasses.replace(host, mounts=tuple(mounts))
    for uuid in host.in_views:
        other = vm.records.get(uuid)
        inside = uuid != record.uuid and other and _input.overlaps(other.mount_path, record.mount_path)
        assert not inside, "there is no link below a link"
    numbers = [int(mount.mount_point.rpartition("-")[2]) for mount in host.mounts if is_of(mount, record)]
    made = bind(record, number=max(numbers, default=0) + 1)
    daemon = host.serving.get(root)
    if daemon is not None and daemon.follows:
        # One that does not follow goes on without it.
        host = _with_below(host, root, {**daemon.below, _views.in_daemon(made.mount_point): made.shows})
    return dataclasses.replace(host, in_views={**host.in_views, record.uuid: made.mount_point}), made


def is_of(mount, record):
    """Whether a mount of the host is a bind of a record in a view."""
    name = os.path.basename(mount.mount_point)
    return "/.m/" in mount.mount_point and name.startswith(f"{_identity.token(record.uuid)}-")


def _with_below(host, root, below):
    return dataclasses.replace(host, serving={**host.serving, root: host.serving[root]._replace(below=below)})


def _release(host, vm, record):
    _unsettled(vm, record)
    if record.intent == _records.UNMOUNTING:
        shown = {uuid: path for uuid, path in host.in_views.items() if uuid != record.uuid}
        host = dataclasses.replace(host, in_views=shown)
    return _unbound(host, vm, record), vm


def _revoke(host, vm, record):
    _unsettled(vm, record)
    # Whatever else it needs, it must be known to the next run.
    assert record.strict and vm.records[record.uuid].strict
    left = [mount for mount in host.mounts if is_of(mount, record)]
    assert all(mount.mount_point == host.in_views.get(record.uuid) for mount in left), "it is still bound"
    return host, vm


def _retire(host, vm, record):
    assert vm.records[record.uuid].intent == _records.SETTLED, "nothing can bring it back"
    return _unbound(host, vm, record), vm


def _unbound(host, vm, record):
    """The host without what is bound for a mount and not shown."""
    root = _views.source(vm.uuid)
    for mount in host.mounts:
        path = mount.mount_point
        if not is_of(mount, record) or path == host.in_views.get(record.uuid):
            continue
        assert path not in host.in_views.values(), "its link leads to it"
        over = _mountinfo.visible(list(vm.guest or ()), _views.in_guest(path))
        assert over is None or over.fstype == "virtiofs", "what the guest has mounted there is not ours to take away"
        host = _without_bind(host, path)
        daemon = host.serving.get(root)
        if daemon is not None:
            # Its directory goes as well, and takes the copies in all mount name spaces with it.
            kept = {seen: shows for seen, shows in daemon.below.items() if seen != _views.in_daemon(path)}
            host = _with_below(host, root, kept)
    return host


def _plugged(domain, record):
    assert all(found.alias != record.alias for found in domain.devices), "the alias is taken"
    assert all(found.tag != record.tag for found in domain.devices), "the tag is taken"
    return domain._replace(devices=(*domain.devices, device(record)))


def _attach_live(host, vm, record):
    _unsettled(vm, record)
    assert vm.running and vm.live.shared_memory
    source = host.bind(_layers.device_source(record))
    assert source is not None and _sources.enforced(source), "virtiofsd only ever gets a read-only bind"
    below = [mount for mount in host.mounts if mount.mount_point.startswith(f"{source.mount_point}/")]
    serving = {**host.serving, **served(source, *below)}
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
    source = host.bind(_layers.device_source(record))
    daemon = host.serving[source.mount_point]
    assert source.shows in daemon.shows
    if record.in_view:
        bound = host.in_views[record.uuid]
        assert daemon.below.get(_views.in_daemon(bound)) == host.bind(bound).shows, "the daemon does not follow"
    return host, vm


def _mount(host, vm, record):
    path = record.device_path
    assert any(found.tag == record.tag for found in vm.live.devices), "the guest does not know the tag"
    assert _mountinfo.visible(list(vm.guest), path) is None, "something is mounted there"
    models = [mount.mount_point for mount in vm.guest if mount.fstype == "virtiofs"]
    assert not any(_input.overlaps(other, path) for other in models), "one model would hide another"
    assert not vm.links.get(path), "a link stands there"
    return host, dataclasses.replace(vm, guest=(*vm.guest, in_guest(record)))


def _unmount(host, vm, record):
    _unsettled(vm, record)
    path = record.device_path
    seen = _mountinfo.visible(list(vm.guest), path)
    assert seen is not None and seen.source == record.tag, "only what is ours is unmounted"
    if any(mount.mount_point.startswith(f"{path}/") and mount.fstype != "virtiofs" for mount in vm.guest):
        raise Busy(path)
    rest = list(vm.guest)
    rest.reverse()
    rest.remove(seen)
    rest.reverse()
    links = {**vm.links, **({} if path == _identity.VIEW_PATH else {path: False})}
    return host, dataclasses.replace(vm, guest=tuple(rest), stale=vm.stale - {path}, links=links)


def _remount(host, vm, record):
    seen = _mountinfo.visible(list(vm.guest), record.device_path)
    assert seen.source == record.tag
    guest = tuple(mount._replace(options=READ_ONLY) if mount is seen else mount for mount in vm.guest)
    return host, dataclasses.replace(vm, guest=guest)


def _link(host, vm, record):
    _unsettled(vm, record)
    path = record.mount_path
    assert record.linked and vm.links[path] is False, "there is a link"
    view = _mountinfo.visible(list(vm.guest), _identity.VIEW_PATH)
    assert view is not None and view.source == record.tag, "it would lead nowhere"
    assert path not in vm.in_the_way and path not in vm.filled, "what is there is not ours"
    assert _mountinfo.visible(list(vm.guest), path) is None, "something is mounted there"
    return host, dataclasses.replace(vm, links={**vm.links, path: True})


def _unlink(host, vm, record):
    _unsettled(vm, record)
    assert vm.links[record.mount_path], "only what is ours is removed"
    return host, dataclasses.replace(vm, links={**vm.links, record.mount_path: False})


def _write_unit(host, vm, record):
    _unsettled(vm, record)
    present = vm.units[record.device_path]
    assert present is None or _mount_lines.mount_of_unit(present), "only what is ours is overwritten"
    return host, dataclasses.replace(vm, units={**vm.units, record.device_path: unit(record)})


def unit(record):
    """The unit of a record in the guest."""
    return _mount_lines.unit(record.tag, record.device_path, record.device_uuid)


def _remove_unit(host, vm, record):
    _unsettled(vm, record)
    present = vm.units[record.device_path]
    assert _mount_lines.mount_of_unit(present) == record.device_uuid, "only what is ours is removed"
    return host, dataclasses.replace(vm, units={**vm.units, record.device_path: None})


_EFFECTS = {
    _steps.RECORD: _record,
    _steps.UNMOUNT: _unmount,
    _steps.DETACH_LIVE: _detach_live,
    _steps.DETACH_PERSISTENT: _detach_persistent,
    _steps.UNBIND: _unbind,
    _steps.BIND: _bind,
    _steps.RELEASE: _release,
    _steps.REVOKE: _revoke,
    _steps.RETIRE: _retire,
    _steps.ATTACH: _attach,
    _steps.ATTACH_LIVE: _attach_live,
    _steps.ATTACH_PERSISTENT: _attach_persistent,
    _steps.DETACH_STRAY: _detach_stray,
    _steps.VERIFY: _verify,
    _steps.MOUNT: _mount,
    _steps.REMOUNT: _remount,
    _steps.LINK: _link,
    _steps.UNLINK: _unlink,
    _steps.WRITE_UNIT: _write_unit,
    _steps.REMOVE_UNIT: _remove_unit,
    _steps.SETTLE: _settle,
    _steps.FORGET: _forget,
}
