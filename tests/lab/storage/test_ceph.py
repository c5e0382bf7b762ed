# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""CephFS by ceph-fuse when something of it goes wrong: each of its daemons, the client, the key, the names."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_run import Ansible
from fleet import FILES, Fleet, checksum, guest_checksum

from modelfleet_lab import Host
from modelfleet_lab.errors import TimedOut
from modelfleet_lab.polling import wait_until
from storage import ceph_server, told
from storage.ceph_server import CEPH, CLIENT, DISK, FILE_SYSTEM, METADATA, MONITOR
from storage.servers import Storage
from storage.test_back_ends import FILE, MODEL, MOUNT_POINT, NAME, center, info, left, task
from storage.test_storage_faults import BOUND, kill_client, state

pytestmark = [
    pytest.mark.long,
    pytest.mark.transport("view", why="storage is the same behind a device"),
    pytest.mark.parametrize("storage", [CEPH], ids=str, indirect=True),
]

ABSENT = {"name": NAME, "state": "absent"}
# A metadata server that comes back waits for its clients before it answers.
BACK = 120


@pytest.fixture(autouse=True)
def with_old_key(storage: Storage, hosts: dict[str, Host]) -> Storage:
    """The storage with the key that it is mounted with here, whatever ran before."""
    for host in hosts.values():
        ceph_server.take_old_key(host)
    return storage


@pytest.fixture
def mounted(storage: Storage, prepared: dict[str, Host], ansible: Ansible) -> Iterator[dict[str, Host]]:
    """Both hosts, with the storage mounted, and all its daemons afterwards."""
    ansible.module("model_center_mount", center(storage))
    yield prepared
    for host in prepared.values():
        for unit in (MONITOR, DISK, METADATA):
            heal(host, unit)
    ansible.module("model_center_mount", ABSENT)


def heal(host: Host, unit: str) -> None:
    host.run(["systemctl", "kill", "--signal=CONT", unit], check=False)
    ceph_server.start(host, unit)


def spoil(host: Host, unit: str, signal: str) -> None:
    host.run(["systemctl", "kill", f"--signal={signal}", unit])


def answers_again(ansible: Ansible) -> None:
    try:
        wait_until("it answers again", BACK, state(ansible, "healthy"))
    except TimedOut as problem:
        raise AssertionError(info(ansible)) from problem


@pytest.mark.parametrize("signal", ["STOP", "KILL"])
@pytest.mark.parametrize("unit", [METADATA, DISK, MONITOR])
def test_a_daemon_that_is_away_hangs_nobody(
    unit: str, signal: str, storage: Storage, mounted: dict[str, Host], ansible: Ansible
) -> None:
    for host in mounted.values():
        spoil(host, unit, signal)
    # What the client was told of names it may tell for a minute. Of bytes and of sizes it is not believed.
    wait_until("it is noticed", 90 if unit == METADATA else 20, state(ansible, "hung"))
    began = time.monotonic()
    for seen in info(ansible).values():
        assert seen["state"] == "hung", seen
    failed = ansible.module("model_center_mount", center(storage, timeout=5), ok=False)
    assert {result["error_code"] for result in failed.values()} == {"storage_timeout"}
    warned = ansible.module("model_center_mount", center(storage, timeout=5, on_unhealthy="warn"))
    assert {result["changed"] for result in warned.values()} == {False}
    assert time.monotonic() - began < 2 * BOUND
    for host in mounted.values():
        heal(host, unit)
    answers_again(ansible)
    for host in mounted.values():
        assert host.run(["sha256sum", f"{MOUNT_POINT}/{FILE}"]).stdout.lstrip("\\")[:64] == checksum(FILE)


def test_it_goes_while_nobody_answers(storage: Storage, mounted: dict[str, Host], ansible: Ansible) -> None:
    for host in mounted.values():
        spoil(host, METADATA, "STOP")
    began = time.monotonic()
    ansible.module("model_center_mount", ABSENT)
    assert time.monotonic() - began < 2 * BOUND
    assert {left(host, storage) for host in mounted.values()} == {""}


