# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans for models in the view of a VM: what holds in any state, and what only views have."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _layers,
    _plan,
    _refusals,
    _steps,
    _transports,
    _views,
)
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit import simulator

WANTED = b.viewed()
NEXT = b.second(transport="view", mount_path="/models/org/ocr")
R = b.record(WANTED)
BYSTANDER = b.record(NEXT)
ROOT = _views.source(b.VM)

SOURCES = {
    "right": [b.bind(R)],
    "missing": [],
    "writable": [b.bind(R, options=b.READ_WRITE)],
    "another directory": [b.bind(R, "acme/guard-2.0")],
    "not in the daemon": [b.bind(R)],
    "left over": [b.bind(R, "acme/guard-2.0"), b.bind(R, number=2)],
    "not shown": [b.bind(R)],
    "private view": [b.bind(R)],
    "no view": [],
}
DEVICES = {
    "right": b.device(R),
    "missing": None,
    "wrong tag": b.device(R, tag="before"),
    "wrong source": b.device(R, source="/x"),
}
DAEMONS = ["right", "dead", "does not follow"]
COVER = b.in_guest(R, fstype="tmpfs", source="cover")
MOUNTS = {
    "right": [b.in_guest(R)],
    "missing": [],
    "options": [b.in_guest(R, options=b.READ_WRITE)],
    "foreign": [COVER],
    "under another": [b.in_guest(R), COVER],
    "covered": [b.in_guest(R), COVER._replace(mount_point=_views.in_guest(b.bind(R).mount_point))],
}
RECORDS = {"right": R, "missing": None, "cut short": b.record(WANTED, intent="mounting")}
RECORDS["half gone"] = b.record(WANTED, intent="unmounting")


def states(persistent, record, bystander):
    """Every running VM, and its host, with these layers and all that the others can be."""
    for source, daemon, live, guest in itertools.product(SOURCES, DAEMONS, DEVICES, MOUNTS):
        if guest == "covered" and source in ("missing", "not shown", "no view", "left over"):
            continue
        kept = (*[BYSTANDER] * bystander, *filter(None, [RECORDS[record]]))
        root = [b.view(propagation="" if source == "private view" else "shared:77")] * (source != "no view")
        binds = [*[b.bind(BYSTANDER)] * (bystander and bool(root)), *SOURCES[source]]
        serving = {}
        if daemon != "dead" and DEVICES[live] is not None and DEVICES[live].source == ROOT:
            shown = [mount for mount in binds if source != "not in the daemon" or mount not in SOURCES[source]]
            serving = b.served(*(root or [b.view()]), *shown)
            serving[ROOT] = serving[ROOT]._replace(follows=daemon == "right" and source != "private view")
        vm = b.running(
            live=b.domain(*filter(None, [DEVICES[live]])),
            persistent=b.domain(*filter(None, [DEVICES[persistent]])),
            live_records=kept,
            persistent_records=kept,
            guest=(b.ROOT, *MOUNTS[guest]),
        )
        about = f"source {source}, daemon {daemon}, live {live}, guest {guest}"
        host = b.host(*root, *binds, serving=serving)
        if source == "not shown":
            in_views = {uuid: path for uuid, path in host.in_views.items() if uuid != R.uuid}
            host = dataclasses.replace(host, in_views=in_views)
        yield about, host, vm


def untouched(host, vm):
    """What there is of the model that nobody asked about, in the view of both."""
    path = b.bind(BYSTANDER).mount_point
    return host.bind(path), host.in_views.get(BYSTANDER.uuid), vm.records.get(BYSTANDER.uuid)


def devices(vm):
    return vm.live.device(R.alias), vm.persistent.device(R.alias)


def served(host, kept):
    """What the daemon of the view shows read-only of a model."""
    return host.serving[ROOT].below.get(_views.in_daemon(host.in_views[kept.uuid]))


def carried_out(state, host, vm, plan):
    """The host and the VM after a plan, None when there is none or the guest does not let it happen."""
    if plan.error is not None:
        assert plan.steps == (), state
        return None
    try:
        return simulator.run(host, vm, plan.steps)
    except simulator.Busy:
        return None
    except AssertionError as problem:
        pytest.fail(f"{state}: {plan.actions}: {problem}")


