# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is: a VM from its XML, a host from its mount table, and what the two say of a mount."""

from __future__ import annotations

import dataclasses
import errno
import xml.etree.ElementTree as ET

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _centers,
    _devices,
    _hook_file,
    _layers,
    _mountinfo,
    _observed,
    _opener,
    _records,
    _sources,
    _storage,
    _views,
    _virtiofsd,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

R = b.record()
SOURCE = b.device(R).source
KEY = _observed.ModelKey("depot", "acme/guard-2.1")
OTHER = _observed.ModelKey("depot", "ocr")


class Vm:
    """A domain as C(_domain.Vm) gives it."""

    uuid = b.VM
    name = "render-4"

    def __init__(self, state, live=None, persistent=None):
        self._state = state
        self._xml = {False: live, True: persistent}

    def state(self):
        return self._state

    def persistent(self):
        return self._xml[True] is not None

    def description(self, inactive=False):
        assert self._xml[inactive] is not None
        return ET.tostring(self._xml[inactive], encoding="unicode")


def xml(*records):
    """The XML of the VM with these records and their devices."""
    inner = (_records.to_xml(records, b.VM) or "").replace("<mounts ", f"<mounts xmlns='{_records.NAMESPACE}' ", 1)
    made = (_devices.virtiofs(kept.tag, kept.alias, b.device(kept).source, False) for kept in records)
    return b.domain_xml("".join(made), more=f"<metadata>{inner}</metadata>")


@pytest.mark.parametrize(
    ("now", "same"),
    [
        (Vm("running", live=xml(R), persistent=xml(R)), True),
        (Vm("paused", live=xml(R), persistent=xml(R)), False),
        (Vm("running", live=xml(), persistent=xml(R)), False),
        (Vm("running", live=xml(R), persistent=xml()), False),
        (Vm("running", live=xml(R)), False),
    ],
)
def test_a_vm_that_has_not_changed_is_what_it_was(now, same):
    before = _observed.observe_vm(Vm("running", live=xml(R), persistent=xml(R)))
    assert (_observed.observe_vm(now, before) is before) is same


def test_a_running_vm_has_two_descriptions():
    view = _observed.observe_vm(Vm("running", live=xml(R), persistent=xml()))
    assert (view.uuid, view.name, view.state, view.running) == (b.VM, "render-4", "running", True)
    assert (view.live_records, view.persistent_records) == ((R,), ())
    assert [device.alias for device in view.live.devices] == [R.alias]
    assert view.persistent.devices == ()
    assert view.guest is None


def test_a_vm_that_is_shut_off_has_no_live_description():
    view = _observed.observe_vm(Vm("shutoff", persistent=xml(R)))
    assert (view.live, view.live_records, view.running) == (None, (), False)
    assert view.persistent_records == (R,)


def test_a_transient_vm_has_no_persistent_description():
    view = _observed.observe_vm(Vm("running", live=xml(R)))
    assert (view.persistent, view.persistent_records) == (None, ())


def test_two_looks_at_a_vm_say_the_same_whatever_its_agent_does():
    first = b.running(R, guest=None)
    second = b.running(R, live=b.domain(b.device(R), agent_connected=True))
    assert second.says_the_same(first)
    assert not b.running(R, live=b.domain()).says_the_same(first)
    assert not b.running(b.record(generation=9)).says_the_same(first)
    assert not b.shut_off(R).says_the_same(first)


def test_of_two_records_of_a_mount_the_live_one_counts():
    live, persistent = b.record(owner="live"), b.record(owner="persistent")
    view = b.running(live_records=(live,), persistent_records=(persistent,))
    assert view.records == {R.uuid: live}
    assert not view.recorded_everywhere(live)


# The host


@pytest.fixture
def looks(monkeypatch):
    """A host with a mounted center, and the questions that its storage was asked."""
    asked = []

    def look_at(center, paths, deadline, clone=False, look=None):
        asked.append((center, tuple(paths)))
        return [_opener.Found(b.identity(path), 0) for path in paths]

    def look(root, paths, deadline, clone=False):
        asked.append((root, tuple(paths)))
        return [_opener.Found((9, 9), 0) for _path in paths]

    monkeypatch.setattr(_centers, "units", lambda: [_centers.Unit("", "", b.CENTER)])
    monkeypatch.setattr(_mountinfo, "read", lambda: [b.ROOT, b.MOUNTED, b.bind(R)])
    monkeypatch.setattr(_sources, "look_at", look_at)
    monkeypatch.setattr(_sources, "empty_identity", lambda: (7, 7))
    monkeypatch.setattr(_opener, "look", look)
    monkeypatch.setattr(_hook_file, "installed", lambda: True)
    monkeypatch.setattr(_virtiofsd, "serving", dict)
    return asked


def on_host(models, sources, planned, in_views=None):
    with _opener.Openers() as openers:
        return _observed.observe_host(models, sources, in_views or {}, planned, 5, openers)


