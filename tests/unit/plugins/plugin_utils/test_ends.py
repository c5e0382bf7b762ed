# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of each host, its summary, the table of a preflight, and repairs."""

from __future__ import annotations

import pytest

from ansible_collections.modelfleet.kvm.plugins.plugin_utils import _outcomes, _preflight, _repairs, _summary

ERROR = {"error_code": "mount_busy", "msg": "VM ocr:\n /m is in use.", "details": {"pids": [1]}}


def mount(vm="ocr", error=None, restart=False, due=(), changed=False):
    return {
        "vm": vm,
        "mount_path": "/m",
        "error": error,
        "restart_required": restart,
        "due": list(due),
        "changed": changed,
        "actions": ["record"] * changed,
    }


def converged(*mounts, **more):
    changed = sum(item["changed"] for item in mounts)
    return {
        "changed": changed > 0,
        "mounts": list(mounts),
        "summary": {"total": len(mounts), "changed": changed},
        **more,
    }


def prepared(restart, actions=()):
    return {"vms": [{"vm": "ocr", "restart_required": restart, "restart_reasons": ["ports"], "actions": list(actions)}]}


FAILING = converged(mount(error=ERROR), mount("chat", changed=True), failed=True, **ERROR)
SILENT = {"error_code": "libvirt_unavailable", "msg": "libvirt: no", "failed": False}


@pytest.mark.parametrize(
    ("variables", "state", "codes"),
    [
        # Whatever the tags of the run left out was not done, and is not right for that.
        ({}, "nothing done", []),
        ({"modelfleet_seen": {"vms": []}}, "nothing done", []),
        ({"kvm_host_result": {"changed": False}}, "ok", []),
        ({"kvm_host_result": {"changed": True}}, "changed", []),
        ({"modelfleet_go": False}, "not begun", []),
        ({"vm_models_result": {"skipped": True, "changed": False}}, "ok", []),
        ({"vm_prepare_result": prepared(True)}, "waiting for restart", []),
        ({"vm_models_result": {"results": [converged(mount(changed=True)), converged(mount())]}}, "changed", []),
        (
            {"vm_models_result": {"results": [FAILING], "failed": True, "msg": "One or more items failed"}},
            "failed",
            ["mount_busy"],
        ),
        ({"modelfleet_seen": {"unreachable": True, "msg": "No route"}}, "failed", ["host_unreachable"]),
        (
            {"modelfleet_seen": {**SILENT, "failed": True}, "kvm_host_result": {**SILENT, "failed": True}},
            "failed",
            ["libvirt_unavailable"],
        ),
        (
            {"modelfleet_info": {"mounts": []}, "modelfleet_centers": {**SILENT, "failed": True}},
            "failed",
            ["libvirt_unavailable"],
        ),
        # A module that crashes has no code.
        ({"modelfleet_seen": {"failed": True, "msg": "MODULE FAILURE", "rc": 1}}, "failed", ["task_failed"]),
        (
            {"model_center_result": {"results": [{"changed": True}, {"failed": True, "msg": "boom"}]}},
            "failed",
            ["task_failed"],
        ),
        ({"modelfleet_info": {"mounts": [], "errors": [{"vm": "ocr", **ERROR}]}}, "failed", ["mount_busy"]),
        # What a look at the layers could not see is no failure of the look.
        ({"modelfleet_info": {"mounts": [mount(error=ERROR)], "errors": []}}, "ok", []),
        (
            {"modelfleet_failures": [{"vm": "", "place": "", "error_code": "task_failed", "msg": "x"}]},
            "failed",
            ["task_failed"],
        ),
    ],
)
def test_states(variables, state, codes):
    outcome = _outcomes.of_host("k1", variables)
    assert (outcome.state, outcome.codes) == (state, codes)


def test_a_failure_is_told_once_and_in_one_line():
    noted = [vars(failure) for failure in _outcomes.failures(FAILING)]
    outcome = _outcomes.of_host("k1", {"vm_models_result": {"results": [FAILING]}, "modelfleet_failures": noted})
    assert [str(failure) for failure in outcome.failures] == ["ocr /m: mount_busy: VM ocr: /m is in use."]


