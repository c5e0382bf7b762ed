# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds for every plan, whatever the state it starts from."""

from __future__ import annotations

import itertools

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _layers
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit import simulator

R = b.record()
# As it was before its tag was changed.
TAGGED = b.record(tag="before")
BYSTANDER = b.record(b.second())

SOURCES = {
    "right": b.bind(R),
    "missing": None,
    "writable": b.bind(R, options=b.READ_WRITE),
    "another directory": b.bind(R, "acme/guard-2.0"),
}
DAEMONS = ["right", "dead", "stale"]
DEVICES = {
    "right": b.device(R),
    "missing": None,
    "wrong tag": b.device(TAGGED),
    "wrong source": b.device(R, source="/x"),
}
MOUNTS = {
    "right": [b.in_guest(R)],
    "missing": [],
    "old tag": [b.in_guest(TAGGED)],
    "options": [b.in_guest(R, options=b.READ_WRITE)],
    "twice": [b.in_guest(R), b.in_guest(R, mount_id=91)],
    "elsewhere too": [b.in_guest(R), b.in_guest(R, mount_point="/mnt/copy")],
    "only elsewhere": [b.in_guest(R, mount_point="/mnt/copy")],
    "under another": [b.in_guest(R), b.in_guest(R, fstype="tmpfs", source="cover")],
}
RECORDS = {"right": R, "missing": None, "old tag": TAGGED, "cut short": b.record(intent="mounting")}
RECORDS["half gone"] = b.record(intent="unmounting")


def states(persistent, record):
    """Every running VM, and its host, with these two layers and all that the others can be."""
    for source, daemon, live, guest in itertools.product(SOURCES, DAEMONS, DEVICES, MOUNTS):
        kept = (BYSTANDER, *filter(None, [RECORDS[record]]))
        binds = [b.bind(BYSTANDER), *filter(None, [SOURCES[source]])]
        serving = b.served(b.bind(BYSTANDER))
        if daemon != "dead" and DEVICES[live] is not None:
            serving.update(b.served(b.bind(R) if daemon == "right" else b.bind(R, "stale")))
        vm = b.running(
            live=b.domain(*filter(None, [b.device(BYSTANDER), DEVICES[live]])),
            persistent=b.domain(*filter(None, [DEVICES[persistent], b.device(BYSTANDER)])),
            live_records=kept,
            persistent_records=kept,
            guest=(b.ROOT, b.in_guest(BYSTANDER), *MOUNTS[guest]),
        )
        yield f"source {source}, daemon {daemon}, live {live}, guest {guest}", b.host(*binds, serving=serving), vm


def untouched(host, vm):
    """What there is of the mount that nobody asked about."""
    source = b.device(BYSTANDER).source
    return (
        host.bind(source),
        host.serving[source],
        vm.live.device(BYSTANDER.alias),
        vm.persistent.device(BYSTANDER.alias),
        vm.records[BYSTANDER.uuid],
        [mount for mount in vm.guest if mount.source == BYSTANDER.tag],
    )


@pytest.mark.parametrize("record", RECORDS)
@pytest.mark.parametrize("persistent", DEVICES)
def test_what_a_plan_makes_needs_no_further_plan(persistent, record):
    done = 0
    for state, host, vm in states(persistent, record):
        plan = b.present(host, vm, b.wanted())
        if plan.error is not None:
            assert plan.steps == (), state
            continue
        try:
            after = simulator.run(host, vm, plan.steps)
        except AssertionError as problem:
            pytest.fail(f"{state}: {plan.actions}: {problem}")
        assert b.present(*after, b.wanted()).actions == [], state
        assert _layers.layers(*after, plan.after).right, state
        assert untouched(*after) == untouched(host, vm), state
        done += 1
    assert done > 50


@pytest.mark.parametrize("record", [name for name, kept in RECORDS.items() if kept])
@pytest.mark.parametrize("persistent", DEVICES)
def test_what_a_plan_takes_away_leaves_nothing(persistent, record):
    done = 0
    for state, host, vm in states(persistent, record):
        (plan,) = b.absent(host, vm, b.wanted())
        if plan.error is not None:
            assert plan.steps == (), state
            continue
        try:
            on, view = simulator.run(host, vm, plan.steps)
        except AssertionError as problem:
            pytest.fail(f"{state}: {plan.actions}: {problem}")
        assert [left.actions for left in b.absent(on, view, b.wanted())] == [[]], state
        assert view.live.device(R.alias) is None and view.persistent.device(R.alias) is None, state
        assert R.uuid not in view.records and on.bind(b.device(R).source) is None, state
        assert untouched(on, view) == untouched(host, vm), state
        done += 1
    assert done > 50


@pytest.mark.parametrize("kept", [R, TAGGED])
@pytest.mark.parametrize("persistent", DEVICES)
def test_the_same_holds_for_a_vm_that_is_shut_off(persistent, kept):
    vm = b.shut_off(kept, persistent=b.domain(*filter(None, [DEVICES[persistent]])))
    plan = b.present(b.host(), vm, b.wanted())
    after = simulator.run(b.host(), vm, plan.steps)
    assert b.present(*after, b.wanted()).actions == []
    (back,) = b.absent(*after, b.wanted())
    _host, gone = simulator.run(*after, back.steps)
    assert gone == b.shut_off()


def test_several_mounts_of_a_vm_do_not_disturb_each_other():
    host, vm = b.host(), b.running()
    mounts = [b.wanted(), b.second()]
    steps = [step for mount in mounts for step in b.present(host, vm, mount).steps]
    after = simulator.run(host, vm, steps)
    assert [b.present(*after, mount).actions for mount in mounts] == [[], []]


def test_planning_changes_nothing_it_was_given():
    for _state, host, vm in states("wrong tag", "old tag"):
        before = repr((host, vm))
        b.present(host, vm, b.wanted())
        b.absent(host, vm, b.wanted())
        assert repr((host, vm)) == before
