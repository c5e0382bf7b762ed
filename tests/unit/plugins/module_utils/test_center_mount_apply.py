# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model center on its host: steps carried out, and put back when mounting fails, on files and a log of systemctl."""

from __future__ import annotations

import dataclasses
import errno
import os

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _center_apply,
    _center_effects,
    _center_files,
    _center_mount,
    _center_state,
    _center_undo,
    _center_unit,
    _centers,
    _keeper_file,
    _mountinfo,
    _opener,
    _storage,
    _systemd,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

UNIT = "mnt-depot.mount"


class Host:
    """A directory of units, a mount point, and a systemctl that can be made to fail."""

    def __init__(self, root, monkeypatch):
        self.root = root
        self.units = root / "units"
        self.units.mkdir()
        self.mount_point = root / "depot"
        self.center = dataclasses.replace(b.CENTER, mount_point=str(self.mount_point), keep_alive=False)
        self.calls = []
        self.fails = set()
        self.state = _center_state.HEALTHY
        self.mounts = []
        self.error, self.busy = 0, False
        monkeypatch.setattr(_systemd, "UNIT_DIRECTORY", str(self.units))
        monkeypatch.setattr(_systemd, "call", self.call)
        monkeypatch.setattr(_systemd, "journal", lambda _unit: ["said so"])
        monkeypatch.setattr(_mountinfo, "read", lambda: self.mounts)
        monkeypatch.setattr(_center_state, "look", self.look)
        monkeypatch.setattr(_opener, "look", lambda *_arguments: [_opener.Found((1, 5), 0)])
        monkeypatch.setattr(_center_files, "_PENDING", str(root / "pending"))
        monkeypatch.setattr(_center_files, "protect", lambda path: self.calls.append("protect"))
        monkeypatch.setattr(_storage._backend, "directory", lambda name: str(root / "secrets" / name))
        monkeypatch.setattr(_center_effects._unmounter, "unmount", self.unmount)
        monkeypatch.setattr(_keeper_file, "install", lambda: self.calls.append("keeper"))

    def call(self, verb, unit=None, timeout=120, code="systemd_error", options=()):
        verb = " ".join([verb, *options])
        self.calls.append(verb)
        if verb in self.fails:
            raise ModelfleetError(code, f"systemctl {verb} failed")

    def look(self, center, unit, deadline, verify=True):
        self.calls.append("look")
        return _center_state.Seen(self.state, why="said so")

    def unmount(self, path, deadline, lazy=False):
        self.calls.append("lazily" if lazy else "pop")
        if not self.busy:
            self.mounts.pop()
        return self.error

    def view(self, text=None, mounted=False, **changes):
        """What is there: a unit of ours with a text, or none."""
        ours = None
        if text is not None:
            (self.units / UNIT).write_text(text, encoding="utf-8")
            self.mount_point.mkdir()
            ours = _centers.Unit(str(self.units / UNIT), text, self.center)
        state = ("active", "enabled") if mounted else ("inactive", "")
        unit = _systemd.Unit(UNIT, "loaded", *state, "", False)
        mount = b.ROOT._replace(mount_point=str(self.mount_point)) if mounted else None
        seen = _center_state.Seen(_center_state.WRONG_OPTIONS if mounted else _center_state.NOT_MOUNTED, mount, 1)
        found = _center_mount.View(ours, unit, seen, self.mount_point.is_dir(), watched=False)
        return dataclasses.replace(found, **changes)

    def apply(self, state, view, secrets=None):
        steps = _center_mount.plan(state, self.center, view, None)
        _center_apply.apply([step._replace(unit=UNIT) for step in steps], view, None, secrets or {}, 30)

    def text(self):
        path = self.units / UNIT
        return path.read_text(encoding="utf-8") if path.exists() else None


@pytest.fixture
def host(tmp_path, monkeypatch):
    return Host(tmp_path, monkeypatch)


def failure(host, view, **options):
    with pytest.raises(ModelfleetError) as caught:
        host.apply("mounted", view, **options)
    return caught.value.code


def test_a_center_is_mounted_and_enabled(host):
    host.apply("mounted", host.view())
    assert host.calls == ["daemon-reload", "enable", "protect", "start", "look"]
    assert host.text() == _center_unit.render(host.center)
    assert (host.units / UNIT).stat().st_mode & 0o777 == 0o644
    assert [path.name for path in host.units.iterdir()] == [UNIT]
    assert host.mount_point.is_dir()
    assert not _center_files.is_pending("depot")


def test_a_unit_that_mounts_it_as_before_is_written_and_nothing_is_left_to_be_mounted(host):
    before = _center_unit.render(dataclasses.replace(host.center, verify_path="other"))
    view = host.view(before, mounted=True)
    host.apply("mounted", dataclasses.replace(view, seen=dataclasses.replace(view.seen, state="healthy")))
    assert host.calls == ["daemon-reload"] and host.text() == _center_unit.render(host.center)
    assert not _center_files.is_pending("depot")


