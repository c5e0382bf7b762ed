# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks on a fleet, with both shapes of an inventory: check, do, again, and what fails beside what does not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_run import Ansible, Run
from conftest import Lend
from fleet import VIEW, checksum, guest_checksum, leftovers

from modelfleet_lab import Guest, Host, Lab

WEIGHTS = "llama-nano/weights.bin"
USE = "cd /models/llama-nano && sleep 600 >/dev/null 2>&1 & echo $! > /user"
EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"

Inventory = Callable[..., Ansible]


@pytest.fixture
def inventory(lab: Lab, tmp_path: Path) -> Inventory:
    """Makes an inventory: that of the lab, and what a test says beside it."""

    def make(groups: dict[str, Any], example: str = "", names: dict[str, str] | None = None) -> Ansible:
        directory = tmp_path / "inventory"
        if example:
            shutil.copytree(EXAMPLES / example, directory)
        directory.mkdir(exist_ok=True)
        known = yaml.safe_load(lab.inventory_path().read_text())
        # The last file holds: it says where the hosts of an example really are.
        if names is not None:
            hosts = known["kvm_hosts"]["hosts"]
            known["kvm_hosts"]["hosts"] = {name: hosts[host] for name, host in names.items()}
        (directory / "y_lab.yml").write_text(yaml.safe_dump(known))
        (directory / "z_test.yml").write_text(yaml.safe_dump(groups or {"all": {}}))
        return Ansible(directory)

    return make


def mounts_of(run: Run) -> dict[str, tuple[bool, list[str]]]:
    """What a run did, or would do, to each VM."""
    return {
        mount["vm"]: (mount["changed"], mount["actions"])
        for result in run.of("vm_model_mount").values()
        for mount in result["mounts"]
    }


def unchanged(run: Run) -> bool:
    return not any(changed for results in run.changes().values() for _action, changed in results)


@pytest.fixture
def pair(prepared: dict[str, Host], ansible: Ansible) -> Iterator[dict[str, Guest]]:
    """A VM on each host; what a migration would have left of the first is on the second host.

    They have their models from model center C(den), which goes with them.
    """
    found = {host: prepared[host].guest(f"serve-{host}") for host in ("alpha", "beta")}
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(Guest.up, found.values()))
    left = prepared["beta"].guest("serve-alpha", uuid=found["alpha"].uuid)
    left.define()
    yield found
    for guest in (*found.values(), left):
        guest.remove()
    ansible.module("model_center_mount", {"name": "den", "state": "absent"})


def test_vms_of_the_inventory_on_hosts_that_have_them_now(
    prepared: dict[str, Host], inventory: Inventory, pair: dict[str, Guest]
) -> None:
    """One run after the other, as a day goes: a look, models, drift, a model in use, storage taken out of use."""
    model = {"model": "llama-nano", "model_center": "den", "transport": VIEW, "owner": "fleets"}
    alpha = prepared["alpha"]
    groups: dict[str, Any] = {
        "kvm_hosts": {"vars": {"model_centers": [{"name": "den", "storage_url": "file:///srv/models"}]}},
        "llm_serving": {
            "vars": {"model_mounts": [model]},
            "hosts": {
                "serve-alpha": {},
                "second": {"model_vm": pair["beta"].uuid, "kvm_host": "beta"},
                "nowhere": {},
            },
        },
    }
    fleet = inventory(groups)
    there = "all:!nowhere"

    run = fleet.playbook("preflight", ok=False)
    assert "VM nowhere" in run.output and "no                 vm_not_found" in run.output
    assert "make_mount_point" in run.output

    predicted = fleet.playbook("mount", ok=False, check=True, diff=True)
    assert all(leftovers(guest, prepared[host]) == {} for host, guest in pair.items())
    done = fleet.playbook("mount", ok=False, diff=True)
    assert mounts_of(done) == mounts_of(predicted)
    assert sorted(mounts_of(done)) == ["serve-alpha", "serve-beta"]
    for guest in pair.values():
        assert guest_checksum(guest, f"/models/{WEIGHTS}") == checksum(WEIGHTS)
    assert "alpha    changed (1 of 1 models changed)" in done.output
    assert "nowhere  failed: vm_not_found" in done.output
    # It fails once, in the end.
    assert [line["action"] for line in done.lines if line["kind"] != "ok"] == ["ansible.builtin.fail"]

    again = fleet.playbook("mount", limit=there)
    assert unchanged(again) and "changed=0" in again.output

    # Drift is mended where it is, and only there.
    pair["alpha"].run(["umount", "/models"])
    predicted = fleet.playbook("repair", limit=there, check=True)
    done = fleet.playbook("repair", limit=there)
    assert mounts_of(done) == mounts_of(predicted)
    assert list(mounts_of(done)) == ["serve-alpha"]
    assert guest_checksum(pair["alpha"], f"/models/{WEIGHTS}") == checksum(WEIGHTS)

    # In use in one VM: nothing is evacuated anywhere; unmounting goes on beside it.
    pair["beta"].run(["sh", "-c", USE])
    center = {"evacuate_model_center": "den"}
    run = fleet.playbook("evacuate_center", center, ok=False)
    assert "alpha  not begun" in run.output and "beta   failed: mount_busy" in run.output
    assert guest_checksum(pair["alpha"], f"/models/{WEIGHTS}") == checksum(WEIGHTS)
    run = fleet.playbook("unmount", limit=there, ok=False)
    assert "alpha  changed (1 of 1 models changed)" in run.output
    assert "serve-beta /models/llama-nano: mount_busy: " in run.output
    assert leftovers(pair["alpha"], alpha) == {}
    pair["beta"].run(["sh", "-c", "kill $(cat /user)"])
    predicted = fleet.playbook("evacuate_center", center, check=True)
    assert "beta   changed (1 of 1 models changed)" in predicted.output
    fleet.playbook("evacuate_center", center)
    for host, guest in pair.items():
        assert leftovers(guest, prepared[host]) == {}
        mounted = prepared[host].run(["findmnt", "/var/lib/modelfleet/centers/den"], check=False)
        assert mounted.returncode != 0


