# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""VMs that cannot take models are made able: in check mode, in earnest, and again without a change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from xml.etree import ElementTree

import pytest
from ansible_run import Ansible, Result
from conftest import Guests
from fleet import DEVICE, MODELS, VIEW, Fleet, entry

from modelfleet_lab import Guest, Host
from modelfleet_lab.polling import wait_until

# A VM is made able for devices, of which a view is one, so that most tests need only one transport.
DEVICES = pytest.mark.transport("device", why="a view is a device as well")

# libvirt before 9.2 gets a NUMA cell as well.
STEPS = {
    "alpha": ["share_memory", "add_numa_cell", "add_root_ports"],
    "beta": ["share_memory", "add_root_ports"],
}
REASONS = {
    "alpha": ["shared_memory", "ports", "numa_cell"],
    "beta": ["shared_memory", "ports"],
}


def prepare(fleet: Fleet, *, ok: bool = True, **options: Any) -> dict[str, Result]:
    """Run vm_model_prepare for the fleet's VM, in check mode and in earnest; both must say the same."""
    arguments = {"vms": [fleet.vm], **options}
    found = {}
    for host, results in fleet.ansible.each("vm_model_prepare", [arguments], limit=",".join(fleet.guests)).items():
        predicted, done = results
        assert (predicted["failed"], done["failed"]) == (not ok, not ok)
        assert predicted["vms"] == done["vms"]
        (found[host],) = done["vms"]
    return found


def boot(fleet: Fleet) -> None:
    """Wait until the guests answer."""
    with ThreadPoolExecutor(len(fleet.guests)) as pool:
        list(pool.map(Guest.up, fleet.guests.values()))


def publish_many(hosts: dict[str, Host], count: int) -> list[str]:
    """Put some small models on the hosts."""
    names = [f"many-{number}" for number in range(count)]
    for host in hosts.values():
        for name in names:
            host.run(["mkdir", "-p", f"{MODELS}/{name}"])
            host.write(f"{MODELS}/{name}/name.txt", name.encode())
    return names


@pytest.mark.transport("device", why="the view comes in the same test")
def test_a_vm_without_anything_takes_nine_models(
    prepared: dict[str, Host], ansible: Ansible, guests: Guests, transport: str
) -> None:
    fleet = Fleet(prepared, ansible, guests(ports=1, shared_memory=False), transport)
    fleet.refuse(("no_shared_memory", {}))
    for host, result in prepare(fleet, ports=9).items():
        assert (result["changed"], result["actions"]) == (True, STEPS[host])
        assert (result["restart_required"], result["restart_reasons"]) == (True, REASONS[host])
        assert result["ports"] == {"persistent": 1, "running": 1}
    # It is not there before the restart, and what is due stays due.
    fleet.refuse(("no_shared_memory", {}))
    for host, result in prepare(fleet, ports=9).items():
        assert (result["changed"], result["actions"], result["restart_reasons"]) == (False, [], REASONS[host])
        assert result["ports"] == {"persistent": 9, "running": 1}
        assert result["enough"]["persistent"]["shared_memory"] is True
        assert result["enough"]["running"]["shared_memory"] is False

    started = {
        host: guest.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout for host, guest in fleet.guests.items()
    }
    for result in prepare(fleet, ports=9, restart="when_due", timeout=60).values():
        assert (result["changed"], result["actions"]) == (True, ["shut_down", "start"])
        assert (result["restart_required"], result["vm_state"]) == (False, "running")
    boot(fleet)
    for host, guest in fleet.guests.items():
        assert guest.run(["cat", "/proc/sys/kernel/random/boot_id"]).stdout != started[host]
    for result in prepare(fleet, ports=9, restart="when_due").values():
        assert (result["changed"], result["restart_required"]) == (False, False)

    names = publish_many(prepared, 9)
    for by in (DEVICE, VIEW):
        mounts = [entry(fleet.vm, name, by) for name in names]
        ansible.module("vm_model_mount", {"mounts": mounts})
        for guest in fleet.guests.values():
            assert [guest.run(["cat", f"/models/{name}/name.txt"]).stdout for name in names] == names
        # The models stand where there was room for them.
        for result in prepare(fleet, ports=9).values():
            assert (result["changed"], result["restart_required"]) == (False, False)
        ansible.module("vm_model_mount", {"mounts": mounts, "state": "absent"})
        assert fleet.leftovers() == {}


