# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Failures half-way: the old state is back, and the error says why."""

from __future__ import annotations

from typing import Any

import pytest
from fleet import BOTH_AT_LENGTH, DEVICE, VIEW, Fleet, checksum, device_path, entry, guest_checksum, place

# Where no directory can be made, which nobody knows before it is tried.
FROZEN = "mkdir -p /frozen && mount -t tmpfs -o ro none /frozen"
THAWED = "umount /frozen"


def refuse(fleet: Fleet, reason: str, **options: Any) -> None:
    """The guest must refuse to mount, for a reason of its own, and everything be as before."""
    for result in fleet.mount(ok=False, **options).values():
        assert result["error_code"] == "guest_mount_failed"
        assert reason in result["msg"]
        assert fleet.vm in result["msg"]
        assert result["details"]["failed_step"] == "mount_in_guest"
        assert result["details"]["undone"] == ["attach", "bind_source", "record"]
        assert not result["changed"]
    assert fleet.leftovers() == {}


@BOTH_AT_LENGTH
def test_kernel_of_the_guest_allows_no_more_mounts(fleet: Fleet) -> None:
    usual = {}
    for name, guest in fleet.guests.items():
        usual[name] = guest.run(["cat", "/proc/sys/fs/mount-max"]).stdout
        guest.run(["sh", "-c", "echo 1 > /proc/sys/fs/mount-max"])
    refuse(fleet, "No space left on device")
    for name, guest in fleet.guests.items():
        guest.run(["tee", "/proc/sys/fs/mount-max"], input=usual[name])


@pytest.mark.transport("device", why="a view is mounted at /models, for which a directory can be made at the root only")
def test_no_directory_can_be_made_in_the_guest(fleet: Fleet) -> None:
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", FROZEN])
    refuse(fleet, "Read-only file system", mount_path="/frozen/model")
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", THAWED])


@BOTH_AT_LENGTH
def test_one_mount_of_a_vm_fails_and_all_of_them_are_undone(fleet: Fleet) -> None:
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", FROZEN])
    mounts = [
        fleet.entry(),
        # Beside a view as well; what fails in a view fails for all that is in it.
        fleet.entry("acme/embed.v2", transport=DEVICE, mount_path="/frozen/model"),
        entry("no-such-vm", "llama-nano", fleet.transport),
    ]
    results = fleet.ansible.module("vm_model_mount", {"mounts": mounts}, ok=False)
    for result in results.values():
        codes = [mount["error"]["error_code"] for mount in result["mounts"]]
        assert codes == ["guest_mount_failed", "guest_mount_failed", "vm_not_found"]
        assert not result["changed"]
    assert fleet.leftovers() == {}
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", THAWED])


@pytest.mark.transport("view", why="VMs are kept apart before it matters; each has a test that goes wrong above")
def test_failing_vm_does_not_stop_the_others(fleet: Fleet) -> None:
    mounts = [entry("no-such-vm", "llama-nano", VIEW), fleet.entry()]
    for result in fleet.ansible.module("vm_model_mount", {"mounts": mounts}, ok=False).values():
        assert result["error_code"] == "vm_not_found"
        assert [mount["changed"] for mount in result["mounts"]] == [False, True]
    for guest in fleet.guests.values():
        assert guest_checksum(guest, "/models/llama-nano/weights.bin") == checksum("llama-nano/weights.bin")
    fleet.unmount()


@pytest.mark.long
@pytest.mark.transport("device", why="test_view.py has what a view does instead: release, and then give back")
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


@pytest.mark.long
@BOTH_AT_LENGTH
def test_model_mounted_a_second_time_in_the_guest_is_not_taken_away(fleet: Fleet) -> None:
    fleet.mount()
    path = device_path(fleet.transport, "/models/llama-nano")
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", f"mkdir -p /b && mount -t virtiofs $(grep ' {path} ' /proc/mounts | cut -d' ' -f1) /b"])
    for result in fleet.unmount(ok=False).values():
        assert (result["error_code"], result["changed"]) == ("mount_busy", False)
        assert "'/b'" in result["msg"]
    for guest in fleet.guests.values():
        guest.run(["umount", "/b"])
    fleet.unmount()
    assert fleet.leftovers() == {}


@pytest.mark.long
@pytest.mark.transport("device", why="test_view.py has how a link of a view is switched")
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


@BOTH_AT_LENGTH
def test_replacing_that_fails_brings_the_first_model_back(fleet: Fleet) -> None:
    path = place(fleet.transport, "model")
    fleet.mount(mount_path=path)
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", FROZEN])
    mounts = [
        fleet.entry("acme/embed.v2", mount_path=path),
        # Fails when the first model has been replaced already.
        fleet.entry("acme", transport=DEVICE, mount_path="/frozen/model"),
    ]
    replaced = {DEVICE: "detach_live", VIEW: "bind_source"}[fleet.transport]
    for result in fleet.ansible.module("vm_model_mount", {"mounts": mounts}, ok=False).values():
        assert result["error_code"] == "guest_mount_failed"
        assert replaced in result["details"]["undone"]
        assert "undo_failed" not in result["details"]
    for guest in fleet.guests.values():
        assert guest_checksum(guest, f"{path}/weights.bin") == checksum("llama-nano/weights.bin")
        guest.run(["sh", "-c", THAWED])
    for found in fleet.info().values():
        assert [(mount["record"]["model_name"], mount["drift"]) for mount in found] == [("llama-nano", False)]
    fleet.unmount()
    assert fleet.leftovers() == {}


@pytest.mark.long
@BOTH_AT_LENGTH
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


@pytest.mark.long
@pytest.mark.transport("device", why="test_view.py has it for views, which the guest must unmount too")
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


@pytest.mark.transport("view", why="whether there is a device of ours is what counts")
def test_hook_stays_while_a_vm_needs_it(fleet: Fleet) -> None:
    fleet.mount()
    for result in fleet.ansible.module("kvm_host_prepare", {"state": "absent"}, ok=False).values():
        assert (result["error_code"], result["details"]["vms"]) == ("hook_in_use", [fleet.vm])
    fleet.unmount()