def test_each_model_center_that_fails_is_named():
    wrong = {"failed": True, "error_code": "center_in_use", "msg": "In use."}
    result = {"results": [{"model_center_name": "zoo", **wrong}, {"model_center_name": "lab", **wrong}], "failed": True}
    assert [str(failure) for failure in _outcomes.of_host("k", {"model_center_result": result}).failures] == [
        "model center zoo: center_in_use: In use.",
        "model center lab: center_in_use: In use.",
    ]


def test_what_is_wrong_with_the_lists_of_a_host_is_its_failure():
    problem = {"vm": "ocr", "place": "", "error_code": "invalid_input", "msg": "vm_models[3]: no"}
    variables = {"vm_models_result": {"changed": True}}
    outcome = _outcomes.of_host("k", variables, {"problems": {"k": [problem]}})
    assert (outcome.state, outcome.codes, str(outcome.failures[0])) == (
        "failed",
        ["invalid_input"],
        "ocr: invalid_input: vm_models[3]: no",
    )


def test_nothing_of_an_item_or_of_details_is_shown():
    result = {
        "results": [{"failed": True, "msg": "no", "item": {"storage_url": "s3://key:secret@x"}, "details": "secret"}]
    }
    assert "secret" not in str(_outcomes.failures(result))


def test_summary():
    lost = [{"vm": "vm9", "error_code": "vm_not_found", "msg": "VM vm9 is nowhere.", "details": {}}]
    variables = {
        "kvm-1": {
            "vm_models_result": {"results": [converged(mount(changed=True, due=["start the VM"]), mount("chat"))]}
        },
        "kvm-22": {"vm_models_result": {"results": [FAILING]}},
        "kvm-3": {"vm_prepare_result": prepared(True), "modelfleet_go": True},
    }
    found = _summary.summary(list(variables), variables, {"failures": lost, "notes": ["k: both"], "hosts": {}})
    assert found["lines"] == [
        "kvm-1   changed (1 of 2 models changed)",
        "          due: ocr /m: start the VM",
        "kvm-22  failed: mount_busy (1 of 2 models changed)",
        "          ocr /m: mount_busy: VM ocr: /m is in use.",
        "kvm-3   waiting for restart (stop and start ocr)",
        "vm9     failed: vm_not_found",
        "          vm_not_found: VM vm9 is nowhere.",
        "Note: k: both",
    ]
    assert found["failures"] == {
        "kvm-1": "vm9: vm_not_found: VM vm9 is nowhere.",
        "kvm-22": "kvm-22: ocr /m: mount_busy: VM ocr: /m is in use.",
    }
    assert found["stats"] == {
        "failed": 2,
        "not_begun": 0,
        "nothing_done": 0,
        "waiting_for_restart": 1,
        "changed": 1,
        "ok": 0,
        "failed_hosts": ["kvm-22", "vm9"],
        "restart_vms": {"kvm-3": ["ocr"]},
        "error_codes": {"mount_busy": 1, "vm_not_found": 1},
        "mounts": 4,
        "mounts_changed": 2,
    }


def test_a_long_list_of_failures_is_cut():
    many = converged(*(mount(f"vm{number}", ERROR, restart=True) for number in range(8)), failed=True, **ERROR)
    lines = _summary.summary(["k"], {"k": {"vm_models_result": many}}, None)["lines"]
    assert len(lines) == 7
    assert (
        lines[0] == "k  failed: mount_busy (0 of 8 models changed; stop and start vm0, vm1, vm2, vm3, vm4 and 3 more)"
    )
    assert lines[-1] == "     and 3 more"


def test_hosts_that_were_not_begun_fail():
    found = _summary.summary(["k"], {"k": {"modelfleet_go": False}}, None)
    assert found["failures"]["k"].startswith("fleet_stopped: k was not begun.")
    assert (found["stats"]["not_begun"], found["stats"]["failed_hosts"]) == (1, ["k"])