@pytest.mark.parametrize("bystander", [True, False], ids=["with another", "alone"])
@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("persistent", DEVICES)
def test_what_a_plan_makes_needs_no_further_plan(persistent, record, bystander):
    done = 0
    for state, host, vm in states(persistent, record, bystander):
        plan = b.present(host, vm, WANTED)
        after = carried_out(state, host, vm, plan)
        if after is None:
            continue
        assert b.present(*after, WANTED).actions == [], state
        assert _layers.layers(*after, plan.after).right, state
        assert untouched(*after) == untouched(host, vm), state
        assert devices(after[1]) == (b.device(R), b.device(R)), state
        assert served(after[0], R) == b.bind(R).shows, state
        left = [mount for mount in after[0].mounts if mount.mount_point.startswith(f"{ROOT}/")]
        assert len(left) == 1 + (untouched(*after)[0] is not None), state
        if untouched(*after)[0]:
            assert _layers.layers(*after, BYSTANDER).right, state
        done += 1
    assert done > 50


@pytest.mark.parametrize("record", [name for name, kept in RECORDS.items() if kept])
@pytest.mark.parametrize("persistent", DEVICES)
def test_what_a_plan_takes_out_of_a_view_leaves_the_rest_as_it_is(persistent, record):
    done = 0
    for state, host, vm in states(persistent, record, bystander=True):
        if "guest covered" in state:
            continue
        (plan,) = b.absent(host, vm, WANTED)
        after = carried_out(state, host, vm, plan)
        assert after is not None, state
        assert untouched(*after) == untouched(host, vm), state
        assert devices(after[1]) == devices(vm), state
        assert after[1].guest == vm.guest and after[0].bind(ROOT) == host.bind(ROOT), state
        assert after[0].serving.keys() == host.serving.keys(), state
        assert R.uuid not in after[1].records and R.uuid not in after[0].in_views, state
        assert not any(simulator.is_of(mount, R) for mount in after[0].mounts), state
        assert [left.actions for left in b.absent(*after, WANTED)] == [[]], state
        done += 1
    assert done > 50


@pytest.mark.parametrize("record", [name for name, kept in RECORDS.items() if kept])
@pytest.mark.parametrize("persistent", DEVICES)
def test_what_a_plan_takes_out_last_leaves_nothing_of_the_view(persistent, record):
    done = 0
    for state, host, vm in states(persistent, record, bystander=False):
        (plan,) = b.absent(host, vm, WANTED)
        after = carried_out(state, host, vm, plan)
        if after is None:
            continue
        assert devices(after[1]) == (None, None), state
        assert after[1].records == {} and after[0].in_views == {}, state
        assert after[0].mounts == (b.ROOT,), state
        assert after[0].serving == {}, state
        assert [left.actions for left in b.absent(*after, WANTED)] == [[]], state
        done += 1
    assert done > 50


# Plans of a whole VM


def planned(host, vm, *mounts, present=True, **terms):
    """The plans of a VM in the order of results, with what C(transport=auto) means."""
    decided = _transports.chosen(mounts, vm) if present else mounts
    plans = _plan.plan_vm(host, vm, list(enumerate(decided)), _plan.Terms(present=present, **terms))
    unasked = plans.pop(-1, [])
    return [*(found for index in sorted(plans) for found in plans[index]), *unasked]


def after(host, vm, plans):
    """The host and the VM when the plans have been carried out in their one order."""
    assert [found.error for found in plans] == [None] * len(plans)
    batches = _steps.batches(plans)
    return simulator.run(host, vm, [_steps.Step(batch.action, record) for batch in batches for record in batch.records])


def told(plans):
    return [(found.origin, (found.before or found.after).mount_path, found.actions) for found in plans]


def codes(plans):
    return [found.error and found.error.code for found in plans]


def on(*records):
    return b.host(*map(b.bind, records))


FRESH = ["record", "bind_source", "attach", "verify_read_only", "mount_in_guest", "settle_record"]
JOIN = ["record", "bind_source", "verify_read_only", "settle_record"]
LEAVE = ["record", "release_source", "forget_record"]
CLOSE = ["record", "unmount_in_guest", "detach_live", "detach_persistent", "unbind_source", "forget_record"]
NOTHING_ELSE = {"model": "", "model_version": "", "model_center": "", "model_path": "", "mount_path": ""}
PURGE = {"purge": True, "owner": "default"}


