# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""VMs prepared: in which order, how far it went, and what is said of it."""

from __future__ import annotations

import types
import xml.etree.ElementTree as ET

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _agents, _domain, _locks, _vm_prepare
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit.definitions import (
    AGENT,
    SERIAL,
    SHARED,
    address,
    definition,
    ports,
    taken_by_libvirt,
)

BARE = definition()
ABLE = definition(SHARED, ports(9) + SERIAL.format(address(1)) + AGENT)
PREPARED = ["share_memory", "add_agent_channel", "add_root_ports"]


class FakeVm:
    """A VM of a libvirt that takes what it is given, unless told otherwise."""

    def __init__(self, name, text, state="running", running=None, fail=(), persistent=True):
        self.name = name
        self.uuid = f"uuid-of-{name}"
        self.text = text
        self.live = running if running is not None else text if state != "shutoff" else None
        self.now = state
        self.fail = fail
        self.defined = persistent
        self.done = []

    def __str__(self):
        return self.name

    def state(self):
        return self.now

    def persistent(self):
        return self.defined

    def definition(self):
        return self.text

    def running_xml(self):
        return None if self.live is None else ET.fromstring(self.live)

    def define(self, text):
        self._do("define")
        if "nothing taken" not in self.fail:
            self.text = taken_by_libvirt(text)

    def shut_down(self, deadline, by_agent):
        self._do("shut_down")
        self.asked = (deadline, by_agent)
        self.now = "shutoff"

    def start(self):
        self._do("start")
        self.now, self.live = "running", self.text

    def _do(self, what):
        self.done.append(what)
        if what in self.fail:
            codes = {"define": "define_failed", "shut_down": "restart_timeout", "start": "restart_failed"}
            raise ModelfleetError(codes[what], f"VM {self}: no", vm=self.name)


class FakeHost:
    version = 11_003_000
    uri = "qemu:///system"

    def __init__(self, *vms, version=None):
        self.vms = {name: vm for vm in vms for name in (vm.name, vm.uuid)}
        self.version = version or self.version

    def vm(self, name):
        if name not in self.vms:
            raise ModelfleetError("vm_not_found", f"there is no VM {name}", vm=name)
        return self.vms[name]


@pytest.fixture(autouse=True)
def locks(monkeypatch, tmp_path):
    held = _locks.held
    monkeypatch.setattr(_locks, "held", lambda names, deadline: held(names, deadline, str(tmp_path)))
    return tmp_path


@pytest.fixture(autouse=True)
def silent(monkeypatch):
    """The VMs whose agents do not answer."""
    silent = set()

    class Agents:
        def __init__(self, host):
            assert host.uri == FakeHost.uri

        def ask(self, vm, command, _arguments, deadline):
            assert (command, deadline) == ("guest-ping", 7.0)
            if vm.name in silent:
                raise ModelfleetError("agent_unavailable", f"VM {vm}: silent", vm=vm.name)

    monkeypatch.setattr(_agents, "Agents", Agents)
    return silent


def prepare(*vms, version=None, names=None, **how):
    request = {"ports": 8, "agent": True, "restart": False, "check_mode": False, "deadline": 7.0, **how}
    names = names or [vm.name for vm in vms]
    return _vm_prepare.prepare(FakeHost(*vms, version=version), _vm_prepare.Request(vms=names, **request))


def one(vm, **how):
    (outcome,) = prepare(vm, **how)
    return _vm_prepare.report([outcome])[0]


def code(result):
    return result["error"] and result["error"]["error_code"]


def test_a_vm_that_is_off_is_prepared_and_needs_no_restart():
    vm = FakeVm("a", BARE, "shutoff")
    result = one(vm)
    assert (result["changed"], result["actions"]) == (True, PREPARED)
    assert (result["restart_required"], result["restart_reasons"], result["error"]) == (False, [], None)
    assert vm.done == ["define"]
    again = one(vm)
    assert (again["changed"], again["actions"], vm.done) == (False, [], ["define"])
    assert again["enough"]["persistent"] == {
        "shared_memory": True,
        "ports": True,
        "agent_channel": True,
        "numa_cell": None,
    }


