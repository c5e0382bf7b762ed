# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules that need no more than a few words: what they refuse, and what they ask for."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _connection,
    _domain,
    _filters,
    _host_prepare,
    _info,
    _locks,
    _process,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.modules import (
    kvm_host_prepare,
    model_center_mount,
    vm_info,
    vm_model_mount,
    vm_model_mount_info,
)
from ansible_collections.modelfleet.kvm.tests.unit import builders as b


@pytest.mark.parametrize("names", [["a/b"], ["render-4", "../b"], ["x" * 300], ["a\nb"], ["", "a\nb*"]])
def test_names_that_no_vm_has_are_refused_before_libvirt_is_asked(names, untouchable, run_module):
    result = run_module(vm_model_mount_info, vms=names)
    assert (result["failed"], result["error_code"]) == (True, "invalid_input")
    assert result["details"]["option"] == f"vms[{len(names) - 1}]"


@pytest.mark.parametrize("option", _filters.OPTIONS)
def test_filters_that_cannot_be_used_are_refused_before_libvirt_is_asked(option, untouchable, run_module):
    result = run_module(vm_model_mount_info, **{option: ["*", "", "a\x1bb"]})
    assert (result["failed"], result["error_code"]) == (True, "invalid_input")
    assert result["details"]["option"] == f"{option}[2]"


class Libvirt:
    """A connection to a host with three VMs."""

    NAMES = ("render-4", "render-5", "ocr [old]")

    def __init__(self, uri, deadline):
        self.uri = uri
        self.deadline = deadline

    def vm(self, name):
        if name not in (*self.NAMES, b.VM):
            raise ModelfleetError("vm_not_found", f"there is no VM {name}")
        return SimpleNamespace(name=name)

    def vms(self):
        return [SimpleNamespace(name=name) for name in self.NAMES]


@pytest.fixture
def shown(monkeypatch, run_module):
    """What the module looks at when it is run: libvirt's URI, the VMs, the filters, the deadline."""
    seen = []

    def mounts(host, vms, filters, deadline, processes):
        assert host.deadline == deadline and processes is False
        seen.append((host.uri, [vm.name for vm in vms], filters, deadline))
        return {"mounts": [], "errors": []}

    monkeypatch.setattr(_domain, "Host", Libvirt)
    monkeypatch.setattr(_info, "mounts", mounts)

    def shown(**arguments):
        result = run_module(vm_model_mount_info, **arguments)
        assert (result["changed"], result["mounts"], result["errors"]) == (False, [], [])
        return seen[0]

    return shown


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ({}, ["render-4", "render-5", "ocr [old]"]),
        ({"vms": [" render-5\n", "render-4"]}, ["render-5", "render-4"]),
        ({"vms": " render-5 , render-4"}, ["render-5", "render-4"]),
        ({"vms": b.VM.upper()}, [b.VM]),
        ({"vms": ["render-*"]}, ["render-4", "render-5"]),
        ({"vms": ["*5", "render-4"]}, ["render-4", "render-5"]),
        ({"vms": ["ocr [old]"]}, ["ocr [old]"]),
        ({"vms": ["Render-*"]}, []),
        # A wildcard means a name, never a UUID.
        ({"vms": [f"{b.VM[:8]}*"]}, []),
        ({"vms": []}, []),
        ({"vms": ""}, ["render-4", "render-5", "ocr [old]"]),
        ({"vms": ["", " "]}, ["render-4", "render-5", "ocr [old]"]),
        ({"vms": ["", "render-4"]}, ["render-4"]),
    ],
    ids=str,
)
def test_the_vms_that_are_shown(given, asked, shown):
    uri, vms, _filters_given, deadline = shown(**given, timeout=3)
    assert (uri, vms, deadline) == ("qemu:///system", asked, 3.0)


def test_a_vm_that_is_named_must_exist(monkeypatch, run_module):
    monkeypatch.setattr(_domain, "Host", Libvirt)
    result = run_module(vm_model_mount_info, vms=["render-*", "render-6"])
    assert (result["failed"], result["error_code"]) == (True, "vm_not_found")


def test_all_filters_reach_the_mounts(shown):
    given = {option: [" Mounted\n"] for option in _filters.OPTIONS if option != "vms"}
    _uri, _vms, filters, _deadline = shown(**given)
    assert {option: getattr(filters, option)[0].text for option in given} == dict.fromkeys(given, "Mounted")


@pytest.mark.parametrize("module", [vm_model_mount_info, kvm_host_prepare])
def test_a_host_without_libvirt_says_so(module, monkeypatch, run_module):
    monkeypatch.setattr(_connection, "libvirt", None)
    result = run_module(module)
    assert (result["failed"], result["error_code"]) == (True, "libvirt_unavailable")
    assert not result.get("changed")


