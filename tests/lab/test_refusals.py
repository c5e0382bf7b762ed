# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is refused before anything is touched, with its code, in check mode as in earnest."""

from __future__ import annotations

from xml.etree import ElementTree

from conftest import Guests
from fleet import MODELS, Fleet

from modelfleet_lab import Guest, Host
from modelfleet_lab.polling import wait_until


def test_bad_requests(fleet: Fleet) -> None:
    for host in fleet.hosts.values():
        host.run(["ln", "-sfn", "/etc", f"{MODELS}/outside"])
        host.run(["ln", "-sfn", ".", f"{MODELS}/to-the-root"])
    fleet.refuse(
        ("vm_not_found", {"vm": "no-such-vm"}),
        ("center_unknown", {"model_center": "no-such-center"}),
        ("source_missing", {"model": "no-such-model"}),
        ("source_missing", {"model_path": "llama-nano/config.json"}),
        ("source_outside_center", {"model_path": "outside"}),
        ("source_outside_center", {"model_path": "to-the-root"}),
        ("invalid_input", {"model_path": "../etc"}),
        ("invalid_input", {"mount_path": "/etc"}),
        ("invalid_input", {"mount_path": "/models/a\nb"}),
        ("invalid_input", {"tag": "x" * 37}),
    )


def test_link_inside_the_center_is_followed(fleet: Fleet) -> None:
    for host in fleet.hosts.values():
        host.run(["ln", "-sfn", "acme/embed.v2", f"{MODELS}/latest"])
    fleet.mount("embed", model_path="latest")
    for guest in fleet.guests.values():
        assert guest.run(["ls", "/models/embed"]).stdout.split("\n")[0] == "model.safetensors"
    fleet.unmount("embed")


def test_foreign_mount_at_the_path(fleet: Fleet) -> None:
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", "mkdir -p /models/foreign && mount -t tmpfs foreign /models/foreign"])
    fleet.refuse(("mount_path_in_use", {"mount_path": "/models/foreign"}))
    for guest in fleet.guests.values():
        guest.run(["umount", "/models/foreign"])


def test_what_is_in_the_way_of_the_path(fleet: Fleet) -> None:
    fleet.spoil()
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", "mkdir -p /models/real && echo x > /models/file && ln -s real /models/link"])
    fleet.refuse(
        ("mount_path_unusable", {"mount_path": "/models/file"}),
        ("mount_path_unusable", {"mount_path": "/models/file/below"}),
        ("mount_path_unusable", {"mount_path": "/models/link"}),
        ("mount_path_unusable", {"mount_path": "/models/link/below"}),
    )


def test_what_another_mount_of_the_vm_has(fleet: Fleet) -> None:
    fleet.mount(tag="mine")
    calls = [
        {"vm": fleet.vm, "model": "llama-nano", "model_center": "zoo", "mount_path": "/second"},
        {"vm": fleet.vm, "model": "acme/embed.v2", "model_center": "zoo", "mount_path": "/models/llama-nano/below"},
        {"vm": fleet.vm, "model": "acme/embed.v2", "model_center": "zoo", "tag": "mine"},
    ]
    for results in fleet.ansible.each("vm_model_mount", calls).values():
        codes = [result["error_code"] for result in results]
        assert codes == ["duplicate_mount"] * 4 + ["tag_in_use"] * 2
    fleet.unmount()


def test_two_entries_for_one_path(fleet: Fleet) -> None:
    by_uuid = next(iter(fleet.guests.values())).uuid
    calls = [
        {
            "mounts": [
                {"vm": fleet.vm, "model": "llama-nano", "model_center": "zoo", "mount_path": "/m"},
                {"vm": second, "model": "acme/embed.v2", "model_center": "zoo", "mount_path": "/m//"},
            ]
        }
        for second in (fleet.vm, by_uuid.upper())
    ]
    results = fleet.ansible.each("vm_model_mount", calls, limit=next(iter(fleet.guests)))
    for result in next(iter(results.values())):
        assert result["error_code"] == "duplicate_mount"
        assert result["details"]["entries"] == ["mounts[0]", "mounts[1]"]


def test_vm_without_shared_memory(prepared: dict[str, Host], fleet: Fleet, guests: Guests) -> None:
    Fleet(prepared, fleet.ansible, guests(shared_memory=False)).refuse(("no_shared_memory", {}))


def test_vm_without_agent_channel(prepared: dict[str, Host], fleet: Fleet, guests: Guests) -> None:
    without = Fleet(prepared, fleet.ansible, guests(up=False, agent=False))
    for guest in without.guests.values():
        guest.start()
    without.refuse(("agent_unavailable", {}))
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


def preserve_crashes(guest: Guest) -> None:
    """Give a VM that is off the device by which a guest tells that its kernel has panicked."""
    xml = guest.xml(inactive=True)
    on_crash, devices = xml.find("on_crash"), xml.find("devices")
    assert on_crash is not None and devices is not None
    on_crash.text = "preserve"
    ElementTree.SubElement(devices, "panic", model="isa")
    guest.host.run(["virsh", "define", "/dev/stdin"], input=ElementTree.tostring(xml))


def crash(guest: Guest) -> None:
    """Write to the device what a kernel writes that panics; the guests here lack the driver for it."""
    guest.host.run(["virsh", "qemu-monitor-command", guest.name, "--hmp", "o/b 0x505 1"])
    wait_until(f"{guest} is crashed", 30, lambda: guest.state() == "crashed")


def test_crashed_vm(prepared: dict[str, Host], fleet: Fleet, guests: Guests) -> None:
    crashed = Fleet(prepared, fleet.ansible, guests(up=False))
    for guest in crashed.guests.values():
        preserve_crashes(guest)
        guest.up()
    crashed.mount()
    for guest in crashed.guests.values():
        crash(guest)
    calls = [
        {"vm": crashed.vm, "model": "llama-nano", "model_center": "zoo"},
        {"vm": crashed.vm, "model": "acme/embed.v2", "model_center": "zoo"},
        {"vm": crashed.vm, "state": "absent"},
    ]
    for results in fleet.ansible.each("vm_model_mount", calls).values():
        assert [(result["error_code"], result["changed"]) for result in results] == [("vm_state", False)] * 6
    for mounts in crashed.info().values():
        assert [(mount["vm_state"], mount["record"]["model_name"]) for mount in mounts] == [("crashed", "llama-nano")]
        assert mounts[0]["layers"] == {"source": "right", "persistent": "right", "live": "right", "guest": "unknown"}
    for guest in crashed.guests.values():
        guest.destroy()
    crashed.unmount()
    assert crashed.leftovers() == {}


def test_paused_vm(fleet: Fleet) -> None:
    for host in fleet.hosts.values():
        host.run(["virsh", "suspend", fleet.vm])
    fleet.refuse(("vm_state", {}))
    for host in fleet.hosts.values():
        host.run(["virsh", "resume", fleet.vm])
