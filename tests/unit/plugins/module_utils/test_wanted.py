# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _identity, _wanted
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit.builders import CENTER, OTHER_VM, VM, record, viewed, wanted

ENTRY = {"vm": "render-4", "model": "acme/guard", "model_center": "depot"}


def entry(**changes):
    """The options of one mount, as they come from a task."""
    return {**ENTRY, **changes}


def refusal(params, present=True):
    with pytest.raises(ModelfleetError) as caught:
        _wanted.from_params(params, present)
    return caught.value


def test_what_is_not_given_has_a_default():
    (mount,) = _wanted.from_params(entry(), present=True)
    assert mount == _wanted.Wanted(
        where="",
        vm="render-4",
        model="acme/guard",
        model_version="",
        model_uuid="",
        model_center="depot",
        model_path="acme/guard",
        mount_path="/models/acme/guard",
        tag="",
        guest="agent",
        persistence="auto",
        account_uuid="",
        owner="default",
    )


def test_what_is_given_is_taken_in_its_normal_form():
    uuid = "52B1F3D9-0D0C-4F39-8F5E-5A1F54D3A0C6"
    given = {
        "model_version": "2.1",
        "model_uuid": uuid,
        "model_path": "llm//guard/",
        "mount_path": "/srv//ai/",
        "tag": "guard",
        "guest": "none",
        "account_uuid": uuid,
        "owner": "ops",
    }
    (mount,) = _wanted.from_params(entry(**given), present=True)
    for option, value in given.items():
        assert getattr(mount, option) == {"model_path": "llm/guard", "mount_path": "/srv/ai"}.get(option, value.lower())


def test_a_list_gives_every_entry_its_place():
    mounts = _wanted.from_params({"mounts": [entry(), entry(vm="render-5")]}, present=True)
    assert [(mount.where, mount.vm) for mount in mounts] == [("mounts[0]", "render-4"), ("mounts[1]", "render-5")]


def test_an_empty_list_asks_for_nothing():
    assert _wanted.from_params({"mounts": []}, present=True) == []


@pytest.mark.parametrize("missing", ["vm", "model", "model_center"])
def test_some_options_are_required(missing):
    problem = refusal(entry(**{missing: None}))
    assert (problem.code, problem.details["option"]) == ("invalid_input", missing)
    problem = refusal({"mounts": [entry(), entry(**{missing: None})]})
    assert problem.details["option"] == f"mounts[1].{missing}"


@pytest.mark.parametrize(
    ("option", "bad"),
    [
        ("vm", "a/b"),
        ("model", "../guard"),
        ("model_version", "2 1"),
        ("model_uuid", "1"),
        ("model_center", "de/pot"),
        ("model_path", "/acme"),
        ("mount_path", "/proc/x"),
        ("tag", "t" * 37),
        ("account_uuid", "me"),
        ("owner", "-o"),
    ],
)
@pytest.mark.parametrize("present", [True, False])
def test_every_option_is_checked(option, bad, present):
    problem = refusal({"mounts": [entry(vm="render-5"), entry(**{option: bad})]}, present)
    assert (problem.code, problem.details["option"]) == ("invalid_input", f"mounts[1].{option}")


def test_to_be_gone_needs_the_vm_or_the_model():
    assert refusal({"mount_path": "/srv/ai"}, present=False).details["option"] == "vm"
    assert refusal({}, present=False).details["option"] == "vm"
    (mount,) = _wanted.from_params({"vm": "render-4"}, present=False)
    assert (mount.model, mount.mount_path, mount.owner) == ("", "", "")
    (mount,) = _wanted.from_params({"model": "guard"}, present=False)
    assert (mount.vm, mount.model) == ("", "guard")
    (mount,) = _wanted.from_params({"vm": "render-4", "model": "guard"}, present=False)
    assert mount.mount_path == ""
    (mount,) = _wanted.from_params({"vm": "render-4", "mount_path": "/srv/ai"}, present=False)
    assert (mount.model, mount.model_path) == ("", "")


CLASHES = {
    "mount_path": [entry(mount_path="/srv/ai"), entry(model="ocr", mount_path="/srv/ai/")],
    "model": [entry(mount_path="/srv/a"), entry(mount_path="/srv/b")],
    "tag": [entry(tag="guard"), entry(model="ocr", tag="guard")],
}


@pytest.mark.parametrize("kind", CLASHES)
def test_two_entries_cannot_claim_the_same_place(kind):
    problem = refusal({"mounts": [entry(vm="render-5"), CLASHES[kind][0], entry(vm="render-6"), CLASHES[kind][1]]})
    assert problem.code == "duplicate_mount"
    assert problem.details == {"entries": ["mounts[1]", "mounts[3]"], "vm": "render-4", "kind": kind}


@pytest.mark.parametrize(
    "other",
    [
        # The same directory under two names would be mounted, and refused by the next run.
        entry(model="ocr", model_path="acme/guard"),
        entry(model="ocr", model_path="ocr", model_uuid="52b1f3d9-0d0c-4f39-8f5e-5a1f54d3a0c6"),
        # A path inside another model's path is inside something read-only.
        entry(model="ocr", mount_path="/srv/ai/guard/ocr"),
        entry(model="ocr", mount_path="/srv/ai"),
    ],
    ids=["same directory", "same UUID", "below", "above"],
)
def test_entries_that_would_be_in_each_other_s_way_are_refused(other):
    first = entry(mount_path="/srv/ai/guard", model_uuid=other.get("model_uuid"))
    problem = refusal({"mounts": [first, other]})
    assert problem.code == "duplicate_mount"
    assert problem.details["entries"] == ["mounts[0]", "mounts[1]"]


