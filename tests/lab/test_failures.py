# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failures half-way: the old state is back, and the error says why."""

from __future__ import annotations

import pytest
from fleet import Fleet, checksum, guest_checksum

# The way in which a guest refuses, by what is done in it before, and what its own message must say.
REFUSALS = {
    "kernel allows no more mounts": ("echo 1 > /proc/sys/fs/mount-max", "No space left on device"),
    "no directory can be made": ("mkdir /models && mount -t tmpfs -o ro none /models", "Read-only file system"),
}
# Where no directory can be made, which nobody knows before it is tried.
FROZEN = "mkdir -p /frozen && mount -t tmpfs -o ro none /frozen"


@pytest.mark.parametrize("refusal", REFUSALS)
def test_guest_refuses_the_mount(fleet: Fleet, refusal: str) -> None:
    command, reason = REFUSALS[refusal]
    fleet.spoil()
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", command])
    for result in fleet.mount(ok=False).values():
        assert result["error_code"] == "guest_mount_failed"
        assert reason in result["msg"]
        assert fleet.vm in result["msg"]
        assert result["details"]["failed_step"] == "mount_in_guest"
        assert result["details"]["undone"] == ["attach", "bind_source", "record"]
        assert not result["changed"]
    assert fleet.leftovers() == {}


def test_one_mount_of_a_vm_fails_and_all_of_them_are_undone(fleet: Fleet) -> None:
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", FROZEN])
    mounts = [
        {"vm": fleet.vm, "model": "llama-nano", "model_center": "zoo"},
        {"vm": fleet.vm, "model": "acme/embed.v2", "model_center": "zoo", "mount_path": "/frozen/model"},
        {"vm": "no-such-vm", "model": "llama-nano", "model_center": "zoo"},
    ]
    results = fleet.ansible.module("vm_model_mount", {"mounts": mounts}, ok=False)
    for result in results.values():
        codes = [mount["error"]["error_code"] for mount in result["mounts"]]
        assert codes == ["guest_mount_failed", "guest_mount_failed", "vm_not_found"]
        assert not result["changed"]
    assert fleet.leftovers() == {}


def test_failing_vm_does_not_stop_the_others(fleet: Fleet) -> None:
    mounts = [
        {"vm": "no-such-vm", "model": "llama-nano", "model_center": "zoo"},
        {"vm": fleet.vm, "model": "llama-nano", "model_center": "zoo"},
    ]
    for result in fleet.ansible.module("vm_model_mount", {"mounts": mounts}, ok=False).values():
        assert result["error_code"] == "vm_not_found"
        assert [mount["changed"] for mount in result["mounts"]] == [False, True]
    for guest in fleet.guests.values():
        assert guest_checksum(guest, "/models/llama-nano/weights.bin") == checksum("llama-nano/weights.bin")
    fleet.unmount()


def test_model_in_use_is_not_taken_away(fleet: Fleet) -> None:
    fleet.mount()
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", "cd /models/llama-nano && sleep 600 >/dev/null 2>&1 & echo $! > /user"])
    for result in fleet.unmount(ok=False).values():
        assert result["error_code"] == "mount_busy"
        assert result["details"]["undone"] == ["record"]
        (user,) = result["details"]["guest_processes"]
        assert user["name"] == "sleep" and f"{user['pid']} (sleep)" in result["msg"]
    for mounts in fleet.info().values():
        assert [(mount["status"], mount["drift"]) for mount in mounts] == [("Mounted", False)]
    for guest in fleet.guests.values():
        assert guest_checksum(guest, "/models/llama-nano/weights.bin") == checksum("llama-nano/weights.bin")
        guest.run(["sh", "-c", "kill $(cat /user)"])
    assert all(result["changed"] for result in fleet.unmount().values())
    assert fleet.leftovers() == {}


def test_model_mounted_a_second_time_in_the_guest_is_not_taken_away(fleet: Fleet) -> None:
    fleet.mount()
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", "mkdir /b && mount -t virtiofs $(grep llama-nano /proc/mounts | cut -d' ' -f1) /b"])
    for result in fleet.unmount(ok=False).values():
        assert (result["error_code"], result["changed"]) == ("mount_busy", False)
        assert "'/b'" in result["msg"]
    for guest in fleet.guests.values():
        guest.run(["umount", "/b"])
    fleet.unmount()