def test_hosts_for_which_nothing_was_done_fail():
    found = _summary.summary(["k"], {"k": {"modelfleet_go": True}}, None)
    assert found["lines"] == ["k  nothing done"]
    assert found["failures"]["k"].startswith("nothing_done: no step for k has the tags of this run.")


@pytest.mark.parametrize(
    ("failed", "begun", "percentage", "may"),
    [(0, 0, 0, True), (0, 2, 0, True), (1, 2, 0, False), (1, 2, 50, True), (2, 3, 50, False), (3, 3, 100, True)],
)
def test_whether_another_batch_may_begin(failed, begun, percentage, may):
    variables = {f"k{number}": {"modelfleet_go": True} for number in range(begun)}
    for number in range(failed):
        variables[f"k{number}"]["kvm_host_result"] = {**SILENT, "failed": True}
    variables["later"] = {}
    assert _summary.may_begin(list(variables), variables, percentage) is may


def test_preflight():
    centers = [
        {"model_center_name": "zoo", "actions": ["mount"], "changed": True},
        {"model_center_name": "lab", "failed": True, "error_code": "storage_timeout", "msg": "It hangs."},
    ]
    variables = {
        "k1": {
            "kvm_host_result": {"changed": True, "actions": ["write_hook"]},
            "model_center_result": {"results": centers},
            "vm_prepare_result": prepared(True, ["add_root_ports"]),
            "vm_models_result": {
                "results": [converged(mount(changed=True), mount("chat", ERROR), failed=True, **ERROR)]
            },
        },
        "k2": {"modelfleet_seen": {"unreachable": True, "msg": "No route"}},
        "k3": {},
    }
    lost = {"failures": [{"vm": "vm9", "error_code": "vm_not_found", "msg": "Nowhere."}]}
    rows = _preflight.rows(list(variables), variables, lost)
    assert [tuple(row) for row in rows] == [
        ("k1", "host", "yes, would change", "write_hook"),
        ("k1", "center zoo", "yes, would change", "mount"),
        ("k1", "center lab", "no", "storage_timeout: It hangs."),
        ("k1", "VM ocr", "after a restart", "runs without ports"),
        ("k1", "VM chat", "no", "mount_busy: VM ocr: /m is in use."),
        ("k2", "host", "no", "host_unreachable: No route"),
        ("k3", "host", "yes", ""),
        ("", "VM vm9", "no", "vm_not_found: Nowhere."),
    ]
    lines = _preflight.table(rows)
    assert lines[0] == "KVM host  what        can                why, or what would be done"
    assert lines[4] == "k1        center lab  no                 storage_timeout: It hangs."


RECORD = {
    "vm_instance_uuid": "v",
    "model_name": "llama-nano",
    "model_version": "",
    "model_uuid": "m",
    "model_center_name": "zoo",
    "model_path": "p",
    "mount_path": "/m",
    "tag": "t",
    "transport": "device",
    "guest": "agent",
    "persistence": "",
    "account_uuid": "",
    "owner": "o",
    "intent": "settled",
}
ENTRY = {
    "vm": "v",
    "model": "llama-nano",
    "model_uuid": "m",
    "model_center": "zoo",
    "model_path": "p",
    "mount_path": "/m",
    "tag": "t",
    "transport": "device",
    "guest": "agent",
    "owner": "o",
}
IN_VIEW = {name: value for name, value in ENTRY.items() if name != "tag"} | {"transport": "view"}


@pytest.mark.parametrize(
    ("drift", "record", "present", "absent"),
    [
        (False, {}, [], []),
        (True, {}, [ENTRY], []),
        (True, {"transport": "view"}, [IN_VIEW], []),
        (False, {"intent": "mounting"}, [ENTRY], []),
        (True, {"intent": "unmounting"}, [], [{"vm": "v", "mount_path": "/m"}]),
    ],
)
def test_repairs(drift, record, present, absent):
    info = {"mounts": [{"drift": drift, "record": {**RECORD, **record}}]}
    assert _repairs.repairs(info) == {"present": present, "absent": absent}


def test_a_host_that_could_not_be_looked_at_has_nothing_to_repair():
    assert _repairs.repairs({"failed": True}) == {"present": [], "absent": []}
