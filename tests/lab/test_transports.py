# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models that get another transport, in running VMs and others, by runs that end well and runs that do not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
from conftest import AtOnce, Guests
from engine import Engine, kill_changes
from fleet import Fleet, checksum, guest_checksum, leftovers

from modelfleet_lab import Guest, Host

NANO, EMBED = "llama-nano", "acme/embed.v2"
FILES = {NANO: "llama-nano/weights.bin", EMBED: "acme/embed.v2/model.safetensors"}
OTHER = {"device": "view", "view": "device"}
OUT = ["unmount_in_guest", "detach_live", "detach_persistent"]
IN = ["bind_source", "attach", "verify_read_only", "mount_in_guest"]
CONVERTED = ["record", *OUT, *IN, "settle_record", "unbind_source"]
# Of both on each of the two hosts.
TWICE = [[CONVERTED] * 2] * 2
NOTHING: list[list[list[str]]] = [[[]] * 2] * 2
BOTH = pytest.mark.parametrize("old", ["device", "view"])
# Out of the view as well when there is time for all tests.
BOTH_AT_LENGTH = pytest.mark.parametrize("old", ["device", pytest.param("view", marks=pytest.mark.long)])


@pytest.fixture
def transport(old: str) -> str:
    return old


def run(fleet: Fleet, transport: str, *models: str, **how: Any) -> dict[str, dict[str, Any]]:
    """Run vm_model_mount with both models, or some, by a transport."""
    force = how.pop("force", False)
    mounts = [fleet.entry(model, transport=transport) for model in models or FILES]
    return fleet.ansible.module("vm_model_mount", {"mounts": mounts, "force": force}, **how)


def actions(results: dict[str, dict[str, Any]]) -> list[list[list[str]]]:
    """The steps of both models on both hosts."""
    return [[mount["actions"] for mount in result["mounts"]] for result in results.values()]


def right(guest: Guest, host: Host, transport: str) -> None:
    """Both models are there by a transport, can be read, and nothing of the other transport is left."""
    for file in FILES.values():
        assert guest_checksum(guest, f"/models/{file}") == checksum(file)
    found = leftovers(guest, host)
    devices = 1 if transport == "view" else 2
    assert len(found["live devices"]) == len(found["persistent devices"]) == devices
    # A view is bound as well.
    assert len(found["binds"].splitlines()) == 2 + (transport == "view")
    assert len([line for line in found["guest mounts"].splitlines() if "/.m/" not in line]) == devices
    mounts = guest.xml().find("metadata/{urn:modelfleet:kvm}mounts")
    assert mounts is not None
    # What both say alike stands once, around them.
    records = [{**mounts.attrib, **record.attrib} for record in mounts]
    assert [(record["transport"], record["intent"]) for record in records] == [(transport, "settled")] * 2


def all_right(fleet: Fleet, transport: str) -> None:
    for name, guest in fleet.guests.items():
        right(guest, fleet.hosts[name], transport)
    for mounts in fleet.info().values():
        assert [(mount["status"], mount["drift"], mount["leaving"]) for mount in mounts] == [
            ("Mounted", False, None)
        ] * 2


def use(guest: Guest, model: str) -> None:
    """Have a process of the guest stay in a model."""
    guest.run(["sh", "-c", f"cd /models/{model} && sleep 600 >/dev/null 2>&1 & echo $! > /user"])


def leave(guest: Guest) -> None:
    guest.run(["sh", "-c", "kill $(cat /user)"])


@BOTH
def test_models_get_another_transport(fleet: Fleet, old: str) -> None:
    new = OTHER[old]
    run(fleet, old)
    all_right(fleet, old)
    # `auto` leaves it as it is.
    assert actions(run(fleet, "auto")) == NOTHING
    predicted = run(fleet, new, check=True)
    assert actions(predicted) == TWICE
    all_right(fleet, old)
    done = run(fleet, new)
    assert actions(done) == TWICE
    for results in (predicted, done):
        shown = [[mount["transport"] for mount in result["mounts"]] for result in results.values()]
        assert shown == [[new] * 2] * 2
    assert actions(run(fleet, new, check=True)) == actions(run(fleet, new)) == NOTHING
    all_right(fleet, new)
    for model in FILES:
        fleet.unmount(model)
    assert fleet.leftovers() == {}


@BOTH_AT_LENGTH
def test_model_that_is_not_listed_is_not_hidden(fleet: Fleet, old: str) -> None:
    run(fleet, old)
    for check in (True, False):
        for result in run(fleet, OTHER[old], NANO, ok=False, check=check).values():
            assert (result["error_code"], result["changed"]) == ("transport_conflict", False)
            assert f"/models/{EMBED} is mounted with transport={old}" in result["msg"]
    all_right(fleet, old)
    for model in FILES:
        fleet.unmount(model)
    assert fleet.leftovers() == {}


@BOTH_AT_LENGTH
def test_model_in_use_is_not_converted_unless_by_force(fleet: Fleet, old: str) -> None:
    run(fleet, old)
    for guest in fleet.guests.values():
        use(guest, NANO)
    for result in run(fleet, OTHER[old], ok=False).values():
        assert (result["error_code"], result["changed"]) == ("mount_busy", False)
        assert "undo_failed" not in result["details"]
        assert [user["name"] for user in result["details"]["guest_processes"]] == ["sleep"]
    all_right(fleet, old)
    assert actions(run(fleet, OTHER[old], force=True)) == TWICE
    all_right(fleet, OTHER[old])
    for guest in fleet.guests.values():
        leave(guest)
    for model in FILES:
        fleet.unmount(model)
    assert fleet.leftovers() == {}