def test_a_center_goes_with_its_unit_and_its_mount_point(host):
    host.apply("absent", host.view(_center_unit.render(host.center), mounted=True))
    assert host.calls == ["look", "stop", "disable", "reset-failed", "daemon-reload"]
    assert host.text() is None and not host.mount_point.exists()


def test_a_center_whose_storage_hangs_goes_before_systemd_would_wait_for_it(host):
    view = host.view(_center_unit.render(host.center), mounted=True)
    host.mounts = [b.ROOT._replace(mount_point=str(host.mount_point))]
    # The process that unmounts waits for the server, and the mount is gone.
    host.state, host.error = _center_state.HUNG, errno.ETIMEDOUT
    host.apply("absent", view)
    assert host.calls == ["look", "lazily", "stop", "disable", "reset-failed", "daemon-reload"]


@pytest.mark.parametrize("error", [errno.EBUSY, errno.ETIMEDOUT, 0])
def test_what_stays_mounted_is_a_failure(error, host):
    view = host.view(_center_unit.render(host.center), mounted=True)
    host.mounts = [b.ROOT._replace(mount_point=str(host.mount_point))]
    host.error, host.busy = error, True
    with pytest.raises(ModelfleetError) as caught:
        host.apply("absent", view)
    assert caught.value.code == "center_mount_failed"
    assert host.text() is not None


def test_what_lay_in_the_mount_point_stays(host):
    view = host.view(_center_unit.render(host.center), mounted=True)
    (host.mount_point / "kept").touch()
    host.apply("absent", view)
    assert (host.mount_point / "kept").exists()


@pytest.mark.parametrize(("state", "how"), [("wrong options", "pop"), ("dead", "lazily"), ("hung", "lazily")])
def test_what_is_mounted_again_is_taken_away_first(state, how, host, monkeypatch):
    view = host.view(_center_unit.render(host.center), mounted=True)
    host.mounts = [b.ROOT._replace(mount_point=str(host.mount_point))] * 2
    states = iter([state, "healthy"])
    monkeypatch.setattr(_center_state, "look", lambda *_arguments, **_options: _center_state.Seen(next(states)))
    host.apply("mounted", view)
    assert host.calls.count(how) == 2
    assert host.calls[-2:] == ["protect", "start"]
    # What is dead goes before systemd is asked to stop its unit, which would look at it.
    assert host.calls[0] == ("stop" if how == "pop" else "lazily")


def test_credentials_are_written_for_root_alone(host):
    path = host.root / "secrets" / "depot" / "keys"
    (host.root / "secrets" / "depot").mkdir(parents=True, mode=0o755)
    (host.root / "secrets" / "depot" / "old").touch()
    view = host.view(_center_unit.render(host.center), mounted=True, secrets=False)
    host.apply("mounted", view, {str(path): "hunter2"})
    assert path.read_text() == "hunter2"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [item.name for item in path.parent.iterdir()] == ["keys"]


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


def test_a_run_that_is_killed_while_it_mounts_again_leaves_word(host, monkeypatch):
    def killed(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(_center_apply, "mount", killed)
    with pytest.raises(KeyboardInterrupt):
        host.apply("mounted", host.view(_center_unit.render(host.center), mounted=True))
    assert _center_files.is_pending("depot")


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


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (_center_state.WRONG_SOURCE, "center_mount_failed"),
        (_center_state.NOT_MOUNTED, "center_mount_failed"),
        (_center_state.WRONG_CONTENT, "storage_wrong"),
        (_center_state.HUNG, "storage_timeout"),
    ],
)
def test_a_mount_that_is_not_what_was_wanted_is_a_failure(state, code, host):
    host.state = state
    assert failure(host, host.view()) == code
    assert host.text() is None


def test_a_unit_that_was_right_is_not_put_back(host):
    text = _center_unit.render(host.center)
    host.fails = {"start"}
    assert failure(host, host.view(text)) == "center_mount_failed"
    assert host.text() == text
    assert host.calls[-1] == "start"


def test_a_file_system_error_has_a_code(host):
    view = host.view()
    host.units.rmdir()
    assert failure(host, view) == "center_mount_failed"
    assert host.calls.count("start") == 0


def test_a_run_that_is_killed_leaves_word_that_mounting_is_due(host, monkeypatch):
    def killed(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(_center_apply, "mount", killed)
    with pytest.raises(KeyboardInterrupt):
        host.apply("mounted", host.view("[Mount]\nWhat=/before\n", mounted=True))
    assert _center_files.is_pending("depot")


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
