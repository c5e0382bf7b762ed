# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which VMs an inventory speaks of, and which KVM host has to do what for them."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.plugin_utils import _placement, _vms

A = "aaaaaaaa-0000-4000-8000-000000000001"
B = "bbbbbbbb-0000-4000-8000-000000000002"
MOUNT = {"model": "llama-nano", "model_center": "zoo"}
OTHER = {"model": "embed", "model_center": "zoo"}


class Templates(Mapping):
    """Variables of which some cannot be rendered."""

    def __init__(self, **values):
        self._values = values

    def __getitem__(self, name):
        value = self._values[name]
        if isinstance(value, Exception):
            raise value
        return value

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)


def vm(uuid, name="ocr", active=True):
    return {"vm": name, "vm_instance_uuid": uuid, "active": active, "vm_state": "", "persistent": True}


def seen(**hosts):
    """Results of vm_info; None for a host that could not be asked."""
    return {host: {"unreachable": True} if vms is None else {"vms": vms} for host, vms in hosts.items()}


def wish(name="ocr", mounts=(MOUNT,), kvm_hosts=(), named=True, **more):
    found = {"vm": name, "kvm_hosts": list(kvm_hosts), "mounts": list(mounts), "error": None, **more}
    return {"vms": {f"inventory-{name}": found}, "named": named}


NOBODY = {"vms": {}, "named": False}


def decide(wishes, results, hosts=None, present=True, sync=False):
    return _placement.decide(wishes, results, hosts or {host: {} for host in results}, present, sync)


def mounts(decided):
    return {host: work["mounts"] for host, work in decided["hosts"].items() if work["mounts"]}


def codes(decided):
    return [(failure["vm"], failure["error_code"]) for failure in decided["failures"]]


# Which VMs there are.


def gather(limited, **variables):
    return _vms.gather(variables, limited, ["k1", "k2"])


def test_hosts_with_mounts_are_vms_and_kvm_hosts_are_not():
    found = gather(["k1", "v1", "v2", "web"], k1={"model_mounts": []}, v1={"model_mounts": [MOUNT]}, web={}, v2={})
    assert list(found["vms"]) == ["v1"]
    assert found["vms"]["v1"] == {"vm": "v1", "kvm_hosts": [], "mounts": [MOUNT], "error": None}


def test_a_vm_says_its_name_and_where_it_belongs():
    said = {"model_mounts": [MOUNT], "model_vm": f" {A} ", "kvm_host": "k2\n"}
    assert gather(["k1", "v1"], v1=said)["vms"]["v1"]["vm"] == A
    assert gather(["k1", "v1"], v1=said)["vms"]["v1"]["kvm_hosts"] == ["k2"]
    assert gather(["k1", "v1"], v1={**said, "kvm_host": ["k1", "k2"]})["vms"]["v1"]["kvm_hosts"] == ["k1", "k2"]
    assert gather(["k1", "v1"], v1={**said, "kvm_host": ""})["vms"]["v1"]["kvm_hosts"] == []


@pytest.mark.parametrize(
    ("limited", "found", "named"),
    [
        (["k1", "k2", "v1", "v2"], ["v1", "v2"], True),
        (["k1", "k2", "v2"], ["v2"], True),
        (["k1"], ["v1", "v2"], False),
    ],
)
def test_limits(limited, found, named):
    got = gather(limited, v1={"model_mounts": [MOUNT]}, v2={"model_mounts": [MOUNT]})
    assert (list(got["vms"]), got["named"]) == (found, named)


@pytest.mark.parametrize("limited", [["v1"], []])
def test_a_run_without_kvm_hosts_is_refused(limited):
    with pytest.raises(ModelfleetError) as caught:
        gather(limited, v1={"model_mounts": [MOUNT]})
    assert caught.value.code == "no_kvm_hosts"


