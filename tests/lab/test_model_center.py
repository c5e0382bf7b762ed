# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Model centers on their hosts: every state four times (check, do, check, do), and what stands in the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from ansible_run import Ansible
from fleet import FILES, publish

from modelfleet_lab import Host

NAME = "zoo-2"
STORAGE = "/data/more models"
URL = "file:///data/more%20models"
MOUNT_POINT = f"/var/lib/modelfleet/centers/{NAME}"


@pytest.fixture
def hosts_with_storage(hosts: dict[str, Host], ansible: Ansible) -> Iterator[dict[str, Host]]:
    for host in hosts.values():
        publish(host, STORAGE)
    yield hosts
    ansible.module("model_center_mount", {"name": NAME, "state": "absent"})


def four_times(ansible: Ansible, arguments: dict[str, Any], actions: list[str]) -> None:
    """Check, do, check again, do again: the actions are predicted, done, and then not due any more."""
    runs = ansible.each("model_center_mount", [arguments, arguments])
    assert set(runs) == {"alpha", "beta"}
    for results in runs.values():
        assert [result.get("msg") for result in results] == [None] * 4
        # The keeper comes with the first model center and goes with the last, whichever that is.
        steps = [[step for step in result["actions"] if not step.endswith("_keeper")] for result in results]
        assert steps == [actions, actions, [], []]
        assert [result["changed"] for result in results] == [True, True, False, False]


def mounted(host: Host, path: str = MOUNT_POINT) -> list[str]:
    """The options of what is mounted at a path, in the words of the mount table; nothing for no mount."""
    done = host.run(["findmnt", "--noheadings", "--output=OPTIONS", "--first-only", path], check=False)
    return done.stdout.strip().split(",") if done.returncode == 0 else []


def test_states(hosts_with_storage: dict[str, Host], ansible: Ansible) -> None:
    center = {"name": NAME, "storage_url": URL}
    path, content = next(iter(FILES.items()))
    four_times(ansible, center, ["make_mount_point", "write_unit", "reload_systemd", "enable_unit", "mount"])
    for host in hosts_with_storage.values():
        assert {"ro", "nosuid", "nodev"} <= set(mounted(host))
        assert host.run(["stat", "--format=%s", f"{MOUNT_POINT}/{path}"]).stdout.strip() == str(len(content))
        assert host.run(["touch", f"{MOUNT_POINT}/x"], check=False).returncode != 0

    four_times(ansible, center | {"read_only": False}, ["write_unit", "reload_systemd", "remount"])
    for host in hosts_with_storage.values():
        assert "rw" in mounted(host)

    moved = center | {"mount_point": "/srv/zoo"}
    four_times(
        ansible,
        moved,
        [
            *["make_mount_point", "write_unit", "reload_systemd", "enable_unit", "mount"],
            *["unmount", "disable_unit", "remove_mount_point", "remove_unit", "reload_systemd"],
        ],
    )
    for host in hosts_with_storage.values():
        assert (mounted(host), "ro" in mounted(host, "/srv/zoo")) == ([], True)

    four_times(ansible, {"name": NAME, "state": "unmounted"}, ["unmount", "disable_unit"])
    four_times(ansible, moved, ["enable_unit", "mount"])
    gone = ["unmount", "disable_unit", "remove_mount_point", "remove_unit", "reload_systemd"]
    four_times(ansible, {"name": NAME, "state": "absent"}, gone)
    for host in hosts_with_storage.values():
        assert host.run(["find", "/etc/systemd/system", "-name", "srv-zoo*"]).stdout == ""
        assert host.run(["test", "-e", "/srv/zoo"], check=False).returncode != 0
        assert host.run(["test", "-e", f"{STORAGE}/{path}"]).returncode == 0


def test_drift_is_repaired(hosts_with_storage: dict[str, Host], ansible: Ansible) -> None:
    center = {"name": NAME, "storage_url": URL}
    ansible.module("model_center_mount", center)
    drifts = {
        f"umount {MOUNT_POINT}": ["mount"],
        f"mount --bind /tmp {MOUNT_POINT}": ["remount"],
        f"mount -o remount,bind,rw {MOUNT_POINT}": ["remount"],
        "systemctl disable --quiet 'var-lib-modelfleet-centers-zoo\\x2d2.mount'": ["enable_unit"],
    }
    for command, actions in drifts.items():
        for host in hosts_with_storage.values():
            host.run(["sh", "-c", command])
        four_times(ansible, center, actions)


