# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host with one running VM that is a few dictionaries, for what carries plans out.

Every effect is counted and written down, and can be made to fail before it has happened.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import errno
import os
import typing as t
import xml.etree.ElementTree as ET

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _apply,
    _binder,
    _held,
    _mount_lines,
    _mountapi,
    _mountinfo,
    _observed,
    _opener,
    _records,
    _sources,
    _steps,
    _views,
    _virtiofsd,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

# Where links to the view may stand.
ELSEWHERE = ("/srv/ai/guard", "/srv/ai/ocr")


@dataclasses.dataclass
class State:
    """All that is true of the VM, as a plan can change it."""

    records: dict[str, _records.Record]
    live: dict[str, tuple[str, str]]
    persistent: dict[str, tuple[str, str]]
    binds: dict[str, str]
    guest: dict[str, tuple[str, str]]
    units: dict[str, str]
    links: set[str] = dataclasses.field(default_factory=set)


class World:
    """The VM, its guest and its host; stands in for C(Vm), C(Guest) and the host's files."""

    uuid = b.VM
    name = "render-4"

    def __init__(self, *records: _records.Record) -> None:
        devices = {kept.alias: (kept.tag, b.device(kept).source) for kept in records}
        self.state = State(
            records={kept.uuid: kept for kept in records},
            live=dict(devices),
            persistent=dict(devices),
            binds={b.device(kept).source: kept.model_path for kept in records if not kept.in_view},
            guest={kept.device_path: (kept.tag, "ro") for kept in records},
            units={
                kept.device_path: _mount_lines.unit(kept.tag, kept.device_path, kept.device_uuid)
                for kept in records
                if kept.persistence == "systemd"
            },
            links={kept.mount_path for kept in records if kept.linked},
        )
        self.log: list[str] = []
        self.warnings: list[str] = []
        self.fails: dict[int, str] = {}
        self.missing: set[str] = set()
        self.devices: list[str] = []
        # Where units are looked for although nothing is mounted.
        self.units: list[str] = []
        # Empty directories of the guest at mount paths.
        self.directories: set[str] = set()
        self._trees: list[str] = []

    def apply(
        self, plans: t.Iterable[_steps.MountPlan], libvirt_version: int = 9_000_000, force: bool = False
    ) -> _apply.Done:
        """Carry out plans; the n-th effect belongs to the n-th step as long as nothing fails."""
        options = _binder.Options(5.0, libvirt_version, force, _opener.Openers())
        return _apply.apply(self.host(), self, self.view(), self, _steps.batches(plans), options)

    def snapshot(self) -> State:
        return copy.deepcopy(self.state)

    # What an observer sees

    def host(self):
        binds = []
        for source, path in self.state.binds.items():
            mount = b.bind(b.record(), path)
            binds.append(mount._replace(mount_point=source))
        served = {source for _tag, source in self.state.live.values()}
        return b.host(*binds, serving=b.served(*(mount for mount in binds if mount.mount_point in served)))

    def view(self):
        def domain(devices):
            return b.domain(
                *(b.device(b.record(), tag=tag, alias=alias, source=source) for alias, (tag, source) in devices.items())
            )

        options = {"ro": b.READ_ONLY, "rw": b.READ_WRITE}
        return b.running(
            live=domain(self.state.live),
            persistent=domain(self.state.persistent),
            live_records=tuple(self.state.records.values()),
            persistent_records=tuple(self.state.records.values()),
            systemd=True,
            units={
                path: self.state.units.get(path)
                for path in (*self.state.guest, *self.state.units, *self.units, b.record().mount_path)
            },
            guest=(
                b.ROOT,
                *(
                    b.in_guest(b.record(), mount_point=path, source=tag, options=options[access])
                    for path, (tag, access) in self.state.guest.items()
                ),
            ),
            links={path: path in self.state.links for path in ELSEWHERE if path not in self.state.guest},
        )

    # The effects

    def _effect(self, what: str) -> None:
        self.log.append(what)
        code = self.fails.get(len(self.log) - 1)
        if code:
            raise ModelfleetError(code, f"{what} was made to fail")

    def write_records(self, records, live, persistent):
        self._effect("write_records")
        assert live and persistent
        self.state.records = {kept.uuid: kept for kept in records}

    def attach(self, device, live, persistent, shared_memory):
        self._effect("attach" + " live" * live + " persistent" * persistent)
        assert shared_memory
        element = ET.fromstring(device)
        alias, tag = element.find("alias").get("name"), element.find("target").get("dir")
        source = element.find("source").get("dir")
        self.devices.append(device)
        for place in [self.state.live] * live + [self.state.persistent] * persistent:
            assert alias not in place
            assert not live or source in self.state.binds, "virtiofsd would find nothing"
            place[alias] = (tag, source)

    def detach_live(self, aliases, deadline):
        for alias in aliases:
            self._effect("detach live")
            tag, _source = self.state.live.pop(alias)
            assert all(mounted != tag for mounted, _access in self.state.guest.values()), "it is mounted"

    def has_device(self, alias):
        return alias in self.state.live

    def detach_persistent(self, alias):
        self._effect("detach persistent")
        del self.state.persistent[alias]

    def mount(self, wanted):
        self._effect("mount " + " ".join(path for _tag, path in wanted))
        for tag, path in wanted:
            assert path not in self.state.guest and path not in self.state.links
            assert any(found == tag for found, _source in self.state.live.values())
            self.state.guest[path] = (tag, "ro")
            self.directories.discard(path)

    def unmount(self, mounted, force=False):
        self._effect("unmount " + " ".join(path for _tag, path in mounted) + " by force" * force)
        for _tag, path in mounted:
            del self.state.guest[path]
            self.directories.add(path)

    def link(self, paths):
        self._effect("link " + " ".join(paths))
        assert "/models" in self.state.guest and not self.state.links.intersection(paths)
        assert not any(path in self.state.guest for path in paths)
        self.state.links.update(paths)
        gone = [path for path in paths if path in self.directories]
        self.directories.difference_update(gone)
        return gone

    def unlink(self, paths, directories=()):
        self._effect("unlink " + " ".join(paths))
        assert self.state.links.issuperset(paths)
        self.state.links.difference_update(paths)
        self.directories.update(directories)
        return list(paths)

    def write_unit(self, uuid, tag, path):
        self._effect(f"write unit {path}")
        self.state.units[path] = _mount_lines.unit(tag, path, uuid)

    def remove_unit(self, uuid, path):
        self._effect(f"remove unit {path}")
        unit = self.state.units.pop(path, None)
        assert unit is None or _mount_lines.mount_of_unit(unit) == uuid

    def remount_read_only(self, path):
        self._effect(f"remount {path}")
        self.state.guest[path] = (self.state.guest[path][0], "ro")

    def bind(self, tree, source):
        self._effect("bind")
        self.state.binds[source] = self._trees[tree]

    def bind_empty(self, source):
        self._effect("bind empty")
        self.state.binds[source] = ""

    def unbind(self, source):
        self._effect("unbind")
        assert all(served != source for _tag, served in self.state.live.values()), "a daemon serves it"
        self.state.binds.pop(source, None)

    def look_at(self, center, paths, deadline, clone=False, look=None):
        assert center == b.CENTER.mount_point and clone
        found = []
        for path in paths:
            if path in self.missing:
                found.append(_opener.Found(None, 2))
            else:
                self._trees.append(path)
                found.append(_opener.Found(b.identity(path), 0, len(self._trees) - 1))
        return found

    def keep(self, source, deadline, look=None):
        self._trees.append(self.state.binds[source])
        return len(self._trees) - 1

    def active(self):
        return True

    def verify(self, devices, vm, deadline):
        self._effect("verify")
        for device in devices:
            assert device.source in self.state.binds
            assert all(path in self.state.binds for path, _seen in device.below)

    def install(self, monkeypatch, virtiofsd_read_only: bool = False) -> World:
        """Stand in for the host's files and daemons."""
        monkeypatch.setattr(_sources, "look_at", self.look_at)
        monkeypatch.setattr(_sources, "keep", self.keep)
        monkeypatch.setattr(_sources, "close", lambda _tree: None)
        monkeypatch.setattr(_sources, "bind", self.bind)
        monkeypatch.setattr(_sources, "bind_empty", self.bind_empty)
        monkeypatch.setattr(_sources, "unbind", self.unbind)
        monkeypatch.setattr(_sources, "make_directories", contextlib.nullcontext)
        monkeypatch.setattr(_virtiofsd, "can_be_read_only", lambda: virtiofsd_read_only)
        monkeypatch.setattr(_virtiofsd, "wait_until_read_only", self.verify)
        return self