TOKEN = SOURCE.rsplit("/", 1)[1]


def test_a_host_is_looked_at_once_per_center(looks):
    host = on_host([KEY, OTHER, KEY], {SOURCE: KEY}, {})
    assert looks == [
        ("/mnt/depot", ("acme/guard-2.1", "ocr")),
        (_sources.VMS_DIRECTORY, (f"{b.VM}/{TOKEN}",)),
    ]
    assert host.models == {KEY: b.identity("acme/guard-2.1"), OTHER: b.identity("ocr")}
    assert (host.bound, host.empty) == ({SOURCE: (9, 9)}, (7, 7))
    assert (host.prepared, host.centers, host.planned) == (True, {"depot": b.CENTER}, frozenset())


def test_a_source_that_is_not_bound_is_not_looked_at(looks):
    host = on_host([KEY], {f"{_sources.VMS_DIRECTORY}/{b.OTHER_VM}/x": KEY}, {})
    assert len(looks) == 1
    assert host.bound == {}


def test_storage_that_gave_up_once_is_not_asked_again(looks, monkeypatch):
    monkeypatch.setattr(_sources, "look_at", lambda *_a, **_o: [_opener.Found(None, errno.ETIMEDOUT)])
    host = on_host([KEY], {SOURCE: KEY}, {})
    assert looks == []
    assert host.models[KEY].code == "storage_timeout"


def test_a_center_that_is_not_known_or_not_mounted_has_no_models(looks, monkeypatch):
    unknown = _observed.ModelKey("other", "x")
    host = on_host([unknown], {}, {})
    assert host.models[unknown].code == "center_unknown"
    monkeypatch.setattr(_mountinfo, "read", lambda: [b.ROOT])
    assert on_host([KEY, OTHER], {}, {}).models[OTHER].code == "center_not_mounted"
    assert looks == []


def test_what_somebody_else_mounted_at_a_mount_point_is_not_the_center(looks, monkeypatch):
    foreign = b.MOUNTED._replace(mount_id=51, parent_id=50, fstype="tmpfs", device="0:99", root="/")
    monkeypatch.setattr(_mountinfo, "read", lambda: [b.ROOT, b.MOUNTED, foreign])
    monkeypatch.setattr(_opener, "look", lambda root, paths, _deadline: [_opener.Found((7, len(root)), 0)])
    host = on_host([KEY], {}, {})
    assert (host.models[KEY].code, looks) == ("center_not_mounted", [])
    assert "another directory" in host.models[KEY].msg
    # The next run of model_center_mount mounts it again, so that its models can be planned.
    assert on_host([KEY], {}, {"depot": b.CENTER}).planned == {"depot"}


def test_a_planned_center_stands_in_until_it_is_there(looks, monkeypatch):
    planned = {"depot": b.CENTER}
    host = on_host([KEY], {}, planned)
    assert (host.planned, host.models) == (frozenset(), {KEY: b.identity(KEY.path)})
    monkeypatch.setattr(_mountinfo, "read", lambda: [b.ROOT])
    # What it will show is looked at where it comes from; where that is not known, nothing is claimed.
    directory = _storage.directory(b.CENTER.storage_url)
    host = on_host([KEY], {}, planned)
    assert (host.planned, host.models) == (frozenset({"depot"}), {KEY: b.identity(KEY.path)})
    assert host.centers["depot"].mount_point == directory
    assert looks[-1][0] == directory
    host = on_host([KEY], {}, {"depot": dataclasses.replace(b.CENTER, storage_url="")})
    assert (host.planned, host.models) == (frozenset({"depot"}), {})


def test_a_center_that_changes_is_planned_although_it_is_mounted(looks):
    other = dataclasses.replace(b.CENTER, storage_url="file:///srv/elsewhere", uuid="")
    host = on_host([KEY], {}, {"depot": other})
    assert host.planned == {"depot"}
    assert (host.centers["depot"].mount_point, host.centers["depot"].uuid) == ("/srv/elsewhere", b.CENTER.uuid)


# Where models may be bound

VIEWED = b.record(b.viewed())


@pytest.fixture
def link(tmp_path, monkeypatch):
    """The link of the VM's view that leads to its model."""
    monkeypatch.setattr(_views, "_PLAIN_DIRECTORY", str(tmp_path))
    path = tmp_path / b.VM / "guard"
    path.parent.mkdir()
    return path


def places():
    found = _observed.Places({}, {})
    found.add(b.VM, VIEWED.uuid, VIEWED.mount_path, KEY)
    return found


def test_a_model_may_be_bound_for_a_device_and_where_the_view_shows_it(link):
    usual = _sources.path(b.VM, VIEWED.uuid)
    assert places() == ({usual: KEY}, {})
    bind = b.bind(VIEWED, number=7).mount_point
    link.symlink_to(f".m/{bind.rsplit('/', 1)[1]}")
    assert places() == ({usual: KEY, bind: KEY}, {VIEWED.uuid: bind})


