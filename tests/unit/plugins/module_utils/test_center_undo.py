# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model center on its host: put back as it was when a plan fails, on files and a log of systemctl."""

from __future__ import annotations

import dataclasses
import errno
import os

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _center_apply,
    _center_files,
    _center_mount,
    _center_state,
    _center_undo,
    _center_unit,
    _centers,
    _keeper_file,
    _systemd,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit.center_host import UNIT, Host, failure


@pytest.fixture
def host(tmp_path, monkeypatch):
    return Host(tmp_path, monkeypatch)


def test_credentials_that_do_not_do_are_put_back(host):
    path = host.root / "secrets" / "depot" / "keys"
    path.parent.mkdir(parents=True)
    path.write_text("hunter1")
    view = host.view(_center_unit.render(host.center), mounted=True, secrets=False)
    host.fails = {"start"}
    assert failure(host, view, secrets={str(path): "hunter2"}) == "center_mount_failed"
    assert path.read_text() == "hunter1"
    assert host.calls[-1] == "start"


@pytest.mark.parametrize(
    "broken", [{"start"}, {"enable"}, {"daemon-reload"}, {"start", "stop"}, {"daemon-reload", "disable"}]
)
def test_a_fresh_center_that_cannot_be_mounted_leaves_nothing(broken, host):
    host.fails = broken
    assert failure(host, host.view()) in ("center_mount_failed", "systemd_error")
    assert host.text() is None
    assert not host.mount_point.exists()


def test_a_directory_that_was_there_before_a_fresh_center_stays_as_it_was(host, monkeypatch):
    host.mount_point.mkdir()
    writable = []
    monkeypatch.setattr(_center_files, "_set_immutable", lambda path, immutable: writable.append((path, immutable)))
    host.fails = {"start"}
    assert failure(host, host.view()) == "center_mount_failed"
    assert host.mount_point.is_dir()
    assert writable == [(str(host.mount_point), False)]


def test_a_changed_center_that_cannot_be_mounted_is_as_it_was(host):
    view = host.view("[Mount]\nWhat=/before\n", mounted=True)
    host.fails = {"start"}
    assert failure(host, view) == "center_mount_failed"
    assert host.text() == "[Mount]\nWhat=/before\n"
    # The frozen server of the new one is not waited for, and what it left is not taken for the old one.
    assert host.calls[-5:] == ["daemon-reload", "look", "stop", "protect", "start"]
    assert host.mount_point.is_dir()
    assert _center_files.is_pending("depot")


def test_mounting_is_due_no_more_when_a_center_is_mounted_as_it_was(host, monkeypatch):
    view = host.view("[Mount]\nWhat=/before\n", mounted=True)
    states = iter([_center_state.WRONG_OPTIONS, _center_state.NOT_MOUNTED, _center_state.HEALTHY])
    monkeypatch.setattr(_center_state, "look", lambda *_arguments, **_options: _center_state.Seen(next(states)))
    assert failure(host, view) == "center_mount_failed"
    assert host.calls[-4:] == ["daemon-reload", "stop", "protect", "start"]
    assert not _center_files.is_pending("depot")


@pytest.mark.parametrize("broken", ["daemon-reload", "enable --now", "write"])
def test_a_center_that_was_not_touched_is_not_started_again(broken, host, monkeypatch):
    before = _center_unit.render(dataclasses.replace(host.center, verify_path="other"))
    view = host.view(before, mounted=True)
    view = dataclasses.replace(view, seen=dataclasses.replace(view.seen, state="healthy"))
    host.center = dataclasses.replace(host.center, keep_alive=True)
    host.fails = {broken}
    if broken == "write":
        monkeypatch.setattr(_center_files, "write", full)
    assert failure(host, view) in ("center_mount_failed", "systemd_error")
    assert host.text() == before
    assert not {"stop", "restart", "start", "reset-failed", "look"} & set(host.calls)
    assert not _center_files.is_pending("depot")


def full(path, *_arguments):
    raise OSError(errno.ENOSPC, "No space left on device", path)


@pytest.mark.parametrize("before", ["failed", "activating"])
def test_a_center_that_waited_for_its_storage_goes_on_waiting(before, host):
    view = host.view("[Mount]\nWhat=/before\n")
    view = dataclasses.replace(view, unit=view.unit._replace(active_state=before, unit_file_state="enabled"))
    host.fails = {"start"}
    assert failure(host, view) == "center_mount_failed"
    # After the stop it would count as stopped in order.
    assert host.calls[-4:] == ["stop", "reset-failed", "daemon-reload", "start --no-block"]


def test_a_center_that_waits_for_its_storage_is_not_stopped_for_what_came_before_mounting(host):
    view = host.view("[Mount]\nWhat=/before\n")
    view = dataclasses.replace(view, unit=view.unit._replace(active_state="failed", unit_file_state="enabled"))
    host.fails = {"daemon-reload"}
    assert failure(host, view) == "systemd_error"
    assert set(host.calls) == {"daemon-reload"}


def test_a_center_that_was_right_and_did_not_come_back_is_started_some_time(host):
    host.fails = {"start"}
    assert failure(host, host.view(_center_unit.render(host.center), mounted=True)) == "center_mount_failed"
    assert host.calls[-2:] == ["start", "start --no-block"]
    assert not _center_files.is_pending("depot")


