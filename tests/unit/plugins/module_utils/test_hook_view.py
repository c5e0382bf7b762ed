# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What libvirt's hook does with views, on real directories in which nothing is really mounted."""

from __future__ import annotations

import contextlib
import errno
import os

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _centers,
    _devices,
    _hook,
    _opener,
    _records,
    _sources,
    _views,
)
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit.mount_table import MountTable

R = b.record(b.viewed())
OTHER = b.record(b.second(transport="view", mount_path="/models/org/ocr"))
BESIDE = b.record(b.wanted(model="asr", model_path="asr", mount_path="/srv/ai/asr"))


@pytest.fixture(autouse=True)
def table(tmp_path, monkeypatch):
    mounts = MountTable().install(monkeypatch, tmp_path)
    mounts.points.append(b.CENTER.mount_point)
    mounts.missing = set()
    mounts.said = []
    empty = tmp_path / "empty"
    empty.mkdir()

    def look_at(center, paths, deadline, clone=False):
        assert (center, clone) == (b.CENTER.mount_point, True)
        return [
            _opener.Found(None, errno.ETIMEDOUT)
            if path in mounts.missing
            else _opener.Found((1, 2), 0, mounts.tree(path))
            for path in paths
        ]

    monkeypatch.setattr(_sources, "EMPTY_DIRECTORY", str(empty))
    monkeypatch.setattr(_sources, "make_directories", lambda: None)
    monkeypatch.setattr(_sources, "look_at", look_at)
    monkeypatch.setattr(_centers, "units", lambda: [_centers.Unit("", "", b.CENTER)])
    monkeypatch.setattr(_hook, "_log", mounts.said.append)
    return mounts


def domain(*kept, metadata=None):
    """The XML of a domain with these records and the devices that they have."""
    xml = _records.to_xml(kept, b.VM) if metadata is None else metadata
    inner = (xml or "").replace("<mounts ", f"<mounts xmlns='{_records.NAMESPACE}' ", 1)
    devices = dict.fromkeys(b.device(record) for record in kept)
    made = (_devices.virtiofs(device.tag, device.alias, device.source, False) for device in devices)
    return b.domain_xml("".join(made), more=f"<metadata>{inner}</metadata>")


def shown(table, *records):
    """What the view shows at the mount paths of records."""
    return [table.shows.get(_views.bound_at(b.VM, record.mount_path)) for record in records]


def root(tmp_path):
    return f"{tmp_path}/run/{b.VM}"


def test_a_view_shows_the_model_of_every_record(table, tmp_path):
    _hook.prepare(domain(R, OTHER), b.VM)
    assert shown(table, R, OTHER) == [R.model_path, OTHER.model_path]
    assert table.shows == {
        _views.source(b.VM): root(tmp_path),
        b.bind(R).mount_point: R.model_path,
        b.bind(OTHER).mount_point: OTHER.model_path,
    }
    assert (table.shared, table.said) == ([True], [])


def test_what_is_left_of_an_earlier_start_is_gone(table):
    _hook.prepare(domain(R, OTHER), b.VM)
    _hook.prepare(domain(OTHER), b.VM)
    assert shown(table, R, OTHER) == [None, OTHER.model_path]
    assert table.points[2:] == [_views.source(b.VM), b.bind(OTHER).mount_point]


def test_an_empty_directory_is_in_the_place_of_a_model_that_does_not_answer(table):
    table.missing = {OTHER.model_path}
    _hook.prepare(domain(R, OTHER), b.VM)
    assert shown(table, R, OTHER) == [R.model_path, _sources.EMPTY_DIRECTORY]
    assert len(table.said) == 1 and table.said[0].startswith("/models/org/ocr: ")


@pytest.mark.parametrize("how", ["not mounted", "not defined", "in error"])
def test_an_empty_directory_is_in_the_place_of_a_model_whose_center_is_missing(how, table, monkeypatch):
    def units():
        raise OSError(errno.EIO, "x")

    if how == "not mounted":
        table.points.remove(b.CENTER.mount_point)
    else:
        monkeypatch.setattr(_centers, "units", list if how == "not defined" else units)
    _hook.prepare(domain(R, OTHER), b.VM)
    assert shown(table, R, OTHER) == [_sources.EMPTY_DIRECTORY] * 2


@pytest.mark.parametrize("metadata", ["", f"<mounts schema_version='9' vm='{b.VM}'/>", f"<mounts vm='{b.VM}'/>"])
def test_a_view_is_empty_when_its_records_cannot_be_read(metadata, table, tmp_path):
    _hook.prepare(domain(R, OTHER, metadata=metadata), b.VM)
    assert table.shows == {_views.source(b.VM): root(tmp_path)}
    assert os.listdir(root(tmp_path)) == [".m"]


