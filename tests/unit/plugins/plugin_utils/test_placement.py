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
    found = {"vm": name, "kvm_hosts": list(kvm_hosts), "mounts": list(mounts), "asked": True, "error": None, **more}
    return {"vms": {f"inventory-{name}": found}, "named": named}


NOBODY = {"vms": {}, "named": False}


def decide(wishes, results, hosts=None, state="present", sync=False):
    return _placement.decide(wishes, results, hosts or {host: {} for host in results}, state, sync)


def mounts(decided):
    found = {
        host: [entry for part in work["parts"] for entry in part["mounts"]] for host, work in decided["hosts"].items()
    }
    return {host: entries for host, entries in found.items() if entries}


def purged(decided, host="k1"):
    """From which VMs of a host what is not listed goes; C(host) for all."""
    found = set()
    for part in decided["hosts"][host]["parts"]:
        if part["purge"] == "vm":
            found |= {*part["vms"], *(entry["vm"] for entry in part["mounts"])}
        elif part["purge"] == "host":
            found.add("host")
    return found


def codes(decided):
    return [(failure["vm"], failure["error_code"]) for failure in decided["failures"]]


def told(decided, host="k1"):
    return [(problem["vm"], problem["error_code"]) for problem in decided["problems"].get(host, [])]


# Which VMs there are.


def gather(limited, **variables):
    reached = {"modelfleet_reached": [host for host in limited if host in ("k1", "k2")]}
    for host in reached["modelfleet_reached"]:
        variables.setdefault(host, {}).update(reached)
    return _vms.gather(variables, limited, ["k1", "k2"])


def test_hosts_with_mounts_are_vms_and_kvm_hosts_are_not():
    found = gather(["k1", "v1", "v2", "web"], k1={"model_mounts": []}, v1={"model_mounts": [MOUNT]}, web={}, v2={})
    assert list(found["vms"]) == ["v1"]
    assert found["vms"]["v1"] == {
        "vm": "v1",
        "kvm_hosts": [],
        "mounts": [MOUNT],
        "asked": True,
        "error": None,
    }


def test_a_vm_says_its_name_and_where_it_belongs():
    said = {"model_mounts": [MOUNT], "model_vm": f" {A} ", "kvm_host": "k2\n"}
    assert gather(["k1", "v1"], v1=said)["vms"]["v1"]["vm"] == A
    assert gather(["k1", "v1"], v1=said)["vms"]["v1"]["kvm_hosts"] == ["k2"]
    assert gather(["k1", "v1"], v1={**said, "kvm_host": ["k1", "k2"]})["vms"]["v1"]["kvm_hosts"] == ["k1", "k2"]
    assert gather(["k1", "v1"], v1={**said, "kvm_host": ""})["vms"]["v1"]["kvm_hosts"] == []


@pytest.mark.parametrize(
    ("limited", "asked", "named"),
    [
        (["k1", "k2", "v1", "v2"], ["v1", "v2"], True),
        (["k1", "k2", "v2"], ["v2"], True),
        (["k1"], ["v1", "v2"], False),
    ],
)
def test_limits(limited, asked, named):
    got = gather(limited, v1={"model_mounts": [MOUNT]}, v2={"model_mounts": [MOUNT]})
    assert ([name for name, found in got["vms"].items() if found["asked"]], got["named"]) == (asked, named)
    # Those that it is not about are known, so that nothing is taken from them.
    assert list(got["vms"]) == ["v1", "v2"]


@pytest.mark.parametrize("limited", [["v1"], []])
def test_a_run_without_kvm_hosts_is_refused(limited):
    with pytest.raises(ModelfleetError) as caught:
        gather(limited, v1={"model_mounts": [MOUNT]})
    assert caught.value.code == "no_kvm_hosts"


@pytest.mark.parametrize("reached", [{}, {"modelfleet_reached": ["k1"]}, {"modelfleet_reached": ["other"]}])
def test_plays_that_are_for_other_hosts_are_noticed(reached):
    with pytest.raises(ModelfleetError) as caught:
        _vms.gather({"k1": reached, "k2": reached}, ["k1", "k2"], ["k1", "k2"])
    assert caught.value.code == "invalid_input" and "modelfleet_hosts" in caught.value.msg


@pytest.mark.parametrize("variables", [{"model_vm": "a/b"}, {"model_vm": ValueError("'x' is undefined")}])
def test_variables_that_cannot_be_used_are_the_problem_of_one_vm(variables):
    found = gather(["k1", "v1", "v2"], v1=Templates(model_mounts=[MOUNT], **variables), v2={"model_mounts": [MOUNT]})
    assert found["vms"]["v1"]["error"]["error_code"] == "invalid_input"
    assert found["vms"]["v2"]["error"] is None


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"model": "llama-nano"}, "[1].model_center"),
        ("llama-nano", "[1]"),
        ({**MOUNT, "vm": "other"}, "[1].vm"),
        ({**MOUNT, "vm": None}, "[1].vm"),
        ({**MOUNT, "transport": "nfs"}, "[1]"),
        ({**MOUNT, "modle": "x"}, "[1]"),
        ({**MOUNT, "mount_path": "/etc"}, "[1].mount_path"),
    ],
)
def test_mounts_that_the_module_would_refuse_are_refused_for_one_vm(wrong, where):
    (failure,) = decide(wish(mounts=[OTHER, wrong]), seen(k1=[vm(A)]))["failures"]
    assert (failure["vm"], failure["error_code"]) == ("inventory-ocr", "invalid_input")
    assert f"model_mounts{where}: " in failure["msg"]


