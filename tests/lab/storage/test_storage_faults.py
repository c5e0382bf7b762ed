# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What goes wrong with storage: told with its code and in time, and over by itself when its cause is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from ansible_run import Ansible
from fleet import MODELS, Fleet, checksum, guest_checksum

from modelfleet_lab import Host
from modelfleet_lab.polling import wait_until
from storage.servers import KEYS, S3_URL, SFTP_URL, STORAGES, VERIFY, Storage, serve, serve_sftp_afar
from storage.test_back_ends import FILE, MODEL, MOUNT_POINT, NAME, center, info, task

pytestmark = pytest.mark.transport("view", why="storage is the same behind a device")

# With what it keeps on a disk it would answer without its server.
UNCACHED = "rclone without a cache"
_NO_CACHE = {key: value for key, value in STORAGES["rclone"].arguments.items() if not key.startswith("cache")}
_KNOWN = {**STORAGES, UNCACHED: dataclasses.replace(STORAGES["rclone"], name=UNCACHED, arguments=_NO_CACHE)}

# Ansible itself, and what busy machines take beyond the deadlines.
BOUND = 40


def state(ansible: Ansible, wanted: str, limit: str | None = None) -> Callable[[], bool]:
    return lambda: {seen["state"] for seen in info(ansible, limit).values()} == {wanted}


def of(*names: str, long: tuple[str, ...] = ()) -> Any:
    """The storages of a test, and those with which it is only run when there is time."""
    wanted = [_KNOWN[name] for name in names]
    more = [pytest.param(_KNOWN[name], marks=pytest.mark.long) for name in long]
    return pytest.mark.parametrize("storage", [*wanted, *more], ids=str, indirect=True)


def kill_client(host: Host, storage: Storage) -> None:
    host.run(["pkill", "-KILL", "-f", f"({storage.client}).*{NAME}"])


@of("rclone", long=("s3fs", "sftp", "juicefs-sqlite"))
def test_a_client_that_dies_is_brought_back(storage: Storage, mounted: dict[str, Host], ansible: Ansible) -> None:
    for host in mounted.values():
        host.run(["systemctl", "stop", f"modelfleet-keeper@{NAME}.timer"])
        kill_client(host, storage)
    is_back(storage, mounted, ansible)


@pytest.mark.usefixtures("hurried")
@of("gluster")
def test_the_timer_brings_back_what_nobody_supervises(
    storage: Storage, mounted: dict[str, Host], ansible: Ansible
) -> None:
    for host in mounted.values():
        kill_client(host, storage)
    is_back(storage, mounted, ansible)
    for host in mounted.values():
        said = host.run(["journalctl", "--output=cat", f"--unit=modelfleet-keeper@{NAME}.service"]).stdout
        assert "mounting it again" in said and "mounted" in said.splitlines()


def is_back(storage: Storage, mounted: dict[str, Host], ansible: Ansible) -> None:
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


# What is seen of storage whose server does not answer, or is not there: each client has its own way to tell.
BROKEN = {"hung", "error", "unreachable"}
CODES = {"storage_timeout", "storage_error", "storage_unreachable"}


def send(hosts: dict[str, Host], signal: str, server: str) -> None:
    for host in hosts.values():
        host.run(["systemctl", "kill", f"--signal={signal}", server])


@of("s3fs", long=(UNCACHED, "sftp", "gluster", "juicefs-redis", "dav"))
def test_a_frozen_server_hangs_nobody(storage: Storage, mounted: dict[str, Host], ansible: Ansible) -> None:
    send(mounted, "STOP", storage.server)
    told_in_time(center(storage), storage.limit, ansible)
    send(mounted, "CONT", storage.server)
    heals(storage, mounted, ansible)


@pytest.mark.long
@of("sftp", "s3fs", UNCACHED, "gluster", "juicefs-redis")
def test_content_of_storage_is_read_or_given_up(storage: Storage, mounted: dict[str, Host], ansible: Ansible) -> None:
    model = {"model": MODEL, "model_center": NAME, "timeout": 5}
    calls = [
        task("model_verify", model),
        task("model_verify", {**model, "reread": True}),
        task("model_prefetch", {**model, "reserve_mb": 0}),
        task("model_prefetch", {**model, "into": "client"}),
    ]
    read = ansible.play(calls, limit=storage.limit)
    for first, again, kept, client in read.results.values():
        assert {entry["path"]: entry["sha256"] for entry in first["manifest"]}["model.safetensors"] == checksum(FILE)
        assert (first["changed"], again["changed"], again["bytes_read"]) == (True, False, first["bytes"])
        assert client["bytes_read"] == first["bytes"] == kept["bytes"]
    send(mounted, "STOP", storage.server)
    told = ansible.play(calls, limit=storage.limit)
    assert told.seconds < 4 * BOUND
    for results in told.results.values():
        # What is in memory may be told without a server.
        assert {result["error_code"] for result in results if result["failed"]} <= CODES
        assert results[1]["failed"]
    send(mounted, "CONT", storage.server)
    wait_until("the server answers again", 60, state(ansible, "healthy", storage.limit))
    for result in ansible.module("model_verify", {**model, "timeout": 30}, limit=storage.limit).values():
        assert not result["failed"]
        assert result["digest"]
    for host in mounted.values():
        host.run(["sh", "-c", "rm -f /var/lib/modelfleet/manifests/*"])