def test_another_model_at_the_same_path_replaces_the_first(fleet: Fleet) -> None:
    fleet.mount(mount_path="/model")
    predicted = fleet.mount("acme/embed.v2", mount_path="/model", check=True)
    for host, result in fleet.mount("acme/embed.v2", mount_path="/model").items():
        assert result["mounts"][0]["actions"] == predicted[host]["mounts"][0]["actions"]
    for guest in fleet.guests.values():
        assert guest_checksum(guest, "/model/model.safetensors") == checksum("acme/embed.v2/model.safetensors")
        assert guest.run(["grep", "-c", "virtiofs", "/proc/mounts"]).stdout.strip() == "1"
    assert not any(result["changed"] for result in fleet.mount("acme/embed.v2", mount_path="/model").values())
    fleet.unmount("acme/embed.v2")


def test_replacing_that_fails_brings_the_first_model_back(fleet: Fleet) -> None:
    fleet.mount(mount_path="/model")
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", FROZEN])
    mounts = [
        {"vm": fleet.vm, "model": "acme/embed.v2", "model_center": "zoo", "mount_path": "/model"},
        # Fails when the first model has been replaced already.
        {"vm": fleet.vm, "model": "acme", "model_center": "zoo", "mount_path": "/frozen/model"},
    ]
    for result in fleet.ansible.module("vm_model_mount", {"mounts": mounts}, ok=False).values():
        assert result["error_code"] == "guest_mount_failed"
        assert "detach_live" in result["details"]["undone"]
        assert "undo_failed" not in result["details"]
    for guest in fleet.guests.values():
        assert guest_checksum(guest, "/model/weights.bin") == checksum("llama-nano/weights.bin")
    for found in fleet.info().values():
        assert [(mount["record"]["model_name"], mount["drift"]) for mount in found] == [("llama-nano", False)]
    fleet.unmount()


def test_model_that_a_container_in_the_guest_uses_is_not_taken_away(fleet: Fleet) -> None:
    fleet.mount()
    for guest in fleet.guests.values():
        container = "unshare -m --propagation private sleep 600 >/dev/null 2>&1 & echo $! > /container"
        guest.run(["sh", "-c", container])
        # Not before it has its own mount name space.
        guest.run(
            [
                "sh",
                "-c",
                'while [ "$(readlink /proc/$(cat /container)/ns/mnt)" = "$(readlink /proc/self/ns/mnt)" ]; do :; done',
            ]
        )
    for result in fleet.unmount(ok=False).values():
        assert result["error_code"] == "mount_busy"
        assert [process["name"] for process in result["details"]["guest_processes"]] == ["sleep"]
    for mounts in fleet.info().values():
        assert [(mount["status"], mount["drift"]) for mount in mounts] == [("Mounted", False)]
    for guest in fleet.guests.values():
        assert guest_checksum(guest, "/models/llama-nano/weights.bin") == checksum("llama-nano/weights.bin")
        guest.run(["sh", "-c", "kill $(cat /container)"])
    fleet.unmount()
    assert fleet.leftovers() == {}


def test_guest_that_mounts_by_itself_unmounts_first(fleet: Fleet) -> None:
    fleet.mount(guest="none", tag="mine")
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", "mkdir -p /own && mount -t virtiofs mine /own"])
    for result in fleet.unmount(ok=False).values():
        assert (result["error_code"], result["changed"]) == ("mount_busy", False)
    for guest in fleet.guests.values():
        guest.run(["umount", "/own"])
    fleet.unmount()
    assert fleet.leftovers() == {}


def test_hook_stays_while_a_vm_needs_it(fleet: Fleet) -> None:
    fleet.mount()
    for result in fleet.ansible.module("kvm_host_prepare", {"state": "absent"}, ok=False).values():
        assert (result["error_code"], result["details"]["vms"]) == ("hook_in_use", [fleet.vm])
    fleet.unmount()
