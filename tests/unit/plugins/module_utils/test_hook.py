# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What libvirt's hook does before a VM starts and after it stopped, without mounting anything."""

from __future__ import annotations

import errno
import io
import types
import xml.etree.ElementTree as ET

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _centers,
    _devices,
    _hook,
    _mountinfo,
    _opener,
    _records,
    _sources,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

R = b.record()
OTHER = b.record(b.second())
SOURCES = {kept.model_path: b.device(kept).source for kept in (R, OTHER)}
TREES = {"acme/guard-2.1": 7, "ocr": 8, None: 9}


class Effects:
    """What the hook did: source paths, and the model that is bound there, or nothing in its place."""

    def __init__(self):
        self.bound = {}
        self.removed = []
        self.log = []
        self.broken = set()
        self.made = 0

    def make_directories(self):
        self.made += 1

    def bind(self, tree, source):
        assert self.made, "on a fresh host the directories are not there yet"
        self.bound[source] = {number: path for path, number in TREES.items()}[tree]

    def look_at(self, center, paths, deadline, clone=False):
        assert (center, clone) == (b.CENTER.mount_point, True)
        found = [_opener.Found(None, errno.ETIMEDOUT) if path in self.broken else path for path in paths]
        return [item if isinstance(item, tuple) else _opener.Found((1, 2), 0, TREES[item]) for item in found]


@pytest.fixture
def effects(monkeypatch):
    done = Effects()
    monkeypatch.setattr(_sources, "bind", done.bind)
    monkeypatch.setattr(_sources, "empty_clone", lambda: TREES[None])
    monkeypatch.setattr(_sources, "unbind", done.removed.append)
    monkeypatch.setattr(_sources, "look_at", done.look_at)
    monkeypatch.setattr(_sources, "make_directories", done.make_directories)
    monkeypatch.setattr(_hook, "_log", done.log.append)
    monkeypatch.setattr(_centers, "units", lambda: [_centers.Unit("", "", b.CENTER)])
    monkeypatch.setattr(_mountinfo, "read", lambda: [b.ROOT, b.MOUNTED])
    return done


def domain(*kept, metadata=None, devices=None):
    """The XML of a domain with these records and their devices."""
    xml = _records.to_xml(kept, b.VM) if metadata is None else metadata
    inner = (xml or "").replace("<mounts ", f"<mounts xmlns='{_records.NAMESPACE}' ", 1)
    made = (_devices.virtiofs(each.tag, each.alias, b.device(each).source, False) for each in kept)
    return b.domain_xml("".join(made) if devices is None else devices, more=f"<metadata>{inner}</metadata>")


def test_every_device_of_ours_gets_its_model(effects):
    _hook.prepare(domain(R, OTHER), b.VM)
    assert effects.bound == {source: path for path, source in SOURCES.items()}
    assert effects.log == []


def test_a_device_of_somebody_else_is_left_alone(effects):
    foreign = _devices.virtiofs("home", "fs0", "/data/home", False)
    elsewhere = _devices.virtiofs("x", "ua-modelfleet-0123456789abcdef", "/data/home", False)
    _hook.prepare(domain(devices=foreign + elsewhere), b.VM)
    assert effects.bound == {}


@pytest.mark.parametrize("below", ["../x", "../../../../etc", "deeper/down", "", "."])
def test_only_the_sources_of_the_vm_are_bound(below, effects):
    source = f"{_sources.VMS_DIRECTORY}/{b.VM}/{below}"
    _hook.prepare(domain(devices=_devices.virtiofs("x", R.alias, source, False)), b.VM)
    assert effects.bound == {}


@pytest.mark.parametrize("token", ["../x", "..", "", "0123456789abcdef0", "0123456789ABCDEF"])
def test_only_an_alias_of_a_mount_is_a_part_of_a_path(token, effects):
    source = f"{_sources.VMS_DIRECTORY}/{b.VM}/{token}"
    _hook.prepare(domain(devices=_devices.virtiofs("x", f"ua-modelfleet-{token}", source, False)), b.VM)
    assert effects.bound == {}


EMPTY = {SOURCES[R.model_path]: None, SOURCES[OTHER.model_path]: None}


def test_a_vm_starts_without_the_model_that_does_not_answer(effects):
    effects.broken = {"ocr"}
    _hook.prepare(domain(R, OTHER), b.VM)
    assert effects.bound == {SOURCES[R.model_path]: R.model_path, SOURCES["ocr"]: None}
    assert SOURCES["ocr"] in effects.log[0]


def test_a_vm_starts_without_models_when_the_center_is_not_mounted(effects, monkeypatch):
    monkeypatch.setattr(_mountinfo, "read", lambda: [b.ROOT])
    _hook.prepare(domain(R, OTHER), b.VM)
    assert effects.bound == EMPTY


