# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All mounts of a VM planned as one: what is not listed, what was left over, and what changes places."""

from __future__ import annotations

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _plan, _steps
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit import simulator

R = b.record()
OTHER = b.record(b.second())
THEIRS = b.record(b.second(owner="ops"))
GONE = ["record", "unmount_in_guest", "detach_live", "detach_persistent", "unbind_source", "forget_record"]
FRESH = ["record", "bind_source", "attach", "verify_read_only", "mount_in_guest", "settle_record"]


def plan(on, vm, *mounts, present=True, **terms):
    """The plans of a VM in the order of results."""
    plans = _plan.plan_vm(on, vm, list(enumerate(mounts)), _plan.Terms(present=present, **terms))
    unasked = plans.pop(-1, [])
    return [*(found for index in sorted(plans) for found in plans[index]), *unasked]


def after(on, vm, plans):
    """The host and the VM when the plans have been carried out in their one order."""
    assert [found.error for found in plans] == [None] * len(plans)
    batches = _steps.batches(plans)
    return simulator.run(on, vm, [_steps.Step(batch.action, record) for batch in batches for record in batch.records])


def told(plans):
    return [(found.origin, (found.before or found.after).mount_path, found.actions) for found in plans]


def on(*records):
    return b.host(*(b.bind(kept) for kept in records))


PURGE = {"purge": True, "owner": "default"}


def test_what_is_not_listed_goes():
    host, vm = on(R, OTHER), b.running(R, OTHER)
    plans = plan(host, vm, b.wanted(), **PURGE)
    assert told(plans) == [("listed", R.mount_path, []), ("purged", OTHER.mount_path, GONE)]
    host, vm = after(host, vm, plans)
    assert told(plan(host, vm, b.wanted(), **PURGE)) == [("listed", R.mount_path, [])]
    assert list(vm.records) == [R.uuid]


def test_without_purge_nothing_goes():
    assert told(plan(on(R, OTHER), b.running(R, OTHER), b.wanted())) == [("listed", R.mount_path, [])]


def test_what_belongs_to_another_owner_stays():
    assert told(plan(on(R, THEIRS), b.running(R, THEIRS), b.wanted(), **PURGE)) == [("listed", R.mount_path, [])]


def test_nothing_listed_purges_all_of_the_owner():
    plans = plan(on(R, THEIRS), b.running(R, THEIRS), **PURGE)
    assert told(plans) == [("purged", R.mount_path, GONE)]


def test_two_models_change_places():
    first, second = b.wanted(), b.second()
    swapped = [b.wanted(mount_path=second.mount_path), b.second(mount_path=first.mount_path)]
    host, vm = on(R, OTHER), b.running(R, OTHER)
    plans = plan(host, vm, *swapped)
    assert all("bind_source" in found.actions for found in plans)
    host, vm = after(host, vm, plans)
    assert [found.actions for found in plan(host, vm, *swapped)] == [[], []]
    assert {kept.mount_path: kept.model_name for kept in vm.records.values()} == {
        second.mount_path: first.model,
        first.mount_path: second.model,
    }


CHAT, EMBED = (b.record(mount(tag=tag)) for mount, tag in ((b.wanted, "chat"), (b.second, "embed")))


@pytest.mark.parametrize("state", ["running", "shut off"])
def test_two_mounts_change_tags(state):
    host, vm = on(CHAT, EMBED), b.running(CHAT, EMBED)
    if state == "shut off":
        host, vm = b.host(), b.shut_off(CHAT, EMBED)
    wanted = b.wanted(tag="embed"), b.second(tag="chat")
    host, vm = after(host, vm, plan(host, vm, *wanted))
    assert {record.mount_path: record.tag for record in vm.records.values()} == {
        CHAT.mount_path: "embed",
        EMBED.mount_path: "chat",
    }
    assert [found.actions for found in plan(host, vm, *wanted)] == [[], []]