def test_a_model_that_cannot_be_bound_does_not_stop_the_others(table, monkeypatch):
    attach = table.attach

    def once(tree, path):
        if path == b.bind(R).mount_point:
            raise OSError(errno.ENOSPC, "x")
        attach(tree, path)

    monkeypatch.setattr("ansible_collections.modelfleet.kvm.plugins.module_utils._mountapi.attach", once)
    _hook.prepare(domain(R, OTHER), b.VM)
    assert shown(table, R, OTHER) == [None, OTHER.model_path]
    assert table.said[0].startswith("/models/guard: ")


def test_the_empty_directory_is_in_the_place_of_a_view_that_cannot_be_opened(table, tmp_path):
    plain = tmp_path / "run" / b.VM
    plain.mkdir(parents=True)
    (plain / "weights.bin").write_text("weights")
    _hook.prepare(domain(R, OTHER, BESIDE), b.VM)
    assert table.shows == {
        _views.source(b.VM): _sources.EMPTY_DIRECTORY,
        b.device(BESIDE).source: BESIDE.model_path,
    }
    assert (plain / "weights.bin").read_text() == "weights"
    assert "an empty directory" in table.said[0]


def test_devices_of_their_own_live_beside_a_view(table):
    _hook.prepare(domain(R, BESIDE), b.VM)
    assert shown(table, R) == [R.model_path]
    assert table.shows[b.device(BESIDE).source] == BESIDE.model_path


def test_a_device_shows_its_model_whatever_transport_the_record_has_by_now(table):
    """A change of transport that was cut short before the devices were changed."""
    by_device = [b.record(b.viewed(transport="device")), BESIDE]
    _hook.prepare(domain(*by_device, metadata=_records.to_xml([R, BESIDE], b.VM)), b.VM)
    assert table.shows == {b.device(kept).source: kept.model_path for kept in by_device}
    table.points[2:] = []
    table.shows.clear()
    _hook.prepare(domain(R, BESIDE, metadata=_records.to_xml(by_device, b.VM)), b.VM)
    assert shown(table, R) == [R.model_path]
    assert table.shows[b.device(BESIDE).source] == BESIDE.model_path
    assert table.said == []


def test_a_model_elsewhere_is_back_where_its_link_leads(table):
    linked = b.record(b.wanted(transport="view"))
    _hook.prepare(domain(linked, OTHER), b.VM)
    assert shown(table, linked, OTHER) == [linked.model_path, OTHER.model_path]


@pytest.mark.parametrize(("intent", "both"), [("settled", False), ("mounting", True), ("unmounting", True)])
def test_a_view_shows_a_model_with_a_device_elsewhere_only_while_that_changes(intent, both, table):
    beside = b.record(b.wanted(model="asr", model_path="asr", mount_path="/srv/ai/asr"), intent=intent)
    _hook.prepare(domain(R, beside), b.VM)
    assert shown(table, R, beside) == [R.model_path, "asr" if both else None]
    assert table.shows[b.device(beside).source] == "asr"


def test_no_descriptor_stays_open(table):
    before = len(os.listdir("/proc/self/fd"))
    table.missing = {OTHER.model_path}
    _hook.prepare(domain(R, OTHER, BESIDE), b.VM)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_vm_that_stopped_leaves_nothing(table, tmp_path):
    _hook.prepare(domain(R, OTHER, BESIDE), b.VM)
    table.busy = set(table.points[2:])
    _hook.release(b.VM)
    assert table.points == ["/", b.CENTER.mount_point]
    assert (os.listdir(tmp_path / "run"), os.listdir(tmp_path / "vms")) == ([], [])


def test_a_vm_that_stopped_without_a_view_needs_none(table, tmp_path):
    _hook.prepare(domain(BESIDE), b.VM)
    _hook.release(b.VM)
    assert os.listdir(tmp_path / "vms") == []
    assert not (tmp_path / "run").exists()


def test_a_view_that_cannot_be_removed_does_not_stop_the_others(table, tmp_path):
    _hook.prepare(domain(R, BESIDE), b.VM)
    (tmp_path / "run" / b.VM / "weights.bin").write_text("weights")
    with contextlib.suppress(OSError):
        _hook.release(b.VM)
    assert table.points == ["/", b.CENTER.mount_point]


def test_a_source_whose_storage_is_dead_is_removed_without_a_look_at_it(table, monkeypatch):
    lstat = os.lstat

    def dead(path, **options):
        if path == b.device(BESIDE).source:
            raise OSError(errno.ESTALE, "Stale file handle", path)
        return lstat(path, **options)

    _hook.prepare(domain(BESIDE), b.VM)
    monkeypatch.setattr(os, "lstat", dead)
    _hook.release(b.VM)
    assert table.shows == {}
