# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What modules return."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _mount_lines, _report, _steps
from ansible_collections.modelfleet.kvm.plugins.module_utils._converge import Outcome
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.module_utils._layers import Layers
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

R = b.record()
BUSY = ModelfleetError("mount_busy", "VM render-4: x", vm="render-4")
AGENT = ModelfleetError("agent_unavailable", "VM render-5: x", vm="render-5")


def outcome(plan, record=None, error=None, changed=None):
    return Outcome(plan, record, bool(plan.steps) if changed is None else changed, error)


FRESH = outcome(b.present(b.host(), b.running(), b.wanted()), R)
RIGHT = outcome(b.present(b.host(b.bind(R)), b.running(R), b.wanted()), R)
GOING = outcome(b.absent(b.host(b.bind(R), models={}), b.running(R), b.wanted())[0])
GONE = outcome(b.absent(b.host(), b.running(), b.wanted(model=""))[0])
LOST = outcome(_steps.MountPlan(b.wanted(), "", "render-9", error=BUSY), error=BUSY)
SHUT_OFF = outcome(b.present(b.host(), b.shut_off(), b.wanted()), R)
ALL = {"fresh": FRESH, "right": RIGHT, "going": GOING, "gone": GONE, "lost": LOST, "shut off": SHUT_OFF}
KEYS = set(
    "vm vm_instance_uuid model mount_path tag transport origin changed actions prediction conditions due".split()
)
KEYS |= {"restart_required", "mount_lines", "record", "error", "replugged"}


def test_every_mount_has_the_same_shape():
    assert [set(mount) for mount in _report.mounts(ALL.values())] == [KEYS] * len(ALL)


@pytest.mark.parametrize("name", ALL)
def test_every_mount_says_where_it_is(name):
    (mount,) = _report.mounts([ALL[name]])
    assert mount["vm"] == ("render-9" if name == "lost" else "render-4")
    assert mount["mount_path"] == "/srv/ai/guard"
    assert mount["model"] == ("" if name == "gone" else "acme/guard")


def test_a_mount_says_what_was_done():
    fresh, right, going = _report.mounts([FRESH, RIGHT, GOING])
    assert fresh["actions"][0] == "record" and fresh["changed"] and fresh["record"]["uuid"] == R.uuid
    assert (right["actions"], right["changed"], right["error"]) == ([], False, None)
    assert going["actions"][-1] == "forget_record" and going["record"] is None


def test_a_mount_says_what_went_wrong():
    (lost,) = _report.mounts([LOST])
    assert lost["error"] == BUSY.as_result()
    assert (lost["changed"], lost["actions"], lost["record"]) == (False, [], None)


def test_a_conditional_prediction_says_on_what():
    plan = b.present(b.host(prepared=False), b.running(), b.wanted(), check_mode=True)
    exact, conditional = _report.mounts([FRESH, outcome(plan, R)])
    assert (exact["prediction"], exact["conditions"]) == ("exact", [])
    assert conditional["prediction"] == "conditional" and len(conditional["conditions"]) == 1


def test_the_order_is_that_of_the_entries():
    assert [mount["changed"] for mount in _report.mounts([RIGHT, FRESH, GONE, GOING])] == [False, True, False, True]


# Diffs: what a person reads before saying yes.

LAYERS = ["source on the host", "device in the persistent XML", "device in the live XML", "mount in the guest"]


def read(text):
    """A side of a diff for one mount: its first line, what it says of the record, and a word for each layer."""
    head, *rest = text.splitlines()
    layers = dict(line.strip().split(": ") for line in rest if line.strip().startswith(tuple(LAYERS)))
    return head, [line for line in rest if line.strip().split(": ")[0] not in layers], layers


def all_there(**changes):
    return {**dict.fromkeys(LAYERS, "there"), **{LAYERS[int(index[1:])]: word for index, word in changes.items()}}


def test_the_diff_of_a_fresh_mount():
    diff = _report.diff([FRESH])
    assert diff["before"] == ""
    head, record, layers = read(diff["after"])
    assert "render-4" in head and "/srv/ai/guard" in head
    assert layers == all_there()
    for word in ("acme/guard", "2.1", "depot", "acme/guard-2.1", R.tag, R.model_uuid, "default", "agent"):
        assert word in " ".join(record)


def test_the_diff_of_a_mount_that_goes():
    diff = _report.diff([GOING])
    assert diff["after"] == ""
    _head, record, layers = read(diff["before"])
    assert R.tag in " ".join(record)
    # Nobody looks at the storage of what goes.
    assert layers == all_there(_0="unknown")


@pytest.mark.parametrize(
    "was", [{"owner": "ops"}, {"account_uuid": b.OTHER_VM}, {"model_uuid": b.OTHER_VM}, {"intent": "mounting"}], ids=str
)
def test_the_diff_of_a_record_that_changes(was):
    plan = b.present(b.host(b.bind(R)), b.running(b.record(**was)), b.wanted())
    before, after = (read(side) for side in _report.diff([outcome(plan, R)]).values())
    (value,) = was.values()
    assert value in " ".join(before[1]) and value not in " ".join(after[1])
    assert before[2] == after[2] == all_there()


