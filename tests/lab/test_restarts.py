# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stops, starts, reboots, storage that is gone: the source is back before the VM starts, or the VM starts without."""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import Guests
from fleet import BOTH_AT_LENGTH, DEVICE, MODELS, Fleet, binds, checksum, guest_checksum

from modelfleet_lab import Guest, Host
from modelfleet_lab.polling import wait_until

WEIGHTS = "/models/llama-nano/weights.bin"
ZOO = "/var/lib/modelfleet/centers/zoo"


def assert_right(fleet: Fleet) -> None:
    """One run brings the model back where it is missing, a second changes nothing, and the guest reads the model."""
    fleet.mount()
    assert not any(result["changed"] for result in fleet.mount().values())
    for guest in fleet.guests.values():
        assert guest_checksum(guest, WEIGHTS) == checksum("llama-nano/weights.bin")


def bound(fleet: Fleet) -> set[int]:
    """How many binds there are for the VM on the hosts."""
    return {
        fleet.hosts[name].run(["cat", "/proc/self/mountinfo"]).stdout.count(f"/{guest.uuid}/")
        for name, guest in fleet.guests.items()
    }


@BOTH_AT_LENGTH
def test_vm_stopped_and_started(fleet: Fleet) -> None:
    fleet.mount()
    for guest in fleet.guests.values():
        guest.destroy()
    assert bound(fleet) == {0}
    for mounts in fleet.info().values():
        assert [(mount["status"], mount["drift"]) for mount in mounts] == [("Attached", False)]
    assert not any(result["changed"] for result in fleet.mount().values())
    for guest in fleet.guests.values():
        guest.start()
        guest.wait_agent()
    assert bound(fleet) == {binds(fleet.transport, 1)}
    for result in fleet.mount().values():
        assert result["mounts"][0]["actions"] == ["record", "mount_in_guest", "settle_record"]
    assert_right(fleet)


@BOTH_AT_LENGTH
def test_mounted_while_stopped(prepared: dict[str, Host], fleet: Fleet, guests: Guests) -> None:
    stopped = Fleet(prepared, fleet.ansible, guests(up=False), fleet.transport)
    for result in stopped.mount().values():
        assert result["mounts"][0]["actions"] == ["record", "attach_persistent", "settle_record"]
    for guest in stopped.guests.values():
        guest.up()
    assert_right(stopped)
    for guest in stopped.guests.values():
        guest.destroy()
    for result in stopped.unmount().values():
        assert result["mounts"][0]["actions"] == ["record", "detach_persistent", "forget_record"]
    assert stopped.leftovers() == {}


@BOTH_AT_LENGTH
def test_storage_gone_while_the_vm_starts(fleet: Fleet) -> None:
    fleet.mount()
    for guest in fleet.guests.values():
        guest.destroy()
    for host in fleet.hosts.values():
        # The module refuses to, while the VM has a model of it; what is stopped in order stays stopped.
        host.run(["systemctl", "stop", "var-lib-modelfleet-centers-zoo.mount"])
        # What somebody else mounts there meanwhile is not the center's, though it has directories of the same names.
        host.run(["mount", "-t", "tmpfs", "theirs", ZOO])
        host.write(f"{ZOO}/llama-nano/weights.bin", "theirs")
    try:
        for name, guest in fleet.guests.items():
            guest.start()
            guest.wait_agent()
            tag = guest.xml().find("devices/filesystem/target")
            assert tag is not None
            guest.run(["mkdir", "/seen"])
            guest.run(["mount", "-t", "virtiofs", tag.get("dir", ""), "/seen"])
            place = "/seen/llama-nano" if fleet.transport == "view" else "/seen"
            assert guest.run(["ls", "-A", f"{place}/"]).stdout == ""
            assert guest.run(["touch", f"{place}/x"], check=False).returncode != 0
            assert fleet.hosts[name].run(["find", "/var/lib/modelfleet/empty", "-mindepth", "1"]).stdout == ""
            guest.run(["umount", "/seen"])
        for mounts in fleet.info().values():
            assert (mounts[0]["status"], mounts[0]["layers"]["source"]) == ("MountFailed", "wrong")
            assert mounts[0]["error"]["error_code"] == "center_not_mounted"
        for result in fleet.mount(ok=False).values():
            assert (result["error_code"], result["changed"]) == ("center_not_mounted", False)
            assert "tmpfs from theirs" in result["msg"] or "another directory" in result["msg"]
        for host in fleet.hosts.values():
            host.run(["umount", ZOO])
        for result in fleet.mount(ok=False).values():
            assert (result["error_code"], result["changed"]) == ("center_not_mounted", False)
            assert "nothing is mounted" in result["msg"]
    finally:
        fleet.ansible.module("model_center_mount", {"name": "zoo", "storage_url": f"file://{MODELS}"})
    for result in fleet.mount().values():
        assert "bind_source" in result["mounts"][0]["actions"]
    assert_right(fleet)
    assert bound(fleet) == {binds(fleet.transport, 1)}