def test_refusals(hosts_with_storage: dict[str, Host], ansible: Ansible) -> None:
    for host in hosts_with_storage.values():
        host.run(["sh", "-c", "mkdir -p /srv/taken && mount -t tmpfs foreign /srv/taken"])
    cases: list[tuple[str, dict[str, Any]]] = [
        ("storage_missing", {"storage_url": "file:///no/such/directory"}),
        ("invalid_input", {"storage_url": "file://server/models"}),
        ("invalid_input", {"storage_url": "file:///"}),
        ("invalid_input", {"storage_url": "gopher://models"}),
        ("invalid_input", {}),
        ("invalid_input", {"storage_url": URL, "mount_point": "/var/lib/modelfleet/vms"}),
        ("center_conflict", {"storage_url": URL, "mount_point": "/srv/taken"}),
        ("client_missing", {"storage_url": "smb://nas/models"}),
        ("invalid_input", {"storage_url": "s3://user:secret@models"}),
        ("invalid_input", {"storage_url": "s3://models"}),
        ("center_not_mounted", {"storage_url": "existing:///srv/nothing"}),
    ]
    runs = ansible.each("model_center_mount", [{"name": NAME, **options} for _code, options in cases])
    for name, results in runs.items():
        codes = [(result.get("error_code"), result["changed"]) for result in results]
        assert codes == [(code, False) for code, _options in cases for _check in range(2)], name
    for host in hosts_with_storage.values():
        host.run(["umount", "/srv/taken"])
        assert host.run(["find", "/etc/systemd/system", "-name", "*zoo*2*"]).stdout == ""


def test_what_somebody_else_mounts_is_verified_and_left_alone(
    hosts_with_storage: dict[str, Host], ansible: Ansible
) -> None:
    for host in hosts_with_storage.values():
        host.run(["mkdir", "-p", "/srv/theirs"])
        host.run(["mount", "--bind", STORAGE, "/srv/theirs"])
    center = {"name": NAME, "storage_url": "existing:///srv/theirs", "verify_path": next(iter(FILES))}
    for result in ansible.module("model_center_mount", center, ok=False).values():
        # It can be written to.
        assert (result["error_code"], result["details"]["state"]) == ("center_conflict", "wrong options")
    four_times(ansible, center | {"read_only": False}, ["write_unit", "reload_systemd", "enable_unit", "mount"])
    for host in hosts_with_storage.values():
        host.run(["mount", "-o", "remount,bind,ro", "/srv/theirs"])
    four_times(ansible, center, ["write_unit", "reload_systemd"])
    for result in ansible.module("model_center_mount", center | {"verify_path": "none"}, ok=False).values():
        assert result["error_code"] == "storage_wrong"
    four_times(ansible, {"name": NAME, "state": "absent"}, ["unmount", "disable_unit", "remove_unit", "reload_systemd"])
    for host in hosts_with_storage.values():
        assert mounted(host, "/srv/theirs")
        host.run(["umount", "/srv/theirs"])


def test_info(hosts_with_storage: dict[str, Host], ansible: Ansible) -> None:
    ansible.module("model_center_mount", {"name": NAME, "storage_url": URL})
    for result in ansible.module("model_center_info", {"names": [NAME]}).values():
        seen = result["model_centers"][0]
        assert (seen["state"], seen["drift"], seen["users"], seen["stale_users"]) == ("healthy", [], [], [])
        assert seen["center"]["storage_url"] == URL
        assert seen["capacity"]["total_bytes"] > 0
        assert [check["errno"] for check in seen["checks"]] == [""] * 4
    for host in hosts_with_storage.values():
        host.run(["umount", MOUNT_POINT])
    for result in ansible.module("model_center_info", {}).values():
        states = {seen["center"]["name"]: (seen["state"], seen["drift"]) for seen in result["model_centers"]}
        assert states[NAME] == ("not mounted", ["not mounted"])
    for result in ansible.module("model_center_info", {"names": ["other"]}, ok=False).values():
        assert result["error_code"] == "center_unknown"


@pytest.mark.usefixtures("hosts")
def test_secret_in_a_refused_url_is_not_shown(ansible: Ansible) -> None:
    arguments = {"name": NAME, "storage_url": "gopher://user:hunter2@server/models"}
    for result in ansible.module("model_center_mount", arguments, ok=False).values():
        assert "hunter2" not in result["msg"]
