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
from storage.servers import SECRETS, STORAGES, Storage

NAME = "depot-9"
MOUNT_POINT = f"/var/lib/modelfleet/centers/{NAME}"
MODEL, FILE = "acme/embed.v2", "acme/embed.v2/model.safetensors"


def center(storage: Storage, **more: Any) -> dict[str, Any]:
    return {"name": NAME, **storage.arguments, **more}


def absent(ansible: Ansible, **options: Any) -> dict[str, Any]:
    return ansible.module("model_center_mount", {"name": NAME, "state": "absent", **options})


def info(ansible: Ansible) -> dict[str, Any]:
    results = ansible.module("model_center_info", {"names": [NAME], "timeout": 5})
    return {host: result["model_centers"][0] for host, result in results.items()}


def told_secrets(host: Host) -> list[str]:
    """Where a secret can be seen by somebody who is not root, or in a log."""
    units = "systemctl show '*depot*' 'modelfleet*'; cat /etc/systemd/system/*depot* /etc/systemd/system/modelfleet*"
    table = "cat /proc/self/mountinfo /etc/fstab; journalctl --no-pager --unit='*depot*'; findmnt"
    # The servers of the tests have their secrets in their arguments; what they run for is not the point here.
    words = "ps -eo args | grep -v 'rclone serve\\|redis-server\\|grep'"
    seen = host.run(["sh", "-c", f"{units}; {table}; {words}"], check=False).stdout
    return [secret for secret in SECRETS if secret in seen]


def unchanged(ansible: Ansible, arguments: dict[str, Any], steps: list[str]) -> None:
    """Check, do, check again, do again."""
    for host, results in ansible.each("model_center_mount", [arguments, arguments]).items():
        assert [result.get("msg") for result in results] == [None] * 4, host
        assert [result["actions"] for result in results] == [steps, steps, [], []], host
        assert results[-1]["health"] == "healthy", host


@pytest.mark.parametrize("storage", STORAGES.values(), ids=str, indirect=True)
def test_from_nothing_to_a_vm_and_back(storage: Storage, fleet: Fleet, ansible: Ansible) -> None:
    secrets = ["write_credentials"] if "credentials" in storage.arguments else []
    steps = ["make_mount_point", *secrets, "write_unit", "reload_systemd", "enable_unit", "mount", "start_keeper"]
    unchanged(ansible, center(storage), steps)
    try:
        for host in fleet.hosts.values():
            for path in FILES:
                assert host.run(["sha256sum", f"{MOUNT_POINT}/{path}"]).stdout.lstrip("\\")[:64] == checksum(path)
            assert host.run(["touch", f"{MOUNT_POINT}/x"], check=False).returncode != 0
            assert told_secrets(host) == []
        for seen in info(ansible).values():
            assert (seen["state"], seen["drift"], seen["users"], seen["keeper"]) == ("healthy", [], [], True), seen
            assert seen["mount"]["read_only"] is True and seen["mount"]["depth"] == 1
            assert bool(seen["daemon"]) is bool(storage.client)

        fleet.mount(MODEL, model_center=NAME)
        for guest in fleet.guests.values():
            assert guest_checksum(guest, f"/models/{FILE}") == checksum(FILE)
        gone = {"name": NAME, "state": "absent"}
        for name, result in ansible.module("model_center_mount", gone, ok=False).items():
            assert (result["error_code"], result["details"]["vms"]) == ("center_in_use", [fleet.vm]), name
        for seen in info(ansible).values():
            assert [(user["vm"], user["models"], user["stale"]) for user in seen["users"]] == [
                (fleet.vm, [MODEL], False)
            ]
        for result in absent(ansible, force=True).values():
            assert [user["vm"] for user in result["unmounted"]] == [fleet.vm]
        assert fleet.leftovers() == {}
    finally:
        fleet.unmount(MODEL)
        absent(ansible)
    for host in fleet.hosts.values():
        assert host.run(["findmnt", MOUNT_POINT], check=False).returncode != 0
        left = host.run(["find", "/etc/systemd", "/etc/modelfleet", MOUNT_POINT, "-name", f"*{NAME}*"], check=False)
        assert left.stdout == ""
        if storage.client:
            assert host.run(["pgrep", "-f", f"({storage.client}).*{NAME}"], check=False).stdout == ""