@pytest.mark.parametrize("done", range(16))
def test_a_change_of_tags_that_was_interrupted_anywhere_is_carried_on(done):
    host, vm = on(CHAT, EMBED), b.running(CHAT, EMBED)
    wanted = b.wanted(tag="embed"), b.second(tag="chat")
    batches = _steps.batches(plan(host, vm, *wanted))
    steps = [_steps.Step(batch.action, record) for batch in batches for record in batch.records]
    assert len(steps) == 16
    host, vm = simulator.run(host, vm, steps[:done])
    host, vm = after(host, vm, plan(host, vm, *wanted))
    assert [found.actions for found in plan(host, vm, *wanted)] == [[], []]


def test_a_tag_is_handed_over_by_what_is_purged():
    host, vm = on(CHAT), b.running(CHAT)
    plans = plan(host, vm, b.second(tag="chat"), **PURGE)
    assert told(plans) == [("listed", EMBED.mount_path, FRESH), ("purged", CHAT.mount_path, GONE)]
    host, vm = after(host, vm, plans)
    assert [record.tag for record in vm.records.values()] == ["chat"]


LOST = b.running(CHAT, live=b.domain(), persistent=b.domain(), guest=(b.ROOT,))


@pytest.mark.parametrize(
    ("vm", "mounts"),
    [
        pytest.param(b.running(CHAT), [b.second(tag="chat")], id="it stays"),
        pytest.param(LOST, [b.second(tag="chat")], id="it stays, and its device is to be repaired"),
        pytest.param(
            b.running(CHAT), [b.wanted(tag=""), b.second(tag=b.record().tag)], id="the other gets it by itself"
        ),
        pytest.param(
            b.running(CHAT, guest=(b.ROOT, b.in_guest(CHAT), b.in_guest(CHAT, mount_point="/mnt"))),
            [b.second(tag="chat")],
            id="it would go, but is in use",
        ),
    ],
)
def test_a_tag_that_something_keeps_is_refused(vm, mounts):
    found = plan(on(CHAT), vm, *mounts, **(PURGE if len(vm.guest) == 3 else {}))
    assert "tag_in_use" in [refused.error and refused.error.code for refused in found]


def test_a_model_moves_when_its_old_place_is_purged():
    host, vm = on(R), b.running(R)
    moved = b.wanted(mount_path="/srv/elsewhere")
    (refused,) = plan(host, vm, moved)
    assert refused.error.code == "duplicate_mount"
    plans = plan(host, vm, moved, **PURGE)
    assert told(plans) == [("listed", "/srv/elsewhere", FRESH), ("purged", R.mount_path, GONE)]
    _host, vm = after(host, vm, plans)
    assert [kept.mount_path for kept in vm.records.values()] == ["/srv/elsewhere"]


def test_a_model_may_come_below_the_path_of_one_that_goes():
    host, vm = on(R), b.running(R)
    below = b.second(mount_path=f"{R.mount_path}/part")
    assert plan(host, vm, below)[0].error.code == "duplicate_mount"
    after(host, vm, plan(host, vm, below, **PURGE))


@pytest.mark.parametrize("present", [True, False])
def test_a_removal_that_was_interrupted_is_carried_on(present):
    left = b.record(b.second(), intent="unmounting")
    host, vm = on(R, left), b.running(R, left)
    plans = plan(host, vm, *([b.wanted()] if present else []), present=present)
    assert told(plans)[-1] == ("interrupted", left.mount_path, GONE)
    _host, vm = after(host, vm, plans)
    assert list(vm.records) == [R.uuid]


def test_a_mount_that_was_interrupted_is_carried_on():
    left = b.record(b.second(), intent="mounting")
    host, vm = on(R, left), b.running(R, left, guest=(b.ROOT, b.in_guest(R)))
    plans = plan(host, vm, b.wanted())
    assert told(plans)[-1] == ("interrupted", left.mount_path, ["record", "mount_in_guest", "settle_record"])
    host, vm = after(host, vm, plans)
    assert vm.records[left.uuid].intent == "settled"
    assert told(plan(host, vm, b.wanted())) == [("listed", R.mount_path, [])]


