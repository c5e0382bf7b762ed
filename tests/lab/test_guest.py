# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the collection sees and does in a guest, busybox and systemd: users, dead mounts, mounts that last."""

from __future__ import annotations

import json

import pytest
from conftest import Guests
from engine import Engine
from fleet import Fleet, checksum, guest_checksum

from modelfleet_lab import Guest, Host

UUID = "3d1f7a52-64f0-4a0e-9d6b-0d5a1f2c7e11"
# Needs every kind of escape: of a shell, of fstab, of systemd, of JSON.
PATH = "/srv/a b-c/100%n/back\\slash/'q\"$x/\u6a21\u578b"


@pytest.fixture(scope="session")
def engines(prepared: dict[str, Host]) -> dict[str, Engine]:
    return {name: Engine(host) for name, host in prepared.items()}


def plug_again(host: Host, guest: Guest) -> None:
    """Take a guest's device away under its mount and give it back, as somebody might with virsh."""
    script = """
        virsh dumpxml "$1" | sed -n '/<filesystem/,/<.filesystem>/p' | grep -v '<address' > /tmp/device.xml
        virsh detach-device "$1" /tmp/device.xml --live
        until virsh attach-device "$1" /tmp/device.xml --live; do :; done
    """
    host.run(["timeout", "60", "sh", "-c", script, "sh", guest.name])


def lasting(fleet: Fleet) -> Fleet:
    """The same fleet with the device of a model in each VM, which nobody has mounted yet."""
    fleet.mount(guest="none", tag="lasting")
    return fleet


def boot_is_over(guest: Guest) -> str:
    """Wait until systemd has nothing left to start; returns the state of the target that a boot ends with."""
    guest.run(["systemctl", "is-system-running", "--wait"], check=False, timeout=120)
    return guest.run(["systemctl", "is-active", "multi-user.target"]).stdout.strip()


def test_dead_mount_is_known_and_healed_by_mounting_again(fleet: Fleet, engines: dict[str, Engine]) -> None:
    fleet.mount(tag="mine")
    for name, guest in fleet.guests.items():
        here = engines[name].guest
        assert here(guest.name, "stale", ["/models/llama-nano", "/"]) == []
        plug_again(fleet.hosts[name], guest)
        # The mount table shows nothing of it.
        assert "mine /models/llama-nano virtiofs ro,nosuid,nodev" in guest.run(["cat", "/proc/mounts"]).stdout
        assert here(guest.name, "stale", ["/models/llama-nano", "/"]) == ["/models/llama-nano"]
        here(guest.name, "unmount", "mine", "/models/llama-nano")
        here(guest.name, "mount", "mine", "/models/llama-nano")
        assert here(guest.name, "stale", ["/models/llama-nano", "/"]) == []
        assert guest_checksum(guest, "/models/llama-nano/weights.bin") == checksum("llama-nano/weights.bin")
    fleet.unmount()


def test_mount_that_does_not_answer_is_given_up(fleet: Fleet, engines: dict[str, Engine]) -> None:
    fleet.mount()
    for name, guest in fleet.guests.items():
        daemon = f"virtiofsd.*{guest.uuid}"
        fleet.hosts[name].run(["pkill", "-STOP", "-f", daemon])
        problem = engines[name].guest(guest.name, "stale", ["/models/llama-nano"], deadline=3)
        assert problem["error_code"] == "guest_mount_hung"
        fleet.hosts[name].run(["pkill", "-CONT", "-f", daemon])
        assert engines[name].guest(guest.name, "stale", ["/models/llama-nano"]) == []
    fleet.unmount()


def test_model_in_use_is_unmounted_by_force(fleet: Fleet, engines: dict[str, Engine]) -> None:
    fleet.mount(tag="mine")
    fleet.spoil()
    for name, guest in fleet.guests.items():
        guest.run(["sh", "-c", "cd /models/llama-nano && sleep 600 >/dev/null 2>&1 &"])
        problem = engines[name].guest(guest.name, "unmount", "mine", "/models/llama-nano")
        assert [user["name"] for user in problem["details"]["guest_processes"]] == ["sleep"]
        assert engines[name].guest(guest.name, "unmount", "mine", "/models/llama-nano", True) is None
        assert "virtiofs" not in guest.run(["cat", "/proc/mounts"]).stdout
    fleet.unmount()


