# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest that keeps a model still reads of it, and that with C(revoke=strict) the host serves nothing of it."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import AtOnce
from engine import Engine
from fleet import MODELS, Fleet, checksum, guest_checksum, leftovers

from modelfleet_lab import Guest, Host
from modelfleet_lab.polling import wait_until

NANO, EMBED = "llama-nano", "acme/embed.v2"
OPENED, UNOPENED = "weights.bin", "config.json"
STRICT: dict[str, Any] = {"force": True, "revoke": "strict"}


pytestmark = pytest.mark.transport("view", why="a device of its own goes with its model")


def hold(guest: Guest, path: str) -> None:
    """Have a process of the guest stay in a model, with one file of it open."""
    guest.run(["sh", "-c", f"cd {path} && sleep 900 <{OPENED} >/dev/null 2>&1 & echo $! > /holder"])


def holds(guest: Guest, file: str) -> str:
    """The SHA-256 of a file of the model that the process reads through its working directory; nothing for an error."""
    script = f"echo 3 > /proc/sys/vm/drop_caches; sha256sum /proc/$(cat /holder)/cwd/{file}"
    done = guest.run(["sh", "-c", script], check=False)
    return done.stdout.split(" ", 1)[0] if done.returncode == 0 else ""


def holds_open(guest: Guest) -> bool:
    """Whether it can read the file that it has open."""
    script = "echo 3 > /proc/sys/vm/drop_caches; cat /proc/$(cat /holder)/fd/0 | wc -c"
    return int(guest.run(["sh", "-c", script], check=False).stdout or 0) > 0


def let_go(guest: Guest) -> None:
    guest.run(["sh", "-c", "kill $(cat /holder)"])


def served(host: Host, guest: Guest, model: str) -> list[str]:
    """What the virtiofsd processes of a VM have of a model, by their mount tables and their open files."""
    # As a person would look: by device and inode number of all that is in the model.
    script = f"""
    find {MODELS}/{model} -exec stat -c %d:%i {{}} + | sort -u > /tmp/model
    for pid in $(pgrep virtiofsd); do
        grep -q {guest.uuid} /proc/$pid/cmdline || continue
        grep -H ' {MODELS}/{model} ' /proc/$pid/mountinfo
        for fd in /proc/$pid/fd/*; do stat -L -c "%d:%i $fd" $fd; done 2>/dev/null | grep -w -F -f /tmp/model
    done; true"""
    return host.run(["sh", "-c", script]).stdout.splitlines()


def steps(results: dict[str, dict[str, Any]]) -> list[tuple[list[str], bool | None]]:
    """The steps on both hosts, and whether the view was plugged again."""
    found = [result["mounts"][0] for result in results.values()]
    return [(mount["actions"], mount["replugged"]) for mount in found]


REVOKED = ["record", "release_source", "revoke", "forget_record"]


def reads(guest: Guest) -> None:
    """The other model of the view is there, and right."""
    assert guest_checksum(guest, f"/models/{EMBED}/model.safetensors") == checksum(f"{EMBED}/model.safetensors")