def test_mounts_that_collide_are_refused_for_one_vm():
    assert codes(decide(wish(mounts=[MOUNT, MOUNT]), seen(k1=[vm(A)]))) == [("inventory-ocr", "duplicate_mount")]


@pytest.mark.parametrize("entry", [{}, {"model": None}, {"model": " ", "mount_path": ""}, {"model_center": "zoo"}])
def test_an_empty_model_does_not_mean_all_models(entry):
    decided = decide(wish(mounts=[entry]), seen(k1=[vm(A)]), state="absent")
    assert (codes(decided), mounts(decided)) == ([("inventory-ocr", "invalid_input")], {})
    decided = decide(NOBODY, seen(k1=[vm(A)]), {"k1": {"vm_models": [{"vm": "ocr", **entry}]}}, state="absent")
    assert (told(decided), mounts(decided)) == ([("ocr", "invalid_input")], {})
    assert mounts(decide(wish(mounts=[{"mount_path": "/m"}]), seen(k1=[vm(A)]), state="absent")) != {}


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
    listed = [{"vm": " ocr\n", **MOUNT}, {"vm": A, **OTHER}]
    decided = decide(NOBODY, seen(k1=[vm(A)]), {"k1": {"vm_models": listed, "vm_models_purge": "host"}})
    assert decided["hosts"]["k1"]["parts"][0] == {"mounts": listed, "state": "present", "purge": "host", "vms": []}
    assert decided["hosts"]["k1"]["named"] == [" ocr\n", A]
    # Whom the host has does not matter for that.
    assert mounts(decide(NOBODY, seen(k1=None), {"k1": {"vm_models": listed}})) == {"k1": listed}


@pytest.mark.parametrize(
    ("wrong", "where"),
    [
        ({"modle": "x"}, "vm_models[1]"),
        ({"model": "llama-nano"}, "vm_models[1].model_center"),
        ({}, "vm_models[1].model"),
    ],
)
def test_a_malformed_entry_is_the_problem_of_its_vm(wrong, where):
    listed = [{"vm": "ocr", **MOUNT}, {"vm": A.upper(), **wrong}, {"vm": "chat", **MOUNT}]
    variables = {"k1": {"vm_models": listed, "vm_models_purge": "host"}}
    decided = decide(NOBODY, seen(k1=[vm(A), vm(B, "chat")]), variables)
    assert (told(decided), mounts(decided)) == ([("ocr", "invalid_input")], {"k1": listed[2:]})
    assert f"{where}: " in decided["problems"]["k1"][0]["msg"]
    # What such a VM should have nobody knows, so nothing is taken from it.
    assert purged(decided) == {"chat"}


def test_an_entry_that_says_no_vm_may_be_any_vms():
    listed = [{"vm": "ocr", **MOUNT}, "malformed", MOUNT]
    decided = decide(NOBODY, seen(k1=[vm(A)]), {"k1": {"vm_models": listed}}, sync=True)
    assert (told(decided), mounts(decided)) == ([("", "invalid_input")] * 2, {"k1": listed[:1]})
    assert purged(decided) == set()


@pytest.mark.parametrize(
    "variables",
    [
        Templates(vm_models=ValueError("'x' is undefined")),
        {"vm_models": "ocr"},
        {"vm_models_purge": "all"},
        {"vm_models_allow_empty": "perhaps"},
        {"vm_models_vms": {"ocr": 1}},
    ],
)
def test_a_variable_that_cannot_be_used_is_the_problem_of_its_host(variables):
    hosts = {"k1": variables, "k2": {"vm_models": [{"vm": "chat", **MOUNT}]}}
    decided = decide(NOBODY, seen(k1=[vm(A)], k2=[vm(B, "chat")]), hosts)
    assert (told(decided), mounts(decided)) == ([("", "invalid_input")], {"k2": [{"vm": "chat", **MOUNT}]})


@pytest.mark.parametrize("empty", ["", " ", None])
def test_what_is_empty_is_not_given(empty):
    variables = dict.fromkeys(["vm_models", "vm_models_purge", "vm_models_vms", "vm_models_allow_empty"], empty)
    decided = decide(NOBODY, seen(k1=[vm(A)]), {"k1": variables}, sync=True)
    assert (told(decided), mounts(decided), purged(decided)) == ([], {}, set())