@pytest.mark.long
@pytest.mark.transport("view", why="what goes by which transport is shown elsewhere")
def test_hosts_that_say_it_themselves(
    prepared: dict[str, Host], inventory: Inventory, lend: Lend, tmp_path: Path
) -> None:
    """Everything, then less of it as the whole truth, a report, and away."""
    fleet = lend(prepared)
    both = [fleet.entry("llama-nano"), fleet.entry("acme/embed.v2")]
    groups = {
        "kvm_hosts": {
            "vars": {
                "model_centers": [{"name": "zoo", "storage_url": "file:///srv/models"}],
                "vm_models_owner": "fleets",
            }
        }
    }
    ansible = inventory(groups)
    # The VM of the Debian 12 host gets a NUMA cell, which it has from its next start on.
    fleet.spoil()
    predicted = ansible.playbook("site", {"vm_models": both}, check=True, diff=True)
    done = ansible.playbook("site", {"vm_models": both}, diff=True)
    assert done.changes() == predicted.changes()
    assert f"alpha  waiting for restart (2 of 2 models changed; stop and start {fleet.vm})" in done.output
    assert "beta   changed (2 of 2 models changed)" in done.output
    assert unchanged(ansible.playbook("site", {"vm_models": both}))

    # In parts of one VM each, which mean what the whole would.
    mixed = [*both, fleet.entry("llama-nano", vm="no-such-vm")]
    run = ansible.playbook("mount", {"vm_models": mixed, "vm_models_batch_size": 1}, ok=False)
    assert "VMs 2 to 2 of 2" in run.output and "alpha  failed: vm_not_found (0 of 3 models changed)" in run.output

    ansible.playbook("report", {"report_path": str(tmp_path / "report"), "query_vms": fleet.vm})
    report = json.loads((tmp_path / "report.json").read_text())
    assert sorted(mount["host"] for mount in report["mounts"]) == ["alpha", "alpha", "beta", "beta"]
    centers = {
        (center["host"], center["state"]) for center in report["model_centers"] if center["model_center"] == "zoo"
    }
    assert centers == {("alpha", "healthy"), ("beta", "healthy")}
    assert fleet.vm in (tmp_path / "report.html").read_text()

    less = {"vm_models": both[:1]}
    predicted = ansible.playbook("sync", less, check=True)
    done = ansible.playbook("sync", less)
    assert done.changes() == predicted.changes()
    for mounts in fleet.info().values():
        assert [mount["record"]["model_name"] for mount in mounts] == ["llama-nano"]
    # Only who says that the list is about all VMs of the host, and that it may be empty, has them all emptied.
    assert unchanged(ansible.playbook("sync", {"vm_models": []}))
    nothing = {"vm_models": [], "vm_models_purge": "host"}
    ansible.playbook("sync", {**nothing, "vm_models_allow_empty": "false"}, ok=False)
    ansible.playbook("sync", {**nothing, "vm_models_allow_empty": "true"})
    assert fleet.leftovers() == {}

    # A host that cannot be reached keeps nobody from being looked at.
    run = inventory({"kvm_hosts": {"hosts": {"gone": {"ansible_host": "127.0.0.1", "ansible_port": 1}}}}).playbook(
        "query", ok=False
    )
    assert "alpha  ok" in run.output and "gone   failed: host_unreachable" in run.output


@pytest.mark.long
@pytest.mark.parametrize(
    ("example", "vms"),
    [
        ("inventory", {"alpha": ["inference-1"]}),
        ("inventory-vms", {"alpha": ["inference-1"], "beta": ["inference-2", "inference-3"]}),
    ],
)
def test_example_inventories(
    prepared: dict[str, Host], inventory: Inventory, example: str, vms: dict[str, list[str]]
) -> None:
    guests = [prepared[host].guest(name) for host, names in vms.items() for name in names]
    for host in prepared.values():
        for model in ("qwen3-tiny", "bge/bge-m3"):
            host.write(f"/srv/models/{model}/config.json", "{}")
    with ThreadPoolExecutor(len(guests)) as pool:
        list(pool.map(Guest.up, guests))
    try:
        names = {f"kvm{number}": host for number, host in enumerate(vms, 1)}
        ansible = inventory({}, example, names)
        ansible.playbook("mount")
        for guest in guests:
            assert guest.run(["cat", "/models/qwen3-tiny/config.json"]).stdout == "{}"
        embedding = guests[0] if example == "inventory" else guests[1]
        assert embedding.run(["cat", "/srv/embeddings/config.json"]).stdout == "{}"
        assert unchanged(ansible.playbook("mount"))
        ansible.playbook("unmount")
        assert [leftovers(guest, guest.host) for guest in guests] == [{}] * len(guests)
    finally:
        for guest in guests:
            guest.remove()