def test_the_first_model_of_a_view_brings_the_device_and_the_next_only_joins():
    host, vm = b.host(), b.running()
    plans = planned(host, vm, WANTED)
    assert told(plans) == [("listed", "/models/guard", FRESH)]
    host, vm = after(host, vm, plans)
    plans = planned(host, vm, NEXT)
    assert told(plans) == [("listed", "/models/org/ocr", JOIN)]
    host, vm = after(host, vm, plans)
    assert host.serving[ROOT].below == {
        _views.in_daemon(b.bind(kept).mount_point): b.bind(kept).shows for kept in (R, BYSTANDER)
    }
    assert [mount.mount_point for mount in vm.guest] == ["/", "/models"]


def test_several_models_in_one_run_have_one_device_and_one_mount():
    plans = planned(b.host(), b.running(), WANTED, NEXT)
    several = {batch.action: len(batch.records) for batch in _steps.batches(plans)}
    assert several == {**dict.fromkeys(FRESH, 2), "attach": 1, "mount_in_guest": 1}
    host, vm = after(b.host(), b.running(), plans)
    assert told(planned(host, vm, WANTED, NEXT)) == [
        ("listed", "/models/guard", []),
        ("listed", "/models/org/ocr", []),
    ]


def test_a_view_takes_one_port():
    vm = b.running(live=b.domain(free_ports=1))
    assert _refusals.too_few_ports(vm, planned(b.host(), vm, WANTED, NEXT)) is None
    vm = b.running(live=b.domain(free_ports=0))
    problem = _refusals.too_few_ports(vm, planned(b.host(), vm, WANTED, NEXT))
    assert (problem.code, problem.details["needed"], problem.details["free"]) == ("no_free_pci_port", 1, 0)


def test_a_model_that_joins_needs_no_port():
    vm = b.running(BYSTANDER, live=b.domain(b.device(BYSTANDER), free_ports=0))
    assert _refusals.too_few_ports(vm, planned(on(BYSTANDER), vm, WANTED)) is None


def test_a_device_that_is_plugged_again_brings_all_models_back():
    host, vm = b.host(b.bind(R), b.bind(BYSTANDER), serving={}), b.running(R, BYSTANDER)
    plans = planned(host, vm, WANTED, NEXT)
    again = ["record", "unmount_in_guest", "detach_live", "attach_live", "verify_read_only"]
    assert told(plans) == [
        ("listed", kept.mount_path, [*again, "mount_in_guest", "settle_record"]) for kept in (R, BYSTANDER)
    ]
    host, vm = after(host, vm, plans)
    assert [_layers.layers(host, vm, kept).right for kept in (R, BYSTANDER)] == [True, True]


def test_a_vm_that_is_shut_off_has_one_device_for_all_and_its_records():
    plans = planned(b.host(), b.shut_off(), WANTED, NEXT)
    host, vm = after(b.host(), b.shut_off(), plans)
    assert vm.persistent.devices == (b.device(R),)
    assert {kept.mount_path: kept.intent for kept in vm.persistent_records} == {
        "/models/guard": "settled",
        "/models/org/ocr": "settled",
    }
    plans = planned(host, vm, WANTED, present=False)
    assert told(plans) == [("listed", "/models/guard", ["record", "forget_record"])]
    host, vm = after(host, vm, plans)
    plans = planned(host, vm, NEXT, present=False)
    assert told(plans) == [("listed", "/models/org/ocr", ["record", "detach_persistent", "forget_record"])]
    assert after(host, vm, plans)[1] == b.shut_off()


# Which transport a model has


def test_a_model_with_a_device_of_its_own_lives_beside_a_view():
    beside = b.record(b.second())
    host, vm = on(beside), b.running(beside)
    plans = planned(host, vm, WANTED, b.second(transport="auto"))
    assert told(plans) == [("listed", "/models/guard", FRESH), ("listed", "/srv/ai/ocr", [])]
    host, vm = after(host, vm, plans)
    plans = planned(host, vm, WANTED, present=False)
    assert told(plans) == [("listed", "/models/guard", CLOSE)]
    host, vm = after(host, vm, plans)
    assert (host.mounts, vm.live.devices) == ((b.ROOT, b.bind(beside)), (b.device(beside),))


# What does not go together


