# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is refused before anything is touched, with its code, in check mode as in earnest."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from ansible_run import Ansible
from conftest import Guests
from fleet import BOTH_AT_LENGTH, DEVICE, MODELS, SET_UP, VIEW, Fleet, device_path

from modelfleet_lab import Guest, Host
from modelfleet_lab.polling import wait_until


@BOTH_AT_LENGTH
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


@BOTH_AT_LENGTH
def test_link_inside_the_center_is_followed(fleet: Fleet) -> None:
    for host in fleet.hosts.values():
        host.run(["ln", "-sfn", "acme/embed.v2", f"{MODELS}/latest"])
    fleet.mount("embed", model_path="latest")
    for guest in fleet.guests.values():
        assert guest.run(["ls", "/models/embed/"]).stdout.split("\n")[0] == "model.safetensors"
    fleet.unmount("embed")
    assert fleet.leftovers() == {}


@BOTH_AT_LENGTH
def test_foreign_mount_at_the_path(fleet: Fleet) -> None:
    path = device_path(fleet.transport, "/models/foreign")
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", f"mkdir -p {path} && mount -t tmpfs foreign {path}"])
    fleet.refuse(("mount_path_in_use", {"mount_path": "/models/foreign"}))
    for guest in fleet.guests.values():
        guest.run(["umount", path])


@pytest.mark.transport("view", why="a device is mounted at the path itself, and hides nothing beside it")
def test_foreign_mount_where_the_view_is_mounted(fleet: Fleet) -> None:
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", "mkdir -p /models/foreign && mount -t tmpfs foreign /models/foreign"])
    # Empty as it is, somebody has put it there; the view would hide it.
    fleet.refuse(("mount_path_in_use", {}))
    for guest in fleet.guests.values():
        guest.run(["umount", "/models/foreign"])


@pytest.mark.transport("device", why="a view has another path, for which test_view.py has these")
def test_what_is_in_the_way_of_the_path(fleet: Fleet) -> None:
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", "mkdir -p /models/real && echo x > /models/file && ln -s real /models/link"])
    fleet.refuse(
        ("mount_path_unusable", {"mount_path": "/models/file"}),
        ("mount_path_unusable", {"mount_path": "/models/file/below"}),
        ("mount_path_unusable", {"mount_path": "/models/link"}),
        ("mount_path_unusable", {"mount_path": "/models/link/below"}),
    )
    for guest in fleet.guests.values():
        guest.run(["rm", "-r", "/models"])


@pytest.mark.transport("device", why="a view has no tag of a model; test_view.py has the rest")
def test_what_another_mount_of_the_vm_has(fleet: Fleet) -> None:
    fleet.mount(tag="mine")
    calls = [
        fleet.entry(mount_path="/second"),
        fleet.entry("acme/embed.v2", mount_path="/models/llama-nano/below"),
        fleet.entry("acme/embed.v2", tag="mine"),
    ]
    for results in fleet.ansible.each("vm_model_mount", calls).values():
        codes = [result["error_code"] for result in results]
        assert codes == ["duplicate_mount"] * 4 + ["tag_in_use"] * 2
    fleet.unmount()


@pytest.mark.transport("view", why="the other entry is for a device")
def test_two_entries_for_one_path(fleet: Fleet) -> None:
    by_uuid = next(iter(fleet.guests.values())).uuid
    calls = [
        {
            "mounts": [
                fleet.entry(mount_path="/models/m"),
                fleet.entry("acme/embed.v2", vm=second, mount_path="/models/m//", transport=transport),
            ]
        }
        for second, transport in ((fleet.vm, DEVICE), (by_uuid.upper(), VIEW))
    ]
    results = fleet.ansible.each("vm_model_mount", calls, limit=next(iter(fleet.guests)))
    for result in next(iter(results.values())):
        assert result["error_code"] == "duplicate_mount"
        assert result["details"]["entries"] == ["mounts[0]", "mounts[1]"]


# Guests that are not as others take long to boot, so that one has both transports.


@pytest.mark.transport("device", why="the view comes in the same test")
def test_vm_without_shared_memory(prepared: dict[str, Host], ansible: Ansible, guests: Guests, transport: str) -> None:
    fleet = Fleet(prepared, ansible, guests(shared_memory=False), transport)
    fleet.refuse(("no_shared_memory", {}), ("no_shared_memory", {"transport": VIEW}))


