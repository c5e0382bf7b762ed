# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is refused before anything is touched, with its code."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Guests
from fleet import MODELS, Fleet

from modelfleet_lab import Host


def refused(fleet: Fleet, code: str, **options: Any) -> None:
    """The mount must be refused with a code, in check mode as in earnest, and leave nothing behind."""
    for check in (True, False):
        for host, result in fleet.mount(ok=False, check=check, **options).items():
            assert (host, result.get("error_code"), result["changed"]) == (host, code, False), result["msg"]
    assert fleet.leftovers() == {}


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"model_center": "no-such-center"}, "center_unknown"),
        ({"model": "no-such-model"}, "source_missing"),
        ({"model_path": "llama-nano/config.json"}, "source_missing"),
        ({"model_path": "../etc"}, "invalid_input"),
        ({"model_path": "outside"}, "source_outside_center"),
        ({"model_path": "to-the-root"}, "source_outside_center"),
        ({"mount_path": "/etc"}, "invalid_input"),
        ({"mount_path": "/models/a\nb"}, "invalid_input"),
        ({"tag": "x" * 37}, "invalid_input"),
    ],
)
def test_bad_requests(fleet: Fleet, options: dict[str, Any], code: str) -> None:
    for host in fleet.hosts.values():
        host.run(["ln", "-sfn", "/etc", f"{MODELS}/outside"])
        host.run(["ln", "-sfn", ".", f"{MODELS}/to-the-root"])
    refused(fleet, code, **options)


def test_link_inside_the_center_is_followed(fleet: Fleet) -> None:
    for host in fleet.hosts.values():
        host.run(["ln", "-sfn", "acme/embed.v2", f"{MODELS}/latest"])
    fleet.mount("embed", model_path="latest")
    for guest in fleet.guests.values():
        assert guest.run(["ls", "/models/embed"]).stdout.split("\n")[0] == "model.safetensors"
    fleet.unmount("embed")


def test_foreign_mount_at_the_path(fleet: Fleet) -> None:
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", "mkdir -p /models/llama-nano && mount -t tmpfs foreign /models/llama-nano"])
    refused(fleet, "mount_path_in_use")


def test_second_path_for_the_same_model(fleet: Fleet) -> None:
    fleet.mount()
    for result in fleet.mount(mount_path="/second", ok=False).values():
        assert result["error_code"] == "duplicate_mount"


def test_tag_of_another_device(fleet: Fleet) -> None:
    fleet.mount(tag="mine")
    for result in fleet.mount("acme/embed.v2", tag="mine", ok=False).values():
        assert result["error_code"] == "tag_in_use"


def test_two_entries_for_one_path(fleet: Fleet) -> None:
    for names in ((fleet.vm, fleet.vm), tuple(guest.uuid for guest in fleet.guests.values())):
        mounts = [
            {"vm": names[0], "model": "llama-nano", "model_center": "zoo", "mount_path": "/m"},
            {"vm": names[0], "model": "acme/embed.v2", "model_center": "zoo", "mount_path": "/m//"},
        ]
        results = fleet.ansible.module("vm_model_mount", {"mounts": mounts}, ok=False)
        for result in results.values():
            assert result["error_code"] == "duplicate_mount"
            assert result["details"]["entries"] == ["mounts[0]", "mounts[1]"]


def test_vm_without_shared_memory(prepared: dict[str, Host], fleet: Fleet, guests: Guests) -> None:
    refused(Fleet(prepared, fleet.ansible, guests(shared_memory=False)), "no_shared_memory")


def test_vm_without_agent_channel(prepared: dict[str, Host], fleet: Fleet, guests: Guests) -> None:
    without = Fleet(prepared, fleet.ansible, guests(up=False, agent=False))
    for guest in without.guests.values():
        guest.start()
    refused(without, "agent_unavailable")
    for result in without.mount(guest="none").values():
        assert result["mounts"][0]["actions"] == [
            "record",
            "bind_source",
            "attach",
            "verify_read_only",
            "settle_record",
        ]
    assert [mounts[0]["status"] for mounts in without.info().values()] == ["Attached", "Attached"]
    without.unmount()
    assert without.leftovers() == {}


def test_too_few_ports_for_the_whole_list(prepared: dict[str, Host], fleet: Fleet, guests: Guests) -> None:
    small = Fleet(prepared, fleet.ansible, guests(ports=1))
    mounts = [{"vm": small.vm, "model": name, "model_center": "zoo"} for name in ("llama-nano", "acme/embed.v2")]
    for result in fleet.ansible.module("vm_model_mount", {"mounts": mounts}, ok=False).values():
        assert result["error_code"] == "no_free_pci_port"
        assert (result["details"]["needed"], result["details"]["free"]) == (2, 1)
    assert small.leftovers() == {}


def test_paused_vm(fleet: Fleet) -> None:
    for host in fleet.hosts.values():
        host.run(["virsh", "suspend", fleet.vm])
    refused(fleet, "vm_state")