def test_lazily_a_guest_reads_on_and_strictly_it_does_not(fleet: Fleet) -> None:
    fleet.mount()
    fleet.mount(EMBED)
    for name, guest in fleet.guests.items():
        hold(guest, f"/models/{NANO}")
        assert served(fleet.hosts[name], guest, NANO)
    for result in fleet.unmount(ok=False, revoke="strict").values():
        assert (result["error_code"], result["changed"]) == ("mount_busy", False)
    # Lazily: whoever has it open reads what it likes of it.
    lazily = ["record", "release_source", "forget_record"]
    assert steps(fleet.unmount(force=True)) == [(lazily, None)] * 2
    for name, guest in fleet.guests.items():
        assert holds(guest, UNOPENED) == checksum(f"{NANO}/{UNOPENED}")
        assert holds_open(guest)
        assert served(fleet.hosts[name], guest, NANO)
        let_go(guest)
    # Strictly: nobody reads anything of it, and all else is as it was.
    fleet.mount()
    for guest in fleet.guests.values():
        hold(guest, f"/models/{NANO}")
    assert steps(fleet.unmount(check=True, **STRICT)) == [(REVOKED, None)] * 2
    assert steps(fleet.unmount(**STRICT)) == [(REVOKED, True)] * 2
    for name, guest in fleet.guests.items():
        assert (holds(guest, UNOPENED), holds(guest, OPENED), holds_open(guest)) == ("", "", False)
        assert served(fleet.hosts[name], guest, NANO) == []
        reads(guest)
        let_go(guest)
    for mounts in fleet.info().values():
        assert [(mount["status"], mount["drift"], mount["record"]["revoke"]) for mount in mounts] == [
            ("Mounted", False, "")
        ]
    assert [actions for actions, _replugged in steps(fleet.mount(EMBED))] == [[]] * 2
    fleet.unmount(EMBED)
    assert fleet.leftovers() == {}


def test_what_nobody_uses_is_revoked_without_a_new_device(fleet: Fleet) -> None:
    fleet.mount()
    fleet.mount(EMBED)
    for guest in fleet.guests.values():
        # Somebody uses the other model, and must not notice.
        hold_other(guest)
        guest_checksum(guest, f"/models/{NANO}/{OPENED}")
    assert steps(fleet.unmount(**STRICT)) == [(REVOKED, False)] * 2
    fleet.mount()
    for guest in fleet.guests.values():
        guest_checksum(guest, f"/models/{NANO}/{OPENED}")
    assert steps(fleet.unmount(revoke="strict")) == [(REVOKED, False)] * 2
    for name, guest in fleet.guests.items():
        assert served(fleet.hosts[name], guest, NANO) == []
        assert holds(guest, "model.safetensors") == checksum(f"{EMBED}/model.safetensors")
        let_go(guest)
    fleet.unmount(EMBED)
    assert fleet.leftovers() == {}


def hold_other(guest: Guest) -> None:
    guest.run(["sh", "-c", f"cd /models/{EMBED} && sleep 900 >/dev/null 2>&1 & echo $! > /holder"])


@pytest.mark.long
def test_a_model_that_is_replaced_strictly_is_revoked(fleet: Fleet) -> None:
    fleet.mount(mount_path="/models/one")
    for guest in fleet.guests.values():
        hold(guest, "/models/one")
    replaced = ["record", "bind_source", "verify_read_only", "release_source", "revoke", "settle_record"]
    assert steps(fleet.mount(EMBED, mount_path="/models/one", **STRICT)) == [(replaced, True)] * 2
    for name, guest in fleet.guests.items():
        assert guest_checksum(guest, "/models/one/model.safetensors") == checksum(f"{EMBED}/model.safetensors")
        assert (holds(guest, UNOPENED), holds_open(guest)) == ("", False)
        assert served(fleet.hosts[name], guest, NANO) == []
        let_go(guest)
    assert [actions for actions, _replugged in steps(fleet.mount(EMBED, mount_path="/models/one"))] == [[]] * 2
    fleet.unmount(EMBED)
    assert fleet.leftovers() == {}


@pytest.mark.long
def test_a_model_that_leaves_the_view_for_a_device_is_revoked_from_the_view(fleet: Fleet) -> None:
    path = "/srv/ai/x"
    fleet.mount(EMBED)
    fleet.mount(mount_path=path)
    for guest in fleet.guests.values():
        hold(guest, path)
    device = ["bind_source", "attach", "verify_read_only", "mount_in_guest"]
    converted = ["record", "unlink_in_guest", *device, "release_source", "revoke", "settle_record"]
    wanted: dict[str, Any] = {"mount_path": path, "transport": "device", **STRICT}
    assert [actions for actions, _replugged in steps(fleet.mount(check=True, **wanted))] == [converted] * 2
    assert steps(fleet.mount(**wanted)) == [(converted, True)] * 2
    for name, guest in fleet.guests.items():
        assert (holds(guest, UNOPENED), holds(guest, OPENED), holds_open(guest)) == ("", "", False)
        # Its own device serves it, the view does not.
        assert not any("/.m/" in line for line in served(fleet.hosts[name], guest, NANO))
        assert guest_checksum(guest, f"{path}/{OPENED}") == checksum(f"{NANO}/{OPENED}")
        reads(guest)
        let_go(guest)
    assert [actions for actions, _replugged in steps(fleet.mount(**wanted))] == [[]] * 2
    fleet.unmount()
    fleet.unmount(EMBED)
    assert fleet.leftovers() == {}


