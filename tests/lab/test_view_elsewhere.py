# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models of a view that the guest sees elsewhere than below it, by links."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from conftest import AtOnce, Guests
from engine import Engine, kill_changes
from fleet import Fleet, checksum, guest_checksum, leftovers
from test_guest import boot

from modelfleet_lab import Guest

NANO, EMBED = "llama-nano", "acme/embed.v2"
FILES = {NANO: "weights.bin", EMBED: "model.safetensors"}
X, Y = "/srv/ai/x", "/models/y"
# Needs every kind of escape.
STRANGE = "/srv/ai/a -> b 'q\"\\c%n é"
LINKED = ["record", "bind_source", "verify_read_only", "link_in_guest", "settle_record"]
REPAIRED = ["record", "link_in_guest", "settle_record"]


@pytest.fixture
def transport() -> str:
    return "view"


def actions(results: dict[str, dict[str, Any]]) -> list[list[list[str]]]:
    """The steps of all models on both hosts."""
    return [[mount["actions"] for mount in result["mounts"]] for result in results.values()]


def reads(guest: Guest, path: str, model: str) -> None:
    assert guest_checksum(guest, f"{path}/{FILES[model]}") == checksum(f"{model}/{FILES[model]}")


def is_linked(guest: Guest, path: str = X) -> bool:
    return guest.run(["readlink", path], check=False).stdout == f"/models/.at{path}\n"


def is_missing(guest: Guest, path: str = X) -> bool:
    return guest.run(["ls", "-d", path], check=False).returncode != 0


def states(fleet: Fleet) -> list[tuple[str, bool]]:
    return [(mount["status"], mount["drift"]) for mounts in fleet.info().values() for mount in mounts]


def test_models_of_one_run_below_the_view_and_elsewhere(fleet: Fleet) -> None:
    mounts = [fleet.entry(NANO, mount_path=X), fleet.entry(EMBED, mount_path=Y)]
    set_up = ["record", "bind_source", "attach", "verify_read_only", "mount_in_guest"]
    expected = [[[*set_up, "link_in_guest", "settle_record"], [*set_up, "settle_record"]]] * 2
    for check in (True, False):
        assert actions(fleet.ansible.module("vm_model_mount", {"mounts": mounts}, check=check)) == expected
    for name, guest in fleet.guests.items():
        reads(guest, X, NANO)
        reads(guest, Y, EMBED)
        assert len(leftovers(guest, fleet.hosts[name])["live devices"]) == 1
        assert guest.run(["touch", f"{X}/x"], check=False).returncode != 0
    again = fleet.ansible.module("vm_model_mount", {"mounts": mounts})
    assert not any(result["changed"] for result in again.values())
    assert states(fleet) == [("Mounted", False)] * 4
    # Another model at the path needs nothing of the guest.
    fleet.unmount(EMBED)
    replaced = ["record", "bind_source", "verify_read_only", "release_source", "settle_record"]
    assert actions(fleet.mount(EMBED, mount_path=X)) == [[replaced]] * 2
    for guest in fleet.guests.values():
        reads(guest, X, EMBED)
    gone = ["record", "unlink_in_guest", "unmount_in_guest", "detach_live", "detach_persistent", "unbind_source"]
    assert (
        actions(fleet.unmount(EMBED, check=True)) == actions(fleet.unmount(EMBED)) == [[[*gone, "forget_record"]]] * 2
    )
    assert all(is_missing(guest) for guest in fleet.guests.values())
    assert fleet.leftovers() == {}


def test_links_are_repaired_and_go_with_their_models(fleet: Fleet) -> None:
    fleet.mount(EMBED)
    assert actions(fleet.mount(mount_path=X)) == [[LINKED]] * 2
    for guest in fleet.guests.values():
        guest.run(["rm", X])
    assert sorted(states(fleet)) == [("MountFailed", True)] * 2 + [("Mounted", False)] * 2
    assert actions(fleet.mount(mount_path=X, check=True)) == actions(fleet.mount(mount_path=X)) == [[REPAIRED]] * 2
    # In the place of an empty directory as well.
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", f"rm {X} && mkdir {X}"])
    assert actions(fleet.mount(mount_path=X)) == [[REPAIRED]] * 2
    assert actions(fleet.mount(mount_path=X)) == [[[]]] * 2
    gone = ["record", "unlink_in_guest", "release_source", "forget_record"]
    assert actions(fleet.unmount()) == [[gone]] * 2
    for guest in fleet.guests.values():
        assert is_missing(guest)
        reads(guest, f"/models/{EMBED}", EMBED)
    fleet.unmount(EMBED)
    assert fleet.leftovers() == {}


