# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong with storage: told with its code and in time, and over by itself when its cause is."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from ansible_run import Ansible
from fleet import Fleet, checksum, guest_checksum

from modelfleet_lab import Host
from modelfleet_lab.polling import wait_until
from storage.servers import KEYS, S3_URL, STORAGES, VERIFY, Storage
from storage.test_back_ends import FILE, MODEL, MOUNT_POINT, NAME, center, info, task

pytestmark = pytest.mark.transport("view", why="storage is the same behind a device")

# Ansible itself, and what busy machines take beyond the deadlines.
BOUND = 40


@pytest.fixture
def mounted(storage: Storage, prepared: dict[str, Host], ansible: Ansible) -> Iterator[dict[str, Host]]:
    """Both hosts, with the storage mounted."""
    ansible.module("model_center_mount", center(storage), limit=storage.limit)
    hosts = {name: host for name, host in prepared.items() if storage.limit in (None, name)}
    yield hosts
    for host in hosts.values():
        if storage.server:
            host.run(["systemctl", "kill", "--signal=CONT", storage.server], check=False)
    ansible.module("model_center_mount", {"name": NAME, "state": "absent"})


def state(ansible: Ansible, wanted: str, limit: str | None = None) -> Callable[[], bool]:
    return lambda: {seen["state"] for seen in info(ansible, limit).values()} == {wanted}


def of(*names: str, long: tuple[str, ...] = ()) -> Any:
    """The storages of a test, and those with which it is only run when there is time."""
    wanted = [STORAGES[name] for name in names]
    more = [pytest.param(STORAGES[name], marks=pytest.mark.long) for name in long]
    return pytest.mark.parametrize("storage", [*wanted, *more], ids=str, indirect=True)


def kill_client(host: Host, storage: Storage) -> None:
    host.run(["pkill", "-KILL", "-f", f"({storage.client}).*{NAME}"])


@of("rclone", "gluster", long=("s3fs", "sftp", "juicefs-sqlite"))
def test_a_client_that_dies_is_brought_back(storage: Storage, mounted: dict[str, Host], ansible: Ansible) -> None:
    for host in mounted.values():
        kill_client(host, storage)
        if not storage.service:
            # Nobody supervises it; the timer does this once a minute.
            host.run(["systemctl", "start", f"modelfleet-keeper@{NAME}.service"], timeout=120)
    wait_until("the client is back", 60, state(ansible, "healthy", storage.limit))
    for host in mounted.values():
        assert host.run(["cat", f"{MOUNT_POINT}/{VERIFY}"]).stdout == '{"hidden_size": 8}\n'


@of("gluster")
def test_a_run_replaces_a_client_that_died(storage: Storage, mounted: dict[str, Host], ansible: Ansible) -> None:
    for host in mounted.values():
        host.run(["systemctl", "stop", f"modelfleet-keeper@{NAME}.timer"])
        kill_client(host, storage)
    wait_until("it is seen", 20, state(ansible, "dead"))
    for result in ansible.module("model_center_mount", center(storage)).values():
        assert result["actions"] == ["remount", "start_keeper"]
    assert state(ansible, "healthy")()


@of("s3fs", long=("juicefs-redis", "dav"))
def test_a_frozen_server_hangs_nobody(storage: Storage, mounted: dict[str, Host], ansible: Ansible) -> None:
    for host in mounted.values():
        host.run(["systemctl", "kill", "--signal=STOP", storage.server])
    began = time.monotonic()
    limit = storage.limit
    for seen in info(ansible, limit).values():
        assert seen["state"] in ("hung", "error"), seen
        assert seen["checks"][-1]["errno"]
    failed = ansible.module("model_center_mount", center(storage, timeout=5), ok=False, limit=limit)
    assert time.monotonic() - began < 2 * BOUND
    for result in failed.values():
        assert result["error_code"] in ("storage_timeout", "storage_error")
    warned = ansible.module("model_center_mount", center(storage, timeout=5, on_unhealthy="warn"), limit=limit)
    assert {result["changed"] for result in warned.values()} == {False}
    for host in mounted.values():
        host.run(["systemctl", "kill", "--signal=CONT", storage.server])
    wait_until("it answers again", 90, state(ansible, "healthy", limit))


