# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Agents that cannot or will not do what they should, beside an honest one in the same run.

`blocked` is the real agent with the commands refused that RHEL refuses. All others, Windows among them, are SIMULATED
by a script in a real guest: see modelfleet_lab/files/agents.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from ansible_run import Ansible, Result
from engine import Engine
from fleet import BOTH_AT_LENGTH, DEVICE, VIEW, checksum, entry, guest_checksum, leftovers, place

from modelfleet_lab import Guest, Host, agents
from modelfleet_lab.polling import wait_until

TIMEOUT = 5
# Seconds that a run over all VMs of both hosts may take: Ansible itself, and for each VM the deadline, what libvirt
# needs to give up after it, and the undoing. VMs are asked side by side, but the silent ones wait for each other.
BOUND = 60
# libvirt cuts off an agent that sent nonsense until that is started again; then it is as good as away. And what never
# ends meets one of two limits first, that of its size or that of time.
NONSENSE = {"agent_command_failed", "agent_unavailable"}
CODES = {
    "blocked": {"agent_restricted"},
    "windows": {"guest_unsupported"},
    "silent": {"agent_unavailable"},
    "garbage": NONSENSE,
    "flood": NONSENSE,
    "flow": NONSENSE,
    "slow": {"agent_unavailable"},
    "liar": {"agent_command_failed"},
}
VMS = ["honest", *CODES]
# By each transport a model that was mounted while the agent was still honest.
KEPT = {DEVICE: "acme/embed.v2", VIEW: "acme"}

Guests = dict[str, dict[str, Guest]]


@pytest.fixture(scope="module")
def guests(prepared: dict[str, Host], ansible: Ansible) -> Iterator[Guests]:
    """A VM for each kind of agent on each host, with a device and a view from when its agent was still honest."""
    made = {name: {vm: host.guest(vm) for vm in VMS} for name, host in prepared.items()}
    mounts = [entry(vm, model, by, mount_path=place(by, model)) for vm in VMS for by, model in KEPT.items()]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(Guest.up, (guest for several in made.values() for guest in several.values())))
        ansible.module("vm_model_mount", {"mounts": mounts})
        list(pool.map(lambda job: agents.replace(*job), ((made[host][kind], kind) for host in made for kind in CODES)))
    yield made
    for several in made.values():
        for guest in several.values():
            guest.remove()


def around(guests: Guests, hosts: dict[str, Host]) -> dict[str, dict[str, object]]:
    """What is of ours on the host about each VM with a bad agent."""
    return {
        f"{host} {kind}": leftovers(several[kind], hosts[host], inside=False)
        for host, several in guests.items()
        for kind in CODES
    }


def codes(result: Result) -> dict[str, str]:
    """The code of each VM's error, of those that have one."""
    return {mount["vm"]: mount["error"]["error_code"] for mount in result["mounts"] if mount["error"]}


def expect(found: dict[str, str]) -> None:
    """Every bad agent, and no other, has one of its codes."""
    assert set(found) == set(CODES)
    assert {vm: code for vm, code in found.items() if code not in CODES[vm]} == {}


@pytest.mark.usefixtures("guests")
def test_all_are_looked_at_in_one_run(ansible: Ansible) -> None:
    start = time.monotonic()
    results = ansible.module("vm_model_mount_info", {"timeout": TIMEOUT})
    assert time.monotonic() - start < BOUND
    for result in results.values():
        expect(codes(result))
        layers = {(mount["vm"], mount["record"]["transport"]): mount["layers"]["guest"] for mount in result["mounts"]}
        assert layers == {(vm, by): "right" if vm == "honest" else "unknown" for vm in VMS for by in KEPT}