def test_libvirt_before_9_2_gets_a_numa_cell():
    vm = FakeVm("a", ABLE, "shutoff")
    assert one(vm, version=9_000_000)["actions"] == ["add_numa_cell"]
    assert one(vm, version=9_000_000)["changed"] is False


def test_a_vm_that_runs_says_what_it_runs_without():
    vm = FakeVm("a", BARE)
    result = one(vm)
    assert result["restart_reasons"] == ["shared_memory", "ports", "agent_channel"]
    assert result["enough"]["running"] == result["enough"]["persistent"]
    assert vm.done == ["define"]
    # It still does when there is nothing left to prepare.
    again = one(vm)
    assert (again["changed"], again["restart_required"]) == (False, True)
    assert again["ports"] == {"persistent": 8, "running": 0}


def test_a_vm_goes_on_from_its_managed_save_with_what_it_was_saved_with():
    vm = FakeVm("a", BARE, "shutoff", running=BARE)
    result = one(vm, restart=True)
    assert (result["restart_required"], code(result), vm.done) == (True, None, ["define"])


def test_a_restart_when_it_is_due():
    vm = FakeVm("a", BARE)
    result = one(vm, restart=True)
    assert vm.done == ["define", "shut_down", "start"]
    assert result["actions"] == [*PREPARED, "shut_down", "start"]
    assert (result["restart_required"], result["restart_reasons"], result["vm_state"]) == (False, [], "running")
    again = one(vm, restart=True)
    assert (again["changed"], vm.done) == (False, ["define", "shut_down", "start"])


def test_an_agent_that_is_silent_is_not_asked_to_shut_the_guest_down(silent):
    silent.add("b")
    vms = [FakeVm("a", BARE), FakeVm("b", BARE)]
    prepare(*vms, restart=True)
    assert [vm.asked for vm in vms] == [(7.0, True), (7.0, False)]


def test_a_restart_is_not_believed_but_looked_at(monkeypatch):
    vm = FakeVm("a", BARE)
    monkeypatch.setattr(vm, "start", lambda: None)
    assert one(vm, restart=True)["restart_reasons"] == ["shared_memory", "ports", "agent_channel"]


def test_a_restart_that_an_earlier_run_left_due():
    vm = FakeVm("a", ABLE, running=BARE)
    assert one(vm, restart=True)["actions"] == ["shut_down", "start"]


@pytest.mark.parametrize("text", [ABLE, BARE])
def test_a_vm_that_is_off_is_not_started(text):
    vm = FakeVm("a", text, "shutoff")
    one(vm, restart=True)
    assert vm.now == "shutoff"


@pytest.mark.parametrize("state", ["running", "shutoff", "paused", "crashed"])
@pytest.mark.parametrize("restart", [True, False])
@pytest.mark.parametrize("text", [BARE, ABLE])
def test_check_mode_predicts_and_does_nothing(state, restart, text):
    vm, twin = (FakeVm("a", text, state) for _number in range(2))
    predicted, result = one(vm, restart=restart, check_mode=True), one(twin, restart=restart)
    assert vm.done == []
    assert predicted == result


def test_check_mode_takes_no_lock(monkeypatch):
    monkeypatch.setattr(_locks, "held", None)
    assert one(FakeVm("a", BARE), check_mode=True)["changed"] is True


def test_a_vm_is_changed_under_its_lock(locks):
    one(FakeVm("a", BARE, "shutoff"))
    assert [path.name for path in locks.iterdir()] == ["vm-uuid-of-a"]


def test_a_transient_vm_cannot_be_prepared():
    vm = FakeVm("a", BARE, persistent=False)
    result = one(vm)
    assert (code(result), result["changed"], vm.done) == ("vm_transient", False, [])


