# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way of a task through the code: what is refused before anything is touched, and what VMs have to do with it."""

from __future__ import annotations

import contextlib
import dataclasses
import types

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _center_apply,
    _center_converge,
    _center_mount,
    _center_observe,
    _center_state,
    _center_unit,
    _center_users,
    _centers,
    _converge,
    _domain,
    _locks,
    _process,
    _systemd,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

UNIT = "mnt-depot.mount"
PATH = f"/etc/systemd/system/{UNIT}"
MOUNT = b.ROOT._replace(mount_point="/mnt/depot", options=b.READ_ONLY)
ON = _systemd.Unit(UNIT, "loaded", "active", "enabled", PATH, False)
PARAMS = {
    **dict.fromkeys("uuid credentials options client helper cache_dir cache_size verify_path".split()),
    "name": "depot",
    "storage_url": "file:///data/depot",
    "mount_point": "/mnt/depot",
    "read_only": True,
    "keep_alive": True,
    "state": "mounted",
    "timeout": 5,
    "force": False,
    "take_over": False,
    "on_unhealthy": "fail",
}
USER = _center_users.User(b.VM, "render-4", (b.record(),))


class Host:
    """A host with a center that is mounted, and a VM that uses it."""

    def __init__(self, monkeypatch):
        self.center = b.CENTER
        self.state = _center_state.HEALTHY
        self.users = [USER]
        self.damaged = []
        self.applied, self.requests, self.failure = [], [], None
        monkeypatch.setattr(_process, "require_root", lambda: None)
        monkeypatch.setattr(_locks, "held", lambda *_arguments: contextlib.nullcontext())
        monkeypatch.setattr(_centers, "units", lambda: [self.unit()])
        monkeypatch.setattr(_centers, "damaged", lambda: self.damaged)
        monkeypatch.setattr(_center_observe, "observe", self.observe)
        monkeypatch.setattr(_center_users, "find", lambda *_arguments: self.users)
        monkeypatch.setattr(_center_apply, "apply", lambda steps, *_rest: self.applied.append(steps))
        monkeypatch.setattr(_converge, "converge", self.converge)
        monkeypatch.setattr(_domain, "Host", lambda *_arguments: None)

    def unit(self):
        return _centers.Unit(PATH, _center_unit.render(self.center), self.center)

    def observe(self, *_arguments):
        seen = _center_state.Seen(self.state, MOUNT, 1, why="said so")
        return _center_mount.View(self.unit(), ON, seen, True)

    def converge(self, _host, request):
        self.requests.append(request)
        if not request.terms.check_mode and self.failure is None:
            self.users = []
        return [types.SimpleNamespace(error=self.failure)]


@pytest.fixture
def host(monkeypatch):
    return Host(monkeypatch)


def run(check=False, **given):
    return _center_converge.converge({**PARAMS, **given}, check)


def code(**given):
    with pytest.raises(ModelfleetError) as caught:
        run(**given)
    return caught.value.code


def test_nothing_is_done_when_all_is_right(host):
    result = run()
    assert (result["changed"], result["actions"], result["health"]) == (False, [], "healthy")
    assert host.applied == []
    assert result["diff"]["before"] == result["diff"]["after"]


CHANGES = [{"read_only": False}, {"state": "unmounted"}, {"state": "absent"}, {"mount_point": "/mnt/elsewhere"}]


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("change", CHANGES[:3])
def test_what_vms_would_feel_is_refused(change, check, host):
    with pytest.raises(ModelfleetError) as caught:
        run(check, **change)
    assert (caught.value.code, caught.value.details["vms"]) == ("center_in_use", ["render-4"])
    assert host.applied == []


@pytest.mark.parametrize("change", CHANGES[:3])
def test_it_is_done_when_no_vm_would_feel_it(change, host):
    host.users = []
    assert run(**change)["changed"]
    assert len(host.applied) == 1


@pytest.mark.parametrize("check", [True, False])
def test_models_can_be_taken_from_the_vms_first(check, host):
    result = run(check, state="absent", force=True)
    assert [user["vm"] for user in result["unmounted"]] == ["render-4"]
    (request,) = host.requests
    assert [mount.vm for mount in request.wanted] == [b.VM]
    assert (request.terms.present, request.terms.force, request.terms.check_mode) == (False, True, check)
    assert len(host.applied) == (0 if check else 1)


def test_a_center_stays_when_its_models_could_not_be_taken(host):
    host.failure = ModelfleetError("detach_timeout", "the guest keeps it")
    assert code(state="absent", force=True) == "center_in_use"
    assert host.applied == []


@pytest.mark.parametrize("force", [False, True])
def test_another_uuid_would_hide_who_uses_it(force, host):
    other = "6d4e7f20-2f3a-4b51-9c62-7d8e9fa0b1c2"
    if not force:
        assert code(uuid=other) == "center_in_use"
        assert host.applied == []
    result = run(uuid=other, force=True)
    assert (result["center"]["uuid"], [user["vm"] for user in result["unmounted"]]) == (other, ["render-4"])
    assert run(uuid=other)["unmounted"] == []


def test_the_vms_that_lost_their_models_are_told_of_when_the_rest_fails(host, monkeypatch):
    def failing(*_arguments):
        raise ModelfleetError("center_mount_failed", "it is busy")

    monkeypatch.setattr(_center_apply, "apply", failing)
    with pytest.raises(ModelfleetError) as caught:
        run(state="absent", force=True)
    assert [user["vm"] for user in caught.value.details["unmounted"]] == ["render-4"]
    with pytest.raises(ModelfleetError) as caught:
        run(state="absent")
    assert "unmounted" not in caught.value.details


