# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the collection sees and does in guests, with busybox and with systemd: dead mounts, mounts that last."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from fleet import BOTH_AT_LENGTH, VIEW, Fleet, checksum, device_path, guest_checksum

from modelfleet_lab import Guest, Host

# Needs every kind of escape: of a shell, of fstab, of systemd, of JSON.
PATH = "/srv/a b-c/100%n/back\\slash/'q\"$x/\u6a21\u578b"
UNIT = "srv-a\\x20b\\x2dc-100\\x25n-back\\x5cslash-\\x27q\\x22\\x24x-\\xe6\\xa8\\xa1\\xe5\\x9e\\x8b.mount"


def on_each(fleet: Fleet, check: Callable[[str, Guest], None]) -> None:
    """Have the guests of all hosts boot at the same time, and more of the kind."""
    with ThreadPoolExecutor(len(fleet.guests)) as pool:
        list(pool.map(check, fleet.guests, fleet.guests.values()))


def virsh(host: Host, guest: Guest, *verbs: str) -> None:
    """Take the device of a guest away under its mount, or give it back, as somebody might by hand."""
    script = """
        if [ "$2" = detach ]; then
            virsh dumpxml "$1" | sed -n '/<filesystem/,/<.filesystem>/p' | grep -v '<address' >/tmp/device.xml
        fi
        # A daemon counts as younger than its record from two seconds on.
        until [ "$2" = detach ] || [ $(($(date +%s) - $(stat -c %Y /tmp/device.xml))) -gt 3 ]; do sleep 0.1; done
        until virsh "$2-device" "$1" /tmp/device.xml --live; do sleep 0.1; done
        [ "$2" = attach ] || while virsh dumpxml "$1" | grep -q '<filesystem'; do sleep 0.1; done
    """
    for verb in verbs:
        host.run(["timeout", "60", "sh", "-c", script, "sh", guest.name, verb], timeout=90)


def content_is_right(guest: Guest, path: str) -> bool:
    return guest_checksum(guest, f"{path}/weights.bin") == checksum("llama-nano/weights.bin")


def boot(guest: Guest) -> str:
    """Reboot until systemd has nothing left to start; returns the state of the target that a boot ends with."""
    guest.reboot()
    guest.run(["systemctl", "is-system-running", "--wait"], check=False, timeout=120)
    return guest.run(["systemctl", "is-active", "multi-user.target"]).stdout.strip()


@BOTH_AT_LENGTH
def test_dead_mount_is_known_and_healed(fleet: Fleet) -> None:
    fleet.mount()
    mounted = device_path(fleet.transport, "/models/llama-nano")
    for name, guest in fleet.guests.items():
        virsh(fleet.hosts[name], guest, "detach", "attach")
        # The guest's mount table shows nothing of it.
        assert f" {mounted} virtiofs ro,nosuid,nodev" in guest.run(["cat", "/proc/mounts"]).stdout
        assert guest.run(["ls", "/models/llama-nano/"], check=False).returncode != 0
    for mounts in fleet.info().values():
        assert [(mount["drift"], mount["layers"]["guest"]) for mount in mounts] == [(True, "wrong")]
    for check in (True, False):
        for result in fleet.mount(check=check).values():
            actions = ["record", "unmount_in_guest", "mount_in_guest", "settle_record"]
            assert result["mounts"][0]["actions"] == actions
    assert all(content_is_right(guest, "/models/llama-nano") for guest in fleet.guests.values())
    assert not any(result["changed"] for result in fleet.mount().values())
    fleet.unmount()
    assert fleet.leftovers() == {}


