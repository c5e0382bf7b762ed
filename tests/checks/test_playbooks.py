# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbooks with modules that only answer: what is asked of whom, in which order, and what comes of failures.

That the modules do what they answer here is for the lab to show.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from checks import places, tree

UUIDS = {name: f"00000000-0000-4000-8000-{number:012d}" for number, name in enumerate(("ocr", "chat", "search"), 1)}
VIEW = {"model": "llama-nano", "model_center": "zoo"}


def domain(name: str, active: bool = True) -> dict[str, Any]:
    """A VM as vm_info shows it."""
    state = "running" if active else "shutoff"
    return {"vm": name, "vm_instance_uuid": UUIDS[name], "vm_state": state, "active": active, "persistent": True}


def failing(code: str, msg: str = "It does not work.") -> dict[str, Any]:
    """The answer of a module that fails."""
    return {"failed": True, "error_code": code, "msg": msg, "details": {}}


def mounted(vm: str, error: str = "", changed: bool = True) -> dict[str, Any]:
    """What vm_model_mount says of one mount."""
    return {
        "vm": vm,
        "mount_path": "/models/llama-nano",
        "changed": changed and not error,
        "actions": ["bind_source"] if changed else [],
        "restart_required": False,
        "due": [],
        "error": {"error_code": error, "msg": "Busy.", "details": {}} if error else None,
    }


def converged(*mounts: dict[str, Any]) -> dict[str, Any]:
    """What vm_model_mount says of all."""
    bad = [mount["error"] for mount in mounts if mount["error"]]
    changed = sum(mount["changed"] for mount in mounts)
    summary = {"total": len(mounts), "changed": changed, "failed": len(bad), "ok": 0, "due": 0}
    result = {"changed": changed > 0, "mounts": list(mounts), "summary": summary}
    return {**result, **({"failed": True, **bad[0]} if bad else {})}


@dataclass
class Run:
    """What a playbook did."""

    status: int
    output: str
    calls: list[dict[str, Any]]
    stats: dict[str, Any]

    def of(self, module: str) -> dict[str, list[dict[str, Any]]]:
        """The arguments of the calls of a module, by host."""
        found: dict[str, list[dict[str, Any]]] = {}
        for call in self.calls:
            if call["module"] == module:
                found.setdefault(call["host"], []).append(call["arguments"])
        return found

    def recap(self) -> dict[str, dict[str, int]]:
        """Ansible's own count, by host."""
        lines = self.output.rpartition("PLAY RECAP")[2].splitlines()[1:]
        counts = {}
        for line in lines:
            host, separator, rest = line.partition(" : ")
            if separator:
                words = (word.split("=") for word in rest.split())
                counts[host.strip()] = {name: int(number) for name, number in words}
        return counts


