# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's mounts as one list: what is not listed, what goes everywhere, what is in use, what somebody else changed."""

from __future__ import annotations

from typing import Any

import pytest
from fleet import BOTH_AT_LENGTH, GONE, Fleet, checksum, going, guest_checksum, place

from modelfleet_lab import Guest, Host


def converge(fleet: Fleet, mounts: list[dict[str, Any]], **options: Any) -> list[tuple[str, str, str]]:
    """Converge a list on all hosts, in check mode, in earnest, and again: who changed, the same in the first two."""
    arguments = {"mounts": mounts, **options}
    tasks = [
        {"name": "converge", "modelfleet.kvm.vm_model_mount": arguments, "check_mode": check}
        for check in (True, False, False)
    ]
    told = []
    for results in fleet.ansible.play(tasks).results.values():
        seen = [
            [(mount["vm"], mount["model"], mount["origin"]) for mount in result["mounts"] if mount["changed"]]
            for result in results
        ]
        assert seen[0] == seen[1], "check mode tells what a run does"
        assert seen[2] == [], "a second run changes nothing"
        told.append(seen[0])
    assert told[0] == told[1], "both hosts"
    return told[0]


def models(fleet: Fleet, *vms: str) -> set[tuple[str, str]]:
    """What every host has: VM and model, all of it right."""
    found = []
    for result in fleet.ansible.module("vm_model_mount_info", {"vms": list(vms)}).values():
        assert not any(mount["drift"] for mount in result["mounts"])
        found.append([(mount["vm"], mount["record"]["model_name"]) for mount in result["mounts"]])
    assert found[0] == found[1]
    return set(found[0])


@BOTH_AT_LENGTH
def test_list_is_the_whole_truth(fleet: Fleet, second: Fleet) -> None:
    one, two = fleet.vm, second.vm
    everything = [fleet.entry(), fleet.entry("acme/embed.v2"), second.entry()]
    assert len(converge(fleet, everything)) == 3
    # The other VM is not named, so the list says nothing of it.
    assert converge(fleet, [everything[1]], purge="vm") == [(one, "llama-nano", "purged")]
    assert models(fleet, one, two) == {(one, "acme/embed.v2"), (two, "llama-nano")}
    # What belongs to another owner stays.
    converge(fleet, [fleet.entry()], owner="ops")
    assert converge(fleet, [everything[1]], purge="host") == [(two, "llama-nano", "purged")]
    assert models(fleet, one, two) == {(one, "acme/embed.v2"), (one, "llama-nano")}
    assert converge(fleet, [], purge="host", owner="ops", allow_empty=True) == [(one, "llama-nano", "purged")]
    (refused,) = {
        result["error_code"]
        for result in fleet.ansible.module("vm_model_mount", {"mounts": [], "purge": "host"}, ok=False).values()
    }
    assert refused == "invalid_input"
    assert converge(fleet, [], purge="vm", vms=[one], allow_empty=True) == [(one, "acme/embed.v2", "purged")]
    assert models(fleet, one, two) == set()


@BOTH_AT_LENGTH
def test_models_change_places_and_a_moved_one_leaves_its_old_place(fleet: Fleet) -> None:
    a, b, c = (place(fleet.transport, name) for name in "abc")
    first, second = fleet.entry(mount_path=a), fleet.entry("acme/embed.v2", mount_path=b)
    converge(fleet, [first, second])
    converge(fleet, [{**first, "mount_path": b}, {**second, "mount_path": a}])
    for guest in fleet.guests.values():
        assert guest_checksum(guest, f"{b}/weights.bin") == checksum("llama-nano/weights.bin")
        assert guest_checksum(guest, f"{a}/model.safetensors") == checksum("acme/embed.v2/model.safetensors")
    moved = converge(fleet, [{**first, "mount_path": c}], purge="vm")
    assert sorted(origin for _vm, _model, origin in moved) == ["listed", "purged", "purged"]
    for guest in fleet.guests.values():
        assert guest_checksum(guest, f"{c}/weights.bin") == checksum("llama-nano/weights.bin")
    fleet.unmount()
    assert fleet.leftovers() == {}


def tags(fleet: Fleet) -> dict[str, str]:
    """What every guest has mounted where: paths by tags."""
    found = []
    for guest in fleet.guests.values():
        mounts = [line.split() for line in guest.run(["cat", "/proc/mounts"]).stdout.splitlines()]
        found.append({tag: path for tag, path, fstype, *_options in mounts if fstype == "virtiofs"})
    assert found[0] == found[1]
    return found[0]


@pytest.mark.long
@pytest.mark.transport("device", why="all views have the same tag")
def test_tags_change_places_and_are_handed_over(fleet: Fleet) -> None:
    first = fleet.entry(mount_path="/srv/a", tag="chat")
    second = fleet.entry("acme/embed.v2", mount_path="/srv/b", tag="embed")
    converge(fleet, [first, second])
    converge(fleet, [{**first, "tag": "embed"}, {**second, "tag": "chat"}])
    assert tags(fleet) == {"embed": "/srv/a", "chat": "/srv/b"}
    for guest in fleet.guests.values():
        assert guest_checksum(guest, "/srv/a/weights.bin") == checksum("llama-nano/weights.bin")
        assert guest_checksum(guest, "/srv/b/model.safetensors") == checksum("acme/embed.v2/model.safetensors")
    handed = converge(fleet, [{**second, "mount_path": "/srv/c", "tag": "embed"}], purge="vm")
    assert sorted(origin for _vm, _model, origin in handed) == ["listed", "purged", "purged"]
    assert tags(fleet) == {"embed": "/srv/c"}
    for guest in fleet.guests.values():
        assert guest_checksum(guest, "/srv/c/model.safetensors") == checksum("acme/embed.v2/model.safetensors")
    fleet.unmount("acme/embed.v2")