@pytest.mark.transport("view", why="the device comes in the test above")
def test_all_in_one_run_with_a_diff(
    prepared: dict[str, Host], ansible: Ansible, guests: Guests, transport: str
) -> None:
    fleet = Fleet(prepared, ansible, guests(ports=0, shared_memory=False), transport)
    arguments = {"vms": [fleet.vm], "ports": 1, "restart": "when_due", "timeout": 60}
    for host, result in ansible.module("vm_model_prepare", arguments, diff=True).items():
        lines = set(result["diff"]["after"].splitlines()) - set(result["diff"]["before"].splitlines())
        assert {"  memory access: shared", "  memory source: memfd", "  the running VM has all of it: yes"} <= lines
        assert ("NUMA" in result["diff"]["after"]) is (host == "alpha")
        assert result["vms"][0]["actions"] == [*STEPS[host], "shut_down", "start"]
    boot(fleet)
    fleet.mount()
    fleet.unmount()
    assert fleet.leftovers() == {}


@pytest.mark.long
@DEVICES
def test_libvirt_restarted_under_a_vm_with_a_numa_cell(prepared: dict[str, Host], fleet: Fleet, guests: Guests) -> None:
    """libvirt 9.0 then refuses VMs without one, and takes those that were prepared."""
    able = Fleet({"alpha": prepared["alpha"]}, fleet.ansible, guests(only="alpha", up=False), fleet.transport)
    (result,) = prepare(able).values()
    assert (result["actions"], result["restart_required"]) == (["add_numa_cell"], False)
    boot(able)
    fleet.spoil()
    prepared["alpha"].run(["systemctl", "restart", "libvirtd"])
    for by in (DEVICE, VIEW):
        arguments = fleet.entry(transport=by)
        refused = fleet.ansible.module("vm_model_mount", arguments, ok=False, limit="alpha")["alpha"]
        assert refused["error_code"] == "libvirt_restarted"
    assert able.mount()["alpha"]["changed"]
    assert able.guests["alpha"].run(["ls", "/models/llama-nano"]).stdout.split() == ["config.json", "weights.bin"]
    able.unmount()
    assert able.leftovers() == {}


@DEVICES
def test_a_guest_that_cannot_be_asked_to_shut_down(
    prepared: dict[str, Host], ansible: Ansible, guests: Guests, transport: str
) -> None:
    """It has no agent channel yet, and the kernel of these guests does not listen to ACPI."""
    fleet = Fleet(prepared, ansible, guests(agent=False), transport)
    arguments = {"vms": [fleet.vm], "restart": "when_due", "timeout": 2}
    for result in ansible.module("vm_model_prepare", arguments, ok=False).values():
        (vm,) = result["vms"]
        assert (result["error_code"], vm["error"]["error_code"]) == ("restart_timeout", "restart_timeout")
        assert "add_agent_channel" in vm["actions"] and "shut_down" not in vm["actions"]
        assert (vm["vm_state"], vm["restart_required"]) == ("running", True)
    for guest in fleet.guests.values():
        guest.destroy()
    for result in prepare(fleet, restart="when_due").values():
        assert (result["changed"], result["restart_required"], result["vm_state"]) == (False, False, "shutoff")
    for guest in fleet.guests.values():
        guest.start()
    for guest in fleet.guests.values():
        guest.wait_agent()
    fleet.mount()
    fleet.unmount()


@DEVICES
def test_a_silent_agent_is_not_waited_for(fleet: Fleet) -> None:
    """libvirt would give it a minute before it turns to ACPI."""
    fleet.spoil()
    for guest in fleet.guests.values():
        # Stopped by somebody that it does not wait for, or it could not answer us. Asked, it would be known as silent.
        stop = "kill -STOP $(pidof qemu-ga); echo the agent is silent > /dev/ttyS0"
        guest.run(["sh", "-c", f"(sleep 1; {stop}) > /dev/null 2>&1 &"])
        wait_until("a silent agent", 30, partial(is_silent, guest))
    begin = time.monotonic()
    arguments = {"vms": [fleet.vm], "ports": 9, "restart": "when_due", "timeout": 3}
    for result in fleet.ansible.module("vm_model_prepare", arguments, ok=False).values():
        assert result["error_code"] == "restart_timeout"
    assert time.monotonic() - begin < 50


def is_silent(guest: Guest) -> bool:
    return "the agent is silent" in guest.console()


@DEVICES
def test_states_in_which_there_is_no_restart(
    prepared: dict[str, Host], ansible: Ansible, guests: Guests, transport: str
) -> None:
    fleet = Fleet(prepared, ansible, guests(ports=1), transport)
    for host in prepared.values():
        host.run(["virsh", "suspend", fleet.vm])
    for result in prepare(fleet, ok=False, ports=2, restart="when_due").values():
        assert (result["error"]["error_code"], result["actions"][-1]) == ("vm_state", "add_root_ports")
    for host in prepared.values():
        host.run(["virsh", "resume", fleet.vm])
        host.run(["virsh", "managedsave", fleet.vm])
    for result in prepare(fleet, ports=2, restart="when_due").values():
        assert (result["vm_state"], result["changed"], result["restart_required"]) == ("shutoff", False, True)
        assert result["ports"] == {"persistent": 2, "running": 1}
    for host in prepared.values():
        host.run(["virsh", "managedsave-remove", fleet.vm])
    for result in prepare(fleet, ports=2).values():
        assert (result["restart_required"], result["enough"]["running"]) == (False, None)