# What is bound at the root of a view, in the place of the path of a model.
VIEW = "the view"


# All that may be in the view.
VIEWED = (
    b.viewed(),
    b.second(transport="view", mount_path="/models/org/ocr"),
    b.wanted(transport="view"),
    b.second(transport="view"),
)


class ViewWorld(World):
    """The same with views, that are made of real directories; what is mounted in them is not.

    Attributes:
        busy: models, by their paths below the center, of which the guest has not let go.
        reluctant: whether it does not let go of them when it is asked to.
        held: those of them that virtiofsd still has open although they are not bound any more.
    """

    def __init__(self, *records: _records.Record) -> None:
        super().__init__(*records)
        self.busy: set[str] = set()
        self.reluctant = False
        self.held: set[str] = set()
        self._open: dict[int, str] = {}
        self._before = records

    def install(self, monkeypatch, virtiofsd_read_only: bool = False) -> ViewWorld:
        usual = {name: getattr(_sources, name) for name in ("bind", "bind_empty", "unbind", "close")}
        super().install(monkeypatch, virtiofsd_read_only)
        for name, function in usual.items():
            monkeypatch.setattr(_sources, name, function)
        for name in ("attach", "unmount", "read_only_clone"):
            monkeypatch.setattr(_mountapi, name, getattr(self, f"_{name}"))
        monkeypatch.setattr(_mountinfo, "read", lambda: [b.ROOT, *self._mounts()])
        monkeypatch.setattr(_mountinfo, "at", lambda path: _mountinfo.stack(self._mounts(), path))
        monkeypatch.setattr(_held, "is_served", self._is_served)
        monkeypatch.setattr(_held, "wait_until_ended", lambda _pids, _source, _deadline: not self.held)
        for name in ("hide", "show"):
            monkeypatch.setattr(_views, name, self._counted(name, getattr(_views, name)))
        for kept in self._before:
            if kept.in_view:
                _views.open_view(self.uuid)
                _views.bind(self.uuid, kept.uuid, kept.mount_path, self._tree(kept.model_path))
            else:
                os.makedirs(b.device(kept).source)
        self.log.clear()
        return self

    def shows(self) -> tuple[dict[str, str], list[str]]:
        """What the view shows at mount paths, and all that is bound on the host."""
        shown = {}
        for kept in VIEWED:
            bind = _views.bound_at(self.uuid, kept.mount_path)
            shown.update({kept.mount_path: self.state.binds[bind]} if bind else {})
        return shown, sorted(self.state.binds.values())

    def snapshot(self) -> State:
        # The number of a bind may be another after an undo.
        shown, bound = self.shows()
        return dataclasses.replace(super().snapshot(), binds={**shown, "bound": bound})

    def host(self):
        places = _observed.Places({}, {})
        for kept in VIEWED:
            places.add(self.uuid, kept.uuid(self.uuid), kept.mount_path, ("depot", kept.model_path))
        used = [source for _tag, source in self.state.live.values()]
        served = b.served(*self._mounts())
        served = {source: daemon for source, daemon in served.items() if source in used}
        mounts = [mount for mount in self._mounts() if "/.m/" not in mount.mount_point]
        models = [mount for mount in self._mounts() if "/.m/" in mount.mount_point]
        return b.host(
            *mounts,
            mounts=(b.ROOT, *mounts, *models),
            serving=served,
            in_views=places.in_views,
            bound={
                mount.mount_point: b.identity(mount.root[len("/models/") :])
                for mount in self._mounts()
                if mount.fstype != "tmpfs"
            },
        )

    def _mounts(self):
        usual = b.bind(b.record())
        return [
            b.view() if path == VIEW else usual._replace(mount_point=point, root=f"/models/{path}")
            for point, path in self.state.binds.items()
        ]

    def _tree(self, path: str) -> int:
        tree = os.open("/", os.O_PATH)
        self._open[tree] = path
        return tree

    def look_at(self, center, paths, deadline, clone=False, look=None):
        assert center == b.CENTER.mount_point and clone
        return [
            _opener.Found(None, errno.ENOENT)
            if path in self.missing
            else _opener.Found(b.identity(path), 0, self._tree(path))
            for path in paths
        ]

    def keep(self, source, deadline, look=None):
        return self._tree(self.state.binds[source])

    def _is_served(self, source, gone, shown):
        assert not any(path.startswith(f"{gone}-") and path != shown for path in self.state.binds)
        return bool(self.held)

    def detach_live(self, aliases, deadline):
        super().detach_live(aliases, deadline)
        self.held.clear()

    def mounts(self):
        return list(self.view().guest)

    def users(self, path):
        return [{"pid": 412, "name": "vllm"}]

    def let_go(self, view, bind):
        assert view == "/models" and bind.startswith("/models/.m/")
        self.log.append("let go")
        self.busy = self.busy if self.reluctant else set()

    # The effects

    def _counted(self, what, function):
        def counted(*arguments):
            self._on_host(f"{what} {arguments[1]}")
            return function(*arguments)

        return counted

    def _on_host(self, what: str) -> None:
        try:
            self._effect(what)
        except ModelfleetError as problem:
            raise OSError(errno.EIO, problem.what) from None

    def _read_only_clone(self, directory, shared=False):
        assert shared
        return self._tree(VIEW)

    def _attach(self, tree, path):
        self._on_host(f"bind {self._open[tree]}")
        self.state.binds[path] = self._open[tree]

    def _unmount(self, path, lazy=False):
        if self.state.binds[path] in self.busy and not lazy:
            raise OSError(errno.EBUSY, "busy", path)
        self._on_host(f"unbind {self.state.binds[path]}" + " lazily" * lazy)
        assert not any(point.startswith(f"{path}/") for point in self.state.binds), "something is mounted below it"
        self.held |= self.busy & {self.state.binds[path]}
        if self.state.binds[path] == VIEW:
            assert all(served != path for _tag, served in self.state.live.values()), "a daemon serves it"
        del self.state.binds[path]