def test_unit_lasts_over_a_boot_and_a_missing_device_does_no_harm(
    fleet: Fleet, guests: Guests, engines: dict[str, Engine]
) -> None:
    disks = lasting(Fleet(fleet.hosts, fleet.ansible, guests(kind="disk")))
    for name, guest in disks.guests.items():
        here = engines[name].guest
        assert here(guest.name, "init") == "systemd"
        before = guest.run(["find", "/etc", "-newer", "/etc/machine-id"]).stdout
        assert here(guest.name, "write_unit", UUID, "lasting", PATH) is True
        assert here(guest.name, "write_unit", UUID, "lasting", PATH) is False
        guest.reboot()
        assert boot_is_over(guest) == "active"
        assert guest_checksum(guest, f"{PATH}/weights.bin") == checksum("llama-nano/weights.bin")
        assert guest.run(["touch", f"{PATH}/x"], check=False).returncode != 0
        guest.run(["umount", PATH])
        assert here(guest.name, "remove_unit", UUID, PATH) is True
        assert here(guest.name, "read_unit", PATH) is None
        assert guest.run(["find", "/etc", "-newer", "/etc/machine-id"]).stdout == before
        assert here(guest.name, "write_unit", UUID, "lasting", PATH) is True
    disks.unmount()
    for guest in disks.guests.values():
        guest.reboot()
        assert boot_is_over(guest) == "active"
        # It was tried, it failed, and nothing had waited for it.
        (unit,) = guest.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend"]).stdout.splitlines()
        assert unit.split()[0].startswith("srv-a")
        shown = guest.run(["systemctl", "show", "--property=After,Requires", "multi-user.target"]).stdout
        assert "srv-a" not in shown


def test_lines_for_those_who_mount_by_themselves(fleet: Fleet, guests: Guests, engines: dict[str, Engine]) -> None:
    disks = lasting(Fleet(fleet.hosts, fleet.ansible, guests(kind="disk")))
    for name, guest in disks.guests.items():
        lines = engines[name].lines("lasting", PATH)
        guest.run(["sh", "-c", lines["command"]])
        assert guest_checksum(guest, f"{PATH}/weights.bin") == checksum("llama-nano/weights.bin")
        guest.run(["umount", PATH])
        # cloud-init puts these fields into fstab.
        assert " ".join(json.loads(lines["cloud_init"].split("- ", 1)[1])) == lines["fstab"]
        guest.run(["tee", "-a", "/etc/fstab"], input=lines["fstab"] + "\n")
        problem = engines[name].guest(guest.name, "write_unit", UUID, "lasting", PATH)
        assert (problem["error_code"], problem["details"]["guest_file"]) == ("guest_unit_foreign", "/etc/fstab")
        guest.reboot()
        assert boot_is_over(guest) == "active"
        assert guest_checksum(guest, f"{PATH}/weights.bin") == checksum("llama-nano/weights.bin")
        guest.run(["umount", PATH])
        guest.run(["sed", "-i", "/virtiofs/d", "/etc/fstab"])
        file = lines["systemd"].split("\n", 1)[0].removeprefix("# ")
        guest.run(["tee", file], input=lines["systemd"])
        guest.run(["systemctl", "daemon-reload"])
        problem = engines[name].guest(guest.name, "write_unit", UUID, "lasting", PATH)
        assert (problem["error_code"], problem["details"]["guest_file"]) == ("guest_unit_foreign", ascii(file)[1:-1])
        guest.run(["systemctl", "start", "--", file.rpartition("/")[2]])
        assert guest_checksum(guest, f"{PATH}/weights.bin") == checksum("llama-nano/weights.bin")
        guest.run(["umount", PATH])
    disks.unmount()
