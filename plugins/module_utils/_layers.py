# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the layers say of a mount: each compared with what its record wants. Pure functions of what was observed.

This module util is private to the collection.
"""

from __future__ import annotations

import typing as t

from . import _devices, _guest, _identity, _mount_lines, _mountinfo, _records, _sources, _views, _virtiofsd, _wanted
from ._errors import ModelfleetError
from ._observed import HostView, ModelKey, VmView

RIGHT = "right"
MISSING = "missing"
WRONG = "wrong"
FOREIGN = "foreign"
# Could not be looked at, so nothing is claimed.
UNKNOWN = "unknown"
# Not due: the live layers of a VM that is shut off, the guest's where somebody else mounts.
NOT_DUE = "not due"

# What people read.
NAMES = {
    "source": "source on the host",
    "persistent": "device in the persistent XML",
    "live": "device in the live XML",
    "guest": "mount in the guest",
}
WORDS = {
    RIGHT: "there",
    MISSING: "missing",
    WRONG: "wrong",
    FOREIGN: "something else is there",
    UNKNOWN: "unknown",
    NOT_DUE: "not due",
}


class Layers(t.NamedTuple):
    """The truth about one mount, layer by layer; each is one of the words above."""

    source: str
    persistent: str
    live: str
    guest: str

    @property
    def right(self) -> bool:
        return all(layer in (RIGHT, NOT_DUE) for layer in self)

    @property
    def seen_wrong(self) -> bool:
        """Whether a layer that could be looked at is not right."""
        return any(layer not in (RIGHT, NOT_DUE, UNKNOWN) for layer in self)


def layers(host: HostView, vm: VmView, record: _records.Record) -> Layers:
    """Compare every layer with what a record wants."""
    live = _live(host, vm, record)
    return Layers(_source(host, vm, record), _device(vm.persistent, record), live, _guest_layer(host, vm, record, live))


def from_afar(vm: VmView, record: _records.Record) -> Layers:
    """The layers as far as another machine sees them through libvirt.

    The source is not seen, nor whether a device that is right is served by a virtiofsd as it should be.
    """
    live = _device(vm.live, record)
    source = NOT_DUE if vm.live is None else UNKNOWN
    return Layers(source, _device(vm.persistent, record), live, _guest_layer(None, vm, record, live))


def _source(host: HostView, vm: VmView, record: _records.Record) -> str:
    if vm.live is None:
        # The hook makes it when the VM starts.
        return NOT_DUE
    path = host.source(record)
    bind = host.bind(path)
    if bind is None:
        return MISSING
    if not _sources.enforced(bind):
        return WRONG
    if record.in_view and (host.left_over(record) or not _is_shown(host, vm.live, record, path, bind)):
        return WRONG
    model = host.models.get(ModelKey(record.model_center_name, record.model_path))
    if model is None or isinstance(model, ModelfleetError):
        return WRONG if path in host.bound and host.bound[path] == host.empty else UNKNOWN
    return RIGHT if host.bound.get(path) == model else WRONG


def _is_shown(
    host: HostView, live: _devices.Domain, record: _records.Record, path: str, bind: _mountinfo.Mount
) -> bool:
    """Whether a bind in a view is seen by the virtiofsd of that, as far as there is one, and the next will be too."""
    view = host.bind(device_source(record))
    if view is None or not _sources.enforced(view) or "shared:" not in view.propagation:
        return False
    daemon = host.serving.get(device_source(record))
    return daemon is None or _device(live, record) != RIGHT or daemon.below.get(_views.in_daemon(path)) == bind.shows


def _device(domain: t.Optional[_devices.Domain], record: _records.Record) -> str:
    if domain is None:
        return NOT_DUE
    device = domain.device(record.alias)
    if device is None:
        return FOREIGN if domain.tag_taken(record.tag, record.alias) else MISSING
    return RIGHT if (device.tag, device.source) == (record.tag, device_source(record)) else WRONG


def device_source(record: _records.Record) -> str:
    """What the virtiofsd of a mount's device is given."""
    return _sources.path(record.vm_instance_uuid, record.device_uuid)