def test_what_cannot_be_carried_on_is_told():
    left = b.record(b.second(), intent="mounting")
    host = b.host(b.bind(R), models={**b.host().models, _key(left): ModelfleetError("storage_timeout", "x")})
    listed, carried_on = plan(host, b.running(R, left), b.wanted())
    assert (listed.error, listed.actions) == (None, [])
    assert (carried_on.origin, carried_on.error.code) == ("interrupted", "storage_timeout")


def _key(record):
    return next(key for key in b.host().models if key.path == record.model_path)


def test_what_is_in_use_goes_by_force():
    host, vm = on(R), b.running(R, guest=(b.in_guest(R), b.in_guest(R, mount_point="/mnt/copy")))
    assert plan(host, vm, b.wanted(), present=False)[0].error.code == "mount_busy"
    assert plan(host, vm, b.wanted(), present=False, force=True)[0].actions == GONE


def test_a_guest_that_does_not_answer_loses_the_model_by_force():
    host, vm = on(R), b.running(R, guest=None, guest_error=ModelfleetError("agent_unavailable", "x"))
    assert plan(host, vm, b.wanted(), present=False)[0].error.code == "agent_unavailable"
    actions = plan(host, vm, b.wanted(), present=False, force=True)[0].actions
    assert actions == [action for action in GONE if action != "unmount_in_guest"]


# Devices without a record

STRAY = b.device(b.record(b.second(), vm=b.OTHER_VM))


def cloned(**changes):
    """A VM whose XML has a device of the VM that it was cloned from, in a guest that mounted nothing of it."""
    domain = b.domain(b.device(R), STRAY)
    return b.running(R, live=domain, persistent=domain, **changes)


@pytest.mark.parametrize("terms", [{**PURGE, "present": True}, {"present": False}])
def test_a_device_without_a_record_goes_when_all_that_is_not_listed_does(terms):
    host, vm = on(R), cloned()
    listed = [b.wanted()] if terms["present"] else [b.nothing()]
    plans = plan(host, vm, *listed, **terms)
    assert [(found.origin, found.actions) for found in plans][-1] == ("stray", ["detach_stray"])
    assert plans[-1].wanted.tag == STRAY.tag
    _host, vm = after(host, vm, plans)
    assert (vm.strays, vm.live.device(STRAY.alias), vm.persistent.device(STRAY.alias)) == ((), None, None)


def test_a_device_without_a_record_stays_otherwise():
    assert told(plan(on(R), cloned(), b.wanted())) == [("listed", R.mount_path, [])]
    assert told(plan(on(R), cloned(), b.wanted(), present=False)) == [("listed", R.mount_path, GONE)]


def test_a_device_whose_record_is_wanted_is_no_stray():
    vm = b.running(R, live_records=(), persistent_records=())
    assert [found.origin for found in plan(on(R), vm, b.wanted(), **PURGE)] == ["listed"]


def test_a_device_without_a_record_that_the_guest_has_mounted_stays_and_is_told():
    vm = cloned(guest=(b.ROOT, b.in_guest(R), b.in_guest(R, source=STRAY.tag, mount_point="/mnt/old")))
    listed, stray = plan(on(R), vm, b.wanted(), **PURGE)
    assert (listed.error, stray.error.code) == (None, "mount_busy")
    assert plan(on(R), vm, b.wanted(), force=True, **PURGE)[1].actions == ["detach_stray"]


# The guest's own unit

LASTING = b.record(persistence="systemd")
UNIT = {R.mount_path: simulator.unit(LASTING)}
NO_UNIT = {R.mount_path: None}