def entries(guest: Guest, *models: str) -> list[dict[str, Any]]:
    return [{"vm": guest.name, "model": name, "model_center": "zoo", "transport": "view"} for name in models]


@pytest.mark.long
def test_a_revocation_that_is_killed_is_finished_by_the_next_run(at_once: AtOnce) -> None:
    def kill_everywhere(engine: Engine, guest: Guest) -> None:
        gone = [{"vm": guest.name, "model": NANO}]
        effects = 0
        killed = True
        while killed:
            effects += 1
            assert engine.run(entries(guest, NANO, EMBED))["failure"] is None
            hold(guest, f"/models/{NANO}")
            killed = engine.killed(gone, effects, state="absent", **STRICT)
            # Every second time by one that is asked for something else, and only may do what it takes.
            again = gone if effects % 2 else entries(guest, EMBED)
            state = "absent" if effects % 2 else "present"
            result = engine.run(again, state=state, **STRICT)
            assert result["failure"] is None, (effects, result["failure"])
            # The intent is the first effect.
            assert engine.run(gone, state="absent", **STRICT)["failure"] is None
            assert engine.run(entries(guest, EMBED))["failure"] is None
            assert [mount["actions"] for mount in engine.run(entries(guest, EMBED))["mounts"]] == [[]]
            assert holds(guest, UNOPENED) == "", effects
            assert served(engine.host, guest, NANO) == [], effects
            reads(guest)
            let_go(guest)
        # Among them writing to others what they are in for, unmounting, unplugging, plugging, mounting.
        assert effects > 9
        assert engine.run([{"vm": guest.name}], state="absent")["failure"] is None
        assert leftovers(guest, engine.host) == {}

    at_once(kill_everywhere)


def test_a_guest_that_does_not_release_the_device_is_told_and_the_next_run_carries_on(
    fleet: Fleet, at_once: AtOnce
) -> None:
    fleet.spoil()

    def ignore(engine: Engine, guest: Guest) -> None:
        gone = [{"vm": guest.name, "model": NANO}]
        assert engine.run(entries(guest, NANO, EMBED))["failure"] is None
        hold(guest, f"/models/{NANO}")
        # A kernel that panicked neither answers nor releases a device, and virtiofsd has open what it had open.
        panic = "echo 0 > /proc/sys/kernel/panic; sleep 1; echo c > /proc/sysrq-trigger"
        guest.agent("guest-exec", {"path": "sh", "arg": ["-c", panic]}, 10)
        wait_until("the guest panics", 30, lambda: "Kernel panic" in guest.console())
        result = engine.run(gone, state="absent", timeout=3, **STRICT)
        assert result["failure"]["error_code"] == "detach_timeout"
        assert "the guest may read what it has open" in result["failure"]["msg"]
        assert result["mounts"][0]["record"]["intent"] == "unmounting"
        assert served(engine.host, guest, NANO)
        # A run that was asked for something else carries on.
        guest.reset()
        assert engine.run(entries(guest, EMBED))["failure"] is None
        assert served(engine.host, guest, NANO) == []
        reads(guest)
        assert engine.run([{"vm": guest.name}], state="absent")["failure"] is None
        assert leftovers(guest, engine.host) == {}

    at_once(ignore)