@pytest.mark.parametrize("path", ["/models", "/models/ocr", "/models/org/ocr"])
def test_a_device_of_its_own_is_not_mounted_where_the_view_is(path):
    beside = b.second(transport="device", mount_path=path)
    assert codes(planned(b.host(), b.running(), WANTED, beside)) == ["transport_conflict"] * 2
    kept = b.record(beside)
    assert codes(planned(on(kept), b.running(kept), WANTED)) == ["transport_conflict"]
    assert codes(planned(on(R), b.running(R), beside)) == ["transport_conflict"]


def test_a_device_below_the_view_may_go_in_the_run_in_which_the_view_comes():
    kept = b.record(b.second(transport="device", mount_path="/models/ocr"))
    plans = planned(on(kept), b.running(kept), WANTED, **PURGE)
    assert told(plans) == [("listed", "/models/guard", FRESH), ("purged", "/models/ocr", CLOSE)]
    host, vm = after(on(kept), b.running(kept), plans)
    assert told(planned(host, vm, WANTED, **PURGE)) == [("listed", "/models/guard", [])]


@pytest.mark.parametrize(
    ("changes", "option"),
    [({"guest": "none", "persistence": "none"}, "guest"), ({"persistence": "systemd"}, "persistence")],
)
def test_models_of_a_view_agree_on_what_concerns_its_one_mount(changes, option):
    other = dataclasses.replace(NEXT, **changes)
    (first, second) = planned(b.host(), b.running(), WANTED, other)
    assert codes([first, second]) == ["transport_conflict"] * 2 and option in first.error.msg
    assert codes(planned(on(R), b.running(R), other)) == ["transport_conflict"]


def test_what_is_undecided_agrees_with_what_others_have():
    vm = b.running(R, units={"/models": None}, systemd=True)
    (plan,) = planned(on(R), vm, dataclasses.replace(NEXT, persistence="auto"))
    assert plan.error is None
    assert plan.after.persistence == "none"


def test_a_unit_is_written_once_and_goes_with_the_last_model():
    lasting = [dataclasses.replace(mount, persistence="systemd") for mount in (WANTED, NEXT)]
    vm = b.running(units={"/models": None}, systemd=True)
    plans = planned(b.host(), vm, *lasting)
    assert [len(batch.records) for batch in _steps.batches(plans) if batch.action == "write_guest_unit"] == [1]
    host, vm = after(b.host(), vm, plans)
    assert vm.units == {"/models": simulator.unit(R)}
    plans = planned(host, vm, lasting[0], present=False)
    assert told(plans) == [("listed", "/models/guard", LEAVE)]
    host, vm = after(host, vm, plans)
    plans = planned(host, vm, lasting[1], present=False)
    assert told(plans) == [("listed", "/models/org/ocr", ["record", "remove_guest_unit", *CLOSE[1:]])]
    assert after(host, vm, plans)[1].units == {"/models": None}


# What is refused


@pytest.mark.parametrize(
    ("kernel", "code"), [((5, 4), "guest_unsupported"), ((4, 19), "guest_unsupported"), ((5, 10), None), (None, None)]
)
def test_a_guest_must_know_of_file_systems_below_a_view(kernel, code):
    vm = b.running(kernel=kernel)
    assert codes([b.present(b.host(), vm, WANTED)]) == [code]
    assert codes([b.present(b.host(), vm, b.wanted(transport="device"))]) == [None]


@pytest.mark.parametrize("part", ["/models", "/"])
def test_what_is_in_the_way_of_the_mount_of_a_view_is_refused(part):
    vm = b.running(in_the_way={"/models": (part, "not empty")})
    problem = b.present(b.host(), vm, WANTED).error
    assert (problem.code, problem.details["mount_path"]) == ("mount_path_unusable", "/models/guard")
    assert f"{part} is not empty" in problem.msg


def test_what_somebody_has_mounted_below_the_mount_of_a_view_is_not_hidden():
    theirs = COVER._replace(mount_point="/models/data")
    vm = b.running(guest=(b.ROOT, theirs))
    problem = b.present(b.host(), vm, WANTED).error
    assert (problem.code, problem.details["mount_path"]) == ("mount_path_in_use", "/models/guard")
    assert "/models/data" in problem.msg
    # Beside the view, or where that is mounted already, it is in nobody's way.
    for guest in ((b.ROOT, theirs._replace(mount_point="/models2")), (b.ROOT, b.in_guest(R), theirs)):
        records = [R] if len(guest) == 3 else []
        assert codes([b.present(on(*records), b.running(*records, guest=guest), WANTED)]) == [None]