def test_who_uses_a_service_is_asked_where_it_is_and_not_where_it_goes(host, monkeypatch):
    host.center = dataclasses.replace(b.CENTER, storage_url="s3://depot-a/", verify_path="x")
    unit = ON._replace(name="modelfleet-center-depot.service")
    ours = host.unit()._replace(path=f"/etc/systemd/system/{unit.name}")
    there = dataclasses.replace(host.observe(), unit=unit, ours=ours)
    monkeypatch.setattr(_centers, "units", lambda: [ours])
    asked = []

    def observe(center, *_arguments):
        if center.mount_point == "/mnt/depot":
            return there
        return dataclasses.replace(there, seen=_center_state.Seen(_center_state.NOT_MOUNTED), directory=False)

    def find(center, mount, _deadline):
        asked.append((center, mount))
        return host.users

    monkeypatch.setattr(_center_observe, "observe", observe)
    monkeypatch.setattr(_center_users, "find", find)
    wish = {"storage_url": "s3://depot-a/", "verify_path": "x", "mount_point": "/mnt/elsewhere"}
    assert code(**wish) == "center_in_use"
    assert asked == [(host.center, MOUNT)]
    host.users = []
    assert run(**wish)["actions"][0] == "unmount"


def test_a_unit_that_is_left_over_does_not_hide_who_uses_the_center(host, monkeypatch):
    there, left = host.observe(), "mnt-left.mount"
    over = dataclasses.replace(b.CENTER, mount_point="/mnt/left")
    unit = _centers.Unit(f"/etc/systemd/system/{left}", _center_unit.render(over), over)
    gone = dataclasses.replace(
        there, ours=unit, unit=ON._replace(name=left), seen=_center_state.Seen(_center_state.NOT_MOUNTED)
    )
    monkeypatch.setattr(_centers, "units", lambda: [host.unit(), unit])
    monkeypatch.setattr(_center_observe, "observe", lambda center, *_rest: gone if center == over else there)
    assert code(read_only=False) == "center_in_use"


def test_a_mount_whose_unit_is_gone_is_not_taken_over_under_vms(host, monkeypatch):
    left = dataclasses.replace(host.observe(), ours=None, unit=ON._replace(active_state="inactive"))
    monkeypatch.setattr(_centers, "units", list)
    monkeypatch.setattr(_center_observe, "observe", lambda *_arguments: left)
    assert code(take_over=True) == "center_in_use"
    assert host.applied == []
    assert [user["vm"] for user in run(take_over=True, force=True)["unmounted"]] == ["render-4"]
    assert run(take_over=True)["unmounted"] == []


def test_a_dead_mount_is_replaced_whoever_uses_it(host):
    host.state = _center_state.DEAD
    assert run()["actions"] == ["remount"]


def test_what_hangs_is_told_or_warned_of(host):
    host.state = _center_state.HUNG
    assert code() == "storage_timeout"
    assert "storage_timeout" in run(on_unhealthy="warn")["warnings"][0]
    assert code(on_unhealthy="remount") == "center_in_use"


def test_new_credentials_are_told_of_and_not_shown(host, monkeypatch):
    host.center = dataclasses.replace(
        b.CENTER, storage_url="smb://svc@nas/depot", credentials=("password",), read_only=True
    )
    host.users = []
    view = host.observe()
    monkeypatch.setattr(_center_observe, "observe", lambda *_arguments: dataclasses.replace(view, secrets=False))
    result = run(storage_url="smb://svc@nas/depot", credentials={"password": "hunter2"})
    assert result["actions"] == ["write_credentials", "remount"]
    assert "the credentials are changed" in result["diff"]["after"]
    assert "hunter2" not in str(result)


def test_credentials_are_needed_again_for_another_server(host):
    host.center = dataclasses.replace(b.CENTER, storage_url="smb://svc@nas/depot", credentials=("password",))
    assert code(storage_url="smb://svc@other/depot") == "invalid_input"
    assert run(storage_url="smb://svc@nas/depot")["changed"] is False


def test_storage_that_has_no_use_for_credentials_gets_none(host, monkeypatch):
    host.center = dataclasses.replace(b.CENTER, storage_url="smb://svc@nas/depot", credentials=("password",))
    host.users = []
    view = host.observe()
    monkeypatch.setattr(_center_observe, "observe", lambda *_arguments: dataclasses.replace(view, secrets=False))
    result = run(storage_url="file:///data/depot")
    assert result["center"]["credentials"] == []
    assert result["actions"][0] == "write_credentials"


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"cache_size": -1, "cache_dir": "/cache", "storage_url": "juicefs+redis://meta/1"}, "cache_size"),
        ({"verify_path": "../x"}, "verify_path"),
        ({"helper": "a b"}, "helper"),
        ({"storage_url": "existing:///mnt/weka"}, "storage_url"),
    ],
)
def test_what_does_not_go_together_is_refused(given, option, host):
    with pytest.raises(ModelfleetError) as caught:
        run(**given)
    assert (caught.value.code, caught.value.details["option"]) == ("invalid_input", option)


@pytest.mark.parametrize("state", ["mounted", "unmounted", "absent"])
def test_a_center_that_cannot_be_read_is_neither_changed_nor_taken_for_gone(state, host, monkeypatch):
    host.center = dataclasses.replace(b.CENTER, storage_url="of-another-release://depot")
    ours = _centers.Unit(PATH, "text", host.center)
    monkeypatch.setattr(_centers, "units", lambda: [ours])
    assert code(state=state) == "center_unreadable"
    monkeypatch.setattr(_centers, "units", list)
    host.damaged = [_centers.Damaged(PATH, "depot", ModelfleetError("center_unreadable", "newer"))]
    assert code(state=state, take_over=True) == "center_unreadable"
    assert host.applied == []