class World:
    """A fleet of names."""

    def __init__(self, directory: Path, collections: Path) -> None:
        self._directory = directory
        self._collections = collections

    def run(
        self, playbook: str, inventory: dict[str, Any], answers: dict[str, Any], *options: str, **variables: Any
    ) -> Run:
        """Run a playbook; every host is this machine, and nothing is done to it."""
        (self._directory / "answers.json").write_text(json.dumps(answers))
        (self._directory / "calls").write_text("")
        groups = {**inventory, "all": {"vars": {"ansible_connection": "local", "ansible_become": False}}}
        (self._directory / "hosts.yml").write_text(yaml.safe_dump(groups))
        command = ["ansible-playbook", "-i", str(self._directory / "hosts.yml"), f"modelfleet.kvm.{playbook}", *options]
        environment = os.environ | {
            "ANSIBLE_COLLECTIONS_PATH": str(self._collections),
            "ANSIBLE_SHOW_CUSTOM_STATS": "true",
            "ANSIBLE_NOCOLOR": "true",
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "PLAYBOOK_WORLD": str(self._directory),
        }
        done = subprocess.run(
            [*command, "-e", json.dumps(variables)],
            env=environment,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        calls = [json.loads(line) for line in (self._directory / "calls").read_text().splitlines()]
        stats = [line for line in done.stdout.splitlines() if line.startswith("\tRUN: ")]
        found = json.loads(stats[-1].removeprefix("\tRUN: "))["modelfleet"] if stats else {}
        return Run(done.returncode, done.stdout, calls, found)


@pytest.fixture(scope="module")
def collections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection, with actions that stand in for its modules."""
    root = tmp_path_factory.mktemp("collections")
    here = root / tree.COLLECTION
    for part in ("galaxy.yml", "meta", "playbooks", "plugins", "roles"):
        source = places.ROOT / part
        here.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, here / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, here / part)
    (here / "plugins" / "action").mkdir()
    for module in (here / "plugins" / "modules").glob("*.py"):
        shutil.copy2(Path(__file__).with_name("stand_in.py"), here / "plugins" / "action" / module.name)
    return root


@pytest.fixture
def world(tmp_path: Path, collections: Path) -> World:
    return World(tmp_path, collections)


def by_host(**lists: list[dict[str, Any]]) -> dict[str, Any]:
    """An inventory in which KVM hosts say which models belong in their VMs."""
    centers = [{"name": "zoo", "storage_url": "file:///srv/models"}]
    hosts = {host: {"vm_models": mounts, "model_centers": centers} for host, mounts in lists.items()}
    return {"kvm_hosts": {"hosts": hosts}}


def by_vm(kvm: str, **vms: dict[str, Any]) -> dict[str, Any]:
    """An inventory in which VMs say which models they want."""
    vms = {name: {"model_mounts": [VIEW], **variables} for name, variables in vms.items()}
    return {"kvm_hosts": {"hosts": {name: {} for name in kvm.split()}}, "llm_serving": {"hosts": vms}}


def test_hosts_that_say_it_themselves(world: World) -> None:
    inventory = by_host(kvm1=[{"vm": "ocr", **VIEW}], kvm2=[{"vm": "chat", **VIEW}])
    run = world.run("mount", inventory, {"kvm1": {"vm_model_mount": converged(mounted("ocr"))}})
    assert run.status == 0, run.output
    assert [call["module"] for call in run.calls if call["host"] == "kvm1"] == [
        "vm_info",
        "kvm_host_prepare",
        "model_center_mount",
        "vm_model_mount",
    ]
    assert [call["mounts"] for call in run.of("vm_model_mount")["kvm2"]] == [[{"vm": "chat", **VIEW}]]
    centers = [{"name": "zoo", "storage_url": "file:///srv/models"}]
    assert [call["planned_centers"] for call in run.of("vm_model_mount")["kvm2"]] == [centers]
    assert "kvm1  changed (1 of 1 models changed)" in run.output
    assert (run.stats["changed"], run.stats["ok"], run.stats["failed"]) == (1, 1, 0)
    assert "[WARNING]" not in run.output and "[DEPRECATION" not in run.output


def test_vms_are_worked_on_where_they_run(world: World) -> None:
    answers = {
        "kvm1": {"vm_info": {"vms": [domain("ocr", active=False), domain("chat")]}},
        "kvm2": {"vm_info": {"vms": [domain("ocr")]}},
    }
    inventory = by_vm("kvm1 kvm2", ocr={}, chat={"model_mounts": [{**VIEW, "mount_path": "/models/x"}]}, search={})
    run = world.run("mount", inventory, answers)
    assert run.status == 2
    asked = {host: [call["mounts"] for call in calls] for host, calls in run.of("vm_model_mount").items()}
    assert asked == {
        "kvm1": [[{"vm": UUIDS["chat"], **VIEW, "mount_path": "/models/x"}]],
        "kvm2": [[{"vm": UUIDS["ocr"], **VIEW}]],
    }
    assert "search  failed: vm_not_found" in run.output
    assert run.output.count("[ERROR]") == 1
    assert run.stats["failed_hosts"] == ["search"]
    assert run.stats["error_codes"] == {"vm_not_found": 1}


def test_variables_that_cannot_be_rendered_are_the_problem_of_one_vm(world: World) -> None:
    broken: dict[str, dict[str, Any]] = {
        "whole": {"model_vm": "chat", "model_mounts": "{{ nope }}"},
        "inside": {"model_vm": "search", "model_mounts": [{**VIEW, "mount_path": "/models/{{ nope }}"}]},
    }
    domains = {"vm_info": {"vms": [domain("ocr"), domain("chat"), domain("search")]}}
    run = world.run("mount", by_vm("kvm1", ocr={}, **broken), {"kvm1": domains})
    assert run.status == 2
    assert [entry["vm"] for entry in run.of("vm_model_mount")["kvm1"][0]["mounts"]] == [UUIDS["ocr"]]
    assert "whole   failed: invalid_input" in run.output and "inside  failed: invalid_input" in run.output
    assert run.output.count("'nope' is undefined") >= 2


def test_one_failing_vm_beside_good_ones_and_a_host_that_is_down(world: World) -> None:
    lists = {host: [{"vm": "ocr", **VIEW}, {"vm": "chat", **VIEW}] for host in ("kvm1", "kvm2", "kvm3")}
    answers = {
        "kvm1": {"vm_model_mount": converged(mounted("ocr", "mount_busy"), mounted("chat"))},
        "kvm2": {"vm_info": {"unreachable": True, "msg": "No route to host"}},
        "kvm3": {"model_center_mount": failing("storage_timeout"), "vm_model_mount": converged(mounted("ocr"))},
    }
    run = world.run("site", by_host(**lists), answers)
    assert run.status == 2
    assert "kvm1  failed: mount_busy (1 of 2 models changed)" in run.output
    assert "ocr /models/llama-nano: mount_busy: Busy." in run.output
    assert "kvm2  failed: host_unreachable" in run.output
    # What does not need that center goes on.
    assert sorted(run.of("vm_model_mount")) == ["kvm1", "kvm3"]
    assert "kvm3  failed: storage_timeout (1 of 1 models changed)" in run.output
    assert {host: counts["failed"] for host, counts in run.recap().items()} == {"kvm1": 1, "kvm2": 1, "kvm3": 1}
    assert (run.stats["failed"], run.stats["ok"]) == (3, 0)


def test_no_further_batch_begins_when_too_many_failed(world: World) -> None:
    lists = {f"kvm{number}": [{"vm": "ocr", **VIEW}] for number in range(1, 5)}
    answers = {"kvm2": {"kvm_host_prepare": failing("host_unsupported")}}
    run = world.run("mount", by_host(**lists), answers, modelfleet_serial=2, modelfleet_max_fail_percentage=49)
    assert run.status == 2
    assert sorted(run.of("vm_model_mount")) == ["kvm1", "kvm2"]
    assert [f"{host}  {state}" in run.output for host, state in (("kvm3", "not begun"), ("kvm4", "not begun"))] == [
        True,
        True,
    ]
    run = world.run("mount", by_host(**lists), answers, modelfleet_serial=2, modelfleet_max_fail_percentage="")
    assert sorted(run.of("vm_model_mount")) == ["kvm1", "kvm2", "kvm3", "kvm4"]
    run = world.run("mount", by_host(**lists), answers, modelfleet_serial=2, modelfleet_max_fail_percentage=0)
    assert sorted(run.of("vm_model_mount")) == ["kvm1", "kvm2"]


@pytest.mark.parametrize(
    ("limit", "asked"),
    [
        ("kvm1", {"kvm1": [UUIDS["chat"]]}),
        ("kvm_hosts:chat", {"kvm1": [UUIDS["chat"]]}),
        ("kvm_hosts", {"kvm1": [UUIDS["chat"]], "kvm2": [UUIDS["ocr"]]}),
    ],
)
def test_limits(world: World, limit: str, asked: dict[str, list[str]]) -> None:
    answers = {"kvm1": {"vm_info": {"vms": [domain("chat")]}}, "kvm2": {"vm_info": {"vms": [domain("ocr")]}}}
    run = world.run("unmount", by_vm("kvm1 kvm2", ocr={}, chat={}), answers, "--limit", limit)
    assert run.status == 0, run.output
    calls = {
        host: [entry["vm"] for call in calls for entry in call["mounts"]]
        for host, calls in run.of("vm_model_mount").items()
    }
    assert calls == asked


def test_both_shapes_tags_and_a_pattern_of_hosts(world: World) -> None:
    inventory = by_vm("kvm1 kvm2 kvm3", ocr={})
    inventory["kvm_hosts"]["hosts"]["kvm1"]["vm_models"] = [{"vm": "ocr", "model": "old"}, {"vm": "chat", **VIEW}]
    answers = {"kvm1": {"vm_info": {"vms": [domain("ocr"), domain("chat")]}}}
    run = world.run("site", inventory, answers, "--tags", "models", modelfleet_hosts="kvm1,kvm2")
    assert run.status == 0, run.output
    asked = {(call["host"], call["module"]) for call in run.calls}
    assert asked == {("kvm1", "vm_info"), ("kvm2", "vm_info"), ("kvm1", "vm_model_mount")}
    (call,) = run.of("vm_model_mount")["kvm1"]
    assert call["mounts"] == [{"vm": UUIDS["chat"], **VIEW}, {"vm": UUIDS["ocr"], **VIEW}]
    assert "Note: kvm1: vm_models lists ocr, whose own model_mounts are what counts" in run.output
    assert "kvm1  ok" in run.output


def test_a_limit_without_kvm_hosts_is_refused(world: World) -> None:
    run = world.run("mount", by_vm("kvm1", ocr={}), {}, "--limit", "llm_serving")
    assert (run.status, run.calls) == (2, [])
    assert "no_kvm_hosts" in run.output and "llm_serving:kvm_hosts" in run.output


def test_the_inventory_as_the_whole_truth(world: World) -> None:
    listed = by_host(kvm1=[{"vm": "ocr", **VIEW}])
    run = world.run("sync", listed, {})
    assert [call["purge"] for call in run.of("vm_model_mount")["kvm1"]] == ["vm"]
    assert "Note: kvm1: VMs that vm_models does not name keep what they have" in run.output
    run = world.run("sync", listed, {}, vm_models_purge="host")
    assert [call["purge"] for call in run.of("vm_model_mount")["kvm1"]] == ["host"]
    inventory = by_vm("kvm1", ocr={}, chat={"model_mounts": []})
    answers = {"kvm1": {"vm_info": {"vms": [domain("ocr"), domain("chat")]}}}
    run = world.run("sync", inventory, answers)
    assert [(call["purge"], call["vms"]) for call in run.of("vm_model_mount")["kvm1"]] == [("vm", [])]
    assert "chat  failed: invalid_input" in run.output
    run = world.run("sync", inventory, answers, vm_models_allow_empty="false")
    assert [call["vms"] for call in run.of("vm_model_mount")["kvm1"]] == [[]]
    run = world.run("sync", inventory, answers, vm_models_allow_empty="true")
    assert [(call["purge"], call["vms"]) for call in run.of("vm_model_mount")["kvm1"]] == [("vm", [UUIDS["chat"]])]


@pytest.mark.parametrize(("options", "lost"), [(("--limit", "kvm_hosts:chat"), {}), ((), {"model_vm": "{{ nope }}"})])
def test_a_vm_that_speaks_for_itself_never_gets_what_a_host_lists_for_it(
    world: World, options: tuple[str, ...], lost: dict[str, Any]
) -> None:
    inventory = by_vm("kvm1 kvm2", ocr=lost, chat={})
    inventory["kvm_hosts"]["hosts"]["kvm1"]["vm_models"] = [{"vm": "ocr", "model": "old", "model_center": "zoo"}]
    answers = {"kvm1": {"vm_info": {"vms": [domain("ocr"), domain("chat")]}}}
    run = world.run("sync", inventory, answers, *options)
    purged = [
        entry["vm"] for call in run.of("vm_model_mount")["kvm1"] if call["purge"] == "vm" for entry in call["mounts"]
    ]
    assert purged == [UUIDS["chat"]], run.output


def unanswered() -> dict[str, str]:
    """All variables of roles and playbooks as a survey of AWX sends them for questions without an answer."""
    names = ["modelfleet_hosts", "modelfleet_serial", "modelfleet_max_fail_percentage"]
    for path in (places.ROOT / "roles").glob("*/meta/argument_specs.yml"):
        names += yaml.safe_load(path.read_text())["argument_specs"]["main"]["options"]
    # What the test lists, and what roles are told by playbooks.
    return dict.fromkeys(set(names) - {"vm_models", "vm_models_work"}, "")


def test_what_a_survey_leaves_empty_is_not_given(world: World) -> None:
    run = world.run("site", by_host(kvm1=[{"vm": "ocr", **VIEW}]), {}, **unanswered())
    assert run.status == 0, run.output
    (call,) = run.of("vm_model_mount")["kvm1"]
    assert set(call) == {"mounts", "state", "purge", "vms", "allow_empty", "planned_centers"}
    assert set(run.of("vm_model_prepare")["kvm1"][0]) == {"vms"}
    assert run.of("kvm_host_prepare")["kvm1"] == [{}]


def test_what_a_survey_says_is_kept_also_when_it_is_no_or_nothing(world: World) -> None:
    said = {"vm_models_read_ahead_kb": "0", "vm_prepare_ports": 0, "vm_prepare_agent": "false", "vm_models_force": "no"}
    run = world.run("site", by_host(kvm1=[{"vm": "ocr", **VIEW}]), {}, **said)
    assert [(call["read_ahead_kb"], call["force"]) for call in run.of("vm_model_mount")["kvm1"]] == [("0", "no")]
    assert [(call["ports"], call["agent"]) for call in run.of("vm_model_prepare")["kvm1"]] == [(0, "false")]


def test_a_playbook_decides_itself_whether_models_come_or_go(world: World) -> None:
    inventory = by_host(kvm1=[{"vm": "ocr", **VIEW}])
    inventory["kvm_hosts"]["vars"] = {"vm_models_state": "absent"}
    drifted = {"kvm1": {"vm_model_mount_info": {"mounts": [shown(drift=True)]}}}
    for playbook, state in (("mount", "present"), ("repair", "present"), ("unmount", "absent")):
        run = world.run(playbook, inventory, drifted)
        assert [call["state"] for call in run.of("vm_model_mount")["kvm1"]] == [state], playbook


def test_an_empty_model_does_not_unmount_all_models(world: World) -> None:
    wrong: list[dict[str, Any]] = [{"vm": "ocr", "model": None}, {"vm": "search", "model": ""}, {"vm": "other"}]
    run = world.run("unmount", by_host(kvm1=[*wrong, {"vm": "chat", **VIEW}]), {})
    assert [[mount["vm"] for mount in call["mounts"]] for call in run.of("vm_model_mount")["kvm1"]] == [["chat"]]
    for index, entry in enumerate(wrong):
        assert f"{entry['vm']}: invalid_input: vm_models[{index}].model: " in run.output
    assert run.status == 2


def test_a_mistake_in_the_variables_of_one_host_is_its_own(world: World) -> None:
    inventory = by_host(kvm1=[{"vm": "ocr", **VIEW}], kvm2=[{"vm": "ocr", **VIEW}], kvm3=[{"vm": "ocr", **VIEW}])
    hosts = inventory["kvm_hosts"]["hosts"]
    hosts["kvm1"]["vm_models"] = "{{ nope }}"
    hosts["kvm3"]["model_centers"] = [{"storage_url": "file:///x"}, {"name": "zoo", "storage_url": "{{ nope }}"}]
    run = world.run("mount", inventory, {})
    assert run.status == 2
    assert sorted(run.of("vm_model_mount")) == ["kvm2"]
    assert "kvm1  failed: invalid_input" in run.output and "vm_models: it cannot be rendered" in run.output
    assert "kvm2  ok" in run.output
    assert "kvm3  failed: task_failed" in run.output and "'nope' is undefined" in run.output
    hosts["kvm1"].update(vm_models=[], ansible_user="{{ nope }}", ansible_connection="{{ nope }}")
    run = world.run("mount", inventory, {})
    assert "kvm1  failed: " in run.output and "kvm2  ok" in run.output


def test_a_crash_is_no_success(world: World) -> None:
    crash = {"failed": True, "msg": "MODULE FAILURE: see stderr", "rc": 1}
    inventory = by_host(kvm1=[{"vm": "ocr", **VIEW}], kvm2=[])
    for playbook, module in (("mount", "vm_info"), ("repair", "vm_model_mount"), ("report", "model_center_info")):
        answers = {"kvm1": {module: crash, "vm_model_mount_info": {"mounts": [shown(intent="unmounting")]}}}
        run = world.run(playbook, inventory, answers)
        assert run.status == 2, playbook
        assert "kvm1  failed: task_failed" in run.output and "kvm2  ok" in run.output, run.output


def test_hosts_that_nobody_can_mean(world: World) -> None:
    inventory = by_host(kvm1=[])
    inventory["kvm_hosts"]["vars"] = {"modelfleet_hosts": "west"}
    inventory["west"] = {"hosts": {"kvm9": {}}, "vars": {"modelfleet_hosts": "west"}}
    run = world.run("mount", inventory, {})
    assert (run.status, run.calls) == (2, [])
    assert "invalid_input: modelfleet_hosts: " in run.output
    for groups in (by_host(kvm1=[]), {}):
        run = world.run("query", groups, {}, modelfleet_hosts="east")
        assert (run.status, run.calls) == (2, []) and "no_kvm_hosts" in run.output


def test_tags_that_leave_out_all_steps_are_no_success(world: World) -> None:
    inventory = by_host(kvm1=[{"vm": "ocr", **VIEW}])
    for playbook, options in (
        ("mount", ("--tags", "prepare")),
        ("query", ("--tags", "models")),
    ):
        run = world.run(playbook, inventory, {}, *options)
        assert run.status == 2 and "kvm1  nothing done" in run.output, run.output
        assert "nothing_done" in run.output
        assert (run.stats["nothing_done"], run.stats["ok"]) == (1, 0)


def test_a_malformed_entry_is_named_and_keeps_nobody_else(world: World) -> None:
    listed = [{"vm": "ocr", "modle": "x"}, {"vm": "chat", **VIEW}, {"vm": "search", **VIEW, "transport": "nfs"}]
    run = world.run("mount", by_host(kvm1=listed), {})
    assert [call["mounts"] for call in run.of("vm_model_mount")["kvm1"]] == [[listed[1]]]
    assert "ocr: invalid_input: vm_models[0]: " in run.output and "modle" in run.output
    assert "search: invalid_input: vm_models[2]: " in run.output


def test_a_model_center_that_cannot_move_is_named(world: World) -> None:
    centers = [{"name": name, "storage_url": "file:///srv/models"} for name in ("zoo", "lab")]
    inventory = by_host(kvm1=[{"vm": "ocr", **VIEW}])
    inventory["kvm_hosts"]["hosts"]["kvm1"]["model_centers"] = centers
    answers = {"kvm1": {"model_center_mount": [failing("center_in_use", "Used by VM ocr."), {}]}}
    for playbook in ("mount", "repair"):
        run = world.run(playbook, inventory, answers)
        assert "kvm1  failed: center_in_use" in run.output
        assert "model center zoo: center_in_use: Used by VM ocr." in run.output
        assert run.stats["error_codes"] == {"center_in_use": 1}


def test_vms_that_have_to_be_restarted(world: World) -> None:
    vm = {**domain("ocr"), "changed": True, "actions": ["share_memory"], "error": None}
    answers = {"kvm1": {"vm_model_prepare": {"vms": [{**vm, "restart_required": True, "restart_reasons": ["ports"]}]}}}
    run = world.run("prepare", by_host(kvm1=[{"vm": "ocr", **VIEW}]), answers)
    assert run.status == 0, run.output
    assert [call["vms"] for call in run.of("vm_model_prepare")["kvm1"]] == [["ocr"]]
    assert "kvm1  waiting for restart (stop and start ocr)" in run.output
    assert run.stats["restart_vms"] == {"kvm1": ["ocr"]}
    run = world.run("preflight", by_host(kvm1=[{"vm": "ocr", **VIEW}]), answers)
    assert "kvm1      VM ocr      after a restart  runs without ports" in run.output
    assert all(call["check"] for call in run.calls if call["module"] != "vm_info")


RECORD = {
    "vm_instance_uuid": UUIDS["ocr"],
    "account_uuid": "",
    "create_date": "",
    "last_op_date": "",
    "model_uuid": "",
    "model_version": "",
    "model_name": "llama-nano",
    "model_center_name": "zoo",
    "model_path": "llama-nano",
    "mount_path": "/models/llama-nano",
    "tag": "modelfleet",
    "transport": "view",
    "guest": "agent",
    "persistence": "none",
    "owner": "default",
    "uuid": "u",
    "intent": "settled",
}


def shown(drift: bool = False, **record: str) -> dict[str, Any]:
    """What vm_model_mount_info says of one mount."""
    return {
        "vm": "ocr",
        "vm_state": "running",
        "status": "Mounted",
        "layers": dict.fromkeys(("source", "persistent", "live", "guest"), "wrong" if drift else "right"),
        "leaving": None,
        "drift": drift,
        "source_path": "",
        "error": None,
        "record": {**RECORD, **record},
    }


def test_repair_mends_what_drifted_and_ends_what_was_begun(world: World) -> None:
    mounts = [shown(), shown(drift=True, mount_path="/models/b"), shown(drift=True, intent="unmounting")]
    run = world.run("repair", by_host(kvm1=[]), {"kvm1": {"vm_model_mount_info": {"mounts": mounts}}})
    assert run.status == 0, run.output
    present, absent = run.of("vm_model_mount")["kvm1"]
    assert [(entry["mount_path"], entry.get("tag")) for entry in present["mounts"]] == [("/models/b", None)]
    assert [center["name"] for center in present["planned_centers"]] == ["zoo"]
    assert (absent["state"], absent["mounts"]) == ("absent", [{"vm": UUIDS["ocr"], "mount_path": "/models/llama-nano"}])


CENTER: dict[str, Any] = {
    "model_center_info": {"model_centers": [{"center": {"name": "zoo"}, "users": [], "error": None}]}
}
LOOKED = {"vm_model_mount_info": {"mounts": [shown()]}, **CENTER}
BUSY = {"vm_model_mount_info": {"mounts": [{**shown(), "guest_processes": [{"pid": 7, "name": "vllm"}]}]}, **CENTER}
UNREAD = {"vm_model_mount_info": {"mounts": [], "errors": [{"vm": "chat", **failing("record_conflict")}]}, **CENTER}


def test_what_is_in_the_way_anywhere_keeps_a_center_everywhere(world: World) -> None:
    crash = {"failed": True, "msg": "MODULE FAILURE"}
    answers = {
        "kvm1": LOOKED,
        "kvm2": BUSY,
        "kvm3": {**LOOKED, "vm_model_mount": converged(mounted("ocr", "agent_unavailable"))},
        "kvm4": UNREAD,
        "kvm5": {"vm_model_mount_info": crash},
        "kvm6": {"vm_model_mount_info": {"unreachable": True, "msg": "No route to host"}},
        "kvm7": {**LOOKED, "model_center_info": crash},
    }
    codes = "mount_busy agent_unavailable record_conflict task_failed host_unreachable task_failed".split()
    inventory = by_host(**{host: [] for host in answers})
    told = {"evacuate_model_center": "zoo"}
    run = world.run("evacuate_center", inventory, answers, evacuate_force="false", **told)
    assert run.status == 2
    assert all(call["check"] for call in run.calls if call["module"] == "vm_model_mount")
    assert run.of("model_center_mount") == {}
    assert run.of("vm_model_mount_info")["kvm1"][0]["guest_processes"]
    assert "kvm1  not begun" in run.output
    for number, code in enumerate(codes, 2):
        assert f"kvm{number}  failed: {code}" in run.output, run.output
    # One is enough.
    run = world.run("evacuate_center", by_host(kvm1=[], kvm4=[]), answers, evacuate_force="", **told)
    assert "kvm1  not begun" in run.output and run.of("model_center_mount") == {}
    run = world.run("evacuate_center", inventory, answers, evacuate_force="yes", **told)
    assert [call["force"] for call in run.of("vm_model_mount")["kvm1"]] == [True, True]
    assert not run.of("vm_model_mount_info")["kvm1"][0]["guest_processes"]
    assert sorted(run.of("model_center_mount")) == ["kvm1", "kvm2", "kvm4", "kvm7"]


def test_a_center_is_evacuated(world: World) -> None:
    inventory = by_host(kvm1=[], kvm2=[])
    nowhere = {"model_center_info": failing("center_unknown")}
    # What another play, the inventory or a survey filters by is nothing to an evacuation.
    told = {"evacuate_model_center": "zoo", "query_vms": "other", "query_owners": "search", "evacuate_revoke": ""}
    for check in (False, True):
        answers = {"kvm1": LOOKED, "kvm2": nowhere}
        run = world.run("evacuate_center", inventory, answers, *(["--check"] if check else []), **told)
        assert run.status == 0, run.output
        assert [call["module"] for call in run.calls if call["host"] == "kvm1"] == [
            "vm_model_mount_info",
            "model_center_info",
            "vm_model_mount",
            "vm_model_mount",
            "model_center_mount",
        ]
        (look,) = run.of("vm_model_mount_info")["kvm1"]
        assert look == {"model_centers": ["zoo"], "guest_processes": True}
        # In check mode VMs still have its models.
        assert [call["force"] for call in run.of("model_center_mount")["kvm1"]] == [check]
    # On a host where a VM keeps a model the center stays.
    busy = [converged(mounted("ocr")), converged(mounted("ocr", "mount_busy"))]
    run = world.run("evacuate_center", inventory, {"kvm1": {**LOOKED, "vm_model_mount": busy}, "kvm2": nowhere}, **told)
    assert sorted(run.of("model_center_mount")) == ["kvm2"]


def test_the_name_of_a_center_is_no_pattern(world: World) -> None:
    inventory = by_host(kvm1=[])
    for name in ("", "z*"):
        run = world.run("evacuate_center", inventory, {"kvm1": LOOKED}, evacuate_model_center=name)
        assert (run.status, run.calls) == (2, []) and "invalid_input" in run.output
    # What has the name for its UUID is of another model center.
    uuid = UUIDS["ocr"]
    run = world.run("evacuate_center", inventory, {"kvm1": LOOKED}, evacuate_model_center=uuid)
    assert run.status == 2 and "center_unknown" in run.output
    assert [call["mounts"] for call in run.of("vm_model_mount")["kvm1"]] == [[]]


def test_report_names_every_host(world: World, tmp_path: Path) -> None:
    answers = {
        "kvm1": LOOKED,
        "kvm2": {"vm_model_mount_info": {"unreachable": True, "msg": "No route to host"}},
        "kvm3": {**LOOKED, "model_center_info": failing("libvirt_unavailable")},
    }
    inventory = by_host(kvm1=[], kvm2=[], kvm3=[])
    # It is written where Ansible was started.
    for path, there in ((str(tmp_path / "whole"), "whole"), ("reports/fleet", "reports/fleet")):
        (tmp_path / there).parent.mkdir(exist_ok=True)
        run = world.run("report", inventory, answers, report_path=path, report_title="West")
        assert run.status == 2
        report = json.loads((tmp_path / f"{there}.json").read_text())
        assert (report["title"], [mount["model"] for mount in report["mounts"]]) == ("West", ["llama-nano"] * 2)
        assert [host["state"] for host in report["hosts"]] == ["answered", "unreachable", "answered"]
        assert "<title>West</title>" in (tmp_path / f"{there}.html").read_text()
        assert "llama-nano" in (tmp_path / f"{there}.csv").read_text()
    assert "kvm1  ok" in run.output
    assert "kvm2  failed: host_unreachable" in run.output
    assert "kvm3  failed: libvirt_unavailable" in run.output


def test_a_report_that_cannot_be_written_is_told_of_beside_the_hosts(world: World) -> None:
    run = world.run("report", by_host(kvm1=[], kvm2=[]), {}, report_path="/nowhere/fleet")
    assert run.status == 2
    assert "kvm1    ok" in run.output and "report  failed: task_failed" in run.output
    assert "/nowhere" in run.output.rpartition("report  failed")[2]
    assert run.stats["failed_hosts"] == ["report"]