@pytest.mark.parametrize(("more", "code"), [(0, None), (1, "too_many_models")])
def test_the_models_of_a_view_are_bounded(more, code):
    count = _refusals.VIEW_MODELS_MAX - 1 + more
    mounts = [b.viewed(model_version=f"v{number}", mount_path=f"/models/v/{number}") for number in range(count)]
    records = [b.record(mount) for mount in mounts]
    assert set(codes(planned(b.host(), b.running(), *mounts, NEXT))) == {code}
    assert codes(planned(on(*records), b.running(*records), NEXT)) == [code]
    # What is to go, or has a device of its own, does not count.
    assert codes(planned(on(*records), b.running(*records), b.second(transport="device"))) == [None]
    assert set(codes(planned(on(*records), b.running(*records), NEXT, **PURGE))) == {None}


def test_a_device_of_somebody_else_with_the_tag_of_views_is_refused():
    vm = b.running(live=b.domain(b.device(R, alias="fs0", source="/data")))
    assert codes([b.present(b.host(), vm, WANTED)]) == ["tag_in_use"]


def test_a_model_that_the_view_shows_elsewhere_is_refused():
    again = dataclasses.replace(WANTED, mount_path="/models/again")
    assert codes(planned(on(R), b.running(R), again)) == ["duplicate_mount"]


def test_a_view_that_is_mounted_elsewhere_too_is_not_taken_away():
    copy = b.in_guest(R, mount_point="/mnt/copy")
    vm = b.running(R, BYSTANDER, guest=(b.ROOT, b.in_guest(R), copy))
    host = on(R, BYSTANDER)
    # One model of it may go all the same.
    assert codes(planned(host, vm, WANTED, present=False)) == [None]
    assert codes(planned(host, vm, WANTED, NEXT, present=False)) == ["mount_busy"] * 2


# Models that are replaced, and that come back from a fault

OLD = b.record(b.viewed(model="acme/guard-old", model_path="acme/guard-2.0"))


def test_another_model_is_waited_for_until_nobody_reads_the_old_one():
    host, vm = b.host(b.bind(OLD), b.bind(BYSTANDER)), b.running(OLD, BYSTANDER)
    plans = planned(host, vm, WANTED)
    replace = ["record", "bind_source", "verify_read_only", "release_source", "settle_record"]
    assert told(plans) == [("listed", "/models/guard", replace)]
    host, vm = after(host, vm, plans)
    assert host.in_views[R.uuid] == b.bind(R, number=2).mount_point
    assert [mount.mount_point for mount in host.mounts if simulator.is_of(mount, R)] == [host.in_views[R.uuid]]


def test_another_version_under_the_same_uuid_is_another_model():
    same = "0d1f9a52-3c86-4a51-9a55-6f0f51c5a3a1"
    old = b.record(b.viewed(model_uuid=same, model_version="2.0", model_path="acme/guard-2.0"))
    (plan,) = planned(b.host(b.bind(old)), b.running(old), b.viewed(model_uuid=same))
    assert plan.actions[-2:] == ["release_source", "settle_record"]


def test_what_a_view_shows_instead_of_its_directory_is_replaced_with_the_device():
    empty = b.view()._replace(root="/var/lib/modelfleet/empty", fstype="ext4", device="8:1")
    (plan,) = planned(b.host(empty), b.running(R), WANTED)
    assert plan.error is None and {"detach_live", "bind_source", "attach_live"} <= set(plan.actions)


def test_the_same_model_that_was_bound_wrong_is_not_waited_for():
    host, vm = b.host(b.bind(R, "acme/guard-2.0")), b.running(R)
    plans = planned(host, vm, WANTED)
    heal = ["record", "bind_source", "verify_read_only", "settle_record", "retire_source"]
    assert told(plans) == [("listed", "/models/guard", heal)]
    host, vm = after(host, vm, plans)
    assert [mount.mount_point for mount in host.mounts if simulator.is_of(mount, R)] == [host.in_views[R.uuid]]


def test_the_empty_directory_in_the_place_of_a_model_is_replaced_without_a_new_device():
    host = b.host(b.bind(R), bound={b.bind(R).mount_point: b.identity("empty")}, empty=b.identity("empty"))
    (plan,) = planned(host, b.running(R), WANTED)
    assert not {"attach_live", "detach_live", "unmount_in_guest"} & set(plan.actions)
    assert plan.actions[-1] == "retire_source"


