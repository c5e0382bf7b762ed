# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is: every layer of a host and its VMs, looked at once.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import errno
import functools
import os
import typing as t
import xml.etree.ElementTree as ET

from . import (
    _center_seen,
    _centers,
    _devices,
    _domain,
    _hook_file,
    _identity,
    _input,
    _mountinfo,
    _opener,
    _records,
    _sources,
    _storage,
    _views,
    _virtiofsd,
)
from ._errors import ModelfleetError


class ModelKey(t.NamedTuple):
    """A directory of a model center."""

    center: str
    path: str


@dataclasses.dataclass(frozen=True)
class HostView:
    """What is on a host beside its VMs.

    Attributes:
        prepared: whether the hook that brings sources back is installed.
        centers: the model centers by name; the planned ones among them are not there yet.
        planned: names of centers that an earlier task of the same play would make or change (check mode).
        mounts: the host's mount table.
        serving: see C(_virtiofsd.serving).
        models: what each wanted model turned out to be, or why it could not be had.
        bound: the identity of what is bound at source paths.
        in_views: where the models are bound that views show, by the UUIDs of mounts.
        empty: the identity of the empty directory that is bound where a model could not be had.
    """

    prepared: bool
    centers: dict[str, _centers.Center]
    planned: frozenset[str]
    mounts: tuple[_mountinfo.Mount, ...]
    serving: dict[str, _virtiofsd.Daemon]
    models: dict[ModelKey, t.Union[tuple[int, int], ModelfleetError]]
    bound: dict[str, tuple[int, int]]
    empty: t.Optional[tuple[int, int]] = None
    in_views: t.Mapping[str, str] = dataclasses.field(default_factory=dict)

    def source(self, record: _records.Record) -> str:
        """Where the model of a mount is bound, or is to be; nothing for one that its VM's view does not show."""
        if record.in_view:
            return self.in_views.get(record.uuid, "")
        return _sources.path(record.vm_instance_uuid, record.uuid)

    def left_over(self, record: _records.Record) -> bool:
        """Whether a view still has binds of a mount that its path does not lead to any more."""
        shown = self.in_views.get(record.uuid)
        prefix = _views.of_mount(_views.bind_path(record.vm_instance_uuid, record.uuid, 0))
        return any(bind != shown for bind in self._by_mount.get(prefix, ()))

    @functools.cached_property
    def _by_mount(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for path in self._visible:
            found.setdefault(_views.of_mount(path), []).append(path)
        return found

    def bind(self, source: str) -> t.Optional[_mountinfo.Mount]:
        """What is mounted at a source path."""
        return self._visible.get(source)

    @functools.cached_property
    def _visible(self) -> dict[str, _mountinfo.Mount]:
        # Of several over one another the last is seen.
        return {mount.mount_point: mount for mount in self.mounts}


@dataclasses.dataclass(frozen=True)
class VmView:
    """What is in and about a VM.

    Attributes:
        live: None for a VM that is shut off.
        persistent: None for a transient VM.
        guest: the guest's mount table; None when it was not asked for, or could not be had for `guest_error`.
        stale: mount paths at which the guest's mount answers nothing any more.
        systemd: whether systemd runs the guest; None when it was not asked.
        in_the_way: what stands in the way of mount paths in the guest: a path, and what that is.
        links: whether the link of a model of the view stands at a mount path elsewhere; only what was looked at.
        filled: mount paths at which directories stand that are not empty, where a link was to be.
        kernel: the version of the guest's kernel, None when it was not asked.
        read_from: the state and the XML that all but the guest was read from.
        units: the guest's mount units by mount path, None where there is none; only what was asked for.
        foreign_units: files of the guest that define a mount and are not ours, by mount path.
    """

    uuid: str
    name: str
    state: str
    live: t.Optional[_devices.Domain]
    persistent: t.Optional[_devices.Domain]
    live_records: tuple[_records.Record, ...]
    persistent_records: tuple[_records.Record, ...]
    guest: t.Optional[tuple[_mountinfo.Mount, ...]] = None
    guest_error: t.Optional[ModelfleetError] = None
    stale: frozenset[str] = frozenset()
    systemd: t.Optional[bool] = None
    in_the_way: t.Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    links: t.Mapping[str, bool] = dataclasses.field(default_factory=dict)
    filled: frozenset[str] = frozenset()
    kernel: t.Optional[tuple[int, int]] = None
    read_from: tuple[t.Optional[str], ...] = dataclasses.field(default=(), compare=False, repr=False)
    units: t.Mapping[str, t.Optional[str]] = dataclasses.field(default_factory=dict)
    foreign_units: t.Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def running(self) -> bool:
        """Whether devices can be plugged and the guest be talked to."""
        return self.state in ("running", "blocked")

    @functools.cached_property
    def records(self) -> t.Mapping[str, _records.Record]:
        """All records by UUID; where live and persistent differ, the live one."""
        return {record.uuid: record for record in (*self.persistent_records, *self.live_records)}

    def says_the_same(self, other: VmView) -> bool:
        """Whether state, devices and records are the same in two looks at a VM, whatever its guest and agent do."""
        return self._without_guest() == other._without_guest()

    def _without_guest(self) -> VmView:
        live = self.live and self.live._replace(agent_connected=False)
        return dataclasses.replace(self, live=live, guest=None, guest_error=None)

    @property
    def strays(self) -> tuple[_devices.Device, ...]:
        """Devices with an alias of ours that no record of this VM is for: of a clone, or of an XML that was pasted."""
        # What a mount has left of the transport that it had before belongs to that mount.
        recorded = {alias for record in self.records.values() for alias in (record.alias, *record.aliases)}
        domains = [domain for domain in (self.persistent, self.live) if domain is not None]
        devices = {device.alias: device for domain in domains for device in domain.devices if device.ours}
        return tuple(device for alias, device in sorted(devices.items()) if alias not in recorded)

    def recorded_everywhere(self, record: _records.Record) -> bool:
        """Whether a record stands, saying the same, wherever the VM keeps records."""
        places = []
        if self.live is not None:
            places.append(self.live_records)
        if self.persistent is not None:
            places.append(self.persistent_records)
        return all(any(found.says_the_same(record) for found in place if found.uuid == record.uuid) for place in places)


def observe_vm(vm: _domain.Vm, before: t.Optional[VmView] = None) -> VmView:
    """Read a domain's state and XML, live and persistent.

    Args:
        before: what an earlier look has seen. It is the answer when nothing has changed: with many records, parsing
            takes longer than asking.

    Raises:
        ModelfleetError: C(record_invalid), C(record_conflict), C(vm_not_found), C(libvirt_error).
    """
    state = vm.state()
    live = None if state == "shutoff" else vm.description()
    persistent = vm.description(inactive=True) if vm.persistent() else None
    if before is not None and before.read_from == (state, live, persistent):
        return before
    live_xml = None if live is None else ET.fromstring(live)
    persistent_xml = None if persistent is None else ET.fromstring(persistent)
    return VmView(
        uuid=vm.uuid,
        name=vm.name,
        state=state,
        live=None if live_xml is None else _devices.parse(live_xml),
        persistent=None if persistent_xml is None else _devices.parse(persistent_xml),
        live_records=() if live_xml is None else _records.from_domain(live_xml, vm.uuid),
        persistent_records=() if persistent_xml is None else _records.from_domain(persistent_xml, vm.uuid),
        read_from=(state, live, persistent),
    )


def observe_host(
    models: t.Iterable[ModelKey],
    sources: t.Mapping[str, ModelKey],
    in_views: t.Mapping[str, str],
    planned: t.Mapping[str, _centers.Center],
    deadline: float,
    openers: _opener.Openers,
) -> HostView:
    """Look at the host's own layers.

    Args:
        models: the directories that are wanted.
        sources: the source paths that may be bound, with the model that each belongs to.
        in_views: see C(HostView).
        planned: centers as an earlier task of the same play would make them, by name; without a UUID or a storage
            URL where that is not known.
        deadline: seconds for the answer of each model center.
        openers: the processes that touch storage.
    """
    centers = {unit.center.name: unit.center for unit in _centers.units()}
    mounts = tuple(_mountinfo.read())
    coming = _coming(planned, centers, mounts, deadline)
    centers.update(coming)
    views: dict[ModelKey, t.Union[tuple[int, int], ModelfleetError]] = {}
    bound: dict[str, tuple[int, int]] = {}
    by_center: dict[str, list[ModelKey]] = {}
    for key in sorted(set(models)):
        by_center.setdefault(key.center, []).append(key)
    mounted = {mount.mount_point for mount in mounts}
    for name, keys in by_center.items():
        here = _look_at_models(name, centers.get(name), name in coming, mounts, keys, deadline, openers)
        views.update(here)
        paths = [path for path, key in sources.items() if key.center == name and path in mounted]
        if paths and not any(_gave_up(view) for view in here.values()):
            bound.update(_look_at_sources(paths, deadline))
    return HostView(
        prepared=_hook_file.installed(),
        centers=centers,
        planned=frozenset(coming),
        mounts=mounts,
        serving=_virtiofsd.serving(),
        models=views,
        bound=bound,
        empty=_sources.empty_identity(),
        in_views=in_views,
    )


class Places(t.NamedTuple):
    """Where models may be bound, collected for C(observe_host): `sources` and `in_views`."""

    sources: dict[str, ModelKey]
    in_views: dict[str, str]

    def add_views(self, vm: VmView) -> None:
        """Add where models are bound in the view of a VM, without a look at their storage."""
        for record in vm.records.values():
            can_be = _input.can_be_in_view(record.mount_path)
            bind = _views.bound_at(vm.uuid, record.mount_path) if can_be else ""
            if bind:
                self.in_views[record.uuid] = bind

    def add(self, vm: str, mount: str, mount_path: str, key: ModelKey) -> None:
        """Add the places of one mount, whichever transport it has."""
        self.sources[_sources.path(vm, mount)] = key
        bind = _views.bound_at(vm, mount_path)
        if bind:
            self.sources[bind] = key
            self.in_views[mount] = bind


def _coming(
    planned: t.Mapping[str, _centers.Center],
    centers: t.Mapping[str, _centers.Center],
    mounts: t.Sequence[_mountinfo.Mount],
    deadline: float,
) -> dict[str, _centers.Center]:
    """The planned centers that are not mounted as planned, each with what it will show for a mount point, if known."""
    coming = {}
    for name, center in planned.items():
        known = centers.get(name)
        if known is None or center.storage_url not in ("", known.storage_url) or _why_not(known, mounts, deadline):
            directory = _storage.directory(center.storage_url) if center.storage_url else ""
            uuid = center.uuid or (known.uuid if known else _identity.center_uuid(name))
            coming[name] = dataclasses.replace(center, uuid=uuid, mount_point=directory)
    return coming


def _why_not(center: _centers.Center, mounts: t.Sequence[_mountinfo.Mount], deadline: float) -> str:
    return _center_seen.why_not(center, list(mounts), deadline)


def _look_at_models(
    name: str,
    center: t.Optional[_centers.Center],
    coming: bool,
    mounts: t.Sequence[_mountinfo.Mount],
    keys: list[ModelKey],
    deadline: float,
    openers: _opener.Openers,
) -> dict[ModelKey, t.Union[tuple[int, int], ModelfleetError]]:
    if center is None:
        problem = ModelfleetError("center_unknown", f"model center '{name}' is not defined on this host", center=name)
        return dict.fromkeys(keys, problem)
    if coming and not center.mount_point:
        # Nobody can know yet what it will show.
        return {}
    why = "" if coming else _why_not(center, mounts, deadline)
    if why:
        problem = not_mounted(center, why)
        return dict.fromkeys(keys, problem)
    found = _sources.look_at(center.mount_point, [key.path for key in keys], deadline, look=openers.look)
    return {key: item.identity or source_error(center, key.path, item) for key, item in zip(keys, found)}


def find_model(key: ModelKey, deadline: float, openers: _opener.Openers) -> _centers.Center:
    """The center of a model that is there.

    Raises:
        ModelfleetError: why it cannot be had.
    """
    center = next((unit.center for unit in _centers.units() if unit.center.name == key.center), None)
    view = _look_at_models(key.center, center, False, tuple(_mountinfo.read()), [key], deadline, openers)[key]
    if isinstance(view, ModelfleetError):
        raise view
    return t.cast(_centers.Center, center)


def _look_at_sources(paths: list[str], deadline: float) -> dict[str, tuple[int, int]]:
    below = [os.path.relpath(path, _sources.VMS_DIRECTORY) for path in paths]
    found = _opener.look(_sources.VMS_DIRECTORY, below, deadline)
    return {path: item.identity for path, item in zip(paths, found) if item.identity is not None}


def _gave_up(view: t.Union[tuple[int, int], ModelfleetError]) -> bool:
    return isinstance(view, ModelfleetError) and view.code == "storage_timeout"


def not_mounted(center: _centers.Center, why: str) -> ModelfleetError:
    """The error for a center that is defined, but not what is seen at its mount point."""
    return ModelfleetError(
        "center_not_mounted",
        f"model center '{center.name}' is not mounted at {center.mount_point}: {why}",
        center=center.name,
        mount_point=center.mount_point,
    )


def source_error(center: _centers.Center, path: str, found: _opener.Found) -> ModelfleetError:
    """The error for a model that could not be opened below its center."""
    code = {
        errno.EXDEV: "source_outside_center",
        errno.ELOOP: "source_outside_center",
        errno.ENOENT: "source_missing",
        errno.ENOTDIR: "source_missing",
        errno.ETIMEDOUT: "storage_timeout",
    }.get(found.error, "storage_error")
    return ModelfleetError(
        code,
        f"model center '{center.name}': {path}: {os.strerror(found.error)}",
        center=center.name,
        path=path,
        errno=errno.errorcode.get(found.error, str(found.error)),
    )
