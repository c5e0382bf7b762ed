# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A line of somebody else's in fstab: it yields to a model center, and has its place again when that fails or goes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ansible_run import Ansible

from modelfleet_lab import Host
from storage.servers import STORAGES, Storage
from storage.test_back_ends import MOUNT_POINT, NAME, center, info, task

pytestmark = pytest.mark.transport("view", why="storage is the same behind a device")

MOUNT = r"var-lib-modelfleet-centers-depot\x2d9.mount"
THEIRS = "/srv/theirs"
# What is wrong with a center that cannot be mounted.
FAILS = {"sftp": "sftp://svc@127.0.0.1:2222/none", "squashfs": "image:///data/none.squashfs"}


def seen(host: Host) -> str:
    """What is seen at the mount point."""
    found = host.run(["findmnt", "--noheadings", "--output=SOURCE,FSTYPE", MOUNT_POINT], check=False).stdout
    return "theirs" if THEIRS in found else found.strip()


def reload(host: Host, lines: str) -> None:
    host.write("/etc/fstab", lines)
    host.run(["systemctl", "daemon-reload"])


@pytest.fixture
def theirs(prepared: dict[str, Host], ansible: Ansible) -> Iterator[dict[str, Host]]:
    """Both hosts, with something mounted by fstab where the center shall be."""
    before = {name: host.run(["cat", "/etc/fstab"], check=False).stdout for name, host in prepared.items()}
    for name, host in prepared.items():
        host.run(["mkdir", "-p", THEIRS, MOUNT_POINT])
        host.write(f"{THEIRS}/readme", "theirs\n")
        reload(host, f"{before[name]}\n{THEIRS} {MOUNT_POINT} none bind,ro 0 0\n")
        host.run(["systemctl", "start", MOUNT])
        assert host.run(["cat", f"{MOUNT_POINT}/readme"]).stdout == "theirs\n"
    yield prepared
    ansible.module("model_center_mount", {"name": NAME, "state": "absent"})
    for name, host in prepared.items():
        host.run(["systemctl", "stop", "lab-boot.target", MOUNT], check=False)
        host.run(["rm", "-f", "/run/systemd/system/lab-boot.target"])
        reload(host, before[name])


@pytest.mark.parametrize(
    "storage", [STORAGES["sftp"], pytest.param(STORAGES["squashfs"], marks=pytest.mark.long)], ids=str, indirect=True
)
def test_a_line_of_fstab_yields_and_has_its_place_again(
    storage: Storage, theirs: dict[str, Host], ansible: Ansible
) -> None:
    wish = center(storage, take_over=True)
    fails = {**wish, "storage_url": FAILS[storage.name], "timeout": 20}
    calls = [task("model_center_mount", center(storage)), task("model_center_mount", fails)]
    for name, results in ansible.play(calls).results.items():
        codes = [result.get("error_code") for result in results]
        assert codes == ["center_conflict", "center_mount_failed"], (name, results)
    for host in theirs.values():
        assert host.run(["cat", f"{MOUNT_POINT}/readme"]).stdout == "theirs\n"
        assert host.run(["find", "/etc/systemd", "-name", "modelfleet-center.conf"]).stdout == ""
    # A mount unit has the name of the one that is made of the line, which needs no more to be passed over.
    yields = storage.service
    for results in ansible.each("model_center_mount", [wish, wish]).values():
        assert [result.get("msg") for result in results] == [None] * 4
        assert ["take_over" in result["actions"] for result in results] == [yields, yields, False, False]
        assert results[2]["actions"] == results[3]["actions"] == []
    assert {item["state"] for item in info(ansible).values()} == {"healthy"}
    if storage.service:
        ansible.module("model_center_mount", {"name": NAME, "state": "unmounted"})
        for host in theirs.values():
            # As local-fs.target at a boot, which must not fail for it.
            host.write("/run/systemd/system/lab-boot.target", f"[Unit]\nRequires={MOUNT}\nAfter={MOUNT}\n")
            host.run(["systemctl", "daemon-reload"])
            host.run(["systemctl", "start", "lab-boot.target"])
            assert seen(host) == ""
    ansible.module("model_center_mount", {"name": NAME, "state": "absent"})
    for host in theirs.values():
        host.run(["systemctl", "start", MOUNT])
        assert seen(host) == "theirs"


@pytest.mark.long
@pytest.mark.parametrize("storage", [STORAGES["sftp"], STORAGES["squashfs"]], ids=str, indirect=True)
def test_a_center_becomes_what_somebody_else_mounts_and_back(
    storage: Storage, theirs: dict[str, Host], ansible: Ansible
) -> None:
    wish = center(storage, take_over=True)
    adopted = {"name": NAME, "storage_url": f"existing://{MOUNT_POINT}", "verify_path": "readme", "timeout": 60}
    for results in ansible.each("model_center_mount", [wish, adopted, adopted]).values():
        assert [result.get("msg") for result in results] == [None] * 6
        assert [result["actions"] for result in results[4:]] == [[], []]
    for host in theirs.values():
        assert seen(host) == "theirs"
    assert {item["state"] for item in info(ansible).values()} == {"healthy"}
    # It is theirs, and stays when it is only looked at no more.
    for results in ansible.play([task("model_center_mount", center(storage))]).results.values():
        assert results[0]["error_code"] == "center_conflict"
    for results in ansible.each("model_center_mount", [wish, adopted]).values():
        assert [result.get("msg") for result in results] == [None] * 4
    ansible.module("model_center_mount", {"name": NAME, "state": "absent"})
    for host in theirs.values():
        assert seen(host) == "theirs"
        # Nobody else's, there is nothing to become.
        host.run(["systemctl", "stop", MOUNT])
        reload(host, "")
    ansible.module("model_center_mount", center(storage))
    for result in ansible.module("model_center_mount", {**adopted, "timeout": 10}, ok=False).values():
        assert result["error_code"] == "center_mount_failed"
    assert {item["state"] for item in info(ansible).values()} == {"healthy"}