@pytest.mark.parametrize("variables", [{"model_vm": "a/b"}, {"model_vm": ValueError("'x' is undefined")}])
def test_variables_that_cannot_be_used_are_the_problem_of_one_vm(variables):
    found = gather(["k1", "v1", "v2"], v1=Templates(model_mounts=[MOUNT], **variables), v2={"model_mounts": [MOUNT]})
    assert found["vms"]["v1"]["error"]["error_code"] == "invalid_input"
    assert found["vms"]["v2"]["error"] is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"model": "llama-nano"},
        "llama-nano",
        {**MOUNT, "vm": "other"},
        {**MOUNT, "transport": "nfs"},
        {**MOUNT, "modle": "x"},
        {**MOUNT, "mount_path": "/etc"},
    ],
)
def test_mounts_that_the_module_would_refuse_are_refused_for_one_vm(wrong):
    with pytest.raises(ModelfleetError) as caught:
        _vms.check(A, [wrong], present=True)
    assert caught.value.code == "invalid_input"


def test_mounts_that_collide_are_refused_for_one_vm():
    with pytest.raises(ModelfleetError) as caught:
        _vms.check(A, [MOUNT, MOUNT], present=True)
    assert caught.value.code == "duplicate_mount"
    with pytest.raises(ModelfleetError):
        _vms.check(A, [{**MOUNT, "mount_path": " ", "model": ""}], present=False)


# Where they are.


def test_a_vm_is_worked_on_where_it_runs():
    decided = decide(wish(), seen(k1=[], k2=[vm(A)]))
    assert mounts(decided) == {"k2": [{"vm": A, **MOUNT}]}
    assert decided["hosts"]["k2"]["named"] == [A]
    assert decided["failures"] == []


@pytest.mark.parametrize("name", ["ocr", A, A.upper()])
def test_a_vm_is_known_by_name_and_by_uuid(name):
    assert mounts(decide(wish(name), seen(k1=[vm(A)]))) == {"k1": [{"vm": A, **MOUNT}]}


def test_what_a_migration_left_behind_does_not_count():
    decided = decide(wish(), seen(k1=[vm(A, active=False)], k2=[vm(A)], k3=[vm(A, active=False)]))
    assert list(mounts(decided)) == ["k2"]
    assert decided["failures"] == []


def test_a_vm_that_is_off_is_worked_on_where_it_is_defined():
    assert list(mounts(decide(wish(), seen(k1=[], k2=[vm(A, active=False)])))) == ["k2"]


@pytest.mark.parametrize(
    ("code", "hosts"),
    [
        ("vm_not_found", {"k1": [], "k2": [vm(B, "chat")]}),
        ("vm_runs_twice", {"k1": [vm(A)], "k2": [vm(A)]}),
        ("vm_ambiguous", {"k1": [vm(A)], "k2": [vm(B)]}),
        ("vm_ambiguous", {"k1": [vm(A)], "k2": [vm(B, active=False)]}),
        ("vm_ambiguous", {"k1": [vm(A, active=False)], "k2": [vm(A, active=False)]}),
        ("host_unreachable", {"k1": [], "k2": None}),
        # It may be what a migration left behind.
        ("host_unreachable", {"k1": [vm(A, active=False)], "k2": None}),
    ],
)
def test_vms_that_nobody_can_work_on_fail_alone(code, hosts):
    wishes = wish()
    wishes["vms"]["chat"] = wish("chat")["vms"]["inventory-chat"]
    decided = decide(wishes, seen(**hosts, k9=[vm("cccccccc-0000-4000-8000-000000000003", "chat")]))
    assert ("inventory-ocr", code) in codes(decided)
    assert "k9" in mounts(decided) or code == "vm_not_found"


def test_a_vm_that_runs_is_found_although_another_host_is_down():
    assert list(mounts(decide(wish(), seen(k1=[vm(A)], k2=None)))) == ["k1"]


def test_a_vm_is_looked_for_only_where_it_belongs():
    hosts = seen(k1=[vm(A)], k2=[vm(B)], k3=None)
    assert mounts(decide(wish(kvm_hosts=["k2"]), hosts)) == {"k2": [{"vm": B, **MOUNT}]}
    assert codes(decide(wish(kvm_hosts=["k3"]), hosts)) == [("inventory-ocr", "host_unreachable")]
    (missed,) = decide(wish(kvm_hosts=["k4"]), hosts)["failures"]
    assert missed["error_code"] == "vm_not_found" and "leaves out its kvm_host k4" in missed["msg"]