def test_model_in_use_keeps_its_link(fleet: Fleet) -> None:
    fleet.mount(EMBED)
    fleet.mount(mount_path=X)
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", f"cd {X} && sleep 600 >/dev/null 2>&1 & echo $! > /user"])
    for result in fleet.unmount(ok=False).values():
        assert (result["error_code"], result["changed"]) == ("mount_busy", False)
        assert result["details"]["undone"] == ["release_source", "unlink_in_guest", "record"]
    assert states(fleet) == [("Mounted", False)] * 4
    for guest in fleet.guests.values():
        assert is_linked(guest)
        reads(guest, X, NANO)
        guest.run(["sh", "-c", "kill $(cat /user)"])
    fleet.unmount()
    fleet.unmount(EMBED)
    assert fleet.leftovers() == {}


def test_what_is_somebody_elses_is_left_alone(fleet: Fleet) -> None:
    prepare = {
        "a directory": f"mkdir -p {X} && echo mine > {X}/notes",
        "a file": f"mkdir -p /srv/ai && echo mine > {X}",
        "a link": f"mkdir -p /srv/ai && ln -s /etc {X}",
        "a link above": "mkdir -p /elsewhere && ln -s /elsewhere /srv/ai",
        "a file system": f"mkdir -p {X} && mount -t tmpfs mine {X}",
    }
    codes = dict.fromkeys(prepare, "mount_path_unusable") | {"a file system": "mount_path_in_use"}
    for what, command in prepare.items():
        for guest in fleet.guests.values():
            guest.run(["sh", "-c", command])
        fleet.refuse((codes[what], {"mount_path": X}))
        for guest in fleet.guests.values():
            guest.run(["sh", "-c", f"umount {X} 2>/dev/null; rm -rf /srv/ai"])
    # A link that leads somewhere else by now stays when the model goes.
    fleet.mount(mount_path=X)
    for guest in fleet.guests.values():
        guest.run(["ln", "-sfn", "/etc", X])
    for result in fleet.mount(mount_path=X, ok=False).values():
        assert (result["error_code"], result["changed"]) == ("mount_path_unusable", False)
    fleet.unmount()
    for guest in fleet.guests.values():
        assert guest.run(["readlink", X]).stdout == "/etc\n"
        guest.run(["rm", X])
    assert fleet.leftovers() == {}


def test_auto_gives_a_device_where_there_can_be_no_link(fleet: Fleet) -> None:
    fleet.mount(EMBED)
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", f"mkdir -p {X} && echo mine > {X}/notes"])
    for check in (True, False):
        results = fleet.mount(mount_path=X, transport="auto", check=check)
        assert [result["mounts"][0]["transport"] for result in results.values()] == ["device"] * 2
    for guest in fleet.guests.values():
        reads(guest, X, NANO)
    # What lies below is not seen before the device has gone.
    for result in fleet.mount(mount_path=X, ok=False).values():
        assert (result["error_code"], result["changed"]) == ("mount_path_unusable", False)
        assert "undo_failed" not in result["details"]
    for guest in fleet.guests.values():
        reads(guest, X, NANO)
    fleet.unmount()
    for guest in fleet.guests.values():
        guest.run(["rm", "-r", X])
    results = fleet.mount(mount_path=X, transport="auto")
    assert [result["mounts"][0]["transport"] for result in results.values()] == ["view"] * 2
    fleet.unmount()
    fleet.unmount(EMBED)
    assert fleet.leftovers() == {}


@pytest.mark.long
def test_model_gets_another_transport_and_back(fleet: Fleet) -> None:
    fleet.mount(EMBED)
    fleet.mount(mount_path=X, transport="device")
    to_view = ["record", "unmount_in_guest", "detach_live", "detach_persistent", *LINKED[1:], "unbind_source"]
    device = ["bind_source", "attach", "verify_read_only", "mount_in_guest"]
    to_device = ["record", "unlink_in_guest", *device, "release_source", "settle_record"]
    for transport, expected in (("view", to_view), ("device", to_device), ("view", to_view)):
        for check in (True, False):
            assert actions(fleet.mount(mount_path=X, transport=transport, check=check)) == [[expected]] * 2
        assert actions(fleet.mount(mount_path=X, transport=transport)) == [[[]]] * 2
        assert states(fleet) == [("Mounted", False)] * 4
        for name, guest in fleet.guests.items():
            assert is_linked(guest) is (transport == "view")
            reads(guest, X, NANO)
            reads(guest, f"/models/{EMBED}", EMBED)
            found = leftovers(guest, fleet.hosts[name])
            assert len(found["live devices"]) == len(found["persistent devices"]) == 1 + (transport == "device")
            assert len(found["binds"].splitlines()) == 3
    # The last of the view takes that with it.
    fleet.unmount(EMBED)
    fleet.mount(mount_path=X, transport="device")
    for name, guest in fleet.guests.items():
        reads(guest, X, NANO)
        assert len(leftovers(guest, fleet.hosts[name])["binds"].splitlines()) == 1
    fleet.unmount()
    assert fleet.leftovers() == {}