def test_a_link_that_is_not_of_a_view_is_no_place(link):
    link.symlink_to("../../../etc")
    assert places() == ({_sources.path(b.VM, VIEWED.uuid): KEY}, {})


def test_what_a_view_shows_is_looked_at(looks, monkeypatch):
    bind = b.bind(VIEWED)
    monkeypatch.setattr(_mountinfo, "read", lambda: [b.ROOT, b.MOUNTED, bind])
    host = on_host([KEY], {bind.mount_point: KEY}, {}, {VIEWED.uuid: bind.mount_point})
    assert looks[-1] == (_sources.VMS_DIRECTORY, (bind.mount_point[len(_sources.VMS_DIRECTORY) + 1 :],))
    assert host.bound == {bind.mount_point: (9, 9)}
    assert host.source(VIEWED) == bind.mount_point
    assert host.source(b.record(b.second(transport="view", mount_path="/models/ocr"))) == ""


# Layers


def layer(host, which, kept=VIEWED, **changes):
    return getattr(_layers.layers(host, b.running(kept, **changes), kept), which)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "right"),
        ({"in_views": {}}, "missing"),
        ({"mounts": (b.ROOT, b.view())}, "missing"),
        ({"serving": {}}, "right"),
        ({"serving": b.served(b.view())}, "wrong"),
        ({"serving": b.served(b.view(), b.bind(VIEWED, "acme/guard-2.0"))}, "wrong"),
        # What a daemon has in its own table is true, and this one could be written to.
        ({"serving": b.served(b.view(), b.bind(VIEWED, options=b.READ_WRITE))}, "wrong"),
        ({"models": {}}, "unknown"),
    ],
)
def test_the_truth_about_a_model_in_a_view(changes, expected):
    assert layer(b.host(b.bind(VIEWED), **changes), "source") == expected


def test_the_truth_about_the_daemon_of_a_view():
    bind = b.bind(VIEWED)
    assert layer(b.host(bind), "live") == "right"
    assert layer(b.host(bind, serving={}), "live") == "wrong"
    (daemon,) = b.served(b.view(), bind).values()
    assert layer(b.host(bind, serving={_views.source(b.VM): daemon._replace(follows=False)}), "live") == "wrong"
    # One of a device of its own has nothing to follow.
    assert layer(b.host(b.bind(R)), "live", R) == "right"


def test_what_covers_a_model_in_the_guest_is_somebody_elses():
    place = _views.in_guest(b.bind(VIEWED).mount_point)
    cover = b.in_guest(VIEWED, mount_point=place, fstype="tmpfs", source="cover")
    host = b.host(b.bind(VIEWED))
    assert layer(host, "guest", guest=(b.ROOT, b.in_guest(VIEWED), cover)) == "foreign"
    # A guest that is told of file systems below the view has the model there itself.
    itself = cover._replace(fstype="virtiofs", source="modelfleet")
    assert layer(host, "guest", guest=(b.ROOT, b.in_guest(VIEWED), itself)) == "right"
    elsewhere = cover._replace(mount_point="/models/.m/0123456789abcdef-1")
    assert layer(host, "guest", guest=(b.ROOT, b.in_guest(VIEWED), elsewhere)) == "right"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "right"),
        ({"models": {}}, "unknown"),
        ({"models": {KEY: ModelfleetError("storage_timeout", "x")}}, "unknown"),
        # The model cannot be seen, but what is bound can: it is the empty directory.
        ({"models": {}, "bound": {SOURCE: (7, 7)}}, "wrong"),
        ({"models": {KEY: ModelfleetError("storage_error", "x")}, "bound": {SOURCE: (7, 7)}}, "wrong"),
        ({"models": {}, "bound": {SOURCE: (7, 7)}, "empty": None}, "unknown"),
        ({"bound": {SOURCE: (7, 7)}}, "wrong"),
        ({"bound": {}}, "wrong"),
        ({"mounts": (b.ROOT,)}, "missing"),
        ({"mounts": (b.ROOT, b.bind(R, options={"ro", "nosuid"}))}, "wrong"),
    ],
)
def test_the_truth_about_a_source(changes, expected):
    host = b.host(b.bind(R), **{"empty": (7, 7), **changes})
    assert _layers.layers(host, b.running(R), R).source == expected


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errno.EXDEV, "source_outside_center"),
        (errno.ELOOP, "source_outside_center"),
        (errno.ENOENT, "source_missing"),
        (errno.ENOTDIR, "source_missing"),
        (errno.ETIMEDOUT, "storage_timeout"),
        (errno.EIO, "storage_error"),
        (errno.ESTALE, "storage_error"),
        (99999, "storage_error"),
    ],
)
def test_every_reason_has_a_code(error, code):
    problem = _observed.source_error(b.CENTER, "ocr", _opener.Found(None, error))
    assert problem.code == code
    assert problem.details["errno"] == errno.errorcode.get(error, str(error))
    assert (problem.details["center"], problem.details["path"]) == ("depot", "ocr")