def test_two_models_of_a_view_change_places():
    host, vm = on(R, BYSTANDER), b.running(R, BYSTANDER)
    swapped = [
        dataclasses.replace(WANTED, mount_path=NEXT.mount_path),
        dataclasses.replace(NEXT, mount_path=WANTED.mount_path),
    ]
    host, vm = after(host, vm, planned(host, vm, *swapped))
    assert [plan.actions for plan in planned(host, vm, *swapped)] == [[], []]
    assert vm.records[R.uuid].model_name == NEXT.model


# What goes


def test_purge_closes_a_view_only_when_nothing_is_left_in_it():
    theirs = b.record(dataclasses.replace(NEXT, owner="ops"))
    plans = planned(on(R, theirs), b.running(R, theirs), **PURGE)
    assert told(plans) == [("purged", "/models/guard", LEAVE)]
    after(on(R, theirs), b.running(R, theirs), plans)
    plans = planned(on(R, BYSTANDER), b.running(R, BYSTANDER), **PURGE)
    assert told(plans) == [("purged", "/models/guard", CLOSE), ("purged", "/models/org/ocr", CLOSE)]
    host, vm = after(on(R, BYSTANDER), b.running(R, BYSTANDER), plans)
    assert (host.mounts, vm.records) == ((b.ROOT,), {})


def test_purge_leaves_a_view_open_for_what_is_listed():
    host, vm = on(BYSTANDER), b.running(BYSTANDER)
    plans = planned(host, vm, WANTED, **PURGE)
    assert told(plans) == [("listed", "/models/guard", JOIN), ("purged", "/models/org/ocr", LEAVE)]
    host, vm = after(host, vm, plans)
    assert told(planned(host, vm, WANTED, **PURGE)) == [("listed", "/models/guard", [])]


def test_a_model_is_taken_out_of_a_view_by_its_name():
    named = b.wanted(**{**NOTHING_ELSE, "model": R.model_name})
    assert told(planned(on(R, BYSTANDER), b.running(R, BYSTANDER), named, present=False)) == [
        ("listed", "/models/guard", LEAVE)
    ]


def test_of_three_models_two_go():
    third = b.record(b.viewed(model="asr", model_path="asr", mount_path="/models/asr"))
    host, vm = on(R, BYSTANDER, third), b.running(R, BYSTANDER, third)
    plans = planned(host, vm, WANTED, NEXT, present=False)
    assert [plan.actions for plan in plans] == [LEAVE, LEAVE]
    host, vm = after(host, vm, plans)
    assert host.mounts == (b.ROOT, b.view(), b.bind(third))
    assert vm.records == {third.uuid: third}


def test_all_of_a_vm_closes_its_view():
    host, vm = on(R, BYSTANDER), b.running(R, BYSTANDER)
    plans = planned(host, vm, b.nothing(), present=False)
    assert [plan.actions for plan in plans] == [CLOSE, CLOSE]
    assert {batch.action: len(batch.records) for batch in _steps.batches(plans)} == {
        **dict.fromkeys(CLOSE, 1),
        "record": 2,
        "forget_record": 2,
    }
    after(host, vm, plans)


def test_a_removal_that_was_cut_short_goes_on_and_closes_what_is_empty():
    half = b.record(WANTED, intent="unmounting")
    host, vm = on(half, BYSTANDER), b.running(half, BYSTANDER)
    plans = planned(host, vm, NEXT)
    assert told(plans) == [("listed", "/models/org/ocr", []), ("interrupted", "/models/guard", LEAVE)]
    after(host, vm, plans)
    plans = planned(host, vm, NEXT, present=False)
    assert told(plans) == [("listed", "/models/org/ocr", CLOSE), ("interrupted", "/models/guard", CLOSE)]
    host, vm = after(host, vm, plans)
    assert (host.mounts, vm.records) == ((b.ROOT,), {})


def test_a_mount_that_was_cut_short_keeps_its_view_open():
    begun = b.record(WANTED, intent="mounting")
    host, vm = on(BYSTANDER), b.running(begun, BYSTANDER)
    plans = planned(host, vm, NEXT, present=False)
    assert told(plans) == [("listed", "/models/org/ocr", LEAVE), ("interrupted", "/models/guard", JOIN)]
    host, vm = after(host, vm, plans)
    assert vm.records[R.uuid].intent == "settled"


