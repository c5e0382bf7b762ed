# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _connection, _converge, _domain
from ansible_collections.modelfleet.kvm.plugins.modules import vm_model_mount

ENTRY = {"vm": "render-4", "model": "guard", "model_center": "depot"}
UUID = "52b1f3d9-0d0c-4f39-8f5e-5a1f54d3a0c6"


def refused(result, code, option=None):
    assert result["failed"] is True
    assert not result.get("changed")
    assert result["error_code"] == code
    assert result["msg"]
    if option:
        assert result["details"]["option"] == option


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({}, "vm"),
        ({"vm": " \n", "model": "guard", "model_center": "depot"}, "vm"),
        ({"vm": "render-4", "model": "guard"}, "model_center"),
        ({**ENTRY, "state": "absent", "model": "", "mount_path": " "}, "model"),
        ({"vm": "render-4", "state": "absent", "mount_path": "\ufeff"}, "mount_path"),
        ({"vm": "", "model": "guard", "state": "absent"}, "vm"),
        ({"mounts": [{"vm": " ", "model": "guard"}], "state": "absent"}, "mounts[0].vm"),
        ({"state": "absent"}, "vm"),
        ({"mount_path": "/srv/ai", "state": "absent"}, "vm"),
        ({"mounts": [], "purge": "host"}, "mounts"),
        ({"mounts": [], "purge": "vm", "vms": ["render-4"]}, "mounts"),
        ({**ENTRY, "purge": "vm"}, "purge"),
        ({"mounts": [{"vm": "render-4"}], "purge": "vm", "state": "absent"}, "purge"),
        ({"mounts": [ENTRY], "vms": ["render-5"]}, "vms"),
        ({"mounts": [ENTRY], "vms": ["a/b"], "purge": "vm"}, "vms[0]"),
        ({**ENTRY, "guest": "none", "persistence": "systemd"}, "persistence"),
        ({**ENTRY, "mount_path": "/" + "m/" * 130, "persistence": "systemd"}, "mount_path"),
        ({**ENTRY, "mount_path": "/srv/../etc"}, "mount_path"),
        ({**ENTRY, "account_uuid": "me"}, "account_uuid"),
        ({"mounts": [ENTRY, {**ENTRY, "vm": "a/b"}]}, "mounts[1].vm"),
        ({"mounts": [{"vm": "render-4", "model": ""}], "state": "absent"}, "mounts[0].model"),
        ({**ENTRY, "planned_centers": [{"name": "../depot"}], "_ansible_check_mode": True}, "planned_centers[0].name"),
        (
            {**ENTRY, "planned_centers": [{"name": "d", "uuid": "1"}], "_ansible_check_mode": True},
            "planned_centers[0].uuid",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_touched(given, option, untouchable, run_module):
    refused(run_module(vm_model_mount, **given), "invalid_input", option)


def test_entries_that_clash_are_refused_before_anything_is_touched(untouchable, run_module):
    result = run_module(vm_model_mount, mounts=[ENTRY, {**ENTRY, "vm": " render-4\n"}])
    refused(result, "duplicate_mount")
    assert result["details"]["entries"] == ["mounts[0]", "mounts[1]"]


SINGLE = {
    "vm": "render-4",
    "model": "guard",
    "model_version": "2",
    "model_uuid": UUID,
    "model_center": "depot",
    "model_path": "guard",
    "mount_path": "/srv/ai",
    "tag": "guard",
    "account_uuid": UUID,
}


@pytest.mark.parametrize("option", SINGLE)
def test_a_list_and_the_options_of_one_mount_exclude_each_other(option, untouchable, run_module):
    result = run_module(vm_model_mount, mounts=[ENTRY], **{option: SINGLE[option]})
    assert result["failed"] is True
    assert "mutually exclusive" in result["msg"]


@pytest.mark.parametrize(
    "given",
    [
        {"state": "mounted"},
        {"guest": "ssh"},
        {"revoke": "later"},
        {"mounts": [{"vm": "x", "colour": "red"}]},
        {"timeout": "soon"},
    ],
)
def test_what_no_option_is_or_takes_is_refused(given, untouchable, run_module):
    assert run_module(vm_model_mount, **{**({} if "mounts" in given else ENTRY), **given})["failed"] is True


@pytest.mark.parametrize("timeout", [0, -5])
def test_a_timeout_must_leave_some_time(timeout, untouchable, run_module):
    refused(run_module(vm_model_mount, **ENTRY, timeout=timeout), "invalid_input", "timeout")


def test_nothing_wanted_is_nothing_done(untouchable, run_module):
    result = run_module(vm_model_mount, mounts=[])
    assert (result["changed"], result["mounts"]) == (False, [])


def test_a_host_without_libvirt_says_so(monkeypatch, run_module):
    monkeypatch.setattr(_connection, "libvirt", None)
    refused(run_module(vm_model_mount, **ENTRY), "libvirt_unavailable")


@pytest.fixture
def request_of(monkeypatch, run_module):
    """The request that arguments become."""

    def request_of(**arguments):
        seen = []
        monkeypatch.setattr(_domain, "Host", lambda *how: how)
        monkeypatch.setattr(_converge, "converge", lambda host, request: seen.append((host, request)) or [])
        run_module(vm_model_mount, **arguments)
        return seen[0]

    return request_of


def test_what_is_pasted_is_trimmed_on_its_way(request_of):
    how, request = request_of(
        uri=" qemu:///session\n", mounts=[{**ENTRY, "vm": "\ufeffrender-4 ", "tag": " "}], timeout=7
    )
    assert how == ("qemu:///session", 7.0)
    (mount,) = request.wanted
    assert (mount.vm, mount.tag) == ("render-4", "")
    assert (request.terms.present, request.terms.check_mode, request.deadline) == (True, False, 7.0)


@pytest.mark.parametrize(("given", "strict"), [({}, False), ({"revoke": "lazy"}, False), ({"revoke": "strict"}, True)])
def test_how_surely_a_model_is_revoked_is_told(given, strict, request_of):
    _how, request = request_of(**ENTRY, **given)
    assert request.terms.strict is strict


@pytest.mark.parametrize(("given", "kb"), [({}, 4096), ({"read_ahead_kb": 0}, 0), ({"read_ahead_kb": 65536}, 65536)])
def test_how_far_guests_read_ahead_is_told(given, kb, request_of):
    _how, request = request_of(**ENTRY, **given)
    assert request.read_ahead_kb == kb


@pytest.mark.parametrize("kb", [-1, 65537])
def test_guests_do_not_read_ahead_by_any_number(kb, untouchable, run_module):
    refused(run_module(vm_model_mount, **ENTRY, read_ahead_kb=kb), "invalid_input", "read_ahead_kb")


def test_planned_centers_count_in_check_mode_only(request_of):
    planned = [{"name": "depot", "uuid": UUID.upper()}, {"name": "other"}]
    _how, request = request_of(**ENTRY, planned_centers=planned, _ansible_check_mode=True)
    assert request.terms.check_mode
    assert {name: center.uuid for name, center in request.planned.items()} == {
        "depot": UUID,
        "other": "",
    }
    _how, request = request_of(**ENTRY, planned_centers=planned)
    assert request.planned == {}