@BOTH_AT_LENGTH
def test_model_goes_from_every_vm_and_a_vm_loses_everything(fleet: Fleet, second: Fleet) -> None:
    one, two = fleet.vm, second.vm
    converge(fleet, [fleet.entry(), fleet.entry("acme/embed.v2"), second.entry()])
    steps = {one: going(fleet.transport, stay=1), two: GONE}
    for check, changed in ((True, steps), (False, steps), (False, {})):
        arguments = {"model": "llama-nano", "state": "absent", "return": "changed"}
        for result in fleet.ansible.module("vm_model_mount", arguments, check=check).values():
            assert {mount["vm"]: mount["actions"] for mount in result["mounts"]} == changed
            assert result["summary"]["changed"] == len(changed)
    assert models(fleet, one, two) == {(one, "acme/embed.v2")}
    converge(fleet, [fleet.entry()])
    for check, count in ((True, 2), (False, 2), (False, 0)):
        for result in fleet.ansible.module("vm_model_mount", {"vm": one, "state": "absent"}, check=check).values():
            assert [mount["actions"] for mount in result["mounts"] if mount["changed"]] == [GONE] * count
    assert fleet.leftovers() == {}


@pytest.mark.long
@BOTH_AT_LENGTH
def test_model_in_use_is_refused_with_its_users_and_goes_by_force(fleet: Fleet) -> None:
    fleet.mount()
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", "sleep 600 < /models/llama-nano/weights.bin > /dev/null 2>&1 & echo $! > /user"])
    for result in fleet.unmount(ok=False).values():
        assert result["error_code"] == "mount_busy"
        assert [process["name"] for process in result["details"]["guest_processes"]] == ["sleep"]
        assert not result["changed"]
    assert not any(mounts[0]["drift"] for mounts in fleet.info().values())
    arguments = {"vm": fleet.vm, "state": "absent", "force": True}
    for result in fleet.ansible.module("vm_model_mount", arguments).values():
        assert result["mounts"][0]["actions"] == GONE
    assert fleet.leftovers() == {}
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", "kill $(cat /user)"])


@pytest.mark.transport("view", why="a paused VM is refused by its state, before anything else is looked at")
def test_paused_vm_is_refused_and_another_vm_is_not_delayed(fleet: Fleet, second: Fleet) -> None:
    for host in fleet.hosts.values():
        host.run(["virsh", "suspend", second.vm])
    mounts = [second.entry(), fleet.entry()]
    for result in fleet.ansible.module("vm_model_mount", {"mounts": mounts}, ok=False).values():
        assert [(mount["error"] or {}).get("error_code") for mount in result["mounts"]] == ["vm_state", None]
        assert [mount["changed"] for mount in result["mounts"]] == [False, True]
    for host in fleet.hosts.values():
        host.run(["virsh", "resume", second.vm])
    fleet.unmount()


def both_descriptions(host: Host, guest: Guest) -> str:
    """The XML of a VM, live and persistent."""
    return "".join(host.run(["virsh", "dumpxml", guest.name, *how]).stdout for how in ([], ["--inactive"]))


@pytest.mark.long
@pytest.mark.transport("device", why="what a newer release wrote is not read so far as to know its transport")
def test_records_of_a_newer_release_are_kept_and_not_rewritten(fleet: Fleet) -> None:
    fleet.mount()
    newer = {}
    for name, guest in fleet.guests.items():
        host = fleet.hosts[name]
        script = """
            newer='s/schema_version="1"/schema_version="2" lease="7"/'
            virsh metadata "$1" urn:modelfleet:kvm > /tmp/ours
            virsh metadata "$1" urn:modelfleet:kvm --key modelfleet --live --config --set "$(sed "$newer" /tmp/ours)"
        """
        host.run(["sh", "-ec", script, "sh", guest.name])
        newer[name] = both_descriptions(host, guest)
        assert newer[name].count('lease="7"') + newer[name].count("lease='7'") == 2
    for results in (fleet.mount(ok=False), fleet.mount("acme/embed.v2", ok=False), fleet.unmount(ok=False)):
        assert {result["error_code"] for result in results.values()} == {"record_conflict"}
    for result in fleet.ansible.module("vm_model_mount_info", {"vms": [fleet.vm]}).values():
        assert [problem["error_code"] for problem in result["errors"]] == ["record_conflict"]
    for name, guest in fleet.guests.items():
        assert both_descriptions(fleet.hosts[name], guest) == newer[name]
        give_back = 'virsh metadata "$1" urn:modelfleet:kvm --key modelfleet --live --config --set "$(cat /tmp/ours)"'
        fleet.hosts[name].run(["sh", "-ec", give_back, "sh", guest.name])
    fleet.unmount()