@pytest.mark.parametrize("state", ["paused", "crashed", "pmsuspended", "shutdown"])
def test_a_vm_that_cannot_shut_down_is_prepared_but_not_restarted(state):
    vm = FakeVm("a", BARE, state)
    result = one(vm, restart=True)
    assert (code(result), result["actions"], result["restart_required"]) == ("vm_state", PREPARED, True)
    assert vm.done == ["define"]
    assert code(one(vm)) is None


def test_a_guest_that_does_not_shut_down_leaves_the_restart_due():
    vm = FakeVm("a", BARE, fail=["shut_down"])
    result = one(vm, restart=True)
    assert (code(result), result["actions"], result["restart_required"]) == ("restart_timeout", PREPARED, True)
    assert vm.now == "running"
    again = one(vm)
    assert (again["changed"], again["restart_required"]) == (False, True)


def test_a_vm_that_does_not_start_again_is_said_to_be_off():
    result = one(FakeVm("a", BARE, fail=["start"]), restart=True)
    assert (code(result), result["actions"], result["vm_state"]) == (
        "restart_failed",
        [*PREPARED, "shut_down"],
        "shutoff",
    )
    assert result["restart_required"] is False


def test_a_definition_that_libvirt_refuses_is_an_error_and_no_change():
    vm = FakeVm("a", BARE, fail=["define"])
    result = one(vm, restart=True)
    assert (code(result), result["changed"], vm.done) == ("define_failed", False, ["define"])


def test_a_definition_that_libvirt_does_not_take_is_not_believed():
    vm = FakeVm("a", BARE, fail=["nothing taken"])
    result = one(vm, restart=True)
    assert (code(result), result["error"]["details"]["missing"][0]) == ("define_failed", "share_memory")
    assert vm.done == ["define"] * 3


def test_what_libvirt_adds_by_itself_takes_no_room_away(monkeypatch):
    """Here it adds a device of its own to the first definition that it is given."""
    vm = FakeVm("a", BARE, "shutoff")
    take = vm.define

    def define(text):
        take(text)
        if vm.done == ["define"]:
            vm.text = vm.text.replace("</devices>", f"<interface>{address(2)}</interface></devices>")

    monkeypatch.setattr(vm, "define", define)
    assert one(vm)["actions"] == PREPARED
    assert vm.done == ["define", "define"]
    assert one(vm)["ports"]["persistent"] == 8


def test_one_vm_s_failure_leaves_the_others_alone():
    vms = [FakeVm("a", BARE, fail=["define"]), FakeVm("b", BARE), FakeVm("c", "<damaged")]
    outcomes = prepare(*vms, names=["a", "no-such-vm", "b", "c"])
    results = _vm_prepare.report(outcomes)
    assert [result["vm"] for result in results] == ["a", "no-such-vm", "b", "c"]
    assert [code(result) for result in results] == ["define_failed", "vm_not_found", None, "internal_error"]
    assert [result["changed"] for result in results] == [False, False, True, False]
    assert len({tuple(result) for result in results}) == 1


def test_a_vm_that_is_named_twice_is_prepared_once():
    vm = FakeVm("a", BARE)
    (outcome,) = prepare(vm, names=["a", "uuid-of-a", "a"])
    assert (outcome.actions, vm.done) == (PREPARED, ["define"])


# What a person reads before saying yes.