@pytest.mark.long
@pytest.mark.transport("device", why="the view comes in the same test")
def test_vm_without_agent_channel(prepared: dict[str, Host], ansible: Ansible, guests: Guests, transport: str) -> None:
    fleet = Fleet(prepared, ansible, guests(up=False, agent=False), transport)
    for guest in fleet.guests.values():
        guest.start()
    for without in (fleet, fleet.by(VIEW)):
        without.refuse(("agent_unavailable", {}))
        for result in without.mount(guest="none").values():
            assert result["mounts"][0]["actions"] == [step for step in SET_UP if step != "mount_in_guest"]
        assert [mounts[0]["status"] for mounts in without.info().values()] == ["Attached", "Attached"]
        without.unmount()
        assert without.leftovers() == {}


@pytest.mark.transport("device", why="the view comes in the same test")
def test_too_few_ports_for_the_whole_list(
    prepared: dict[str, Host], ansible: Ansible, guests: Guests, transport: str
) -> None:
    small = Fleet(prepared, ansible, guests(ports=1), transport)
    mounts = [small.entry(), small.entry("acme/embed.v2")]
    for result in ansible.module("vm_model_mount", {"mounts": mounts}, ok=False).values():
        assert result["error_code"] == "no_free_pci_port"
        assert (result["details"]["needed"], result["details"]["free"]) == (2, 1)
    assert small.leftovers() == {}
    # The one is enough for all models of a view, and then there is none for a device beside it.
    small.mount(transport=VIEW)
    small.mount("acme/embed.v2", transport=VIEW)
    beside = small.mount("acme", ok=False, mount_path="/srv/acme")
    assert [result["error_code"] for result in beside.values()] == ["no_free_pci_port"] * 2
    small.unmount()
    small.unmount("acme/embed.v2")
    small.mount("acme", mount_path="/srv/acme")
    assert [result["error_code"] for result in small.mount(transport=VIEW, ok=False).values()] == [
        "no_free_pci_port"
    ] * 2
    small.unmount("acme")
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


@pytest.mark.long
@pytest.mark.transport("view", why="the VM has a device beside the view")
def test_crashed_vm(prepared: dict[str, Host], ansible: Ansible, guests: Guests, transport: str) -> None:
    crashed = Fleet(prepared, ansible, guests(up=False), transport)
    for guest in crashed.guests.values():
        preserve_crashes(guest)
        guest.up()
    crashed.mount()
    crashed.mount("acme", transport=DEVICE, mount_path="/srv/acme")
    for guest in crashed.guests.values():
        crash(guest)
    calls = [
        crashed.entry(),
        crashed.entry("acme/embed.v2"),
        crashed.entry("acme/embed.v2", transport=DEVICE, mount_path="/srv/second"),
        {"vm": crashed.vm, "model": "llama-nano", "state": "absent"},
        {"vm": crashed.vm, "state": "absent"},
    ]
    for results in ansible.each("vm_model_mount", calls).values():
        assert [(result["error_code"], result["changed"]) for result in results] == [("vm_state", False)] * 10
    for mounts in crashed.info().values():
        assert [(mount["vm_state"], mount["record"]["model_name"]) for mount in mounts] == [
            ("crashed", "llama-nano"),
            ("crashed", "acme"),
        ]
        layers = {"source": "right", "persistent": "right", "live": "right", "guest": "unknown"}
        assert [mount["layers"] for mount in mounts] == [layers] * 2
    for guest in crashed.guests.values():
        guest.destroy()
    ansible.module("vm_model_mount", {"vm": crashed.vm, "state": "absent"})
    assert crashed.leftovers() == {}


@pytest.mark.transport("device", why="the view comes in the same test")
def test_paused_vm(fleet: Fleet) -> None:
    for host in fleet.hosts.values():
        host.run(["virsh", "suspend", fleet.vm])
    fleet.refuse(("vm_state", {}), ("vm_state", {"transport": VIEW}))
    for host in fleet.hosts.values():
        host.run(["virsh", "resume", fleet.vm])