@BOTH_AT_LENGTH
def test_vm_that_is_shut_off(prepared: dict[str, Host], fleet: Fleet, guests: Guests, old: str) -> None:
    stopped = Fleet(prepared, fleet.ansible, guests(up=False), old)
    run(stopped, old)
    converted = ["record", "detach_persistent", "attach_persistent", "settle_record"]
    assert actions(run(stopped, OTHER[old], check=True)) == [[converted] * 2] * 2
    assert actions(run(stopped, OTHER[old])) == [[converted] * 2] * 2
    assert actions(run(stopped, OTHER[old])) == NOTHING
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Guest.up, stopped.guests.values()))
    mounted = ["record", "mount_in_guest", "settle_record"]
    assert actions(run(stopped, OTHER[old])) == [[mounted] * 2] * 2
    all_right(stopped, OTHER[old])


AUTO = pytest.mark.parametrize("old", ["auto"])


def transports(results: dict[str, dict[str, Any]]) -> list[list[str]]:
    """What `auto` came to for each model on both hosts."""
    return [[mount["transport"] for mount in result["mounts"]] for result in results.values()]


@AUTO
@pytest.mark.usefixtures("old")
def test_new_models_are_in_the_view(fleet: Fleet) -> None:
    assert transports(run(fleet, "auto", check=True)) == transports(run(fleet, "auto")) == [["view"] * 2] * 2
    all_right(fleet, "view")
    assert actions(run(fleet, "auto")) == NOTHING
    elsewhere = {"vm": fleet.vm, "model": EMBED, "state": "absent"}
    fleet.ansible.module("vm_model_mount", elsewhere)
    assert transports(fleet.mount(EMBED, mount_path="/srv/elsewhere")) == [["view"]] * 2
    for guest in fleet.guests.values():
        assert guest_checksum(guest, "/srv/elsewhere/model.safetensors") == checksum(FILES[EMBED])
    for model in FILES:
        fleet.unmount(model)
    assert fleet.leftovers() == {}


@AUTO
@pytest.mark.usefixtures("old")
@pytest.mark.parametrize(
    "why", ["files", *(pytest.param(why, marks=pytest.mark.long) for why in ("a file system", "a tag"))]
)
def test_new_models_get_devices_where_there_can_be_no_view(fleet: Fleet, why: str) -> None:
    prepare = {"files": "mkdir -p /models && echo x > /models/notes", "a file system": "mkdir -p /models/data"}
    undo = {"files": "rm /models/notes", "a file system": "umount /models/data"}
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", prepare.get(why, "true")])
        if why == "a file system":
            guest.run(["mount", "-t", "tmpfs", "data", "/models/data"])
    options = {"tag": "mine"} if why == "a tag" else {}
    mounts = [fleet.entry(NANO, **options), fleet.entry(EMBED)]
    for check in (True, False):
        results = fleet.ansible.module("vm_model_mount", {"mounts": mounts}, check=check)
        assert transports(results) == [["device"] * 2] * 2
    all_right(fleet, "device")
    assert actions(fleet.ansible.module("vm_model_mount", {"mounts": mounts})) == NOTHING
    # What stands in the way is told to those who ask for a view by name.
    if why != "a tag":
        codes = {"files": "mount_path_unusable", "a file system": "mount_path_in_use"}
        for result in run(fleet, "view", ok=False).values():
            assert (result["error_code"], result["changed"]) == (codes[why], False)
    for model in FILES:
        fleet.unmount(model)
    assert fleet.leftovers() == {}
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", undo.get(why, "true")])


# Runs that are killed


def wanted(guest: Guest, transport: str) -> list[dict[str, Any]]:
    """Entries for both models of a guest."""
    return [{"vm": guest.name, "model": model, "model_center": "zoo", "transport": transport} for model in FILES]


def mounted(engine: Engine, guest: Guest, transport: str) -> None:
    """Both models are there by a transport after one run, and the next has nothing to do."""
    for last in (False, True):
        result = engine.run(wanted(guest, transport))
        assert result["failure"] is None, result["failure"]
        assert not last or [mount["actions"] for mount in result["mounts"]] == [[], []]
    right(guest, engine.host, transport)


def gone(engine: Engine, guest: Guest) -> None:
    result = engine.run([{"vm": guest.name}], state="absent")
    assert result["failure"] is None, result["failure"]
    assert leftovers(guest, engine.host) == {}


@pytest.mark.long
@pytest.mark.parametrize("old", ["device"])
def test_change_that_was_killed_after_any_effect(at_once: AtOnce) -> None:
    def kill_everywhere(engine: Engine, guest: Guest) -> None:
        effects = kill_changes(
            engine, partial(wanted, guest), partial(mounted, engine, guest), partial(gone, engine, guest)
        )
        assert effects > 12

    at_once(kill_everywhere)


@pytest.mark.long
@BOTH
def test_vm_that_starts_between_a_killed_run_and_the_next_has_its_models(
    fleet: Fleet, engines: dict[str, Engine], old: str
) -> None:
    run(fleet, old)
    for name, guest in fleet.guests.items():
        # What is intended is written, and nothing done yet.
        assert engines[name].killed(wanted(guest, OTHER[old]), 1)
        guest.destroy()
        guest.start()
    for name, guest in fleet.guests.items():
        guest.wait_agent()
        binds = leftovers(guest, fleet.hosts[name])["binds"]
        assert len(binds.splitlines()) == 2 + (old == "view")
        assert all(f"/srv/models/{model} " in binds for model in FILES)
        mounted(engines[name], guest, OTHER[old])
        gone(engines[name], guest)
