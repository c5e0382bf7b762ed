# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every kind of storage that can be had here: mounted, looked at, given to a VM, changed, and taken away."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_run import Ansible
from fleet import FILES, Fleet, checksum, guest_checksum

from modelfleet_lab import Host
from storage import ceph_server
from storage.servers import SECRETS, STORAGES, Storage

pytestmark = pytest.mark.transport("view", why="storage is the same behind a device")

NAME = "depot-9"
MOUNT_POINT = f"/var/lib/modelfleet/centers/{NAME}"
MODEL, FILE = "acme/embed.v2", "acme/embed.v2/model.safetensors"


SEEN_NOWHERE = (*SECRETS, ceph_server.KEY)


def center(storage: Storage, **more: Any) -> dict[str, Any]:
    # Patient, for machines on which much else is going on.
    return {"name": NAME, "timeout": 60, **storage.arguments, **more}


def info(ansible: Ansible, limit: str | None = None) -> dict[str, Any]:
    results = ansible.module("model_center_info", {"names": [NAME], "timeout": 5}, limit=limit)
    return {host: result["model_centers"][0] for host, result in results.items()}


def told_secrets(host: Host) -> list[str]:
    """The secrets that can be seen by somebody who is not root, or in a log."""
    units = "systemctl show '*depot*' 'modelfleet*'; cat /etc/systemd/system/*depot* /etc/systemd/system/modelfleet*"
    table = "cat /proc/self/mountinfo /etc/fstab; journalctl --no-pager --unit='*depot*'; findmnt"
    # The servers of the tests have their secrets in their arguments; those of the client are the point here.
    words = "ps -eo args | grep -v 'rclone serve\\|redis-server\\|grep'"
    seen = host.run(["sh", "-c", f"{units}; {table}; {words}"], check=False).stdout
    return [secret for secret in SEEN_NOWHERE if secret in seen]


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


@pytest.mark.parametrize("storage", _EACH, ids=str, indirect=True)
def test_from_nothing_to_a_vm_and_back(storage: Storage, fleet: Fleet, ansible: Ansible) -> None:
    secrets = ["write_credentials"] if "credentials" in storage.arguments else []
    steps = ["make_mount_point", *secrets, "write_unit", "reload_systemd", "enable_unit", "mount", "start_keeper"]
    mount, gone = center(storage), {"name": NAME, "state": "absent"}
    calls = [
        *(task("model_center_mount", mount, check) for check in (True, False, True, False)),
        task("model_center_info", {"names": [NAME]}),
        task("vm_model_mount", fleet.entry(MODEL, model_center=NAME)),
        task("model_center_mount", gone),
        task("model_center_info", {"names": [NAME]}),
    ]
    hosts = {name: host for name, host in fleet.hosts.items() if storage.limit in (None, name)}
    try:
        run = ansible.play(calls, limit=storage.limit)
        assert set(run.results) == set(hosts)
        for name, results in run.results.items():
            assert [result.get("msg") for result in results[:6]] == [None] * 6, name
            assert [result["actions"] for result in results[:4]] == [steps, steps, [], []], name
            assert results[3]["health"] == "healthy", name
            seen = results[4]["model_centers"][0]
            assert (seen["state"], seen["drift"], seen["users"], seen["keeper"]) == ("healthy", [], [], True), seen
            assert (seen["mount"]["read_only"], seen["mount"]["depth"]) == (True, 1), seen
            assert bool(seen["daemon"]) is bool(storage.client), seen
            assert (results[6]["error_code"], results[6]["details"]["vms"]) == ("center_in_use", [fleet.vm]), name
            users = results[7]["model_centers"][0]["users"]
            assert [(user["vm"], user["models"], user["stale"]) for user in users] == [(fleet.vm, [MODEL], False)]
        assert not any(secret in run.output for secret in SEEN_NOWHERE)
        for name, host in hosts.items():
            for path in FILES:
                assert host.run(["sha256sum", f"{MOUNT_POINT}/{path}"]).stdout.lstrip("\\")[:64] == checksum(path)
            assert host.run(["touch", f"{MOUNT_POINT}/x"], check=False).returncode != 0
            assert told_secrets(host) == []
            assert guest_checksum(fleet.guests[name], f"/models/{FILE}") == checksum(FILE)
    finally:
        forced = ansible.module("model_center_mount", {**gone, "force": True})
    for name in hosts:
        assert [user["vm"] for user in forced[name]["unmounted"]] == [fleet.vm]
    assert fleet.leftovers() == {}
    assert {name: left(host, storage) for name, host in hosts.items()} == dict.fromkeys(hosts, "")
