# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The modules that need no more than a few words: what they refuse, and what they ask for."""

from __future__ import annotations

import os

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _domain, _host_prepare, _info, _locks
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.modules import (
    kvm_host_prepare,
    model_center_mount,
    vm_model_mount,
    vm_model_mount_info,
)


@pytest.mark.parametrize("names", [["a/b"], ["render-4", " "], ["render-4", ""], ["x" * 300], ["a\nb"]])
def test_names_that_no_vm_has_are_refused_before_libvirt_is_asked(names, untouchable, run_module):
    result = run_module(vm_model_mount_info, vms=names)
    assert (result["failed"], result["error_code"]) == (True, "invalid_input")
    assert result["details"]["option"] == f"vms[{len(names) - 1}]"


class Libvirt:
    """A connection that knows any VM."""

    def __init__(self, uri):
        self.uri = uri

    def vm(self, name):
        return name

    def vms(self):
        return ["all", "of", "them"]


@pytest.mark.parametrize(
    ("given", "asked"),
    [({}, ["all", "of", "them"]), ({"vms": [" render-4\n", "b"]}, ["render-4", "b"]), ({"vms": []}, [])],
)
def test_the_vms_that_are_shown(given, asked, monkeypatch, run_module):
    seen = []
    monkeypatch.setattr(_domain, "Host", Libvirt)
    monkeypatch.setattr(
        _info,
        "mounts",
        lambda host, vms, deadline: seen.append((host.uri, vms, deadline)) or {"mounts": [], "errors": []},
    )
    result = run_module(vm_model_mount_info, **given, timeout=3)
    assert (result["changed"], result["mounts"], result["errors"]) == (False, [], [])
    assert seen == [("qemu:///system", asked, 3.0)]


@pytest.mark.parametrize("module", [vm_model_mount_info, kvm_host_prepare])
def test_a_host_without_libvirt_says_so(module, monkeypatch, run_module):
    monkeypatch.setattr(_domain, "libvirt", None)
    result = run_module(module)
    assert (result["failed"], result["error_code"]) == (True, "libvirt_unavailable")
    assert not result.get("changed")


@pytest.fixture
def host(monkeypatch):
    """A host on which two steps are due, and the steps that were done."""
    done = []
    monkeypatch.setattr(_host_prepare, "require", lambda uri: None)
    monkeypatch.setattr(_host_prepare, "refuse_in_use", lambda uri: None)
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
    def require(_uri):
        raise ModelfleetError("host_unsupported", "Linux 4.19 is too old")

    monkeypatch.setattr(_host_prepare, "require", require)
    assert run_module(kvm_host_prepare)["error_code"] == "host_unsupported"
    assert host == []


def test_the_hook_stays_while_vms_need_it(host, monkeypatch, untouchable, run_module):
    def refuse(_uri):
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
