# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is shown of the models of a fleet, and to whom."""

from __future__ import annotations

from typing import Any

import pytest
from fleet import DEVICE, Fleet

ACCOUNT = "7a6f9f0e-3c8b-4c1a-9d0e-0f5b2a4c6e81"
NANO = "/models/llama-nano"
EMBED = "/data/embeddings"


@pytest.mark.transport("view", why="the VM has a device beside the view")
def test_filters(fleet: Fleet) -> None:
    fleet.mount(account_uuid=ACCOUNT, owner="chat")
    fleet.mount("acme/embed.v2", guest="none", mount_path=EMBED, tag="embeddings", transport=DEVICE)
    vm = next(iter(fleet.guests.values()))
    cases: list[tuple[dict[str, Any], list[str]]] = [
        ({}, [EMBED, NANO]),
        ({"vms": f"{vm.name[:-1]}*", "models": ["*"]}, [EMBED, NANO]),
        ({"vms": ["no-such-vm-*"]}, []),
        ({"models": ["acme/*"]}, [EMBED]),
        ({"models": ["acme/*", "llama-nano"], "tags": ["modelf*"]}, [NANO]),
        ({"model_centers": ["zoo"], "owners": ["default"]}, [EMBED]),
        ({"accounts": [ACCOUNT.upper()]}, [NANO]),
        ({"mount_paths": ["/data/*"], "statuses": ["Mounted"]}, []),
        ({"statuses": ["Mounted"]}, [NANO]),
        ({"statuses": ["Att*"]}, [EMBED]),
        ({"statuses": [""], "tags": "embeddings,"}, [EMBED]),
        ({"models": []}, []),
    ]
    arguments = [options if "vms" in options else {"vms": [fleet.vm], **options} for options, _paths in cases]
    expected = [(False, False, paths) for _options, paths in cases for _check in range(2)]
    for host, results in fleet.ansible.each("vm_model_mount_info", arguments).items():
        shown = [
            (result["failed"], result["changed"], [mount["record"]["mount_path"] for mount in result["mounts"]])
            for result in results
        ]
        assert shown == expected, host

    for host, guest in fleet.guests.items():
        # The UUIDs of VMs are those of their host.
        by_uuid = {"vms": [guest.uuid.upper()], "tags": ["embeddings"]}
        (found,) = fleet.ansible.module("vm_model_mount_info", by_uuid, limit=host).values()
        assert [mount["vm"] for mount in found["mounts"]] == [fleet.vm]

    refused = [{"vms": ["*", "no-such-vm"]}, {"statuses": ["mounted"]}, {"tags": ["*" * 17]}]
    for results in fleet.ansible.each("vm_model_mount_info", refused).values():
        codes = [result["error_code"] for result in results]
        assert codes == ["vm_not_found"] * 2 + ["invalid_input"] * 4

    # What a survey sends: texts, empty where nobody answered.
    answers = {"query_vms": f" {fleet.vm}", "query_models": "acme/*,x", "query_owners": "", "query_statuses": []}
    run = fleet.ansible.playbook("query", answers)
    for result in run.of("vm_model_mount_info").values():
        assert [mount["record"]["mount_path"] for mount in result["mounts"]] == [EMBED]
    assert "Attached" in run.output and NANO not in run.output

    fleet.unmount()
    fleet.unmount("acme/embed.v2")


@pytest.mark.transport("device", why="nothing is mounted")
def test_vm_that_cannot_be_read(fleet: Fleet) -> None:
    for host, guest in fleet.guests.items():
        newer = f"<mounts schema_version='99' vm='{guest.uuid}'/>"
        metadata = ["virsh", "metadata", fleet.vm, "urn:modelfleet:kvm", "--config"]
        fleet.hosts[host].run([*metadata, "--key", "modelfleet", "--set", newer])
        run = fleet.ansible.playbook("query", limit=host, ok=False)
        fleet.hosts[host].run([*metadata, "--remove"])
        (error,) = run.of("vm_model_mount_info")[host]["errors"]
        assert (error["vm"], error["error_code"]) == (fleet.vm, "record_conflict")
        assert f"{fleet.vm}: record_conflict: " in run.output
