# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model center that becomes another one while it is mounted: elsewhere, or with a storage that is down."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_run import Ansible
from fleet import Fleet, checksum, guest_checksum

from modelfleet_lab import Host
from modelfleet_lab.polling import wait_until
from storage.servers import Storage
from storage.test_back_ends import FILE, MODEL, MOUNT_POINT, NAME, center, info, task
from storage.test_storage_faults import UNCACHED, of, send, state

pytestmark = [pytest.mark.transport("view", why="storage is the same behind a device"), pytest.mark.long]

ELSEWHERE = "/mnt/moved 9%"


def mounts(host: Host) -> dict[str, str]:
    """What is seen at both places of a center, by place."""
    found = {}
    for place in (MOUNT_POINT, ELSEWHERE):
        seen = host.run(["findmnt", "--noheadings", "--output=FSTYPE", place], check=False).stdout.strip()
        found.update({place: seen} if seen else {})
    return found


def unit(host: Host) -> str:
    """The text of its unit."""
    return host.run(["sh", "-c", "cat /etc/systemd/system/*depot*9.*"]).stdout


@of("sftp", "rclone")
def test_a_center_of_a_service_moves(storage: Storage, fleet: Fleet, ansible: Ansible) -> None:
    moved = center(storage, mount_point=ELSEWHERE)
    ansible.module("model_center_mount", center(storage))
    fstype = info(ansible)["alpha"]["mount"]["fstype"]
    fleet.spoil()
    try:
        fleet.mount(MODEL, model_center=NAME)
        for result in ansible.module("model_center_mount", moved, ok=False).values():
            assert (result["error_code"], result["details"]["vms"]) == ("center_in_use", [fleet.vm])
        fleet.unmount(MODEL)
        # What cannot be mounted at its new place is where it was.
        wrong = {**moved, "verify_path": "none", "timeout": 20}
        for result in ansible.module("model_center_mount", wrong, ok=False).values():
            assert result["error_code"] == "storage_wrong"
        for host in fleet.hosts.values():
            assert mounts(host) == {MOUNT_POINT: fstype}
        wait_until("it is as it was", 30, state(ansible, "healthy"))
        steps = ["unmount", "make_mount_point", "write_unit", "reload_systemd", "mount", "remove_mount_point"]
        for results in ansible.each("model_center_mount", [moved, moved]).values():
            assert [result.get("actions", result) for result in results] == [steps, steps, [], []]
        for host in fleet.hosts.values():
            assert mounts(host) == {ELSEWHERE: fstype}
            assert host.run(["test", "-e", MOUNT_POINT], check=False).returncode != 0
        fleet.mount(MODEL, model_center=NAME)
        for guest in fleet.guests.values():
            assert guest_checksum(guest, f"/models/{FILE}") == checksum(FILE)
    finally:
        fleet.unmount(MODEL, force=True)
        ansible.module("model_center_mount", {"name": NAME, "state": "absent"})
    for host in fleet.hosts.values():
        assert mounts(host) == {}
        assert host.run(["test", "-e", ELSEWHERE], check=False).returncode != 0


@pytest.mark.usefixtures("hurried")
@of("sftp", "gluster", UNCACHED)
def test_a_change_while_the_storage_is_down_is_undone_and_heals(
    storage: Storage, mounted: dict[str, Host], ansible: Ansible
) -> None:
    changed: dict[str, Any] = center(storage, on_unhealthy="remount", **{**storage.change, "timeout": 10})
    before = {
        name: host.run(["sh", "-c", "cat /etc/systemd/system/*depot*9*"]).stdout for name, host in mounted.items()
    }
    send(mounted, "STOP", storage.server)
    run = ansible.play([task("model_center_mount", changed)])
    assert run.seconds < 120
    for name, (result,) in run.results.items():
        assert result.get("error_code") in ("storage_timeout", "center_mount_failed", "storage_error"), (name, result)
    send(mounted, "CONT", storage.server)
    wait_until("it answers again", 120, state(ansible, "healthy"))
    for name, host in mounted.items():
        assert unit(host) == before[name]
    for result in ansible.module("model_center_mount", center(storage)).values():
        assert result["actions"] == []