@of("sftp", long=(UNCACHED, "s3fs", "gluster", "juicefs-redis", "dav"))
def test_a_server_that_is_killed_comes_back(storage: Storage, mounted: dict[str, Host], ansible: Ansible) -> None:
    send(mounted, "KILL", storage.server)
    told_in_time(center(storage), storage.limit, ansible)
    for host in mounted.values():
        storage.serve(host)
    heals(storage, mounted, ansible)


@pytest.mark.long
@of("sftp")
def test_a_network_that_was_cut_is_waited_for(storage: Storage, prepared: dict[str, Host], ansible: Ansible) -> None:
    """One host mounts from the other, and nothing gets from one to the other for a while; nobody does anything."""
    here, there = prepared["alpha"], prepared["beta"]
    serve_sftp_afar(there)
    key = there.run(["cat", "/etc/ssh/ssh_host_ed25519_key.pub"]).stdout
    known = {"known_hosts": f"[{there.address}]:2223 {key}"}
    url = f"sftp://svc@{there.address}:2223{MODELS}"
    wish = center(storage, storage_url=url, credentials={**storage.arguments["credentials"], **known})
    ansible.module("model_center_mount", wish, limit="alpha")
    try:
        # Neither an answer nor a refusal: what comes from there is dropped as well, being from nowhere.
        there.run(["ip", "route", "add", "blackhole", here.address])
        try:
            told_in_time(wish, "alpha", ansible)
        finally:
            there.run(["ip", "route", "del", "blackhole", here.address])
        heals(storage, {"alpha": here}, ansible, limit="alpha")
    finally:
        ansible.module("model_center_mount", {"name": NAME, "state": "absent"}, limit="alpha")


def told_in_time(wish: dict[str, Any], limit: str | None, ansible: Ansible) -> None:
    """Both modules say in time what is wrong, and change nothing."""

    def broken() -> bool:
        return all(seen["state"] in BROKEN for seen in info(ansible, limit).values())

    wait_until("it is seen", BOUND, broken)
    impatient = {**wish, "timeout": 5}
    calls = [task("model_center_mount", {**impatient, "on_unhealthy": how}) for how in ("fail", "warn")]
    run = ansible.play([task("model_center_info", {"names": [NAME], "timeout": 5}), *calls], limit=limit)
    assert run.seconds < BOUND
    for results in run.results.values():
        assert results[0]["model_centers"][0]["state"] in BROKEN
        assert (results[1].get("error_code") in CODES, results[1]["changed"]) == (True, False), results[1]
        assert (results[2].get("msg"), results[2]["changed"]) == (None, False), results[2]


def heals(storage: Storage, mounted: dict[str, Host], ansible: Ansible, limit: str | None = None) -> None:
    """It answers again without anybody's help, and gives the right bytes."""
    wait_until("it answers again", 90, state(ansible, "healthy", limit or storage.limit))
    for host in mounted.values():
        assert host.run(["sha256sum", f"{MOUNT_POINT}/{FILE}"]).stdout[:64] == checksum(FILE)


@pytest.mark.long
@of("juicefs-redis")
def test_names_answer_while_the_bytes_do_not(mounted: dict[str, Host], storage: Storage, ansible: Ansible) -> None:
    """The object store behind JuiceFS freezes: what was not read before cannot be, and can be afterwards."""
    read = ["timeout", "--signal=KILL", "5", "sha256sum", f"{MOUNT_POINT}/{FILE}"]
    send(mounted, "STOP", "lab-s3")
    try:
        for host in mounted.values():
            assert host.run(["ls", MOUNT_POINT]).stdout.split() == ["acme", "llama-nano"]
            assert host.run(read, check=False).returncode != 0
        # What its name, and the bytes of verify_path, tell.
        for seen in info(ansible).values():
            assert [check["errno"] for check in seen["checks"][:3]] == [""] * 3
            assert seen["state"] in ("healthy", "hung")
    finally:
        send(mounted, "CONT", "lab-s3")
    heals(storage, mounted, ansible)


