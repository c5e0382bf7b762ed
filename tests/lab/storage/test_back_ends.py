# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every kind of storage that can be had here: mounted, looked at, given to a VM, changed, and taken away."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from ansible_run import Ansible, Run
from fleet import FILES, Fleet, checksum, guest_checksum

from modelfleet_lab import Host
from storage import ceph_server, told
from storage.servers import SECRETS, STORAGES, Storage

pytestmark = pytest.mark.transport("view", why="storage is the same behind a device")

NAME = "depot-9"
MOUNT_POINT = f"/var/lib/modelfleet/centers/{NAME}"
MODEL, FILE = "acme/embed.v2", "acme/embed.v2/model.safetensors"


def center(storage: Storage, **more: Any) -> dict[str, Any]:
    # Patient, for machines on which much else is going on.
    return {"name": NAME, "timeout": 60, **storage.arguments, **more}


def info(ansible: Ansible, limit: str | None = None) -> dict[str, Any]:
    results = ansible.module("model_center_info", {"names": [NAME], "timeout": 5}, limit=limit)
    return {host: result["model_centers"][0] for host, result in results.items()}


def task(module: str, arguments: dict[str, Any], check: bool = False) -> dict[str, Any]:
    return {"name": module, f"modelfleet.kvm.{module}": arguments, "ignore_errors": True, "check_mode": check}


def left(host: Host, storage: Storage) -> str:
    """What is left of a center."""
    seen = host.run(["findmnt", "--noheadings", MOUNT_POINT], check=False).stdout
    seen += host.run(["find", "/etc/systemd", "/etc/modelfleet", MOUNT_POINT, "-name", f"*{NAME}*"], check=False).stdout
    if storage.client:
        seen += host.run(["pgrep", "-af", f"({storage.client}).*{NAME}"], check=False).stdout
    return seen


# What is mounted in the same way as another.
_LONG = ("erofs", "dav", "juicefs-sqlite")
_EACH = [
    *(pytest.param(storage, marks=pytest.mark.long if storage.name in _LONG else ()) for storage in STORAGES.values()),
    pytest.param(ceph_server.CEPH, marks=pytest.mark.long),
]
_SEEN_NOWHERE = (*SECRETS, ceph_server.KEY, ceph_server.NEW_KEY)


@pytest.mark.parametrize("storage", _EACH, ids=str, indirect=True)
def test_from_nothing_to_a_vm_and_back(storage: Storage, fleet: Fleet, ansible: Ansible) -> None:
    hosts = {name: host for name, host in fleet.hosts.items() if storage.limit in (None, name)}
    # It takes a processor for itself, so only where there is a secret.
    watched = {name: told.Watch(host) for name, host in hosts.items() if "credentials" in storage.arguments}
    try:
        _mounted_and_read(storage, fleet, ansible, hosts)
        for name, watch in watched.items():
            assert told.of(_SEEN_NOWHERE, watch.now()) == {}, name
        _changed_and_gone(storage, fleet, ansible, hosts)
    finally:
        seen = {name: watch.ended() for name, watch in watched.items()}
        ansible.module("model_center_mount", {"name": NAME, "state": "absent", "force": True})
    for name, places in seen.items():
        assert told.of(_SEEN_NOWHERE, places) == {}, name
        # It looked often enough to see what begins and ends at once.
        assert " daemon-reload" in places["processes"]
    assert {name: left(host, storage) for name, host in hosts.items()} == dict.fromkeys(hosts, "")
    assert fleet.leftovers() == {}