@DEVICES
def test_a_transient_vm(prepared: dict[str, Host], ansible: Ansible, guests: Guests, transport: str) -> None:
    fleet = Fleet(prepared, ansible, guests(), transport)
    for host in prepared.values():
        host.run(["virsh", "undefine", fleet.vm])
    arguments = {"vms": ["no-such-vm", fleet.vm]}
    for check in (True, False):
        for result in ansible.module("vm_model_prepare", arguments, ok=False, check=check).values():
            assert (result["error_code"], result["changed"]) == ("vm_not_found", False)
            assert [vm["error"]["error_code"] for vm in result["vms"]] == ["vm_not_found", "vm_transient"]


# Definitions that these hosts could not start, but libvirt takes.

NOTES = "<metadata><team:notes xmlns:team='urn:team'><team:by>ops &amp; dev</team:by></team:notes></metadata>"
HUGE = "<memoryBacking><hugepages/><locked/></memoryBacking><memtune><hard_limit unit='GiB'>1</hard_limit></memtune>"
CELLS = """
  <cpu mode='custom' match='exact'><model>qemu64</model><numa>
    <cell id='0' cpus='0-1' memory='64' unit='MiB'/>
    <cell id='1' cpus='2-3' memory='64' unit='MiB' memAccess='private'/>
  </numa></cpu>"""


def xml(name: str, machine: str, more: str = "") -> str:
    """A definition with things that are not ours and must stay."""
    return f"""
      <domain type='qemu'>
        <name>{name}</name>{NOTES}
        <memory unit='MiB'>128</memory><currentMemory unit='MiB'>96</currentMemory><vcpu current='2'>4</vcpu>
        <os><type arch='x86_64' machine='{machine}'>hvm</type></os><features><acpi/></features>{more}
        <devices><graphics type='vnc' port='-1' autoport='yes' passwd='geheim7'/></devices>
      </domain>"""


DEFINITIONS = {"huge": xml("huge", "q35", HUGE), "cells": xml("cells", "q35", CELLS), "old": xml("old", "pc")}
VMS = {"vms": list(DEFINITIONS)}


@pytest.fixture
def defined(hosts: dict[str, Host]) -> Iterator[dict[str, Host]]:
    """Hosts that have these definitions."""
    for host in hosts.values():
        for text in DEFINITIONS.values():
            host.run(["virsh", "define", "/dev/stdin"], input=text)
    yield hosts
    for host in hosts.values():
        for name in DEFINITIONS:
            host.run(["virsh", "undefine", name])


def dump(host: Host, name: str) -> ElementTree.Element:
    return ElementTree.fromstring(host.run(["virsh", "dumpxml", "--inactive", "--security-info", name]).stdout)


def test_definitions_get_what_they_lack(defined: dict[str, Host], ansible: Ansible) -> None:
    channel, ports = "add_agent_channel", "add_root_ports"
    new = {"huge": [channel, ports], "cells": [channel, ports], "old": [channel]}
    # libvirt before 9.2 gets a cell where there is none.
    old = {"huge": ["add_numa_cell", channel, ports], "cells": [channel, ports], "old": ["add_numa_cell", channel]}
    for name, results in ansible.each("vm_model_prepare", [VMS, VMS]).items():
        expected = old if name == "alpha" else new
        for result in results[:2]:
            actions = {vm["vm"]: vm["actions"] for vm in result["vms"]}
            assert actions == {vm: ["share_memory", *steps] for vm, steps in expected.items()}
        for result in results[2:]:
            assert not result["changed"]
            assert [vm["ports"]["persistent"] for vm in result["vms"]] == [8, 8, None]
    cells = dump(defined["alpha"], "old").findall("cpu/numa/cell")
    assert [(cell.get("cpus"), cell.get("memory"), cell.get("unit")) for cell in cells] == [("0-3", "131072", "KiB")]


def test_definitions_keep_what_they_have(defined: dict[str, Host], ansible: Ansible) -> None:
    ansible.module("vm_model_prepare", VMS)
    for host in defined.values():
        found = {name: dump(host, name) for name in DEFINITIONS}
        for root in found.values():
            graphics = root.find("devices/graphics")
            assert graphics is not None and graphics.get("passwd") == "geheim7"
            assert root.findtext("metadata/{urn:team}notes/{urn:team}by") == "ops & dev"
            assert (root.findtext("memory"), root.findtext("currentMemory")) == ("131072", "98304")
        assert sorted(item.tag for item in found["huge"].findall("memoryBacking/*")) == [
            "access",
            "hugepages",
            "locked",
        ]
        access = [cell.get("memAccess") for cell in found["cells"].findall("cpu/numa/cell")]
        assert access == [None, "shared"]