@pytest.mark.parametrize(
    "others",
    [
        [entry(vm="render-5", mount_path="/srv/ai", tag="guard"), entry(mount_path="/srv/ai", tag="guard")],
        [entry(), entry(model_version="2.2", model_path="guard-2.2", mount_path="/srv/b")],
        [entry(), entry(model_center="other", mount_path="/srv/b")],
        [entry(mount_path="/srv/ai"), entry(model="ocr", mount_path="/srv/ai2")],
    ],
    ids=["another VM", "another version", "another center", "another path"],
)
def test_entries_that_do_not_clash_are_taken(others):
    assert len(_wanted.from_params({"mounts": others}, present=True)) == 2


def test_the_same_may_be_taken_away_twice():
    assert len(_wanted.from_params({"mounts": [entry(), entry()]}, present=False)) == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"mount_path": "/srv/ai/guard"}, True),
        ({"mount_path": "/srv/ai"}, False),
        ({"model": "acme/guard"}, True),
        ({"model": "guard"}, False),
        ({"model": "acme/guard", "model_version": "2.1"}, True),
        ({"model": "acme/guard", "model_version": "2.2"}, False),
        ({"model": "acme/guard", "model_center": "depot"}, True),
        ({"model": "acme/guard", "model_center": "other"}, False),
        ({"model": "acme/guard", "mount_path": "/srv/ai"}, False),
    ],
)
def test_what_goes_agrees_with_all_that_is_given(given, expected):
    mount = wanted(**{"model": "", "model_version": "", "model_center": "", "mount_path": "", **given})
    assert mount.matches(record()) is expected


def test_a_record_is_complete_but_for_its_times():
    made = wanted().record(VM, CENTER)
    assert made.uuid == _identity.mount_uuid(VM, "/srv/ai/guard")
    assert made.model_uuid == _identity.model_uuid(CENTER.uuid, "acme/guard-2.1", "2.1")
    assert made.tag == _identity.tag(made.uuid, "acme/guard")
    assert made.alias == _identity.alias(made.uuid)
    assert (made.vm_instance_uuid, made.model_center_uuid, made.intent) == (VM, CENTER.uuid, "settled")
    assert (made.generation, made.create_date, made.last_op_date) == (0, "", "")
    assert made.read_only


def test_a_given_tag_and_uuid_are_kept():
    made = wanted(tag="guard", model_uuid=OTHER_VM).record(VM, CENTER)
    assert (made.tag, made.model_uuid) == ("guard", OTHER_VM)


# Transports


@pytest.mark.parametrize("transport", ["auto", "device", "view"])
@pytest.mark.parametrize("present", [True, False])
def test_a_transport_is_taken_as_it_is_given(transport, present):
    (mount,) = _wanted.from_params(entry(transport=transport), present)
    assert mount.transport == transport
    assert mount.device_path == ("/models" if transport == "view" else mount.mount_path)


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"tag": "guard"}, "tag"),
        ({"tag": "modelfleet"}, "tag"),
        ({"mount_path": "/models"}, "mount_path"),
        ({"mount_path": "/models/.m"}, "mount_path"),
        ({"mount_path": "/models/.hidden/guard"}, "mount_path"),
    ],
)
@pytest.mark.parametrize("present", [True, False])
def test_a_view_has_its_own_tag_and_path(given, option, present):
    problem = refusal({"mounts": [entry(**given, transport="view")]}, present)
    assert (problem.code, problem.details["option"]) == ("invalid_input", f"mounts[0].{option}")


@pytest.mark.parametrize(
    ("path", "linked"), [("/models/guard", False), ("/srv/ai/guard", True), ("/modelsx", True), ("/srv/models/a", True)]
)
def test_a_model_of_a_view_may_be_seen_elsewhere(path, linked):
    (mount,) = _wanted.from_params(entry(transport="view", mount_path=path), present=True)
    made = mount.record(VM, CENTER)
    assert (mount.linked, mount.device_path, made.linked, made.device_path) == (linked, "/models", linked, "/models")
    assert not dataclasses.replace(mount, transport="device").linked


def test_a_path_elsewhere_may_be_too_long_for_a_unit_of_its_own():
    path = "/" + "x" * 250
    (mount,) = _wanted.from_params(entry(transport="view", mount_path=path, persistence="systemd"), present=True)
    assert (mount.mount_path, mount.persistence) == (path, "systemd")
    for transport in ("device", "auto"):
        problem = refusal(entry(transport=transport, mount_path=path, persistence="systemd"), True)
        assert (problem.code, problem.details["option"]) == ("invalid_input", "mount_path")


def test_models_of_a_view_do_not_collide_by_its_tag():
    mounts = [entry(transport="view"), entry(model="ocr", transport="view")]
    assert [mount.tag for mount in _wanted.from_params({"mounts": mounts}, present=True)] == ["", ""]


def test_a_record_in_a_view_has_what_the_view_has():
    made = viewed().record(VM, CENTER)
    assert (made.transport, made.tag, made.mount_path) == ("view", "modelfleet", "/models/guard")
    assert made.uuid == _identity.mount_uuid(VM, "/models/guard")
    assert made.alias == _identity.alias(_identity.view_uuid(VM))


@pytest.mark.parametrize("mount", [viewed(), wanted(transport="device"), wanted(transport="device", tag="guard")])
def test_a_record_remembers_the_wish_that_made_it(mount):
    kept = record(mount)
    assert _wanted.from_record(kept).record(VM, CENTER).says_the_same(kept)
