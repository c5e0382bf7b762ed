# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's mounts as one list: what is not listed, what goes everywhere, what is in use, what somebody else changed."""

from __future__ import annotations

from typing import Any

from conftest import Guests
from fleet import Fleet, checksum, guest_checksum

from modelfleet_lab import Guest, Host

GONE = ["record", "unmount_in_guest", "detach_live", "detach_persistent", "unbind_source", "forget_record"]


def entry(vm: str, model: str, **options: Any) -> dict[str, Any]:
    return {"vm": vm, "model": model, "model_center": "zoo", **options}


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


def models(fleet: Fleet, *vms: str) -> list[tuple[str, str]]:
    """What every host has: VM and model, all of it right."""
    found = []
    for result in fleet.ansible.module("vm_model_mount_info", {"vms": list(vms)}).values():
        assert not any(mount["drift"] for mount in result["mounts"])
        found.append([(mount["vm"], mount["record"]["model_name"]) for mount in result["mounts"]])
    assert found[0] == found[1]
    return sorted(found[0])


def test_list_is_the_whole_truth(fleet: Fleet, guests: Guests) -> None:
    one, two = fleet.vm, next(iter(guests().values())).name
    everything = [entry(one, "llama-nano"), entry(one, "acme/embed.v2"), entry(two, "llama-nano")]
    assert len(converge(fleet, everything)) == 3
    # The other VM is not named, so the list says nothing of it.
    assert converge(fleet, [everything[1]], purge="vm") == [(one, "llama-nano", "purged")]
    assert models(fleet, one, two) == [(one, "acme/embed.v2"), (two, "llama-nano")]
    # What belongs to another owner stays.
    converge(fleet, [entry(one, "llama-nano")], owner="ops")
    assert converge(fleet, [everything[1]], purge="host") == [(two, "llama-nano", "purged")]
    assert models(fleet, one, two) == [(one, "acme/embed.v2"), (one, "llama-nano")]
    assert converge(fleet, [], purge="host", owner="ops", allow_empty=True) == [(one, "llama-nano", "purged")]
    (refused,) = {
        result["error_code"]
        for result in fleet.ansible.module("vm_model_mount", {"mounts": [], "purge": "host"}, ok=False).values()
    }
    assert refused == "invalid_input"
    assert converge(fleet, [], purge="vm", vms=[one], allow_empty=True) == [(one, "acme/embed.v2", "purged")]
    assert models(fleet, one, two) == []


def test_models_change_places_and_a_moved_one_leaves_its_old_place(fleet: Fleet) -> None:
    first = entry(fleet.vm, "llama-nano", mount_path="/srv/a")
    second = entry(fleet.vm, "acme/embed.v2", mount_path="/srv/b")
    converge(fleet, [first, second])
    converge(fleet, [{**first, "mount_path": "/srv/b"}, {**second, "mount_path": "/srv/a"}])
    for guest in fleet.guests.values():
        assert guest_checksum(guest, "/srv/b/weights.bin") == checksum("llama-nano/weights.bin")
        assert guest_checksum(guest, "/srv/a/model.safetensors") == checksum("acme/embed.v2/model.safetensors")
    moved = converge(fleet, [{**first, "mount_path": "/srv/c"}], purge="vm")
    assert sorted(origin for _vm, _model, origin in moved) == ["listed", "purged", "purged"]
    for guest in fleet.guests.values():
        assert guest_checksum(guest, "/srv/c/weights.bin") == checksum("llama-nano/weights.bin")
    fleet.unmount()


def tags(fleet: Fleet) -> dict[str, str]:
    """What every guest has mounted where: paths by tags."""
    found = []
    for guest in fleet.guests.values():
        mounts = [line.split() for line in guest.run(["cat", "/proc/mounts"]).stdout.splitlines()]
        found.append({tag: path for tag, path, fstype, *_options in mounts if fstype == "virtiofs"})
    assert found[0] == found[1]
    return found[0]


def test_tags_change_places_and_are_handed_over(fleet: Fleet) -> None:
    first = entry(fleet.vm, "llama-nano", mount_path="/srv/a", tag="chat")
    second = entry(fleet.vm, "acme/embed.v2", mount_path="/srv/b", tag="embed")
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


def test_model_goes_from_every_vm_and_a_vm_loses_everything(fleet: Fleet, guests: Guests) -> None:
    one, two = fleet.vm, next(iter(guests().values())).name
    converge(fleet, [entry(one, "llama-nano"), entry(one, "acme/embed.v2"), entry(two, "llama-nano")])
    for check, changed in ((True, 2), (False, 2), (False, 0)):
        arguments = {"model": "llama-nano", "state": "absent", "return": "changed"}
        for result in fleet.ansible.module("vm_model_mount", arguments, check=check).values():
            assert [mount["actions"] for mount in result["mounts"]] == [GONE] * changed
            assert result["summary"]["changed"] == changed
    assert models(fleet, one, two) == [(one, "acme/embed.v2")]
    converge(fleet, [entry(one, "llama-nano")])
    for check, changed in ((True, 2), (False, 2), (False, 0)):
        for result in fleet.ansible.module("vm_model_mount", {"vm": one, "state": "absent"}, check=check).values():
            assert sum(mount["changed"] for mount in result["mounts"]) == changed
    assert fleet.leftovers() == {}


def test_model_in_use_is_refused_with_its_users_and_goes_by_force(fleet: Fleet) -> None:
    fleet.spoil()
    fleet.mount()
    for guest in fleet.guests.values():
        guest.run(["sh", "-c", "sleep 600 < /models/llama-nano/weights.bin > /dev/null 2>&1 &"])
    for result in fleet.unmount(ok=False).values():
        assert result["error_code"] == "mount_busy"
        assert [process["name"] for process in result["details"]["guest_processes"]] == ["sleep"]
        assert not result["changed"]
    assert not any(mounts[0]["drift"] for mounts in fleet.info().values())
    arguments = {"vm": fleet.vm, "state": "absent", "force": True}
    for result in fleet.ansible.module("vm_model_mount", arguments).values():
        assert result["mounts"][0]["actions"] == GONE
    assert fleet.leftovers() == {}


def test_paused_vm_is_refused_and_another_vm_is_not_delayed(fleet: Fleet, guests: Guests) -> None:
    paused = guests()
    for name, guest in paused.items():
        fleet.hosts[name].run(["virsh", "suspend", guest.name])
    name = next(iter(paused.values())).name
    mounts = [entry(name, "llama-nano"), entry(fleet.vm, "llama-nano")]
    for result in fleet.ansible.module("vm_model_mount", {"mounts": mounts}, ok=False).values():
        assert [(mount["error"] or {}).get("error_code") for mount in result["mounts"]] == ["vm_state", None]
        assert [mount["changed"] for mount in result["mounts"]] == [False, True]
    fleet.unmount()


def both_descriptions(host: Host, guest: Guest) -> str:
    """The XML of a VM, live and persistent."""
    return "".join(host.run(["virsh", "dumpxml", guest.name, *how]).stdout for how in ([], ["--inactive"]))


def test_records_of_a_newer_release_are_kept_and_not_rewritten(fleet: Fleet) -> None:
    fleet.spoil()
    fleet.mount()
    newer = {}
    for name, guest in fleet.guests.items():
        host = fleet.hosts[name]
        script = """
            newer='s/schema_version="1"/schema_version="2" lease="7"/'
            virsh metadata "$1" urn:modelfleet:kvm | sed "$newer" > /tmp/records
            virsh metadata "$1" urn:modelfleet:kvm --key modelfleet --live --config --set "$(cat /tmp/records)"
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