def test_a_limit_to_kvm_hosts_misses_nobody():
    for hosts in (seen(k1=[]), seen(k1=None), seen(k1=[], k2=None)):
        assert decide(wish(named=False), hosts)["failures"] == []
    assert codes(decide(wish(named=False), seen(k1=[vm(A)], k2=[vm(A)]))) == [("inventory-ocr", "vm_runs_twice")]


def test_mounts_that_cannot_be_used_fail_alone():
    wishes = wish(mounts=[{"model": "x"}])
    wishes["vms"]["v2"] = wish("chat")["vms"]["inventory-chat"]
    decided = decide(wishes, seen(k1=[vm(A), vm(B, "chat")]))
    assert codes(decided) == [("inventory-ocr", "invalid_input")]
    assert mounts(decided) == {"k1": [{"vm": B, **MOUNT}]}
    error = {"error_code": "invalid_input", "msg": "no", "details": {}}
    assert codes(decide(wish(error=error), seen(k1=[vm(A)]))) == [("inventory-ocr", "invalid_input")]


def test_two_hosts_of_the_inventory_cannot_be_one_vm():
    wishes = wish()
    wishes["vms"]["again"] = wish(A)["vms"][f"inventory-{A}"]
    assert codes(decide(wishes, seen(k1=[vm(A)]))) == [("again", "vm_ambiguous")]


# Both shapes.


def test_hosts_alone_are_passed_on_as_they_are():
    listed = [{"vm": " ocr\n", **MOUNT}, {"vm": A, **OTHER}, "malformed"]
    decided = decide(NOBODY, seen(k1=[vm(A)]), {"k1": {"vm_models": listed, "vm_models_purge": "host"}})
    assert decided["hosts"]["k1"] == {"mounts": listed, "purge": "host", "vms": [], "named": [" ocr\n", A]}


def test_what_a_vm_says_itself_is_what_counts():
    hosts = {
        "k1": {"vm_models": [{"vm": "ocr", **OTHER}]},
        "k2": {"vm_models": [{"vm": f" {A.upper()} ", **OTHER}, {"vm": "chat", **OTHER}]},
    }
    decided = decide(wish(), seen(k1=[vm(A, active=False)], k2=[vm(A), vm(B, "chat")]), hosts)
    assert mounts(decided) == {"k2": [{"vm": B, **OTHER}, {"vm": A, **MOUNT}]}
    assert [note.partition(":")[0] for note in decided["notes"]] == ["k1", "k2"]


@pytest.mark.parametrize(
    ("wishes", "variables", "how", "purge"),
    [
        (NOBODY, {}, {}, "none"),
        (NOBODY, {"vm_models_purge": "vm"}, {}, "vm"),
        (NOBODY, {"vm_models_purge": "host"}, {"present": False}, "none"),
        (NOBODY, {"vm_models": []}, {"sync": True}, "host"),
        # Who says nothing does not say that all shall go.
        (NOBODY, {}, {"sync": True}, "vm"),
        (wish(), {"vm_models": []}, {"sync": True}, "vm"),
        (wish(), {"vm_models_purge": "host"}, {}, "vm"),
        (wish(), {"vm_models_purge": "host"}, {"present": False}, "none"),
    ],
)
def test_what_goes_because_nobody_lists_it(wishes, variables, how, purge):
    assert decide(wishes, seen(k1=[vm(A)]), {"k1": variables}, **how)["hosts"]["k1"]["purge"] == purge


def test_a_vm_that_wants_nothing_is_emptied_only_when_that_is_allowed():
    hosts = seen(k1=[vm(A)])
    decided = decide(wish(mounts=[]), hosts, sync=True)
    assert codes(decided) == [("inventory-ocr", "invalid_input")]
    assert decided["hosts"]["k1"]["vms"] == []
    decided = decide(wish(mounts=[]), hosts, {"k1": {"vm_models_allow_empty": True, "vm_models_vms": ["x"]}}, sync=True)
    assert (decided["failures"], decided["hosts"]["k1"]["vms"]) == ([], ["x", A])
    assert decide(wish(mounts=[]), hosts)["failures"] == []
