# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Views: one device per VM, and models that come and go in it without the guest's doing."""

from __future__ import annotations

import datetime
import functools
from typing import Any
from xml.etree import ElementTree

import pytest
from fleet import GONE, JOINED, MODELS, RELEASED, SET_UP, Fleet, checksum, guest_checksum, leftovers, publish

from modelfleet_lab import Guest, Host
from modelfleet_lab.polling import wait_until

NANO, EMBED = "llama-nano", "acme/embed.v2"
FILES = {NANO: "llama-nano/weights.bin", EMBED: "acme/embed.v2/model.safetensors"}


pytestmark = pytest.mark.transport("view", why="a device of its own has none of this")


def actions(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """The steps on both hosts."""
    return [result["mounts"][0]["actions"] for result in results.values()]


def reads(guest: Guest, *models: str) -> None:
    """The guest has these models and no others."""
    for model, file in FILES.items():
        if model in models:
            assert guest_checksum(guest, f"/models/{file}") == checksum(file)
        else:
            assert guest.run(["test", "-e", f"/models/{file}"], check=False).returncode != 0


def use(guest: Guest, model: str) -> None:
    """Have a process of the guest stay in a model."""
    guest.run(["sh", "-c", f"cd /models/{model} && sleep 600 >/dev/null 2>&1 & echo $! > /user"])


def leave(guest: Guest) -> None:
    guest.run(["sh", "-c", "kill $(cat /user)"])


def test_models_come_and_go_in_one_device(fleet: Fleet) -> None:
    assert actions(fleet.mount(check=True)) == [SET_UP] * 2
    assert fleet.leftovers() == {}
    assert actions(fleet.mount()) == [SET_UP] * 2
    assert actions(fleet.mount(check=True)) == actions(fleet.mount()) == [[]] * 2
    # The second needs no device, and nothing of the guest; what the guest knows already it finds again.
    for guest in fleet.guests.values():
        reads(guest, NANO)
    assert actions(fleet.mount(EMBED, transport="auto", check=True)) == [JOINED] * 2
    assert actions(fleet.mount(EMBED, transport="auto")) == [JOINED] * 2
    assert actions(fleet.mount(EMBED, transport="auto")) == [[]] * 2
    for name, guest in fleet.guests.items():
        reads(guest, NANO, EMBED)
        found = leftovers(guest, fleet.hosts[name])
        assert found["live devices"] == found["persistent devices"] == ["modelfleet"]
    for mounts in fleet.info().values():
        assert [(item["status"], item["drift"], item["record"]["transport"]) for item in mounts] == [
            ("Mounted", False, "view")
        ] * 2
    assert actions(fleet.unmount(check=True)) == actions(fleet.unmount()) == [RELEASED] * 2
    for guest in fleet.guests.values():
        reads(guest, EMBED)
    assert actions(fleet.unmount()) == [[]] * 2
    assert actions(fleet.unmount(EMBED)) == [GONE] * 2
    assert fleet.leftovers() == {}


def test_model_in_use_is_not_taken_out(fleet: Fleet) -> None:
    fleet.mount()
    fleet.mount(EMBED)
    for guest in fleet.guests.values():
        use(guest, NANO)
    for result in fleet.unmount(ok=False).values():
        assert (result["error_code"], result["changed"]) == ("mount_busy", False)
        assert result["details"]["undone"] == ["release_source", "record"]
        assert [user["name"] for user in result["details"]["guest_processes"]] == ["sleep"]
    # Nor is the other one, which nobody uses, kept by it.
    assert actions(fleet.unmount(EMBED)) == [RELEASED] * 2
    for mounts in fleet.info().values():
        assert [(mount["status"], mount["drift"]) for mount in mounts] == [("Mounted", False)]
    for result in fleet.unmount(ok=False).values():
        assert (result["error_code"], result["changed"]) == ("mount_busy", False)
    for guest in fleet.guests.values():
        reads(guest, NANO)
        leave(guest)
    assert all(result["changed"] for result in fleet.unmount().values())
    assert fleet.leftovers() == {}


def test_by_force_a_model_in_use_goes_from_the_host(fleet: Fleet) -> None:
    fleet.mount()
    fleet.mount(EMBED)
    for guest in fleet.guests.values():
        use(guest, NANO)
    assert actions(fleet.unmount(force=True)) == [RELEASED] * 2
    for name, guest in fleet.guests.items():
        daemon = f"cat /proc/$(pgrep -f 'virtiofsd.*{guest.uuid}' | head -n1)/mountinfo"
        assert NANO not in fleet.hosts[name].run(["sh", "-c", daemon]).stdout
        leave(guest)
    fleet.unmount(EMBED)
    assert fleet.leftovers() == {}


def test_model_that_a_container_in_the_guest_uses_is_not_taken_out(fleet: Fleet) -> None:
    fleet.mount()
    fleet.mount(EMBED)
    for guest in fleet.guests.values():
        container = "unshare -m --propagation private sleep 600 >/dev/null 2>&1 & echo $! > /user"
        guest.run(["sh", "-c", f"cd /models/{NANO} && {container}"])
        wait_until("the container is there", 10, functools.partial(_is_apart, guest))
    for result in fleet.unmount(ok=False).values():
        assert (result["error_code"], result["changed"]) == ("mount_busy", False)
        assert [user["name"] for user in result["details"]["guest_processes"]] == ["sleep"]
    for mounts in fleet.info().values():
        assert [(mount["status"], mount["drift"]) for mount in mounts] == [("Mounted", False)] * 2
    for guest in fleet.guests.values():
        reads(guest, NANO, EMBED)
        leave(guest)
    fleet.unmount()
    fleet.unmount(EMBED)
    assert fleet.leftovers() == {}


def _is_apart(guest: Guest) -> bool:
    # Busybox takes one file at a time.
    spaces = guest.run(["sh", "-c", "for p in $(cat /user) self; do readlink /proc/$p/ns/mnt; done"]).stdout.split()
    return len(set(spaces)) == 2


def test_another_model_at_the_same_path(fleet: Fleet) -> None:
    fleet.mount(mount_path="/models/one")
    for guest in fleet.guests.values():
        use(guest, "one")
    for result in fleet.mount(EMBED, mount_path="/models/one", ok=False).values():
        assert (result["error_code"], result["changed"]) == ("mount_busy", False)
        assert "undo_failed" not in result["details"]
    for guest in fleet.guests.values():
        assert guest_checksum(guest, "/models/one/weights.bin") == checksum(FILES[NANO])
        leave(guest)
    replaced = ["record", "bind_source", "verify_read_only", "release_source", "settle_record"]
    assert actions(fleet.mount(EMBED, mount_path="/models/one", check=True)) == [replaced] * 2
    assert actions(fleet.mount(EMBED, mount_path="/models/one")) == [replaced] * 2
    assert actions(fleet.mount(EMBED, mount_path="/models/one")) == [[]] * 2
    for name, guest in fleet.guests.items():
        assert guest_checksum(guest, "/models/one/model.safetensors") == checksum(FILES[EMBED])
        assert len(leftovers(guest, fleet.hosts[name])["binds"].splitlines()) == 2
    fleet.unmount(EMBED)
    assert fleet.leftovers() == {}


def move(fleet: Fleet, old: str, new: str) -> None:
    """Have the model center show another directory, by hand: the module refuses to while the VM has a model of it."""
    unit = "var-lib-modelfleet-centers-zoo.mount"
    for host in fleet.hosts.values():
        host.run(["sed", "-i", f"s,{old},{new},g", f"/etc/systemd/system/{unit}"])
        host.run(["systemctl", "daemon-reload"])
        host.run(["systemctl", "restart", unit])


def test_center_that_moved_is_shown_without_the_guests_doing(fleet: Fleet) -> None:
    fleet.mount()
    for guest in fleet.guests.values():
        use(guest, NANO)
    for host in fleet.hosts.values():
        publish(host, "/data/moved")
    try:
        move(fleet, MODELS, "/data/moved")
        assert [mounts[0]["layers"]["source"] for mounts in fleet.info().values()] == ["wrong"] * 2
        healed = ["record", "bind_source", "verify_read_only", "settle_record", "retire_source"]
        assert actions(fleet.mount(check=True)) == actions(fleet.mount()) == [healed] * 2
        for name, guest in fleet.guests.items():
            reads(guest, NANO)
            binds = leftovers(guest, fleet.hosts[name])["binds"]
            assert binds.count("/data/moved/llama-nano") == 1 and MODELS not in binds
            leave(guest)
    finally:
        move(fleet, "/data/moved", MODELS)
    fleet.mount()
    fleet.unmount()
    assert fleet.leftovers() == {}


def test_view_that_the_daemon_does_not_follow_is_plugged_again(fleet: Fleet) -> None:
    fleet.mount()
    for name, guest in fleet.guests.items():
        source = guest.xml().find("devices/filesystem/source")
        assert source is not None
        fleet.hosts[name].run(["mount", "--make-private", source.get("dir", "")])
    assert [mounts[0]["drift"] for mounts in fleet.info().values()] == [True] * 2
    assert all("detach_live" in steps for steps in actions(fleet.mount()))
    assert actions(fleet.mount()) == [[]] * 2
    fleet.mount(EMBED)
    for guest in fleet.guests.values():
        reads(guest, NANO, EMBED)
    fleet.unmount()
    fleet.unmount(EMBED)
    assert fleet.leftovers() == {}


def test_guest_that_mounts_the_view_by_itself(fleet: Fleet) -> None:
    mounted = fleet.mount(guest="none")
    for name, guest in fleet.guests.items():
        guest.run(["sh", "-c", mounted[name]["mounts"][0]["mount_lines"]["command"]])
        reads(guest, NANO)
    # What comes later is there without anybody's doing.
    assert actions(fleet.mount(EMBED, guest="none")) == [JOINED] * 2
    for guest in fleet.guests.values():
        reads(guest, NANO, EMBED)
    for result in fleet.unmount(ok=False).values():
        assert (result["error_code"], result["changed"]) == ("mount_busy", False)
    for guest in fleet.guests.values():
        reads(guest, NANO, EMBED)
        guest.run(["umount", "/models"])
    fleet.unmount()
    fleet.unmount(EMBED)
    assert fleet.leftovers() == {}


def test_what_does_not_go_together(fleet: Fleet) -> None:
    fleet.refuse(
        ("invalid_input", {"mount_path": "/models"}),
        ("invalid_input", {"mount_path": "/models/.m"}),
        ("invalid_input", {"tag": "mine"}),
        ("invalid_input", {"mount_path": f"/models/{'x' * 256}"}),
        ("invalid_input", {"mount_path": f"/models{'/x' * 512}"}),
    )
    fleet.mount()
    calls = [
        fleet.entry(EMBED, transport="device"),
        fleet.entry(EMBED, guest="none"),
        fleet.entry(EMBED, persistence="systemd"),
        fleet.entry(EMBED, mount_path=f"/models/{NANO}/below"),
        fleet.entry(mount_path="/models/second"),
    ]
    expected = ["transport_conflict"] * 6 + ["duplicate_mount"] * 4
    for results in fleet.ansible.each("vm_model_mount", calls).values():
        assert [result.get("error_code") for result in results] == expected
        assert not any(result["changed"] for result in results)
    # Elsewhere a device of its own goes well beside the view.
    fleet.mount(EMBED, transport="device", mount_path="/srv/elsewhere")
    for guest in fleet.guests.values():
        assert guest_checksum(guest, "/srv/elsewhere/model.safetensors") == checksum(FILES[EMBED])
    fleet.unmount(EMBED)
    fleet.unmount()
    assert fleet.leftovers() == {}


def test_files_in_the_guest_are_not_hidden(fleet: Fleet) -> None:
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", "mkdir -p /models/empty && echo x > /models/notes"])
    fleet.refuse(("mount_path_unusable", {}))
    for guest in fleet.guests.values():
        guest.run(["rm", "/models/notes"])
    fleet.mount()
    fleet.unmount()
    assert fleet.leftovers() == {}


@pytest.mark.parametrize("command", ["ln -s /tmp /models", pytest.param("echo x > /models", marks=pytest.mark.long)])
def test_what_is_in_the_way_of_the_view(fleet: Fleet, command: str) -> None:
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", f"rm -rf /models && {command}"])
    fleet.refuse(("mount_path_unusable", {}))
    for guest in fleet.guests.values():
        guest.run(["rm", "/models"])


def test_file_system_over_a_model_is_told(fleet: Fleet) -> None:
    fleet.mount()
    for guest in fleet.guests.values():
        guest.run(["mount", "-t", "tmpfs", "cover", f"/models/{NANO}"])
    assert [mounts[0]["status"] for mounts in fleet.info().values()] == ["MountFailed"] * 2
    for result in fleet.mount(ok=False).values():
        assert (result["error_code"], result["changed"]) == ("mount_path_in_use", False)
    fleet.mount(EMBED)
    for check in (True, False):
        for result in fleet.unmount(ok=False, check=check).values():
            assert (result["error_code"], result["changed"]) == ("mount_busy", False)
    for guest in fleet.guests.values():
        assert "tmpfs" in guest.run(["sh", "-c", "grep ' /models/.m/' /proc/mounts"]).stdout
        guest.run(["umount", f"/models/{NANO}"])
    fleet.unmount()
    fleet.unmount(EMBED)
    assert fleet.leftovers() == {}


def test_model_that_the_guest_has_bound_elsewhere_is_not_taken_away(fleet: Fleet) -> None:
    fleet.mount()
    fleet.mount(EMBED)
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", f"mkdir -p /elsewhere && mount --bind /models/{NANO} /elsewhere"])
    for result in fleet.unmount(ok=False).values():
        assert (result["error_code"], result["changed"]) == ("mount_busy", False)
    # Nor is the view, when it is the last.
    fleet.unmount(EMBED)
    for result in fleet.unmount(ok=False).values():
        assert (result["error_code"], result["changed"]) == ("mount_busy", False)
    for guest in fleet.guests.values():
        assert guest_checksum(guest, "/elsewhere/weights.bin") == checksum(FILES[NANO])
        guest.run(["umount", "/elsewhere"])
    fleet.unmount()
    assert fleet.leftovers() == {}


def test_view_that_was_plugged_again_by_hand_is_mounted_again_when_a_model_joins(fleet: Fleet) -> None:
    fleet.mount()
    for name, guest in fleet.guests.items():
        # Not within the two seconds by which the start of a daemon and the date of a record may differ.
        wait_until("the record is older than that", 10, functools.partial(_is_older, fleet.hosts[name], guest))
        device = guest.xml().find("devices/filesystem")
        assert device is not None
        text = ElementTree.tostring(device, encoding="unicode")
        fleet.hosts[name].run(["virsh", "detach-device", guest.name, "/dev/stdin", "--live"], input=text)
        wait_until("it is gone", 30, functools.partial(_has_no_device, guest))
        fleet.hosts[name].run(["virsh", "attach-device", guest.name, "/dev/stdin", "--live"], input=text)
    fleet.mount(EMBED)
    for guest in fleet.guests.values():
        reads(guest, NANO, EMBED)
    fleet.unmount()
    fleet.unmount(EMBED)
    assert fleet.leftovers() == {}


def _is_older(host: Host, guest: Guest) -> bool:
    (record,) = guest.xml().findall("metadata/{urn:modelfleet:kvm}mounts/*")
    now = float(host.run(["date", "+%s"]).stdout)
    written = datetime.datetime.fromisoformat(record.get("last_op_date", "").replace("Z", "+00:00"))
    return now > written.timestamp() + 4


def _has_no_device(guest: Guest) -> bool:
    return guest.xml().find("devices/filesystem") is None


def test_vms_see_their_own_view_and_nothing_above_it(fleet: Fleet, second: Fleet) -> None:
    fleet.mount()
    second.mount(EMBED)
    for name, guest in fleet.guests.items():
        reads(guest, NANO)
        reads(second.guests[name], EMBED)
        assert guest.run(["ls", "-A", "/models"]).stdout.split() == [".m", NANO]
        assert second.guests[name].run(["ls", "-A", "/models"]).stdout.split() == [".m", "acme"]
        host = fleet.hosts[name]
        assert served(host, guest) == [f"{MODELS}/{NANO}"]
        assert served(host, second.guests[name]) == [f"{MODELS}/{EMBED}"]
        (bind,) = guest.run(["ls", "-A", "/models/.m"]).stdout.splitlines()
        # What lies above is the guest's own, however it is asked for.
        assert guest.run(["ls", f"/models/.m/{bind}/../../.."]).stdout == guest.run(["ls", "/"]).stdout
        inside = guest.run(["sh", "-c", f"cd /models/.m/{bind} && ls ../../.."]).stdout
        assert inside == guest.run(["ls", "/"]).stdout
    fleet.unmount()
    second.unmount(EMBED)
    assert fleet.leftovers() == second.leftovers() == {}


def served(host: Host, guest: Guest) -> list[str]:
    """What of the host's file systems the daemon of a view can reach, beside the view itself."""
    pid = f"$(pgrep -f '[v]irtiofsd.*{guest.uuid}' | head -n1)"
    lines = [line.split(" ") for line in host.run(["sh", "-c", f"cat /proc/{pid}/mountinfo"]).stdout.splitlines()]
    return [fields[3] for fields in lines if not fields[3].endswith(f"/{guest.uuid}")]