@pytest.mark.parametrize("half", [{"guest": (b.ROOT,)}, {"live": b.domain()}, {"persistent": b.domain()}])
def test_a_view_that_was_half_taken_down_is_taken_down(half):
    records = [b.record(mount, intent="unmounting") for mount in (WANTED, NEXT)]
    if "live" in half:
        half["guest"] = (b.ROOT,)
    host, vm = on(*records), b.running(*records, **half)
    host, vm = after(host, vm, planned(host, vm))
    assert (host.mounts, vm.records, vm.live.devices, vm.persistent.devices) == ((b.ROOT,), {}, (), ())


# What somebody else has in the guest


def test_what_the_guest_has_mounted_over_a_model_is_left_alone():
    over = _views.in_guest(b.bind(R).mount_point)
    vm = b.running(R, BYSTANDER, guest=(b.ROOT, b.in_guest(R), COVER._replace(mount_point=over)))
    host = on(R, BYSTANDER)
    assert codes(planned(host, vm, WANTED, NEXT)) == ["mount_path_in_use", None]


def test_a_view_without_records_is_no_stray_while_a_model_joins_it():
    for mounted in ((b.ROOT,), (b.ROOT, b.in_guest(R))):
        vm = b.running(R, live_records=(), persistent_records=(), guest=mounted)
        _host, vm = after(on(R), vm, planned(on(R), vm, WANTED, **PURGE))
        assert (vm.live.devices, vm.guest) == ((b.device(R),), (b.ROOT, b.in_guest(R)))


def test_a_view_without_records_goes_with_all_of_a_vm():
    vm = b.running(R, live_records=(), persistent_records=(), guest=(b.ROOT,))
    plans = planned(on(R), vm, b.nothing(), present=False)
    assert after(on(R), vm, plans)[1].live.devices == ()


# What nobody may read any more

REVOKED = ["record", "release_source", "revoke", "forget_record"]
STRICT = {"strict": True, "force": True}


@pytest.mark.parametrize("check_mode", [True, False])
@pytest.mark.parametrize("force", [True, False])
def test_a_model_that_is_taken_out_strictly_is_revoked(check_mode, force):
    host, vm = on(R, BYSTANDER), b.running(R, BYSTANDER)
    terms = {"strict": True, "force": force, "check_mode": check_mode}
    (plan,) = b.absent(host, vm, WANTED, **terms)
    assert plan.actions == REVOKED
    # What is owed is written down first, and forgotten with the rest.
    assert [step.record.revoke for step in plan.steps] == ["strict", "strict", "strict", ""]
    assert plan.before.revoke == ""


def test_another_model_at_a_path_revokes_the_one_before():
    host, vm = b.host(b.bind(OLD), b.bind(BYSTANDER)), b.running(OLD, BYSTANDER)
    plan = b.present(host, vm, WANTED, **STRICT)
    assert plan.actions == "record bind_source verify_read_only release_source revoke settle_record".split()
    owes = {step.action: step.record.revoke for step in plan.steps if step.action in REVOKED}
    assert set(owes.values()) == {"strict"}
    assert (plan.after.revoke, plan.steps[-1].record.revoke) == ("", "")


def test_what_is_purged_is_revoked():
    host, vm = on(R, BYSTANDER), b.running(R, BYSTANDER)
    plans = _plan.plan_vm(host, vm, [(0, NEXT)], _plan.Terms(True, purge=True, owner="default", **STRICT))
    assert [(plan.origin, plan.actions) for plan in plans[-1]] == [("purged", REVOKED)]


@pytest.mark.parametrize(
    ("host", "vm", "wanted"),
    [
        (b.host(), b.running(), WANTED),
        (on(BYSTANDER), b.running(BYSTANDER), WANTED),
        (on(R), b.running(R), WANTED),
        (b.host(b.bind(R, "acme/guard-2.0")), b.running(R), WANTED),
        (b.host(b.bind(b.record())), b.running(b.record(b.wanted(model="x", model_path="x"))), b.wanted()),
    ],
    ids=["first", "joins", "there", "comes back from a fault", "a device of its own"],
)
def test_where_nothing_goes_from_a_view_nothing_is_revoked(host, vm, wanted):
    plan = b.present(host, vm, wanted, **STRICT)
    assert plan.error is None and "revoke" not in plan.actions
    assert not any(step.record.strict for step in plan.steps)