def _mounted_and_read(storage: Storage, fleet: Fleet, ansible: Ansible, hosts: dict[str, Host]) -> None:
    """Mounted, and so a second time; read on the host and in a VM, without which it is not taken away."""
    secrets = ["write_credentials"] if "credentials" in storage.arguments else []
    steps = ["make_mount_point", *secrets, "write_unit", "reload_systemd", "enable_unit", "mount", "start_keeper"]
    calls = [
        *thrice(center(storage)),
        task("model_center_info", {"names": [NAME]}),
        task("vm_model_mount", fleet.entry(MODEL, model_center=NAME)),
        task("model_center_mount", {"name": NAME, "state": "absent"}),
        task("model_center_info", {"names": [NAME]}),
    ]
    for name, results in play(storage, ansible, hosts, calls).results.items():
        assert [result.get("msg") for result in results[:5]] == [None] * 5, name
        assert [result["actions"] for result in results[:3]] == [steps, steps, []], name
        assert results[2]["health"] == "healthy", name
        seen = results[3]["model_centers"][0]
        assert (seen["state"], seen["drift"], seen["users"], seen["keeper"]) == ("healthy", [], [], True), seen
        assert (seen["mount"]["read_only"], seen["mount"]["depth"]) == (True, 1), seen
        assert bool(seen["daemon"]) is bool(storage.client), seen
        assert (results[5]["error_code"], results[5]["details"]["vms"]) == ("center_in_use", [fleet.vm]), name
        users = results[6]["model_centers"][0]["users"]
        assert [(user["vm"], user["models"], user["stale"]) for user in users] == [(fleet.vm, [MODEL], False)]
    for name, host in hosts.items():
        paths = " ".join(shlex.quote(f"{MOUNT_POINT}/{path}") for path in FILES)
        sums = [line.lstrip("\\")[:64] for line in host.run(["sh", "-c", f"sha256sum {paths}"]).stdout.splitlines()]
        assert sums == [checksum(path) for path in FILES]
        assert host.run(["touch", f"{MOUNT_POINT}/x"], check=False).returncode != 0
        assert guest_checksum(fleet.guests[name], f"/models/{FILE}") == checksum(FILE)


def _changed_and_gone(storage: Storage, fleet: Fleet, ansible: Ansible, hosts: dict[str, Host]) -> None:
    """Options changed, which takes the model from the VM, another secret, unmounted, absent."""
    changed = center(storage, force=True, **storage.change)
    rotated = center(storage, **storage.change, credentials=storage.rotated)
    shown = f"findmnt --noheadings --output=OPTIONS {MOUNT_POINT}; pgrep -af '({storage.client or 'none'}).*{NAME}'"
    expected = [["write_unit", "reload_systemd", "remount"], ["stop_keeper", "unmount", "disable_unit"]]
    calls = [*thrice(changed), {"ansible.builtin.shell": shown, "ignore_errors": True, "check_mode": False}]
    if storage.rotated:
        calls += [{"ansible.builtin.command": {"argv": [*storage.rotate]}}] if storage.rotate else []
        calls += thrice(rotated)
        expected.insert(1, ["write_credentials", "remount"])
    secrets = ["remove_credentials"] if storage.rotated else []
    expected.append([*secrets, "remove_mount_point", "remove_unit", "reload_systemd"])
    for state in ("unmounted", "absent"):
        calls += thrice({"name": NAME, "state": state})
    run = play(storage, ansible, hosts, calls)
    for name, results in run.results.items():
        assert [result.get("msg") for result in results] == [None] * len(results), name
        assert [result["actions"] for result in results] == [item for steps in expected for item in (steps, steps, [])]
        assert [user["vm"] for user in results[1]["unmounted"]] == [fleet.vm]
    shells = [line for line in run.lines if line["action"] == "ansible.builtin.shell"]
    assert [storage.shows in line["result"]["stdout"] for line in shells] == [True] * len(hosts), shells


def thrice(arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Predicted, done, and nothing left to do."""
    return [task("model_center_mount", arguments, check) for check in (True, False, False)]


def play(storage: Storage, ansible: Ansible, hosts: dict[str, Host], calls: list[dict[str, Any]]) -> Run:
    """Run tasks where a storage works, and have Ansible tell all that it would tell anybody."""
    run = ansible.play(calls, limit=storage.limit, diff=True, verbose=3)
    assert set(run.results) == set(hosts)
    assert told.of(_SEEN_NOWHERE, {"output": run.output, "results": str(run.lines)}) == {}
    return run