# A storage, what is wrong with what is asked of it, and the codes that this may have.
Wrong = dict[str, tuple[str, dict[str, Any], set[str]]]
_FAILED = {"center_mount_failed"}
_FROM_WITHIN = {"storage_error", "storage_wrong"}
_OTHER_BUCKET = {"storage_url": S3_URL.replace("//models", "//no-such-bucket")}
WRONG: Wrong = {
    "secret": ("rclone", {"credentials": {**KEYS, "secret_key": "wrong"}}, {"storage_error"}),
    "bucket": ("rclone", _OTHER_BUCKET, _FROM_WITHIN),
    "volume": ("gluster", {"storage_url": "glusterfs://localhost/none"}, _FAILED),
    "directory": ("sftp", {"storage_url": f"{SFTP_URL}/none"}, _FAILED),
    "no image": ("bind", {"storage_url": "image:///etc/hostname?fstype=erofs"}, {"invalid_input"}),
    "image missing": ("bind", {"storage_url": "image:///data/none.squashfs"}, _FAILED),
    "program missing": ("bind", {"storage_url": "nfs://127.0.0.1/x"}, {"client_missing"}),
    "cache on the system's disk": ("rclone", {"cache_dir": "/var/cache/models"}, {"cache_on_root"}),
    "what must be there is not": ("squashfs", {"verify_path": "none"}, {"storage_wrong"}),
}
# Their clients take their time to say so.
WRONG_AT_LENGTH: Wrong = {
    "nobody there": (
        "rclone",
        {"storage_url": S3_URL.replace("9000", "9009"), "options": ["retries=1"]},
        {"storage_error", "storage_timeout"},
    ),
    "secret of s3fs": ("s3fs", {"credentials": {**KEYS, "secret_key": "wrong"}}, _FAILED | _FROM_WITHIN),
    "bucket of s3fs": ("s3fs", _OTHER_BUCKET, _FAILED | _FROM_WITHIN),
    "password": ("juicefs-redis", {"credentials": {"meta_password": "wrong"}}, _FAILED),
}


@pytest.mark.parametrize("cases", [WRONG, pytest.param(WRONG_AT_LENGTH, marks=pytest.mark.long)], ids=["usual", "long"])
def test_what_is_wrong_has_its_code_and_leaves_nothing(
    cases: Wrong, prepared: dict[str, Host], served: set[str], ansible: Ansible
) -> None:
    serve(prepared, served, *(STORAGES[name] for name, _changes, _codes in cases.values()))
    wishes = [center(STORAGES[name], timeout=20, **changes) for name, changes, _codes in cases.values()]
    run = ansible.play([task("model_center_mount", wish) for wish in wishes])
    assert run.seconds < len(cases) * BOUND / 2
    for where, results in run.results.items():
        for case, result in zip(cases, results, strict=True):
            seen = (result.get("error_code") in cases[case][2], result["changed"])
            assert seen == (True, False), (where, case, result)
    for host in prepared.values():
        assert host.run(["findmnt", MOUNT_POINT], check=False).returncode != 0
        assert host.run(["find", "/etc/systemd", "/etc/modelfleet", "-name", f"*{NAME}*"], check=False).stdout == ""
        assert host.run(["pgrep", "-f", f"mount.*{NAME}"], check=False).stdout == ""


@pytest.mark.usefixtures("mounted")
@of("rclone")
def test_a_change_that_fails_is_undone(storage: Storage, ansible: Ansible) -> None:
    wrong = center(storage, options=["buffer-size=16M"], credentials={**KEYS, "secret_key": "wrong"}, timeout=20)
    for result in ansible.module("model_center_mount", wrong, ok=False).values():
        assert result["error_code"] == "storage_error"
        assert "wrong" not in str(result["details"].get("journal", ""))
    # It is mounted as it was before.
    wait_until("it is as it was", 30, state(ansible, "healthy"))
    assert not any(result["changed"] for result in ansible.module("model_center_mount", center(storage)).values())


@pytest.mark.long
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
    # Nobody writes into what is left when it is not mounted, where the file system of the host can see to that.
    ansible.module("model_center_mount", {"name": NAME, "state": "unmounted"})
    for host in mounted.values():
        if host.run(["lsattr", "-d", MOUNT_POINT], check=False).returncode == 0:
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


@pytest.mark.long
@of("rclone", "squashfs")
def test_a_center_is_back_after_a_reboot(storage: Storage, mounted: dict[str, Host], ansible: Ansible) -> None:
    host = mounted["alpha"]
    host.reboot()
    host.run(["mount", "-t", "tmpfs", "-o", "size=256m", "cache", "/cache"])
    storage.serve(host)

    def back() -> bool:
        host.run(["systemctl", "start", f"modelfleet-keeper@{NAME}.service"], check=False, timeout=150)
        return info(ansible)["alpha"]["state"] == "healthy"

    wait_until("it is mounted again", 120, back)