@BOTH_AT_LENGTH
def test_host_rebooted(fleet: Fleet) -> None:
    fleet.mount()
    for host in fleet.hosts.values():
        host.reboot()
    for name, guest in fleet.guests.items():
        assert fleet.hosts[name].run(["findmnt", "/var/lib/modelfleet/centers/zoo"]).returncode == 0
        guest.start()
    for guest in fleet.guests.values():
        guest.wait_agent()
    assert bound(fleet) == {binds(fleet.transport, 1)}
    assert not any(result["changed"] for result in fleet.ansible.module("kvm_host_prepare", {}).values())
    assert_right(fleet)
    fleet.unmount()
    assert fleet.leftovers() == {}


@pytest.mark.transport("view", why="what the hook leaves of a VM that was stopped is looked at above for both")
def test_records_go_with_the_vm(fleet: Fleet) -> None:
    fleet.mount()
    for host in fleet.hosts.values():
        host.run(["virsh", "destroy", fleet.vm])
        host.run(["virsh", "undefine", fleet.vm])
    for result in fleet.ansible.module("vm_model_mount_info", {}).values():
        assert fleet.vm not in [mount["vm"] for mount in result["mounts"]]
    assert bound(fleet) == {0}


@pytest.mark.transport("device", why="whose a record is stands in the record")
def test_clone_does_not_inherit_records(fleet: Fleet) -> None:
    """The record in a cloned XML names the other VM: it is no record of the clone."""
    fleet.mount()
    for name, guest in fleet.guests.items():
        host = fleet.hosts[name]
        xml = host.run(["virsh", "dumpxml", "--inactive", fleet.vm]).stdout
        clone = xml.replace(f"<uuid>{guest.uuid}</uuid>", "").replace(f"<name>{fleet.vm}</name>", "<name>clone</name>")
        host.run(["virsh", "define", "/dev/stdin"], input=clone)
    try:
        for result in fleet.ansible.module("vm_model_mount_info", {"vms": ["clone"]}).values():
            assert result["mounts"] == []
    finally:
        for host in fleet.hosts.values():
            host.run(["virsh", "undefine", "clone"])


@pytest.mark.transport("view", why="a device comes in the same test")
def test_libvirt_restarted(fleet: Fleet) -> None:
    """Records and devices survive it; libvirt before 9.2 then cannot plug, and we say so in words that help.

    What needs no plugging goes on: a model joins the view.
    """
    fleet.mount()
    fleet.spoil()
    for host in fleet.hosts.values():
        host.run(["systemctl", "restart", "libvirtd"])
    assert not any(result["changed"] for result in fleet.mount().values())
    fleet.mount("acme/embed.v2")
    arguments = fleet.entry("acme", transport=DEVICE, mount_path="/srv/acme")
    old = fleet.ansible.module("vm_model_mount", arguments, ok=False, limit="alpha")["alpha"]
    assert old["error_code"] == "libvirt_restarted"
    new = fleet.ansible.module("vm_model_mount", arguments, limit="beta")["beta"]
    assert new["changed"]
    for mounts in fleet.info().values():
        assert not any(mount["drift"] for mount in mounts)


UNITS = {
    "device": "/etc/systemd/system/models-llama\\x2dnano.mount",
    "view": "/etc/systemd/system/models.mount",
}


@pytest.mark.long
@BOTH_AT_LENGTH
def test_guest_with_systemd_rebooted(disks: Fleet) -> None:
    """A Debian guest mounts by itself again when it boots; the unit that does so comes and goes with the mount."""
    unit = UNITS[disks.transport]
    assert_right(disks)
    for guest in disks.guests.values():
        guest.run(["test", "-f", unit])
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Guest.reboot, disks.guests.values()))

    def sees_the_model(guest: Guest) -> bool:
        return guest.run(["test", "-f", WEIGHTS], check=False).returncode == 0

    for guest in disks.guests.values():
        wait_until(f"{guest} mounts the model", 30, functools.partial(sees_the_model, guest))
    for result in disks.mount().values():
        assert result["mounts"][0]["actions"] == []
    for guest in disks.guests.values():
        assert guest_checksum(guest, WEIGHTS) == checksum("llama-nano/weights.bin")
    # Somebody in the guest takes the unit away: it is drift, and repaired.
    for guest in disks.guests.values():
        guest.run(["rm", unit])
    assert [mounts[0]["layers"]["guest"] for mounts in disks.info().values()] == ["wrong", "wrong"]
    for check in (True, False):
        for result in disks.mount(check=check).values():
            assert result["mounts"][0]["actions"] == ["record", "write_guest_unit", "settle_record"]
    # What was decided once stays; to have no unit must be asked for.
    for result in disks.mount(persistence="none").values():
        assert result["mounts"][0]["actions"] == ["record", "remove_guest_unit", "settle_record"]
    for result in disks.mount(persistence="systemd").values():
        assert result["mounts"][0]["actions"] == ["record", "write_guest_unit", "settle_record"]
    disks.unmount()
    assert disks.leftovers() == {}
    for guest in disks.guests.values():
        assert guest.run(["test", "-e", unit], check=False).returncode != 0