@pytest.mark.long
def test_links_of_guests_that_boot_and_of_those_that_mount_by_themselves(fleet: Fleet, guests: Guests) -> None:
    disks = Fleet(fleet.hosts, fleet.ansible, guests(kind="disk"), "view")
    disks.mount(mount_path=STRANGE, persistence="systemd")
    assert actions(disks.mount(mount_path=STRANGE, persistence="systemd")) == [[[]]] * 2
    for guest in disks.guests.values():
        assert boot(guest) == "active"
        reads(guest, STRANGE, NANO)
    assert states(disks) == [("Mounted", False)] * 2
    disks.unmount()
    assert all(is_missing(guest, STRANGE) for guest in disks.guests.values())
    for name, result in disks.mount(mount_path=STRANGE, guest="none").items():
        guest, lines = disks.guests[name], result["mounts"][0]["mount_lines"]
        guest.run(["sh", "-c", lines["command"]])
        guest.run(["sh", "-c", lines["link"]])
        reads(guest, STRANGE, NANO)
        guest.run(["rm", STRANGE])
        guest.run(["tee", "/etc/tmpfiles.d/model.conf"], input=lines["tmpfiles"] + "\n")
        guest.run(["systemd-tmpfiles", "--create", "model.conf"])
        reads(guest, STRANGE, NANO)
        guest.run(["umount", "/models"])
    disks.unmount()
    # A link of a guest that made it by itself is none of ours.
    assert all(is_linked(guest, STRANGE) for guest in disks.guests.values())
    assert disks.leftovers() == {}


@pytest.mark.long
def test_link_of_a_guest_that_was_shut_off_leads_nowhere_until_it_is_needed_again(fleet: Fleet, guests: Guests) -> None:
    disks = Fleet(fleet.hosts, fleet.ansible, guests(kind="disk"), "view")
    disks.mount(mount_path=X)
    for guest in disks.guests.values():
        guest.shutdown()
    for result in disks.unmount().values():
        assert any(X in due for due in result["mounts"][0]["due"])
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Guest.up, disks.guests.values()))
    assert all(is_linked(guest) for guest in disks.guests.values())
    disks.mount(mount_path=X, transport="device")
    for guest in disks.guests.values():
        reads(guest, X, NANO)
    disks.unmount()
    assert disks.leftovers() == {}


# Runs that are killed


def wanted(guest: Guest, transport: str) -> list[dict[str, Any]]:
    """One model elsewhere, by a transport, and one that stays in the view."""
    both = ((NANO, X, transport), (EMBED, Y, "view"))
    return [
        {"vm": guest.name, "model": model, "model_center": "zoo", "mount_path": path, "transport": how}
        for model, path, how in both
    ]


def mounted(engine: Engine, guest: Guest, transport: str) -> None:
    """Both models are there after one run, and the next has nothing to do."""
    for last in (False, True):
        result = engine.run(wanted(guest, transport))
        assert result["failure"] is None, result["failure"]
        assert not last or [mount["actions"] for mount in result["mounts"]] == [[], []]
    reads(guest, X, NANO)
    reads(guest, Y, EMBED)
    assert is_linked(guest) is (transport == "view")
    found = leftovers(guest, engine.host)
    assert len(found["live devices"]) == len(found["persistent devices"]) == 1 + (transport == "device")
    assert len(found["binds"].splitlines()) == 3


def gone(engine: Engine, guest: Guest) -> None:
    result = engine.run([{"vm": guest.name}], state="absent")
    assert result["failure"] is None, result["failure"]
    assert leftovers(guest, engine.host) == {}
    assert not is_linked(guest)


@pytest.mark.long
def test_change_that_was_killed_after_any_effect(at_once: AtOnce) -> None:
    def kill_everywhere(engine: Engine, guest: Guest) -> None:
        effects = kill_changes(
            engine, partial(wanted, guest), partial(mounted, engine, guest), partial(gone, engine, guest)
        )
        assert effects > 8

    at_once(kill_everywhere)