def test_a_vm_starts_without_models_when_somebody_else_has_mounted_something_there(effects, monkeypatch):
    foreign = b.MOUNTED._replace(mount_id=51, parent_id=50, fstype="tmpfs", source="theirs", device="0:99", root="/")
    over = foreign._replace(parent_id=21, mount_point="/mnt")
    monkeypatch.setattr(_opener, "look", lambda root, _paths, _deadline: [_opener.Found((1, len(root)), 0)])
    for mounts, said in (([b.MOUNTED, foreign], "another directory"), ([b.MOUNTED, over], "tmpfs from theirs at /mnt")):
        monkeypatch.setattr(_mountinfo, "read", lambda mounts=mounts: [b.ROOT, *mounts])
        effects.log.clear()
        _hook.prepare(domain(R, OTHER), b.VM)
        assert effects.bound == EMPTY
        assert said in effects.log[0]


def test_a_vm_starts_without_models_when_the_center_is_not_defined(effects, monkeypatch):
    monkeypatch.setattr(_centers, "units", list)
    _hook.prepare(domain(R, OTHER), b.VM)
    assert effects.bound == EMPTY


@pytest.mark.parametrize("metadata", ["", f"<mounts schema_version='9' vm='{b.VM}'/>", f"<mounts vm='{b.VM}'/>"])
def test_a_vm_starts_without_models_when_its_records_cannot_be_read(metadata, effects):
    _hook.prepare(domain(R, OTHER, metadata=metadata), b.VM)
    assert effects.bound == EMPTY


@pytest.mark.parametrize("problem", [ModelfleetError("center_conflict", "x"), OSError(5, "x"), ValueError("x")])
def test_a_vm_starts_without_models_when_the_centers_cannot_be_read(problem, effects, monkeypatch):
    def units():
        raise problem

    monkeypatch.setattr(_centers, "units", units)
    _hook.prepare(domain(R, OTHER), b.VM)
    assert effects.bound == EMPTY


def test_a_vm_starts_without_models_when_they_cannot_be_looked_at(effects, monkeypatch):
    def look_at(*_arguments, **_options):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(_sources, "look_at", look_at)
    _hook.prepare(domain(R, OTHER), b.VM)
    assert effects.bound == EMPTY


def test_a_source_that_cannot_be_bound_does_not_stop_the_others(effects, monkeypatch):
    def bind(tree, source):
        if tree == 7:
            raise OSError(16, "x")
        effects.bind(tree, source)

    monkeypatch.setattr(_sources, "bind", bind)
    _hook.prepare(domain(R, OTHER), b.VM)
    assert effects.bound[SOURCES["ocr"]] == "ocr"
    assert len(effects.log) >= 1


def test_the_sources_of_a_vm_that_stopped_are_removed(effects, tmp_path, monkeypatch):
    monkeypatch.setattr(_sources, "VMS_DIRECTORY", str(tmp_path))
    for vm in (b.VM, b.OTHER_VM):
        (tmp_path / vm / "0123456789abcdef").mkdir(parents=True)
    _hook.release(b.VM)
    assert effects.removed == [f"{tmp_path}/{b.VM}/0123456789abcdef"]


def test_a_vm_without_sources_needs_nothing(effects, tmp_path, monkeypatch):
    monkeypatch.setattr(_sources, "VMS_DIRECTORY", str(tmp_path))
    _hook.release(b.VM)
    assert effects.removed == []


def call(monkeypatch, arguments, data):
    """Run the hook as libvirt does, in this process."""
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(buffer=io.BytesIO(data)))
    monkeypatch.setattr(_hook.syslog, "openlog", lambda *_arguments: None)
    return _hook.main(["qemu", *arguments.split()])


def test_only_before_the_start_and_after_the_end_something_is_done(effects, monkeypatch):
    done = []
    monkeypatch.setattr(_hook, "prepare", lambda _domain, vm: done.append(("prepare", vm)))
    monkeypatch.setattr(_hook, "release", lambda vm: done.append(("release", vm)))
    xml = ET.tostring(domain(R))
    for operation in ("prepare", "start", "started", "stopped", "release", "migrate", "restore", "reconnect", "attach"):
        assert call(monkeypatch, f"render-4 {operation} begin -", xml) == 0
    assert done == [("prepare", b.VM), ("release", b.VM)]


@pytest.mark.parametrize("operation", ["prepare", "release"])
def test_whatever_goes_wrong_the_vm_comes_first(operation, effects, monkeypatch):
    def broken(*_arguments):
        raise RuntimeError("x")

    monkeypatch.setattr(_hook, operation, broken)
    assert call(monkeypatch, f"render-4 {operation} begin -", ET.tostring(domain(R))) == 0
    assert "RuntimeError" in effects.log[0]


@pytest.mark.parametrize("uuid", ["", "..", "../../../srv", f"{b.VM}/..", " "])
@pytest.mark.parametrize("operation", ["prepare", "release"])
def test_only_a_uuid_is_a_part_of_a_path(operation, uuid, effects, monkeypatch):
    monkeypatch.setattr(_hook, operation, lambda *_arguments: pytest.fail("it went on"))
    assert call(monkeypatch, f"render-4 {operation} begin -", ET.tostring(b.domain_xml(uuid=uuid))) == 0
    assert "no UUID" in effects.log[0]


def test_a_name_in_another_encoding_can_be_logged(monkeypatch):
    logged = []
    monkeypatch.setattr(_hook.syslog, "syslog", lambda _level, text: logged.append(text.encode()))
    assert call(monkeypatch, "caf\udce9 prepare begin -", b"") == 0
    assert b"caf\\udce9" in logged[0]