@pytest.mark.parametrize(
    ("persistence", "systemd", "foreign", "expected"),
    [
        ("auto", True, {}, "systemd"),
        ("auto", False, {}, "none"),
        ("auto", None, {}, ""),
        ("auto", True, {R.mount_path: "/etc/fstab"}, "none"),
        ("none", True, {}, "none"),
        ("systemd", True, {}, "systemd"),
    ],
)
def test_how_a_guest_mounts_a_model_when_it_boots(persistence, systemd, foreign, expected):
    vm = b.running(systemd=systemd, foreign_units=foreign, units=NO_UNIT)
    (found,) = plan(b.host(), vm, b.wanted(persistence=persistence))
    assert found.after.persistence == expected
    assert found.actions == [*FRESH[:-1], *["write_guest_unit"] * (expected == "systemd"), FRESH[-1]]


def test_what_was_found_out_once_is_not_asked_again():
    (found,) = plan(on(LASTING), b.running(LASTING, units=UNIT), b.wanted(persistence="auto"))
    assert (found.after.persistence, found.actions) == ("systemd", [])


def test_a_unit_that_the_guest_lost_is_written_again():
    host, vm = on(LASTING), b.running(LASTING, units=NO_UNIT)
    plans = plan(host, vm, b.wanted(persistence="systemd"))
    assert plans[0].actions == ["record", "write_guest_unit", "settle_record"]
    assert plan(*after(host, vm, plans), b.wanted(persistence="systemd"))[0].actions == []


def test_a_unit_goes_with_its_mount():
    host, vm = on(LASTING), b.running(LASTING, units=UNIT)
    plans = plan(host, vm, b.wanted(), present=False)
    assert plans[0].actions == [GONE[0], "remove_guest_unit", *GONE[1:]]
    _host, vm = after(host, vm, plans)
    assert vm.units == NO_UNIT


def test_a_unit_goes_when_it_is_no_longer_wanted():
    host, vm = on(LASTING), b.running(LASTING, units=UNIT)
    plans = plan(host, vm, b.wanted(persistence="none"))
    assert plans[0].actions == ["record", "remove_guest_unit", "settle_record"]
    assert plan(*after(host, vm, plans), b.wanted(persistence="none"))[0].actions == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"systemd": False}, "guest_unsupported"),
        ({"systemd": True, "foreign_units": {R.mount_path: "/etc/fstab"}}, "guest_unit_foreign"),
    ],
)
def test_a_unit_that_cannot_be_is_refused_before_anything_is_done(changes, code):
    (found,) = plan(b.host(), b.running(units=NO_UNIT, **changes), b.wanted(persistence="systemd"))
    assert (found.error.code, found.actions) == (code, [])


@pytest.mark.parametrize("path", ["/srv/ai", "/srv/ai/guard/inside", "/srv/ai/elsewhere"])
def test_what_is_in_use_and_cannot_be_purged_is_not_hidden_by_what_is_listed(path):
    # The guest uses it, so that it stays; around or inside of it, or as the same model again, nothing can come.
    busy = b.running(R, guest=(b.ROOT, b.in_guest(R), b.in_guest(R, mount_point="/mnt/copy")))
    mount = b.wanted(mount_path=path) if "elsewhere" in path else b.second(mount_path=path)
    listed, purged = plan(on(R), busy, mount, **PURGE)
    assert (purged.origin, purged.error.code) == ("purged", "mount_busy")
    assert (listed.steps, listed.error.code) == ((), "duplicate_mount")


def test_a_unit_that_somebody_put_in_the_place_of_ours_is_left_alone():
    kept = b.record(persistence="systemd")
    vm = b.running(kept, units={kept.mount_path: "[Mount]\nWhat=nas:/x\n"}, systemd=True)
    (gone,) = plan(on(kept), vm, b.wanted(), present=False)
    assert gone.actions == GONE
    (refused,) = plan(on(kept), vm, b.wanted(persistence="systemd"))
    assert refused.error.code == "guest_unit_foreign"
    assert refused.error.details["guest_file"] == "/etc/systemd/system/srv-ai-guard.mount"