WRONG: dict[str, tuple[str, dict[str, Any], set[str]]] = {
    "rclone, wrong secret": ("rclone", {"credentials": {**KEYS, "secret_key": "wrong"}}, {"storage_error"}),
    "rclone, wrong bucket": (
        "rclone",
        {"storage_url": S3_URL.replace("//models", "//no-such-bucket")},
        {"storage_wrong", "storage_error"},
    ),
    "rclone, nobody there": (
        "rclone",
        {"storage_url": S3_URL.replace("9000", "9009"), "options": ["retries=1"]},
        {"storage_error", "storage_timeout"},
    ),
    "s3fs, wrong secret": (
        "s3fs",
        {"credentials": {**KEYS, "secret_key": "wrong"}},
        {"center_mount_failed", "storage_error", "storage_wrong"},
    ),
    "s3fs, wrong bucket": (
        "s3fs",
        {"storage_url": S3_URL.replace("//models", "//no-such-bucket")},
        {"center_mount_failed", "storage_error", "storage_wrong"},
    ),
    "gluster, wrong volume": ("gluster", {"storage_url": "glusterfs://localhost/none"}, {"center_mount_failed"}),
    "juicefs, wrong password": (
        "juicefs-redis",
        {"credentials": {"meta_password": "wrong"}},
        {"center_mount_failed"},
    ),
    "sftp, wrong directory": ("sftp", {"storage_url": "sftp://svc@127.0.0.1/none"}, {"center_mount_failed"}),
    "image, not one": ("bind", {"storage_url": "image:///etc/hostname?fstype=erofs"}, {"invalid_input"}),
    "image, missing": ("bind", {"storage_url": "image:///data/none.squashfs"}, {"center_mount_failed"}),
    "program missing": ("bind", {"storage_url": "nfs://127.0.0.1/x"}, {"client_missing"}),
    "cache on the system's disk": ("rclone", {"cache_dir": "/var/cache/models"}, {"cache_on_root"}),
    "what must be there is not": ("squashfs", {"verify_path": "none"}, {"storage_wrong"}),
}


@pytest.fixture
def all_served(prepared: dict[str, Host], served: set[str]) -> dict[str, Host]:
    """Both hosts, with the servers that the wrong wishes are about."""
    for name in sorted({name for name, _changes, _codes in WRONG.values()} - served):
        for host in prepared.values():
            STORAGES[name].serve(host)
        served.add(name)
    return prepared


def test_what_is_wrong_has_its_code_and_leaves_nothing(all_served: dict[str, Host], ansible: Ansible) -> None:
    wishes = [center(STORAGES[name], timeout=20, **changes) for name, changes, _codes in WRONG.values()]
    run = ansible.play([task("model_center_mount", wish) for wish in wishes])
    assert run.seconds < len(WRONG) * BOUND / 2
    for where, results in run.results.items():
        for case, result in zip(WRONG, results, strict=True):
            assert (result.get("error_code") in WRONG[case][2], result["changed"]) == (True, False), (
                where,
                case,
                result,
            )
    for host in all_served.values():
        assert host.run(["findmnt", MOUNT_POINT], check=False).returncode != 0
        assert host.run(["find", "/etc/systemd", "/etc/modelfleet", "-name", f"*{NAME}*"], check=False).stdout == ""
        assert host.run(["pgrep", "-f", f"mount.*{NAME}"], check=False).stdout == ""


@pytest.mark.usefixtures("mounted")
@of("rclone")
def test_options_and_secrets_change_and_failures_are_undone(storage: Storage, ansible: Ansible) -> None:
    changed = center(storage, options=["buffer-size=16M"])
    for results in ansible.each("model_center_mount", [changed, changed]).values():
        assert [item["actions"] for item in results] == [["write_unit", "reload_systemd", "remount"]] * 2 + [[], []]
    wrong = center(storage, options=["buffer-size=16M"], credentials={**KEYS, "secret_key": "wrong"}, timeout=20)
    for result in ansible.module("model_center_mount", wrong, ok=False).values():
        assert result["error_code"] == "storage_error"
        assert "wrong" not in str(result["details"].get("journal", ""))
    # It is mounted as it was before.
    wait_until("it is as it was", 30, state(ansible, "healthy"))
    again = center(storage, options=["buffer-size=16M"])
    assert not any(result["changed"] for result in ansible.module("model_center_mount", again).values())


