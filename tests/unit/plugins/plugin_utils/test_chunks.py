# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Long lists in parts that together mean what the whole means."""

from __future__ import annotations

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.plugin_utils import _chunks

UUID = "aaaaaaaa-0000-4000-8000-000000000001"


def entries(*names):
    return [{"vm": name, "model": f"m{index}"} for index, name in enumerate(names)]


def cut(mounts, size=2, purge="none", vms=(), allow_empty=False):
    return _chunks.cut([{"mounts": mounts, "state": "present", "purge": purge, "vms": list(vms)}], size, allow_empty)


def names(calls):
    return [[entry["vm"] for entry in call["mounts"]] for call in calls]


def test_so_many_vms_each():
    calls = cut(entries("a", "b", "a", "c", "d", " b ", "e"))
    assert names(calls) == [["a", "a", "b", " b "], ["c", "d"], ["e"]]
    assert [call["label"] for call in calls] == ["VMs 1 to 2 of 5", "VMs 3 to 4 of 5", "VMs 5 to 5 of 5"]


@pytest.mark.parametrize(
    ("mounts", "size", "purge"),
    [
        (entries("a", "b", "c"), 0, "none"),
        (entries("a", "b", "c"), 3, "vm"),
        # A part would take away what the others list.
        (entries("a", "b", "c"), 1, "host"),
        # The UUID may be that of one of the others.
        (entries("a", "b", UUID), 1, "vm"),
    ],
)
def test_what_is_not_cut(mounts, size, purge):
    (call,) = cut(mounts, size, purge)
    assert (call["mounts"], call["purge"]) == (mounts, purge)


def test_vms_for_which_nothing_is_listed():
    calls = cut(entries("a"), 1, "vm", ["b", "a"])
    assert [(names([call])[0], call["vms"], call["allow_empty"]) for call in calls] == [
        ([], ["b"], True),
        (["a"], ["a"], True),
    ]


@pytest.mark.parametrize(("purge", "vms", "calls"), [("none", [], 0), ("vm", [], 0), ("vm", ["a"], 1), ("host", [], 1)])
def test_nothing_listed(purge, vms, calls):
    for allowed in (True, False):
        assert [call["allow_empty"] for call in cut([], 1, purge, vms, allowed)] == [allowed] * calls


def test_parts_of_the_work_stay_apart():
    part = {"mounts": entries("a", "b"), "state": "present", "purge": "vm", "vms": []}
    nothing = {"mounts": [], "state": "present", "purge": "none", "vms": []}
    calls = _chunks.cut([part, nothing, {**part, "mounts": entries("c"), "state": "absent", "purge": "none"}], 2, False)
    assert [(call["state"], call["purge"], names([call])[0]) for call in calls] == [
        ("present", "vm", ["a", "b"]),
        ("absent", "none", ["c"]),
    ]


@pytest.mark.parametrize("entry", [{"model": ""}, {"model": None}, {"model": " ", "mount_path": "\n"}])
def test_an_empty_model_does_not_mean_all_models(entry):
    with pytest.raises(ModelfleetError) as caught:
        cut([{"vm": "a", "model": "m"}, {"vm": "a", **entry}])
    assert (caught.value.code, "vm_models[1].model" in caught.value.msg) == ("invalid_input", True)
    assert len(cut([{"vm": "a"}, {"vm": "b", "model": "", "mount_path": "/m"}])) == 1


def test_malformed_entries_are_left_to_the_module():
    assert cut(["x", {"model": "m"}], 0)[0]["mounts"] == ["x", {"model": "m"}]


def test_planned_centers_are_those_that_will_be_mounted():
    centers = [
        {"name": "zoo", "storage_url": "file:///a", "read_only": True},
        {"name": "old", "state": "absent"},
        {"name": "lab", "state": "mounted", "uuid": UUID},
        "malformed",
    ]
    assert _chunks.planned(centers) == [{"name": "zoo", "storage_url": "file:///a"}, {"name": "lab", "uuid": UUID}]