def test_the_diff_of_a_vm_that_is_shut_off_is_silent_about_the_rest():
    assert read(_report.diff([SHUT_OFF])["after"])[2] == {LAYERS[1]: "there"}


def test_the_diff_shows_what_is_wrong():
    vm = b.running(R, guest=(b.ROOT, b.in_guest(R, options=b.READ_WRITE)))
    plan = b.present(b.host(b.bind(R)), vm, b.wanted())
    before, after = (read(side) for side in _report.diff([outcome(plan, R)]).values())
    assert (before[2], after[2]) == (all_there(_3="wrong"), all_there())
    assert before[:2] == after[:2]


@pytest.mark.parametrize("old", ["device", "view"])
def test_the_diff_of_another_transport(old):
    new = "view" if old == "device" else "device"
    kept = b.record(b.viewed(transport=old))
    plan = b.present(b.host(b.bind(kept)), b.running(kept), b.viewed(transport=new))
    before, after = (read(side) for side in _report.diff([outcome(plan, plan.after)]).values())
    assert (before[2], after[2]) == (all_there(), all_there())
    assert f"transport {old}, tag {kept.tag}" in " ".join(before[1])
    assert f"transport {new}, tag {plan.after.tag}" in " ".join(after[1])
    (mount,) = _report.mounts([outcome(plan, plan.after)])
    assert (mount["transport"], mount["tag"]) == (new, plan.after.tag)


def test_the_diff_of_what_was_left_of_another_transport():
    kept, left = b.record(b.viewed()), b.record(b.viewed(transport="device"))
    both = b.domain(b.device(kept), b.device(left))
    plan = b.present(b.host(b.bind(kept)), b.running(kept, live=both), b.viewed())
    before, after = _report.diff([outcome(plan, kept)]).values()
    assert before.startswith(after)
    assert "  left of another transport, device in the live XML: wrong\n" in before[len(after) :]


def test_what_stays_as_it_is_is_not_in_the_diff():
    assert _report.diff([RIGHT, GONE, LOST]) == {"before": "", "after": ""}
    assert _report.diff([RIGHT, FRESH, LOST]) == _report.diff([FRESH])


def test_what_failed_is_not_in_the_diff():
    assert _report.diff([dataclasses.replace(FRESH, error=BUSY)]) == {"before": "", "after": ""}


# Failures


def test_a_run_without_failures_has_none():
    assert _report.failure([FRESH, RIGHT]) is None


def test_one_failure_is_that_of_the_run():
    assert _report.failure([FRESH, LOST]) == BUSY.as_result()


def test_of_several_failures_the_first_is_that_of_the_run_and_the_rest_are_counted():
    several = [dataclasses.replace(LOST, error=error) for error in (BUSY, AGENT, BUSY)]
    failure = _report.failure([FRESH, *several])
    assert (failure["error_code"], failure["details"]) == ("mount_busy", {"vm": "render-4"})
    assert "1 more" in failure["msg"]


# Status: the words of the original.

DUE = "not due"


@pytest.mark.parametrize(
    ("intent", "layers", "expected"),
    [
        ("settled", ("right", "right", "right", "right"), "Mounted"),
        ("settled", (DUE, "right", DUE, DUE), "Attached"),
        ("settled", ("right", "right", "right", DUE), "Attached"),
        ("settled", ("right", DUE, "right", "right"), "Mounted"),
        ("settled", ("missing", "right", "right", "right"), "MountFailed"),
        ("settled", ("right", "right", "right", "unknown"), "MountFailed"),
        ("settled", ("right", "right", "foreign", DUE), "MountFailed"),
        ("settled", (DUE, "wrong", DUE, DUE), "MountFailed"),
        ("mounting", ("right", "right", "right", "right"), "Mounting"),
        ("mounting", ("missing",) * 4, "Mounting"),
        ("unmounting", ("right", "right", "right", "right"), "Unmounting"),
    ],
)
def test_the_status_is_derived_from_intent_and_truth(intent, layers, expected):
    assert _report.status(b.record(intent=intent), Layers(*layers)) == expected


def test_what_is_no_reason_to_fail_is_told_once():
    told = [dataclasses.replace(each, warnings=("VM render-4: slow",)) for each in (FRESH, RIGHT)]
    assert _report.warnings([*told, GONE]) == ["VM render-4: slow"]


# Models in a view

BY_ITSELF = {"guest": "none", "persistence": "none", "transport": "view"}
LASTING = {"persistence": "systemd", "transport": "view"}


def reported(plan, state="running"):
    (mount,) = _report.mounts([Outcome(plan, plan.after, bool(plan.steps), None, state)])
    return mount


