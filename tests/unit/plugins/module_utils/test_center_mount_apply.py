# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model center on its host: steps carried out, on files and a log of systemctl."""

from __future__ import annotations

import dataclasses
import errno

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _center_apply,
    _center_effects,
    _center_files,
    _center_state,
    _center_unit,
    _opener,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit.center_host import UNIT, Host, failure


@pytest.fixture
def host(tmp_path, monkeypatch):
    return Host(tmp_path, monkeypatch)


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


def test_credentials_that_others_could_read_are_for_root_alone_again(host):
    path = host.root / "secrets" / "depot" / "keys"
    path.parent.mkdir(parents=True, mode=0o755)
    path.write_text("hunter2")
    path.chmod(0o644)
    view = host.view(_center_unit.render(host.center), mounted=True, private=False)
    healthy = dataclasses.replace(view.seen, state=_center_state.HEALTHY)
    host.apply("mounted", dataclasses.replace(view, seen=healthy))
    assert [oct(item.stat().st_mode & 0o777) for item in (path.parent, path)] == ["0o700", "0o600"]
    assert (path.read_text(), host.calls) == ("hunter2", [])


def test_a_run_that_is_killed_while_it_mounts_again_leaves_word(host, monkeypatch):
    def killed(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(_center_apply, "mount", killed)
    with pytest.raises(KeyboardInterrupt):
        host.apply("mounted", host.view(_center_unit.render(host.center), mounted=True))
    assert _center_files.is_pending("depot")


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


@pytest.mark.parametrize(("error", "code"), [(0, None), (errno.ENOENT, None), (errno.ETIMEDOUT, "storage_timeout")])
def test_a_directory_on_storage_that_hangs_is_not_made(error, code, host, monkeypatch):
    found = _opener.Found(None if error else (1, 5), error)
    monkeypatch.setattr(_opener, "look", lambda *_arguments: [found])
    place = host.root / "cache" / "models"
    if code:
        with pytest.raises(ModelfleetError) as caught:
            _center_effects.make_directory(str(place), 0o700, 5)
        assert caught.value.code == code
    else:
        _center_effects.make_directory(str(place), 0o700, 5)
    assert place.is_dir() is (error == errno.ENOENT)