def test_the_diff_has_a_line_for_each_thing():
    private = definition("<memoryBacking><access mode='private'/></memoryBacking>", ports(2))
    vms = [FakeVm("a", private), FakeVm("b", ABLE), FakeVm("c", ABLE, running=BARE)]
    diff = _vm_prepare.diff(prepare(*vms, restart=True, check_mode=True, version=9_000_000, names=["a", "c"]))
    assert diff["before"].splitlines() == [
        "VM a",
        "  memory access: private",
        "  memory source: not set",
        "  NUMA cells: none",
        "  guest agent channel: missing",
        "  PCIe root ports: 2",
        "  the running VM has all of it: no",
        "VM c",
        "  NUMA cells: none",
        "  the running VM has all of it: no",
    ]
    assert diff["after"].splitlines() == [
        "VM a",
        "  memory access: shared",
        "  memory source: memfd",
        "  NUMA cells: cell 0 with CPUs 0-3, 4194304 KiB, shared",
        "  guest agent channel: there",
        "  PCIe root ports: 9",
        "  the running VM has all of it: yes",
        "VM c",
        "  NUMA cells: cell 0 with CPUs 0-3, 4194304 KiB, shared",
        "  the running VM has all of it: yes",
    ]


def test_the_diff_of_nothing_is_empty():
    assert _vm_prepare.diff(prepare(FakeVm("a", ABLE))) == {"before": "", "after": ""}


@pytest.mark.parametrize("how", [{}, {"check_mode": True}, {"restart": True}])
def test_passwords_of_the_definition_are_nowhere_in_what_is_said(how):
    secret = definition(devices="<graphics type='vnc' passwd='geheim'/>")
    for fail in ([], ["define"], ["shut_down"], ["nothing taken"]):
        vm = FakeVm("a", secret, fail=fail)
        outcomes = prepare(vm, **how)
        assert "geheim" not in repr((outcomes, _vm_prepare.report(outcomes), _vm_prepare.diff(outcomes)))
        assert "geheim" in vm.text


# What libvirt is asked for


class Domain:
    """A domain of libvirt's bindings: one that ends when it has been asked about often enough."""

    def __init__(self, ends_after=0, fails=()):
        self.asked = 0
        self.ends_after = ends_after
        self.fails = fails
        self.called = []
        # The names are libvirt's.
        bindings = {"UUIDString": lambda: "uuid", "name": lambda: "a", "isActive": self._active}
        calls = {"create": lambda: self._call("create"), "shutdownFlags": lambda flags: self._call("shutdown", flags)}
        self.connect = lambda: types.SimpleNamespace(isAlive=lambda: 1)
        vars(self).update(bindings, **calls)

    def _active(self):
        self.asked += 1
        return self.asked <= self.ends_after

    def _call(self, what, *arguments):
        self.called.append((what, *arguments))
        if what in self.fails:
            raise _domain.libvirt.libvirtError("refused")


@pytest.fixture(autouse=True)
def libvirt(monkeypatch):
    error = type("Error", (Exception,), {"get_error_code": lambda self: 1})
    names = {"libvirtError": error, "VIR_ERR_NO_DOMAIN": 42, "VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN": 1}
    monkeypatch.setattr(_domain, "libvirt", types.SimpleNamespace(**names))


@pytest.mark.parametrize(("by_agent", "flags"), [(True, 0), (False, 1)])
def test_a_shutdown_is_asked_for_once_and_waited_for(by_agent, flags):
    domain = Domain(ends_after=2)
    _domain.Vm(domain, 0).shut_down(5, by_agent)
    assert (domain.called, domain.asked) == ([("shutdown", flags)], 3)


def test_a_shutdown_is_not_waited_for_without_end():
    with pytest.raises(ModelfleetError) as caught:
        _domain.Vm(Domain(ends_after=1000), 0).shut_down(0, by_agent=True)
    assert caught.value.code == "restart_timeout"


def test_a_vm_that_is_not_started():
    with pytest.raises(ModelfleetError) as caught:
        _domain.Vm(Domain(fails=["create"]), 0).start()
    assert caught.value.code == "restart_failed"


def test_a_vm_that_somebody_else_has_started_runs_and_that_is_enough():
    domain = Domain(ends_after=1, fails=["create"])
    _domain.Vm(domain, 0).start()
    assert domain.called == [("create",)]