@pytest.fixture
def host(monkeypatch):
    """A host on which two steps are due, and the steps that were done."""
    done = []
    monkeypatch.setattr(_host_prepare, "require", lambda uri, deadline: None)
    monkeypatch.setattr(_host_prepare, "refuse_in_use", lambda uri, deadline: None)
    monkeypatch.setattr(
        _host_prepare, "plan", lambda present: ["make_directories", "write_hook"] if present else ["remove_hook"]
    )
    monkeypatch.setattr(_host_prepare, "apply", done.extend)
    return done


def test_check_mode_prepares_nothing(host, untouchable, run_module):
    result = run_module(kvm_host_prepare, _ansible_check_mode=True, _ansible_diff=True)
    assert (result["changed"], result["actions"]) == (True, ["make_directories", "write_hook"])
    assert result["diff"]["after"] == "make_directories\nwrite_hook\n"
    assert host == []


@pytest.mark.parametrize(
    ("state", "expected"), [("present", ["make_directories", "write_hook"]), ("absent", ["remove_hook"])]
)
def test_a_host_is_prepared_under_its_lock(state, expected, host, monkeypatch, tmp_path, run_module):
    held = _locks.held
    monkeypatch.setattr(_locks, "held", lambda names, deadline: held(names, deadline, str(tmp_path)))
    assert run_module(kvm_host_prepare, state=state)["actions"] == expected
    assert host == expected
    assert [path.name for path in tmp_path.iterdir()] == ["host"]


def test_a_host_that_lacks_something_is_left_as_it_is(host, monkeypatch, untouchable, run_module):
    def require(_uri, _deadline):
        raise ModelfleetError("host_unsupported", "Linux 4.19 is too old")

    monkeypatch.setattr(_host_prepare, "require", require)
    assert run_module(kvm_host_prepare)["error_code"] == "host_unsupported"
    assert host == []


def test_the_hook_stays_while_vms_need_it(host, monkeypatch, untouchable, run_module):
    def refuse(_uri, _deadline):
        raise ModelfleetError("hook_in_use", "2 VMs have models")

    monkeypatch.setattr(_host_prepare, "refuse_in_use", refuse)
    assert run_module(kvm_host_prepare, state="absent", _ansible_check_mode=True)["error_code"] == "hook_in_use"
    assert host == []


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (kvm_host_prepare, {}),
        (model_center_mount, {"name": "depot", "storage_url": "file:///srv/depot"}),
        (vm_model_mount, {"vm": "a", "model": "m", "model_center": "depot"}),
        (vm_model_mount_info, {}),
    ],
)
def test_other_users_than_root_are_refused(module, arguments, monkeypatch, host, untouchable, run_module):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for check in (True, False):
        assert run_module(module, _ansible_check_mode=check, **arguments)["error_code"] == "not_root"


class Domain:
    """A VM, or with a code the failure of asking for its state."""

    def __init__(self, name, state="running", code=""):
        self.name, self.uuid, self._state, self._code = name, b.VM, state, code

    def state(self):
        if self._code:
            raise ModelfleetError(self._code, f"VM {self.name}")
        return self._state

    def active(self):
        return self._state != "shutoff"

    def persistent(self):
        return True


@pytest.fixture
def listed(monkeypatch):
    """Makes a host that has these VMs."""

    def make(*domains):
        host = SimpleNamespace(vms=lambda: list(domains), uuid=lambda: "host")
        monkeypatch.setattr(_domain, "Host", lambda uri, deadline: host)
        monkeypatch.setattr(_process, "require_root", lambda: None)

    return make


def test_all_vms_of_a_host_are_shown(listed, run_module):
    listed(Domain("render-5", "shutoff"), Domain("render-4", "paused"), Domain("gone", code="vm_not_found"))
    result = run_module(vm_info)
    assert (result["changed"], result["host_uuid"]) == (False, "host")
    assert [(vm["vm"], vm["vm_state"], vm["active"], vm["persistent"]) for vm in result["vms"]] == [
        ("render-4", "paused", True, True),
        ("render-5", "shutoff", False, True),
    ]
    assert result["vms"][0]["vm_instance_uuid"] == b.VM


def test_a_vm_that_libvirt_cannot_tell_of_is_no_vm_that_is_not_there(listed, run_module):
    listed(Domain("render-4", code="libvirt_error"))
    assert run_module(vm_info)["error_code"] == "libvirt_error"