@pytest.mark.transport("device", why="it waits for a deadline, and what is asked is the mount of a device either way")
def test_mount_that_does_not_answer_is_given_up(fleet: Fleet) -> None:
    fleet.mount(tag="mine")
    for name, guest in fleet.guests.items():
        # With a daemon that is younger than the record there is a reason to ask the mount.
        virsh(fleet.hosts[name], guest, "detach", "attach")
        guest.run(["umount", "/models/llama-nano"])
        guest.run(["mount", "-t", "virtiofs", "-o", "ro,nosuid,nodev", "mine", "/models/llama-nano"])
        fleet.hosts[name].run(["pkill", "-STOP", "-f", f"virtiofsd.*{guest.uuid}"])
    results = fleet.ansible.module("vm_model_mount_info", {"vms": [fleet.vm], "timeout": 5})
    for name, guest in fleet.guests.items():
        fleet.hosts[name].run(["pkill", "-CONT", "-f", f"virtiofsd.*{guest.uuid}"])
    for result in results.values():
        (mount,) = result["mounts"]
        assert (mount["layers"]["guest"], mount["error"]["error_code"]) == ("unknown", "guest_mount_hung")
    assert [mounts[0]["drift"] for mounts in fleet.info().values()] == [False, False]
    fleet.unmount()


@pytest.mark.transport("device", why="the unit of a view has the same lines; test_restarts.py boots with one")
def test_unit_in_the_guest_lasts_and_a_missing_device_delays_no_boot(disks: Fleet) -> None:
    disks.mount(persistence="systemd", mount_path=PATH)

    def check(name: str, guest: Guest) -> None:
        assert guest.run(["systemctl", "is-enabled", "--", UNIT]).stdout.strip() == "enabled"
        assert boot(guest) == "active"
        assert content_is_right(guest, PATH)
        assert guest.run(["touch", f"{PATH}/x"], check=False).returncode != 0
        virsh(disks.hosts[name], guest, "detach")
        assert boot(guest) == "active"
        # It was tried, it failed, and nothing waits for it.
        failed = guest.run(["systemctl", "list-units", "--failed", "--plain", "--no-legend"]).stdout
        assert [line.split()[0] for line in failed.splitlines()] == [UNIT]
        waiting = guest.run(["systemctl", "show", "--property=After", "multi-user.target", "local-fs.target"]).stdout
        assert UNIT not in waiting

    on_each(disks, check)
    disks.mount(persistence="systemd", mount_path=PATH)
    assert all(content_is_right(guest, PATH) for guest in disks.guests.values())
    disks.unmount()
    assert disks.leftovers() == {}
    for guest in disks.guests.values():
        assert guest.run(["find", "/etc/systemd/system", "-name", "*mount"]).stdout.count("srv") == 0


@BOTH_AT_LENGTH
def test_lines_for_those_who_mount_by_themselves(disks: Fleet) -> None:
    # In a view the odd path is only a name that the guest finds there.
    path = f"/models{PATH}" if disks.transport == VIEW else PATH
    mounted = device_path(disks.transport, path)
    unit = "models.mount" if disks.transport == VIEW else UNIT
    results = disks.mount(guest="none", mount_path=path)

    def check(name: str, guest: Guest) -> None:
        lines = results[name]["mounts"][0]["mount_lines"]
        guest.run(["sh", "-c", lines["command"]])
        assert content_is_right(guest, path)
        guest.run(["umount", mounted])
        # cloud-init puts these fields into fstab.
        assert " ".join(json.loads(lines["cloud_init"].split("- ", 1)[1])) == lines["fstab"]
        guest.run(["tee", "-a", "/etc/fstab"], input=lines["fstab"] + "\n")
        assert boot(guest) == "active"
        assert content_is_right(guest, path)
        guest.run(["umount", mounted])
        guest.run(["sed", "-i", "/virtiofs/d", "/etc/fstab"])
        file = lines["systemd"].split("\n", 1)[0].removeprefix("# ")
        assert file == f"/etc/systemd/system/{unit}"
        guest.run(["tee", file], input=lines["systemd"])
        guest.run(["systemctl", "daemon-reload"])
        guest.run(["systemctl", "start", "--", unit])
        assert content_is_right(guest, path)
        guest.run(["systemctl", "stop", "--", unit])
        guest.run(["rm", file])
        guest.run(["systemctl", "daemon-reload"])

    on_each(disks, check)
    disks.unmount()
    assert disks.leftovers() == {}