@pytest.mark.usefixtures("mounted")
@of("s3fs")
def test_another_client_takes_its_place(ansible: Ansible) -> None:
    limit = STORAGES["s3fs"].limit
    other = center(STORAGES["rclone"])
    for results in ansible.each("model_center_mount", [other, other], limit=limit).values():
        steps = [item["actions"] for item in results]
        assert steps == [["write_credentials", "write_unit", "reload_systemd", "remount"]] * 2 + [[], []]
    bind = center(STORAGES["bind"])
    for results in ansible.each("model_center_mount", [bind, bind], limit=limit).values():
        assert [result.get("msg") for result in results] == [None] * 4
        assert results[0]["actions"] == results[1]["actions"] and results[2]["actions"] == []
    for seen in info(ansible, limit).values():
        assert (seen["state"], seen["mount"]["fstype"] != "fuse.rclone", seen["drift"]) == ("healthy", True, [])


@of("squashfs")
def test_what_lies_over_it_is_taken_away(storage: Storage, mounted: dict[str, Host], ansible: Ansible) -> None:
    for host in mounted.values():
        host.run(["mount", "-t", "tmpfs", "over", MOUNT_POINT])
    assert state(ansible, "stacked")()
    for results in ansible.each("model_center_mount", [center(storage)]).values():
        assert [item["actions"] for item in results] == [["remount"], ["remount"]]
    assert state(ansible, "healthy")()
    for host in mounted.values():
        host.run(["mount", "-t", "tmpfs", "over", "/var/lib/modelfleet/centers"])
    try:
        assert state(ansible, "shadowed")()
        for result in ansible.module("model_center_mount", center(storage), ok=False).values():
            assert result["error_code"] == "center_shadowed"
    finally:
        for host in mounted.values():
            host.run(["umount", "/var/lib/modelfleet/centers"])


@of("squashfs")
def test_nobody_writes_into_the_empty_mount_point(mounted: dict[str, Host], ansible: Ansible) -> None:
    ansible.module("model_center_mount", {"name": NAME, "state": "unmounted"})
    for host in mounted.values():
        flags = host.run(["lsattr", "-d", MOUNT_POINT], check=False)
        if flags.returncode == 0:
            assert host.run(["touch", f"{MOUNT_POINT}/x"], check=False).returncode != 0


@of("rclone")
def test_a_guest_reads_again_after_the_client_died(storage: Storage, fleet: Fleet, ansible: Ansible) -> None:
    ansible.module("model_center_mount", center(storage))
    fleet.spoil()
    try:
        fleet.mount(MODEL, model_center=NAME)
        for host in fleet.hosts.values():
            kill_client(host, storage)
        wait_until("the client is back", 60, state(ansible, "healthy"))
        for seen in info(ansible).values():
            assert seen["stale_users"] == [fleet.vm]
        for result in fleet.mount(MODEL, model_center=NAME, force=True).values():
            assert result["changed"]
        for guest in fleet.guests.values():
            assert guest_checksum(guest, f"/models/{FILE}") == checksum(FILE)
        for seen in info(ansible).values():
            assert seen["stale_users"] == []
    finally:
        fleet.unmount(MODEL, force=True)
        ansible.module("model_center_mount", {"name": NAME, "state": "absent"})


@of("rclone", long=("squashfs",))
def test_a_center_is_back_after_a_reboot(storage: Storage, mounted: dict[str, Host], ansible: Ansible) -> None:
    host = mounted["alpha"]
    host.reboot()
    host.run(["mount", "-t", "tmpfs", "-o", "size=256m", "cache", "/cache"])
    storage.serve(host)

    def back() -> bool:
        host.run(["systemctl", "start", f"modelfleet-keeper@{NAME}.service"], check=False, timeout=150)
        return info(ansible)["alpha"]["state"] == "healthy"

    wait_until("it is mounted again", 120, back)
