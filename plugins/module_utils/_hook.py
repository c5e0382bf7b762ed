# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What libvirt runs before a VM starts and after it stopped: the sources of its devices, made and removed.

libvirt calls a hook with the domain's XML on standard input and waits for it (libvirt, hooks.html). So it
never calls libvirt, never waits long for storage, and never fails: a VM starts without its model when the
storage is down, sees an empty read-only directory, and is repaired by the next run.

This module util is private to the collection.
"""

from __future__ import annotations

import functools
import os
import sys
import syslog
import typing as t
import xml.etree.ElementTree as ET

from . import _center_seen, _centers, _devices, _identity, _input, _mountinfo, _records, _sources, _views

# Seconds that the storage of one model center may take to answer while a VM is starting.
_DEADLINE = 5.0


def main(argv: list[str]) -> int:
    """Run as C(HOOK domain operation sub-operation extra). Always returns 0."""
    xml = sys.stdin.buffer.read()
    operation = argv[2] if len(argv) > 2 else ""
    if operation not in ("prepare", "release"):
        return 0
    syslog.openlog("modelfleet", syslog.LOG_PID, syslog.LOG_DAEMON)
    try:
        domain = ET.fromstring(xml)
        vm = domain.findtext("uuid", "")
        # It becomes a part of paths.
        if not _input.is_uuid(vm):
            _log(f"{operation} of {argv[1]}: the domain has no UUID")
        elif operation == "prepare":
            prepare(domain, vm)
        else:
            release(vm)
    except Exception as problem:  # whatever it is, the VM comes first
        _log(f"{operation} of {argv[1]}: {problem!r}")
    return 0


def prepare(domain: ET.Element, vm: str) -> None:
    """Bind the source of every device of ours: the model of its record, or nothing in its place."""
    root = f"{_sources.VMS_DIRECTORY}/{vm}/"
    found = _devices.parse(domain).devices
    wanted = [device for device in found if _identity.is_alias(device.alias) and device.source == root + device.token]
    if not wanted:
        return
    _sources.make_directories()
    # By the devices that may bring each, whatever its record says: a change of transport may have been cut short.
    records: dict[str, list[_records.Record]] = {}
    centers: dict[str, _centers.Center] = {}
    try:
        for record in _records.from_domain(domain, vm):
            for alias in {record.alias, *record.aliases}:
                records.setdefault(alias, []).append(record)
        centers = {unit.center.uuid: unit.center for unit in _centers.units()}
    except Exception as problem:
        _log(f"{vm}: {problem}")
    by_center: dict[str, list[Place]] = {}
    for device in wanted:
        for place in _places(device, vm, records.get(device.alias, [])):
            by_center.setdefault(place.record.model_center_uuid if place.record else "", []).append(place)
    for uuid, places in by_center.items():
        _bind(centers.get(uuid), places)


def release(vm: str) -> None:
    """Unmount and remove every source of a VM."""
    root = f"{_sources.VMS_DIRECTORY}/{vm}"
    if os.path.isdir(_views.source(vm)):
        try:
            _views.close_view(vm)
        except OSError as problem:
            _log(f"{vm}: {problem}")
    names = set(os.listdir(root)) if os.path.isdir(root) else set()
    for name in names:
        _sources.unbind(f"{root}/{name}")


class Place(t.NamedTuple):
    """Where something is to be bound: the model of a record, where there is one, and how it is done."""

    what: str
    record: t.Optional[_records.Record]
    bind: t.Callable[[int], None]


def _places(device: _devices.Device, vm: str, records: list[_records.Record]) -> list[Place]:
    if device.source != _views.source(vm):
        record = records[0] if records else None
        return [Place(device.source, record, functools.partial(_to_source, device.source))]
    try:
        _views.close_view(vm)
        _views.open_view(vm)
    except OSError as problem:
        _log(f"{device.source}: {problem}; the VM sees an empty directory")
        # A plain directory in its place could be written to.
        return [Place(device.source, None, functools.partial(_to_source, device.source))]
    return [
        Place(record.mount_path, record, functools.partial(_to_view, vm, record.uuid, record.mount_path))
        for record in records
    ]


def _to_source(source: str, tree: int) -> None:
    _sources.bind(tree, source)


def _to_view(vm: str, mount: str, mount_path: str, tree: int) -> None:
    _views.bind(vm, mount, mount_path, tree)


def _bind(center: t.Optional[_centers.Center], places: list[Place]) -> None:
    trees = [-1] * len(places)
    if center is not None:
        try:
            trees = _models(center, [place.record.model_path for place in places if place.record])
        except Exception as problem:
            _log(f"model center {center.name}: {problem!r}")
    for place, tree in zip(places, trees):
        try:
            if tree < 0:
                _log(f"{place.what}: its model cannot be had now; the VM sees an empty directory")
                tree = _sources.empty_clone()
            place.bind(tree)
        except OSError as problem:
            _log(f"{place.what}: {problem}")


def _models(center: _centers.Center, paths: list[str]) -> list[int]:
    """Detached mounts of models, -1 for each that cannot be had."""
    why = _center_seen.why_not(center, _mountinfo.read(), _DEADLINE)
    if why:
        _log(f"model center {center.name} at {center.mount_point}: {why}")
        return [-1] * len(paths)
    return [item.tree for item in _sources.look_at(center.mount_point, paths, _DEADLINE, clone=True)]


def _log(message: str) -> None:
    # The name of a VM comes as bytes, which need not be the encoding that this process runs in.
    syslog.syslog(syslog.LOG_WARNING, message.encode("utf-8", "backslashreplace").decode())