def test_a_guest_that_mounts_a_view_by_itself_is_told_how():
    mount = reported(b.present(b.host(), b.running(guest=None), b.viewed(**BY_ITSELF)))
    assert (mount["tag"], mount["mount_path"]) == ("modelfleet", "/models/guard")
    assert mount["mount_lines"] == _mount_lines.mount_lines("modelfleet", "/models")
    assert mount["due"] == ["the guest mounts it by itself, see mount_lines"]


def test_nothing_is_due_when_a_model_joins_what_the_guest_has_mounted_by_itself():
    other = b.record(b.second(mount_path="/models/ocr", **BY_ITSELF))
    plan = b.present(b.host(b.bind(other)), b.running(other, guest=None), b.viewed(**BY_ITSELF))
    assert plan.error is None and reported(plan)["due"] == []


ELSEWHERE = b.wanted(transport="view", persistence="systemd")


def test_a_guest_that_mounts_a_view_by_itself_is_told_of_the_link_that_it_needs():
    wanted = b.wanted(**BY_ITSELF)
    mount = reported(b.present(b.host(), b.running(guest=None), wanted))
    assert mount["mount_lines"]["command"] == _mount_lines.mount_lines("modelfleet", "/models")["command"]
    assert mount["mount_lines"]["link"].endswith("ln -s /models/.at/srv/ai/guard /srv/ai/guard")
    links = "the guest links it by itself, see mount_lines"
    assert mount["due"] == ["the guest mounts it by itself, see mount_lines", links]
    other = b.record(b.second(mount_path="/models/ocr", **BY_ITSELF))
    vm = b.running(other, guest=None)
    assert reported(b.present(b.host(b.bind(other)), vm, wanted))["due"] == [links]
    kept = b.record(wanted)
    again = b.present(b.host(b.bind(kept)), b.running(kept, guest=None), wanted)
    assert (again.actions, reported(again)["due"]) == ([], [])


def test_only_a_run_makes_a_link_in_a_guest_that_is_shut_off():
    new = reported(b.present(b.host(), b.shut_off(), ELSEWHERE), "shutoff")
    assert new["due"] == ["start the VM and run again, to mount the model in its guest"]
    kept = reported(b.present(b.host(), b.shut_off(b.record(ELSEWHERE)), ELSEWHERE), "shutoff")
    assert kept["due"] == ["start the VM; its guest mounts the model when it boots"]


def test_a_guest_that_is_shut_off_keeps_its_link():
    left = "a link that the guest keeps at /srv/ai/guard leads nowhere"
    kept = b.record(ELSEWHERE)
    (gone,) = b.absent(b.host(), b.shut_off(kept), ELSEWHERE)
    assert left in reported(gone, "shutoff")["due"]
    converted = b.present(b.host(), b.shut_off(kept), b.wanted(transport="device"))
    assert left in reported(converted, "shutoff")["due"]
    (gone,) = b.absent(b.host(b.bind(kept)), b.running(kept), ELSEWHERE)
    assert reported(gone)["due"] == []


@pytest.mark.parametrize(("replugged", "due"), [(None, False), (False, False), (True, True)])
def test_a_guest_that_mounts_a_view_by_itself_must_mount_it_again_when_it_was_plugged_again(replugged, due):
    kept = [b.record(b.viewed(**BY_ITSELF)), b.record(b.second(mount_path="/models/ocr", **BY_ITSELF))]
    on = b.host(*map(b.bind, kept))
    (plan,) = b.absent(on, b.running(*kept, guest=None), b.viewed(**BY_ITSELF), force=True, strict=True)
    (mount,) = _report.mounts([Outcome(plan, None, True, None, "running", replugged)])
    assert plan.error is None and mount["replugged"] is replugged
    assert bool(mount["due"]) is due and all("mounts it again" in said for said in mount["due"])


def test_the_unit_of_a_view_is_not_useless_while_other_models_are_in_it():
    kept = [b.record(b.viewed(**LASTING)), b.record(b.second(mount_path="/models/ocr", **LASTING))]
    (plan,) = b.absent(b.host(), b.shut_off(*kept), b.viewed(**LASTING))
    assert plan.error is None and reported(plan, "shutoff")["due"] == []


def test_the_unit_of_a_view_that_is_empty_is_left_in_a_guest_that_is_shut_off():
    (plan,) = b.absent(b.host(), b.shut_off(b.record(b.viewed(**LASTING))), b.viewed(**LASTING))
    assert "mount unit of /models," in reported(plan, "shutoff")["due"][0]


def test_the_unit_of_another_transport_is_left_in_a_guest_that_is_shut_off():
    kept = b.record(b.viewed(transport="device", persistence="systemd"))
    plan = b.present(b.host(), b.shut_off(kept), b.viewed(persistence="systemd"))
    start, left = reported(plan, "shutoff")["due"]
    assert start.startswith("start the VM") and "mount unit of /models/guard," in left
