# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Builders for the unit tests: a host and a VM in any state, from one wanted mount."""

from __future__ import annotations

import dataclasses
import os
import typing as t
import xml.etree.ElementTree as ET
import zlib

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _devices,
    _identity,
    _layers,
    _plan,
    _records,
    _sources,
    _steps,
    _views,
    _virtiofsd,
    _wanted,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._centers import Center
from ansible_collections.modelfleet.kvm.plugins.module_utils._mountinfo import Mount
from ansible_collections.modelfleet.kvm.plugins.module_utils._observed import HostView, ModelKey, VmView

VM = "8d4c5a1e-7b0f-4c7e-9a35-2f1b6c0d9e77"
OTHER_VM = "1f0a3c52-90d1-4b6c-8b52-6f6e0f3a1d20"
CENTER = Center("depot", "52b1f3d9-0d0c-4f39-8f5e-5a1f54d3a0c6", "file:///data/depot", "/mnt/depot", True)

READ_ONLY = frozenset(("ro", "nosuid", "nodev", "relatime"))
READ_WRITE = frozenset(("rw", "nosuid", "nodev", "relatime"))
ROOT = Mount(21, 1, "8:1", "/", "/", frozenset(("rw", "relatime")), "", "ext4", "/dev/vda1")
# The model center, as the host's mount table shows it.
MOUNTED = ROOT._replace(
    mount_id=50, parent_id=21, root="/data/depot", mount_point=CENTER.mount_point, options=READ_ONLY
)
# The UUIDs of mounts by their tokens, from which they cannot be had back.
_MOUNTS: dict[str, str] = {}


def wanted(**changes: t.Any) -> _wanted.Wanted:
    """A model for the VM, as somebody may ask for it."""
    mount = _wanted.Wanted(
        where="",
        vm="render-4",
        model="acme/guard",
        model_version="2.1",
        model_uuid="",
        model_center=CENTER.name,
        model_path="acme/guard-2.1",
        mount_path="/srv/ai/guard",
        tag="",
        guest="agent",
        persistence="none",
        account_uuid="",
        owner="default",
    )
    return dataclasses.replace(mount, **changes)


def nothing() -> _wanted.Wanted:
    """The VM and nothing else."""
    return _wanted.nothing("render-4")


def record(mount: t.Optional[_wanted.Wanted] = None, vm: str = VM, **changes: t.Any) -> _records.Record:
    """The record of a wanted mount that was settled some time ago."""
    fresh = (mount or wanted()).record(vm, CENTER)
    times = {"create_date": "2025-11-02T08:15:00Z", "last_op_date": "2026-01-17T21:40:09Z", "generation": 3}
    return dataclasses.replace(fresh, **{**times, **changes})


def viewed(**changes: t.Any) -> _wanted.Wanted:
    """The model of C(wanted) in the VM's view."""
    return wanted(**{"transport": "view", "mount_path": "/models/guard", **changes})


def device(kept: _records.Record, **changes: t.Any) -> _devices.Device:
    """The device of a record; those that are in a view have the same."""
    source = _layers.device_source(kept)
    return _devices.Device(kept.tag, kept.alias, source, "<filesystem/>")._replace(**changes)


def domain(*devices: _devices.Device, **changes: t.Any) -> _devices.Domain:
    """What a domain's XML says, of a VM that is able to take models."""
    return _devices.Domain(devices, shared_memory=True, agent_channel=True, free_ports=5)._replace(**changes)


def identity(path: str) -> tuple[int, int]:
    """Device and inode number of a model, any number that is the same for the same path."""
    return 41, zlib.crc32(path.encode())


def bind(kept: _records.Record, path: str = "", options: t.Iterable[str] = READ_ONLY, number: int = 1) -> Mount:
    """The bind of a record's source, as the host's mount table shows it; in a view it has a number."""
    source = _sources.path(kept.vm_instance_uuid, kept.uuid)
    if kept.in_view:
        token = _identity.token(kept.uuid)
        _MOUNTS[token] = kept.uuid
        source = f"{_views.source(kept.vm_instance_uuid)}/.m/{token}-{number}"
    root = f"/models/{path or kept.model_path}"
    return Mount(zlib.crc32(source.encode()), 21, "0:41", root, source, frozenset(options), "", "xfs", "/dev/vdb")


def view(vm: str = VM, options: t.Iterable[str] = READ_ONLY, propagation: str = "shared:77") -> Mount:
    """The bind of a view's root, as the host's mount table shows it."""
    root = f"/modelfleet/views/{vm}"
    return Mount(30, 21, "0:22", root, _views.source(vm), frozenset(options), propagation, "tmpfs", "tmpfs")


