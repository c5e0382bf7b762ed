# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _connection, _domain, _vm_prepare
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.module_utils._vm_definition import Change
from ansible_collections.modelfleet.kvm.plugins.modules import vm_model_prepare


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"vms": ["render-4", " \n"]}, "vms[1]"),
        ({"vms": ["a/b"]}, "vms[0]"),
        ({"vms": ["render-4"], "ports": -1}, "ports"),
        ({"vms": ["render-4"], "ports": 29}, "ports"),
        ({"vms": ["render-4"], "timeout": 0}, "timeout"),
    ],
)
def test_bad_input_is_refused_before_anything_is_touched(given, option, untouchable, run_module):
    result = run_module(vm_model_prepare, **given)
    assert (result["failed"], result["error_code"]) == (True, "invalid_input")
    assert result["details"]["option"] == option


@pytest.mark.parametrize("given", [{}, {"vms": ["a"], "restart": "always"}, {"vms": ["a"], "ports": "some"}])
def test_what_no_option_is_or_takes_is_refused(given, untouchable, run_module):
    assert run_module(vm_model_prepare, **given)["failed"] is True


def test_nothing_wanted_is_nothing_done(untouchable, run_module):
    result = run_module(vm_model_prepare, vms=[])
    assert (result["changed"], result["vms"]) == (False, [])


def test_a_host_without_libvirt_says_so(monkeypatch, run_module):
    monkeypatch.setattr(_connection, "libvirt", None)
    assert run_module(vm_model_prepare, vms=["render-4"])["error_code"] == "libvirt_unavailable"


def test_other_users_than_root_are_refused(monkeypatch, untouchable, run_module):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run_module(vm_model_prepare, vms=["render-4"])["error_code"] == "not_root"


CHANGE = Change("add_root_ports", "PCIe root ports", "2", "9")
DONE = _vm_prepare.Outcome("render-4", "uuid", "running", changes=[CHANGE], lacking=["ports"])
LOST = _vm_prepare.Outcome("b", error=ModelfleetError("vm_not_found", "there is no VM b"))
WORSE = _vm_prepare.Outcome("c", error=ModelfleetError("vm_transient", "VM c is transient"))


@pytest.fixture
def prepare(monkeypatch, run_module):
    """Run the module on a host on which the VMs turn out like that; also gives the request that was made."""

    def prepare(outcomes, **arguments):
        seen = []
        monkeypatch.setattr(_domain, "Host", lambda *how: how)
        monkeypatch.setattr(_vm_prepare, "prepare", lambda host, request: seen.append((host, request)) or outcomes)
        return run_module(vm_model_prepare, **arguments), seen[0]

    return prepare


def test_what_is_asked_for(prepare):
    _result, (how, request) = prepare([], vms=[" render-4\n"], uri=" qemu:///session")
    assert how == ("qemu:///session", 30.0)
    assert (request.vms, request.ports, request.agent) == (["render-4"], 8, True)
    assert (request.restart, request.check_mode, request.deadline) == (False, False, 30.0)
    _result, (_how, request) = prepare(
        [], vms=["a", "b"], ports=0, agent=False, restart="when_due", timeout=90, _ansible_check_mode=True
    )
    assert (request.vms, request.ports, request.agent) == (["a", "b"], 0, False)
    assert (request.restart, request.check_mode, request.deadline) == (True, True, 90.0)


def test_what_is_returned(prepare):
    result, _request = prepare([DONE], vms=["render-4"], _ansible_diff=True)
    assert result["changed"] is True
    (vm,) = result["vms"]
    assert (vm["vm"], vm["actions"], vm["restart_reasons"]) == ("render-4", ["add_root_ports"], ["ports"])
    assert result["diff"]["before"] == "VM render-4\n  PCIe root ports: 2\n"
    assert result["diff"]["after"] == "VM render-4\n  PCIe root ports: 9\n"


def test_a_failure_is_the_module_s_in_the_end_and_hides_nothing(prepare):
    result, _request = prepare([DONE, LOST, WORSE], vms=["render-4", "b", "c"])
    assert (result["failed"], result["changed"], result["error_code"]) == (True, True, "vm_not_found")
    assert "1 more failed, see vms" in result["msg"]
    errors = [vm["error"] and vm["error"]["error_code"] for vm in result["vms"]]
    assert errors == [None, "vm_not_found", "vm_transient"]