@pytest.mark.parametrize("vm", [b.running(R), b.shut_off(R, BYSTANDER)], ids=["last", "shut off"])
def test_what_goes_with_its_device_needs_no_more(vm):
    (plan,) = b.absent(on(R), vm, WANTED, **STRICT)
    assert plan.error is None and "revoke" not in plan.actions and plan.actions[-1] == "forget_record"


@pytest.mark.parametrize("intent", ["unmounting", "mounting"])
def test_what_an_earlier_run_owes_is_done_by_one_that_is_asked_for_something_else(intent):
    owes = b.record(WANTED, intent=intent, revoke="strict")
    host, vm = on(*([R, BYSTANDER] if intent == "mounting" else [BYSTANDER])), b.running(owes, BYSTANDER)
    plans = _plan.plan_vm(host, vm, [(0, NEXT)], _plan.Terms(True))
    (plan,) = plans[-1]
    assert plan.origin == "interrupted"
    assert plan.actions == (REVOKED if intent == "unmounting" else ["revoke", "settle_record"])
    host, vm = after(host, vm, [plan])
    assert {kept.revoke for kept in vm.records.values()} == {""}


def test_a_model_that_is_wanted_again_is_not_revoked():
    owes = b.record(WANTED, intent="unmounting", revoke="strict")
    plan = b.present(on(BYSTANDER), b.running(owes, BYSTANDER), WANTED)
    assert plan.error is None and "revoke" not in plan.actions and "settle_record" in plan.actions


def test_what_was_owed_by_a_vm_that_was_shut_off_since_is_not_owed_any_more():
    owes = b.record(WANTED, intent="mounting", revoke="strict")
    assert b.present(b.host(), b.shut_off(owes), WANTED).actions == ["settle_record"]


# What a killed run left


def test_what_a_killed_run_left_of_the_model_before_goes():
    begun = b.record(WANTED, intent="mounting")
    host, vm = b.host(b.bind(OLD), b.bind(R, number=2)), b.running(begun)
    host, vm = after(host, vm, planned(host, vm, WANTED))
    assert [mount.root for mount in host.mounts if simulator.is_of(mount, R)] == [b.bind(R).root]


def test_what_a_killed_run_left_unshown_goes_when_the_model_is_bound_again():
    half = b.record(WANTED, intent="unmounting")
    shown = {BYSTANDER.uuid: b.bind(BYSTANDER).mount_point}
    host, vm = b.host(b.bind(R), b.bind(BYSTANDER), in_views=shown), b.running(half, BYSTANDER)
    host, vm = after(host, vm, planned(host, vm, WANTED))
    assert len([mount for mount in host.mounts if simulator.is_of(mount, R)]) == 1


# Defects that are known


def test_taking_a_model_away_leaves_what_the_guest_has_mounted_over_it():
    over = _views.in_guest(b.bind(R).mount_point)
    vm = b.running(R, BYSTANDER, guest=(b.ROOT, b.in_guest(R), COVER._replace(mount_point=over)))
    assert codes(planned(on(R, BYSTANDER), vm, WANTED, present=False)) == ["mount_busy"]


@pytest.mark.parametrize(("before", "wanted"), [("/models/a", "/models/a/b"), ("/models/a/b", "/models/a")])
def test_a_model_takes_the_place_above_or_below_one_that_goes(before, wanted):
    kept = b.record(dataclasses.replace(NEXT, mount_path=before))
    mount = dataclasses.replace(WANTED, mount_path=wanted)
    host, vm = on(kept), b.running(kept)
    plans = planned(host, vm, mount, **PURGE)
    # To refuse it would do as well.
    if codes(plans)[0] != "duplicate_mount":
        host, vm = after(host, vm, plans)
        assert told(planned(host, vm, mount, **PURGE)) == [("listed", wanted, [])]


def test_the_root_of_a_view_that_became_writable_is_made_again():
    host, vm = b.host(b.view(options=b.READ_WRITE), b.bind(R)), b.running(R)
    host, vm = after(host, vm, planned(host, vm, WANTED))
    assert "ro" in host.bind(ROOT).options


def test_a_view_that_is_mounted_under_the_tag_of_an_edited_device_is_mounted_again():
    edited = b.device(R, tag="before")
    vm = b.running(R, live=b.domain(edited), guest=(b.ROOT, b.in_guest(R, source="before")))
    host, vm = after(on(R), vm, planned(on(R), vm, WANTED))
    assert _layers.layers(host, vm, R).right