def test_what_a_vm_says_itself_is_what_counts():
    hosts = {
        "k1": {"vm_models": [{"vm": "ocr", **OTHER}]},
        "k2": {"vm_models": [{"vm": f" {A.upper()} ", **OTHER}, {"vm": "chat", **OTHER}]},
    }
    decided = decide(wish(), seen(k1=[vm(A, active=False)], k2=[vm(A), vm(B, "chat")]), hosts)
    assert mounts(decided) == {"k2": [{"vm": B, **OTHER}, {"vm": A, **MOUNT}]}
    assert len(decided["hosts"]["k2"]["parts"]) == 1
    assert [note.partition(":")[0] for note in decided["notes"]] == ["k1", "k2"]


@pytest.mark.parametrize(
    ("wishes", "variables", "how", "goes"),
    [
        (NOBODY, {}, {}, set()),
        (NOBODY, {"vm_models_purge": "vm"}, {}, {"chat"}),
        (NOBODY, {"vm_models_purge": "host"}, {}, {"host"}),
        (NOBODY, {"vm_models_purge": "host"}, {"state": "absent"}, set()),
        # Whether the list is about all VMs of the host only the inventory can say: a slice may hide others.
        (NOBODY, {}, {"sync": True}, {"chat"}),
        (NOBODY, {"vm_models_purge": "host"}, {"sync": True}, {"host"}),
        # Who says nothing does not say that all shall go.
        (NOBODY, {"vm_models": None, "vm_models_purge": "host"}, {"sync": True}, set()),
        (wish(), {}, {"sync": True}, {"chat-uuid", A}),
        (wish(), {"vm_models_purge": "host"}, {}, {"chat-uuid", A}),
        (wish(), {"vm_models_purge": "host"}, {"state": "absent"}, set()),
    ],
)
def test_what_goes_because_nobody_lists_it(wishes, variables, how, goes):
    hosts = {"k1": {"vm_models": [{"vm": "chat", **MOUNT}], **variables}}
    assert purged(decide(wishes, seen(k1=[vm(A), vm("chat-uuid", "chat")]), hosts, **how)) == goes


@pytest.mark.parametrize(
    ("lost", "k2", "goes"),
    [
        # The limit leaves it out; it is known where it is.
        ({"asked": False}, [], {B}),
        # It runs twice, or its list cannot be used.
        ({}, [vm(A)], {B}),
        ({"mounts": ["x"]}, [], {B}),
        ({"error": {"error_code": "invalid_input", "msg": "no", "details": {}}}, [], {B}),
        # A mistake in its name: whichever VM it means may be in the list.
        ({"vm": "ocrr"}, [], set()),
        ({"vm": None, "error": {"error_code": "invalid_input", "msg": "no", "details": {}}}, [], set()),
        # But not in that of a host which it cannot be on.
        ({"vm": "ocrr", "kvm_hosts": ["k2"]}, [], {B}),
    ],
)
def test_a_vm_that_nobody_works_on_keeps_what_it_has(lost, k2, goes):
    wishes = wish()
    wishes["vms"]["ocr"] = {**wishes["vms"].pop("inventory-ocr"), **lost}
    wishes["vms"]["search"] = {**wish("search")["vms"]["inventory-search"]}
    listed = [{"vm": A, **OTHER}, {"vm": "chat", **OTHER}]
    hosts = {"k1": {"vm_models": listed, "vm_models_vms": "ocr"}, "k2": {}}
    domains = [vm(A), vm(B, "chat"), vm("cccccccc-0000-4000-8000-000000000003", "search")]
    decided = decide(wishes, seen(k1=domains, k2=k2), hosts, sync=True)
    own = "cccccccc-0000-4000-8000-000000000003"
    found = {B if name == "chat" else name for name in purged(decided)}
    assert found == goes | {own}
    if lost.get("vm", "ocr") == "ocr":
        assert A not in [entry["vm"] for entry in mounts(decided)["k1"]]


def test_a_host_that_could_not_be_asked_is_left_alone_where_vms_speak():
    hosts = {"k1": {"vm_models": [{"vm": A, **OTHER}]}, "k2": {}}
    assert mounts(decide(wish(), seen(k1=None, k2=[vm(A)]), hosts, sync=True)) == {"k2": [{"vm": A, **MOUNT}]}


def test_a_vm_that_wants_nothing_is_emptied_only_when_that_is_allowed():
    hosts = seen(k1=[vm(A)])
    for no in (None, False, "false", "no"):
        decided = decide(wish(mounts=[]), hosts, {"k1": {"vm_models_allow_empty": no}}, sync=True)
        assert (codes(decided), purged(decided)) == ([("inventory-ocr", "invalid_input")], set())
    decided = decide(
        wish(mounts=[]), hosts, {"k1": {"vm_models_allow_empty": "yes", "vm_models_vms": ["x"]}}, sync=True
    )
    assert (decided["failures"], purged(decided)) == ([], {"x", A})
    assert decide(wish(mounts=[]), hosts)["failures"] == []