def served(*binds: Mount, since: float = 0.0) -> dict[str, _virtiofsd.Daemon]:
    """Daemons that serve these binds; the daemon of a view has what is bound in it."""
    in_views = [mount for mount in binds if "/.m/" in mount.mount_point]
    return {
        root.mount_point: _virtiofsd.Daemon(
            frozenset((root.shows,)),
            since,
            {
                _views.in_daemon(mount.mount_point): mount.shows
                for mount in in_views
                if mount.mount_point.startswith(f"{root.mount_point}/") and "ro" in mount.options
            },
            root.propagation.startswith("shared:"),
        )
        for root in binds
        if root not in in_views
    }


def host(*binds: Mount, **changes: t.Any) -> HostView:
    """A prepared host with a mounted model center that holds every wanted model of these tests.

    What is bound in a view is shown by it, of several binds of a mount the last; the view is bound as well.
    """
    models = {ModelKey(CENTER.name, mount.model_path): identity(mount.model_path) for mount in (wanted(), second())}
    in_views = {_token(mount): mount for mount in binds if "/.m/" in mount.mount_point}
    roots = {mount.mount_point.partition("/.m/")[0] for mount in in_views.values()}
    missing = roots.difference(mount.mount_point for mount in binds)
    binds = (*(view(os.path.basename(os.path.dirname(root))) for root in sorted(missing)), *binds)
    found = HostView(
        prepared=True,
        centers={CENTER.name: CENTER},
        planned=frozenset(),
        mounts=(ROOT, *binds),
        serving=served(*binds),
        models=dict(models),
        bound={
            mount.mount_point: identity(mount.root[len("/models/") :]) for mount in binds if mount.fstype != "tmpfs"
        },
        in_views={_MOUNTS[token]: mount.mount_point for token, mount in in_views.items()},
    )
    return dataclasses.replace(found, **changes)


def _token(mount: Mount) -> str:
    return os.path.basename(mount.mount_point).partition("-")[0]


def second(**changes: t.Any) -> _wanted.Wanted:
    """Another model for the same VM."""
    return wanted(**{"model": "ocr", "model_version": "", "model_path": "ocr", "mount_path": "/srv/ai/ocr", **changes})


def in_guest(kept: _records.Record, **changes: t.Any) -> Mount:
    """The mount of a record in the guest."""
    mount = Mount(90, 21, "0:55", "/", kept.device_path, READ_ONLY, "shared:9", "virtiofs", kept.tag)
    return mount._replace(**changes)


def running(*records: _records.Record, **changes: t.Any) -> VmView:
    """A running VM in which some records are mounted as they should be."""
    devices = dict.fromkeys(device(kept) for kept in records)
    mounts = dict.fromkeys(in_guest(kept) for kept in records if kept.guest == "agent")
    found = VmView(
        uuid=VM,
        name="render-4",
        state="running",
        live=domain(*devices),
        persistent=domain(*devices),
        live_records=records,
        persistent_records=records,
        guest=(ROOT, *mounts),
        links={kept.mount_path: True for kept in records if kept.linked and kept.guest == "agent"},
    )
    return dataclasses.replace(found, **changes)


def shut_off(*records: _records.Record, **changes: t.Any) -> VmView:
    """A VM that is shut off, with some records."""
    found = running(*records, state="shutoff", live=None, live_records=(), guest=None, links={})
    return dataclasses.replace(found, **changes)


def domain_xml(devices: str = "", machine: str = "pc-q35-7.2", more: str = "", uuid: str = VM) -> ET.Element:
    """The XML of a domain."""
    return ET.fromstring(
        f"<domain type='kvm'><name>render-4</name><uuid>{uuid}</uuid>"
        f"<os><type arch='x86_64' machine='{machine}'>hvm</type></os>{more}<devices>{devices}</devices></domain>"
    )


def present(on: HostView, vm: VmView, mount: _wanted.Wanted, **terms: t.Any) -> _steps.MountPlan:
    """The plan for one mount that shall be there."""
    return _plan.plan_vm(on, vm, [(0, mount)], _plan.Terms(present=True, **terms))[0][0]


def absent(on: HostView, vm: VmView, *mounts: _wanted.Wanted, **terms: t.Any) -> list[_steps.MountPlan]:
    """The plans for entries that shall be gone."""
    plans = _plan.plan_vm(on, vm, list(enumerate(mounts)), _plan.Terms(present=False, **terms))
    return [plan for index in range(len(mounts)) for plan in plans[index]]
