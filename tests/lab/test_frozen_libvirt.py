# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A libvirt that answers nothing at all, from before a run on or in the middle of it: the run ends, with a code."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from engine import Engine
from fleet import Fleet, checksum, guest_checksum

from modelfleet_lab import Guest, Host

TIMEOUT = 5
# libvirtd gives up a client that has answered none of its keepalive messages for 30 s.
IDLE = """
import time
from ansible_collections.modelfleet.kvm.plugins.module_utils import _connection
connection = _connection.connect("qemu:///system", 5)
time.sleep(35)
connection.getLibVersion()
print("answered")
"""
# Ansible itself, its modules one after another, and what busy machines take beyond their deadlines.
BOUND = 60


def signal(host: Host, name: str) -> None:
    host.run(["sh", "-c", f"kill -{name} $(cat /run/libvirtd.pid)"])


@contextlib.contextmanager
def thawed_at_the_end(*hosts: Host) -> Iterator[None]:
    try:
        yield
    finally:
        for host in hosts:
            signal(host, "CONT")


@pytest.mark.transport("view", why="nothing is found out, also not by which transport models come")
def test_frozen_before_a_run(fleet: Fleet) -> None:
    """Nothing can be found out, so nothing is done."""
    mount = fleet.entry(timeout=TIMEOUT)
    tasks = [
        {"name": module, f"modelfleet.kvm.{module}": arguments, "ignore_errors": True}
        for module, arguments in {
            "vm_model_mount": mount,
            "vm_model_mount_info": {"timeout": TIMEOUT},
            "vm_model_prepare": {"vms": [fleet.vm], "timeout": TIMEOUT},
            "kvm_host_prepare": {"timeout": TIMEOUT},
        }.items()
    ]
    with thawed_at_the_end(*fleet.hosts.values()):
        for host in fleet.hosts.values():
            signal(host, "STOP")
        run = fleet.ansible.play(tasks)
    assert run.seconds < BOUND
    for results in run.results.values():
        assert [(result["error_code"], result["changed"]) for result in results] == [
            ("libvirt_unavailable", False)
        ] * len(tasks)
    assert fleet.leftovers() == {}


# With records written, when all is bound, and when the guest has it; a view that a model joins is bound and shown only.
@pytest.mark.parametrize(
    ("transport", "effects"),
    [
        pytest.param("device", 1, marks=pytest.mark.long),
        ("device", 3),
        pytest.param("device", 4, marks=pytest.mark.long),
        pytest.param("view", 1, marks=pytest.mark.long),
        ("view", 4),
    ],
)
def test_frozen_in_the_middle_of_a_run(fleet: Fleet, effects: int) -> None:
    """What cannot be undone now is carried on with by the next run."""

    def freeze(host: Host, guest: Guest) -> None:
        with thawed_at_the_end(host):
            began = time.monotonic()
            result = Engine(host).run([fleet.entry()], freeze_after=effects, timeout=TIMEOUT)
        assert time.monotonic() - began < BOUND
        assert result["failure"]["error_code"] == "libvirt_unavailable"
        assert guest.state() == "running"

    fleet.mount("acme/embed.v2")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(freeze, fleet.hosts.values(), fleet.guests.values()))
    fleet.mount()
    assert not any(result["changed"] for result in fleet.mount().values())
    for guest in fleet.guests.values():
        assert guest_checksum(guest, "/models/llama-nano/weights.bin") == checksum("llama-nano/weights.bin")
    fleet.unmount()
    fleet.unmount("acme/embed.v2")
    assert fleet.leftovers() == {}


def test_idle_for_longer_than_libvirt_waits_for_keepalive(prepared: dict[str, Host]) -> None:
    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(lambda host: Engine(host).program(IDLE), prepared.values()))
    assert told == ["answered\n"] * 2
