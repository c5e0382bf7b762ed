# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is in the way of an evacuation, and what goes."""

from __future__ import annotations

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.plugin_utils import _evacuation, _outcomes

ERROR = {"error_code": "record_conflict", "msg": "VM chat: newer.", "details": {}}


def mount(center="zoo", vm="ocr", processes=None):
    record = {"vm_instance_uuid": f"{vm}-uuid", "mount_path": "/m", "model_center_name": center}
    return {"vm": vm, "record": record, "guest_processes": processes}


def centers(*users, name="zoo", error=None):
    named = [{"vm": vm, "vm_instance_uuid": f"{vm}-uuid"} for vm in users]
    return {"model_centers": [{"center": {"name": name}, "users": named, "error": error}]}


def looked(info=None, defined=None, **more):
    return {"modelfleet_info": info or {"mounts": []}, "modelfleet_centers": defined or {"model_centers": []}, **more}


@pytest.mark.parametrize("value", ["", None, " ", "*", "z?o", "[z]oo", "a b"])
def test_a_model_center_has_a_name_and_no_pattern(value):
    with pytest.raises(ModelfleetError) as caught:
        _evacuation.name(value)
    assert caught.value.code == "invalid_input"


def test_only_what_is_of_the_model_center_goes():
    uuid = "3c5c6b8a-1c3b-4a52-9d0e-6d3b5ee0a4c1"
    assert _evacuation.name(f" {uuid}\n") == uuid
    info = {"mounts": [mount(), mount("zoo2", "chat")]}
    assert _evacuation.removals(info, "zoo") == [{"vm": "ocr-uuid", "mount_path": "/m"}]
    assert _evacuation.removals(info, uuid) == []
    assert _evacuation.removals({"failed": True}, "zoo") == []


def test_models_that_guests_use_are_in_the_way():
    processes = [{"pid": 7, "name": "vllm"}, {"pid": 8, "name": "sh"}]
    info = {"mounts": [mount(), mount(processes=[]), mount(processes=processes), mount("zoo2", processes=processes)]}
    (user,) = _evacuation.obstacles(info, {}, "zoo")
    assert (user["vm"], user["place"], user["error_code"]) == ("ocr", "/m", "mount_busy")
    assert user["msg"].startswith("VM ocr: /m is used by process 7 (vllm), 8 (sh). ")
    assert _outcomes.of_host("a", {"modelfleet_users": [user]}).codes == ["mount_busy"]


def test_vms_that_have_something_of_it_without_a_record_are_in_the_way():
    info = {"mounts": [mount()]}
    (found,) = _evacuation.obstacles(info, centers("ocr", "chat"), "zoo")
    assert (found["vm"], found["error_code"]) == ("chat", "center_in_use")
    assert _evacuation.obstacles(info, centers("chat", name="zoo2"), "zoo") == []
    (found,) = _evacuation.obstacles(info, centers(error=ERROR), "zoo")
    assert found["error_code"] == "record_conflict"


@pytest.mark.parametrize(
    ("second", "blocked"),
    [
        (looked(), False),
        (looked(modelfleet_way={"mounts": []}), False),
        (looked(modelfleet_users=[{"vm": "x", "place": "", "error_code": "mount_busy", "msg": ""}]), True),
        (looked(modelfleet_way={"failed": True, **ERROR}), True),
        # What could not be looked at.
        ({"modelfleet_info": {"unreachable": True}}, True),
        ({"modelfleet_info": {"failed": True, "msg": "MODULE FAILURE"}}, True),
        (looked({"mounts": [], "errors": [{"vm": "chat", **ERROR}]}), True),
        (looked(defined={"failed": True, "msg": "MODULE FAILURE"}), True),
        (looked(defined={"failed": False, "error_code": "center_unknown", "msg": ""}), False),
    ],
)
def test_what_blocks_an_evacuation(second, blocked):
    variables = {"a": looked({"mounts": [mount()]}, modelfleet_way={"mounts": []}), "b": second}
    assert _evacuation.blocked(["a", "b"], variables, "zoo") is blocked


def test_a_model_center_that_nobody_knows_is_a_mistake():
    variables = {"a": looked(), "b": looked(defined=centers(name="other"))}
    with pytest.raises(ModelfleetError) as caught:
        _evacuation.blocked(["a", "b"], variables, "zoo")
    assert caught.value.code == "center_unknown"
    assert not _evacuation.blocked(["a", "b"], {**variables, "b": looked(defined=centers())}, "zoo")
