# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The main job, with the shipped playbooks, from a fresh host to nothing left behind."""

from __future__ import annotations

import pytest
from ansible_run import Ansible, Run
from conftest import Lend
from fleet import DEVICE, checksum, guest_checksum, leftovers, publish

from modelfleet_lab import Host

pytestmark = pytest.mark.control_new


def outcome(run: Run) -> dict[str, list[object]]:
    """What a prediction must agree on with the run that follows: what changes, how, and the diff."""
    return {
        host: [
            (
                result["action"],
                result["changed"],
                result.get("actions"),
                [(mount["changed"], mount["actions"]) for mount in result.get("mounts", [])],
                result.get("diff"),
            )
            for result in results
        ]
        for host, results in run.results.items()
    }


@pytest.mark.transport("view", why="the job has both, one model by each")
def test_main_job(unprepared: dict[str, Host], ansible: Ansible, lend: Lend) -> None:
    hosts = unprepared
    fleet = lend(hosts)
    vm, both = fleet.vm, fleet.guests
    variables = {
        # Blanks and newlines come along when people paste.
        "model_centers": [{"name": " zoo\n", "storage_url": "  file:///srv/models \n"}],
        "vm_models": [
            {"vm": f" {vm}\n", "model": "llama-nano", "model_center": "zoo", "transport": fleet.transport},
            fleet.entry("acme/embed.v2", transport=DEVICE, mount_path="/data/my embeddings"),
        ],
    }

    predicted = ansible.playbook("mount", variables, check=True, diff=True)
    assert {host: leftovers(guest, hosts[host]) for host, guest in both.items()} == {"alpha": {}, "beta": {}}
    assert all(result["mounts"][0]["prediction"] == "conditional" for result in predicted.of("vm_model_mount").values())

    done = ansible.playbook("mount", variables, diff=True)
    assert outcome(done) == outcome(predicted)
    for host, guest in both.items():
        assert done.changes()[host] == [
            ("modelfleet.kvm.vm_info", False),
            ("modelfleet.kvm.kvm_host_prepare", True),
            ("modelfleet.kvm.model_center_mount", True),
            ("modelfleet.kvm.vm_model_mount", True),
        ]
        assert guest_checksum(guest, "/models/llama-nano/weights.bin") == checksum("llama-nano/weights.bin")
        vocabulary = guest_checksum(guest, "/data/my embeddings/sub dir/vocab.txt")
        assert vocabulary == checksum("acme/embed.v2/sub dir/vocab.txt")

    for again in (ansible.playbook("mount", variables, check=True), ansible.playbook("mount", variables)):
        assert {changed for results in again.changes().values() for _action, changed in results} == {False}
        assert "changed=0" in again.output
        assert all(not mount["actions"] for result in again.of("vm_model_mount").values() for mount in result["mounts"])

    for result in ansible.playbook("query").of("vm_model_mount_info").values():
        assert [mount["status"] for mount in result["mounts"]] == ["Mounted", "Mounted"]
        assert not any(mount["drift"] for mount in result["mounts"])
        assert [mount["record"]["mount_path"] for mount in result["mounts"]] == [
            "/data/my embeddings",
            "/models/llama-nano",
        ]

    # The storage moves, but not under VMs that use it.
    for machine in hosts.values():
        publish(machine, "/data/new")
    moved = variables | {"model_centers": [{"name": "zoo", "storage_url": "file:///data/new"}]}
    for check in (True, False):
        refused = ansible.playbook("mount", moved, check=check, ok=False).of("model_center_mount")
        assert {host: result["error_code"] for host, result in refused.items()} == dict.fromkeys(hosts, "center_in_use")
    for guest in both.values():
        assert guest_checksum(guest, "/models/llama-nano/weights.bin") == checksum("llama-nano/weights.bin")
    ansible.playbook("unmount", variables)
    # What the center will show is predicted, although it is not mounted yet.
    predicted = ansible.playbook("mount", moved, check=True, diff=True)
    done = ansible.playbook("mount", moved, diff=True)
    assert outcome(done) == outcome(predicted)
    for name, guest in both.items():
        assert [changed for _action, changed in done.changes()[name]] == [False, False, True, True]
        assert guest_checksum(guest, "/models/llama-nano/weights.bin") == checksum("llama-nano/weights.bin")
    ansible.playbook("unmount", moved)
    ansible.playbook("mount", variables)

    predicted = ansible.playbook("unmount", variables, check=True, diff=True)
    done = ansible.playbook("unmount", variables, diff=True)
    assert outcome(done) == outcome(predicted)
    for host, guest in both.items():
        assert done.changes()[host] == [("modelfleet.kvm.vm_info", False), ("modelfleet.kvm.vm_model_mount", True)]
        assert leftovers(guest, hosts[host]) == {}
    again = ansible.playbook("unmount", variables)
    assert {changed for results in again.changes().values() for _action, changed in results} == {False}