def _live(host: HostView, vm: VmView, record: _records.Record) -> str:
    layer = _device(vm.live, record)
    if layer != RIGHT:
        return layer
    source = device_source(record)
    daemon = host.serving.get(source)
    # A virtiofsd that does not follow the host would go on without what is bound in the view later.
    bind = host.bind(source)
    follows = daemon is not None and (daemon.follows or not record.in_view)
    served = follows and _virtiofsd.shows(bind, daemon)
    if record.in_view and bind is not None and not _views.is_view(bind, vm.uuid):
        return WRONG
    return RIGHT if served else WRONG


def guest_mount(vm: VmView, record: _records.Record, live: str) -> str:
    """What is mounted at the mount path in the guest."""
    if vm.live is None or record.guest != _wanted.AGENT:
        return NOT_DUE
    if vm.guest is None:
        return UNKNOWN
    mount = _mountinfo.visible(list(vm.guest), record.device_path)
    if mount is None:
        return MISSING
    if not _guest.is_mounted(mount, record.tag):
        return FOREIGN
    right = live == RIGHT and record.device_path not in vm.stale and set(_guest.OPTIONS) <= mount.options
    return RIGHT if right else WRONG


def guest_link(vm: VmView, record: _records.Record) -> str:
    """The link by which a model of the view is seen at a mount path elsewhere in the guest."""
    path = record.mount_path
    if vm.live is None or record.guest != _wanted.AGENT or not record.linked:
        return NOT_DUE
    if vm.guest is None:
        return UNKNOWN
    if vm.links.get(path):
        return RIGHT
    mount = _mountinfo.visible(list(vm.guest), path)
    if mount is not None:
        # Its own device goes before the link comes.
        own = vm.live.device(_identity.alias(record.uuid))
        return MISSING if own and _guest.is_mounted(mount, own.tag) else FOREIGN
    if path not in vm.links:
        return UNKNOWN
    return FOREIGN if path in vm.in_the_way or path in vm.filled else MISSING


def has_link(vm: VmView, record: _records.Record) -> bool:
    """Whether a link of ours is seen at the mount path of a mount, by whichever transport that is."""
    return record.guest == _wanted.AGENT and vm.links.get(record.mount_path, False)


def covered(host: HostView, vm: VmView, record: _records.Record) -> t.Optional[_mountinfo.Mount]:
    """What somebody in the guest has mounted over a model of the view."""
    # What leads there is a link, so that the mount stands where the model is bound.
    mount = _mountinfo.visible(list(vm.guest or ()), _views.in_guest(host.source(record)))
    return None if mount is None or mount.fstype == _guest.FSTYPE else mount


def guest_unit(vm: VmView, record: _records.Record) -> str:
    """The unit by which the guest mounts the model again when it boots."""
    if vm.live is None or record.guest != _wanted.AGENT or record.persistence != _wanted.SYSTEMD:
        return NOT_DUE
    if record.device_path not in vm.units:
        return UNKNOWN
    unit = vm.units[record.device_path]
    if unit is None:
        return MISSING
    return RIGHT if unit == _mount_lines.unit(record.tag, record.device_path, record.device_uuid) else WRONG


def keeps_unit(vm: VmView, record: _records.Record) -> bool:
    """Whether the guest has the unit that was written for a mount, edited or not; not one that somebody put there."""
    unit = vm.units.get(record.device_path)
    return unit is not None and _mount_lines.mount_of_unit(unit) == record.device_uuid


def _guest_layer(host: t.Optional[HostView], vm: VmView, record: _records.Record, live: str) -> str:
    mount = guest_mount(vm, record, live)
    if mount != RIGHT:
        return mount
    if host is not None and record.in_view and covered(host, vm, record):
        return FOREIGN
    parts = {guest_link(vm, record), guest_unit(vm, record)} - {RIGHT, NOT_DUE}
    return next((word for word in (FOREIGN, UNKNOWN) if word in parts), WRONG if parts else RIGHT)