@pytest.mark.parametrize(
    ("transport", "check"), [pytest.param(DEVICE, True, marks=pytest.mark.long), (DEVICE, False), (VIEW, False)]
)
def test_mounting_is_refused_and_leaves_nothing(
    guests: Guests, prepared: dict[str, Host], ansible: Ansible, transport: str, check: bool
) -> None:
    before = around(guests, prepared)
    path = place(transport, "llama-nano")
    # Versions, because a VM has a model once.
    mounts = [entry(vm, "llama-nano", transport, model_version=transport, mount_path=path) for vm in VMS]
    start = time.monotonic()
    results = ansible.module("vm_model_mount", {"mounts": mounts, "timeout": TIMEOUT}, ok=False, check=check)
    assert time.monotonic() - start < BOUND
    for result in results.values():
        expect(codes(result))
        assert {mount["vm"] for mount in result["mounts"] if mount["changed"]} == {"honest"}
    assert around(guests, prepared) == before
    if not check:
        for several in guests.values():
            assert guest_checksum(several["honest"], f"{path}/weights.bin") == checksum("llama-nano/weights.bin")


@BOTH_AT_LENGTH
def test_unmounting_is_refused_and_changes_nothing(
    guests: Guests, prepared: dict[str, Host], ansible: Ansible, transport: str
) -> None:
    before = around(guests, prepared)
    mounts = [{"vm": vm, "model": KEPT[transport]} for vm in VMS]
    start = time.monotonic()
    arguments = {"mounts": mounts, "state": "absent", "timeout": TIMEOUT}
    results = ansible.module("vm_model_mount", arguments, ok=False)
    assert time.monotonic() - start < BOUND
    for result in results.values():
        expect(codes(result))
        assert {mount["vm"] for mount in result["mounts"] if mount["changed"]} == {"honest"}
    assert around(guests, prepared) == before


# SIMULATED as well: agents that were alive when their models were mounted, and never answer again.
SILENT = [f"silent{number}" for number in range(20)]
# One half has devices, the other views.
BY = {vm: (DEVICE, VIEW)[number % 2] for number, vm in enumerate((*SILENT, "alive"))}


@pytest.fixture
def many(prepared: dict[str, Host], ansible: Ansible) -> Iterator[dict[str, Guest]]:
    """Twenty VMs with a model each whose agents fell silent, and an honest one, on one host."""
    host = prepared["beta"]
    made = {vm: host.guest(vm) for vm in (*SILENT, "alive")}
    mounts = [entry(vm, "acme", BY[vm]) for vm in SILENT]
    try:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(Guest.up, made.values()))
            ansible.module("vm_model_mount", {"mounts": mounts}, limit="beta")
            list(pool.map(lambda vm: agents.replace(made[vm], "silent"), SILENT))
        yield made
    finally:
        for guest in made.values():
            guest.remove()


@pytest.mark.long
def test_twenty_silent_agents_cost_one_deadline_and_delay_nobody(
    many: dict[str, Guest], prepared: dict[str, Host], ansible: Ansible
) -> None:
    engine = Engine(prepared["beta"])
    # Long enough for a busy machine to serve the honest one meanwhile.
    deadline = 30
    mounts = [entry(vm, "llama-nano", BY[vm]) for vm in (*SILENT, "alive")]
    start = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(engine.run, mounts, timeout=deadline)
        # The honest one has its model while the silent ones are still being waited for.
        wait_until("the honest VM has its model", deadline, lambda: _has_model(many["alive"]))
        assert not run.done()
        result = run.result()
    assert time.monotonic() - start < 2 * deadline
    assert {mount["vm"]: mount["error"]["error_code"] for mount in result["mounts"] if mount["error"]} == dict.fromkeys(
        SILENT, "agent_unavailable"
    )
    start = time.monotonic()
    arguments = {"vms": [*SILENT, "alive"], "timeout": deadline}
    shown = ansible.module("vm_model_mount_info", arguments, limit="beta")["beta"]["mounts"]
    assert time.monotonic() - start < 2 * deadline
    assert sorted(mount["vm"] for mount in shown if mount["layers"]["guest"] == "unknown") == sorted(SILENT)


def _has_model(guest: Guest) -> bool:
    return guest.run(["test", "-f", "/models/llama-nano/weights.bin"], check=False).returncode == 0