def test_a_client_that_is_killed_or_thrown_out_is_brought_back(
    storage: Storage, mounted: dict[str, Host], ansible: Ansible
) -> None:
    for host in mounted.values():
        kill_client(host, storage)
    wait_until("the client is back", 60, state(ansible, "healthy"))
    for host in mounted.values():
        sessions = json.loads(ceph_server.ceph(host, "tell", "mds.a", "client", "ls"))
        for session in sessions:
            ceph_server.ceph(host, "tell", "mds.a", "client", "evict", f"id={session['id']}")
        assert sessions
    wait_until("it is noticed", 60, lambda: not state(ansible, "healthy")())
    for host in mounted.values():
        host.run(["systemctl", "start", f"modelfleet-keeper@{NAME}.service"], timeout=150)
    assert state(ansible, "healthy")()


def test_a_guest_reads_on_after_the_cluster_stood_still(storage: Storage, fleet: Fleet, ansible: Ansible) -> None:
    ansible.module("model_center_mount", center(storage))
    try:
        fleet.mount(MODEL, model_center=NAME)
        for host in fleet.hosts.values():
            for unit in (METADATA, DISK):
                spoil(host, unit, "STOP")
        assert state(ansible, "hung")()
        for host in fleet.hosts.values():
            for unit in (METADATA, DISK):
                heal(host, unit)
        answers_again(ansible)
        for guest in fleet.guests.values():
            assert guest_checksum(guest, f"/models/{FILE}") == checksum(FILE)
    finally:
        fleet.unmount(MODEL, force=True)
        ansible.module("model_center_mount", ABSENT)


URL = CEPH.arguments["storage_url"]
WRONG: dict[str, tuple[dict[str, Any], set[str]]] = {
    "another key": ({"credentials": {"cephx_key": ceph_server.new_key()}}, {"center_mount_failed"}),
    "no key": ({"credentials": {"cephx_key": "none"}}, {"center_mount_failed"}),
    "no credentials": ({"credentials": {}}, {"center_mount_failed"}),
    "another client": ({"storage_url": URL.replace(CLIENT, "nobody")}, {"center_mount_failed"}),
    "another file system": ({"storage_url": f"{URL}2"}, {"center_mount_failed"}),
    "another directory": ({"storage_url": f"{URL}/none"}, {"center_mount_failed"}),
    "nobody there": ({"storage_url": URL.replace("127.0.0.1", "127.0.0.9")}, {"storage_timeout"}),
    "what must be there is not": ({"verify_path": "none"}, {"storage_wrong"}),
}


def test_what_is_wrong_has_its_code_and_leaves_nothing(
    storage: Storage, prepared: dict[str, Host], ansible: Ansible
) -> None:
    wishes = [center(storage, timeout=20, **changes) for changes, _codes in WRONG.values()]
    run = ansible.play([task("model_center_mount", wish) for wish in wishes])
    assert run.seconds < len(WRONG) * BOUND
    for where, results in run.results.items():
        for case, result in zip(WRONG, results, strict=True):
            assert result.get("error_code") in WRONG[case][1], (where, case, result)
            assert not result["changed"], (where, case)
    assert told.of((ceph_server.KEY, ceph_server.NEW_KEY), {"output": run.output}) == {}
    assert {left(host, storage) for host in prepared.values()} == {""}


def test_a_directory_of_a_file_system(storage: Storage, mounted: dict[str, Host], ansible: Ansible) -> None:
    part = center(storage, storage_url=f"ceph://{CLIENT}@127.0.0.1/{FILE_SYSTEM}/acme", verify_path="embed.v2")
    steps = ["write_unit", "reload_systemd", "remount"]
    for results in ansible.each("model_center_mount", [part, part]).values():
        assert [result["actions"] for result in results] == [steps, steps, [], []]
    for host in mounted.values():
        seen = host.run(["find", MOUNT_POINT, "-type", "f"]).stdout.splitlines()
        below = {f"{MOUNT_POINT}/{path.removeprefix('acme/')}" for path in FILES if path.startswith("acme/")}
        assert set(seen) == below