@pytest.mark.parametrize("state", ["unmounted", "absent"])
def test_a_center_that_could_not_be_taken_away_is_looked_after_as_before(state, host):
    view = host.view(_center_unit.render(host.center), mounted=True, watched=True, others=False)
    host.fails = {"stop"}
    with pytest.raises(ModelfleetError):
        host.apply(state, view)
    assert host.calls[-1] == "enable --now"
    assert host.calls.count("disable") == 0


def test_a_center_whose_record_could_not_be_removed_has_all_it_had(host, monkeypatch):
    host.center = dataclasses.replace(host.center, keep_alive=True)
    path = host.root / "secrets" / "depot" / "keys"
    path.parent.mkdir(parents=True)
    path.write_text("hunter1")
    text = _center_unit.render(host.center)
    view = host.view(text, mounted=True, watched=True, others=False, has_secrets=True)
    monkeypatch.setattr(_keeper_file, "remove", lambda: host.calls.append("no keeper"))
    unlink = os.unlink
    broken = str(host.units / UNIT)
    monkeypatch.setattr(os, "unlink", lambda path: full(path) if path == broken else unlink(path))
    with pytest.raises(ModelfleetError):
        host.apply("absent", view)
    assert (host.text(), path.read_text()) == (text, "hunter1")
    end = ["keeper", "daemon-reload", "enable", "look", "stop", "protect", "start", "enable --now"]
    assert host.calls[-len(end) :] == end


def test_a_unit_that_was_right_is_not_put_back(host):
    text = _center_unit.render(host.center)
    host.fails = {"start"}
    assert failure(host, host.view(text)) == "center_mount_failed"
    assert host.text() == text
    assert host.calls[-1] == "start"


SERVICE = "modelfleet-center-depot.service"


def test_a_service_that_could_not_move_is_back_at_its_old_place(host, monkeypatch):
    """One unit for both places: its old client is started again with its old text, and nothing is left at the new."""
    old = dataclasses.replace(host.center, storage_url="s3://depot-a/", verify_path="x")
    new = dataclasses.replace(old, mount_point=str(host.root / "elsewhere"))
    text = _center_unit.render(old)
    (host.units / SERVICE).write_text(text, encoding="utf-8")
    host.mount_point.mkdir()
    unit = _systemd.Unit(SERVICE, "loaded", "active", "enabled", "", False)
    mount = b.ROOT._replace(mount_point=old.mount_point)
    ours = _centers.Unit(str(host.units / SERVICE), text, old)
    previous = _center_mount.View(ours, unit, _center_state.Seen("healthy", mount, 1), True, watched=False)
    view = dataclasses.replace(previous, seen=_center_state.Seen("not mounted"), directory=False)
    unmounted = []

    def start(center, _unit, _timeout, again=False):
        host.calls.append(f"mount {center.mount_point} {again}")
        if center == new:
            raise ModelfleetError("center_mount_failed", "no")

    monkeypatch.setattr(_center_apply, "mount", start)
    monkeypatch.setattr(_center_undo, "mount", start)
    for module in (_center_apply, _center_undo):
        monkeypatch.setattr(module, "unmount", lambda center, *_arguments: unmounted.append(center.mount_point))
    steps = _center_mount.plan(_center_mount.MOUNTED, new, view, previous)
    with pytest.raises(ModelfleetError):
        _center_apply.apply(steps, view, previous, {}, 30)
    assert (host.units / SERVICE).read_text(encoding="utf-8") == text
    assert unmounted == [old.mount_point, new.mount_point]
    assert host.calls == [
        "daemon-reload",
        f"mount {new.mount_point} False",
        "daemon-reload",
        f"mount {old.mount_point} True",
    ]
    assert host.mount_point.is_dir() and not (host.root / "elsewhere").exists()
    assert not _center_files.is_pending("depot")


def test_a_client_that_could_not_take_over_is_stopped(host, monkeypatch):
    """What was there before only looked at the place, so that starting that again stops nothing."""
    old = dataclasses.replace(host.center, storage_url=f"existing://{host.center.mount_point}")
    new = dataclasses.replace(host.center, storage_url="s3://depot-a/", verify_path="x")
    text = _center_unit.render(old)
    (host.units / SERVICE).write_text(text, encoding="utf-8")
    unit = _systemd.Unit(SERVICE, "loaded", "active", "enabled", "", False)
    mount = b.ROOT._replace(mount_point=old.mount_point)
    ours = _centers.Unit(str(host.units / SERVICE), text, old)
    seen = _center_state.Seen("wrong source", mount, 1)
    view = _center_mount.View(ours, unit, seen, True, watched=False)
    steps = _center_mount.plan(_center_mount.MOUNTED, new, view, None)
    host.state = _center_state.WRONG_CONTENT
    with pytest.raises(ModelfleetError):
        _center_apply.apply(steps, view, None, {}, 30)
    assert (host.units / SERVICE).read_text(encoding="utf-8") == text
    assert host.calls[-4:] == ["stop", "reset-failed", "daemon-reload", "start"]
