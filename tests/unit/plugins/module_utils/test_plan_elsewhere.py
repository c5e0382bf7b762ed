# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans for models of a view that are seen elsewhere than below it, by links in the guest."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _conversion, _layers, _plan, _steps, _views
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit import simulator

WANTED, BY_DEVICE = b.wanted(transport="view"), b.wanted(transport="device")
NEXT = b.second(transport="view", mount_path="/models/org/ocr")
R, DEVICE, OTHER = b.record(WANTED), b.record(BY_DEVICE), b.record(NEXT)
PATH = R.mount_path
ROOT = _views.source(b.VM)
THEIRS = b.in_guest(DEVICE, fstype="tmpfs", source="theirs")
WRITTEN_TOGETHER = ("record", "settle_record", "forget_record")
OTHER_WAY = {"device": BY_DEVICE, "view": WANTED}
BESIDE = pytest.mark.parametrize("beside", [True, False], ids=["with another", "alone"])

LINKS = {
    "there": {"links": {PATH: True}},
    "missing": {"links": {PATH: False}},
    "a link of somebody else": {"links": {PATH: False}, "in_the_way": {PATH: (PATH, "a symbolic link")}},
    "a link above": {"links": {PATH: False}, "in_the_way": {PATH: ("/srv", "a symbolic link")}},
    "a directory": {"links": {PATH: False}, "filled": frozenset([PATH])},
    "a file system": {"links": {}, "guest": (THEIRS,)},
}
BLOCKED = {name: "mount_path_unusable" for name in LINKS if name.startswith("a ")}
BLOCKED["a file system"] = "mount_path_in_use"
MOUNTS = {"right": [b.in_guest(R)], "missing": [], "options": [b.in_guest(R, options=b.READ_WRITE)]}
RECORDS = {"right": R, "missing": None, "cut short": b.record(WANTED, intent="mounting")}
RECORDS["half gone"] = b.record(WANTED, intent="unmounting")
DEVICES = {"right": b.device(R), "missing": None, "wrong source": b.device(R, source="/x")}


def states(record, beside):
    """Every running VM with a model elsewhere, and its host."""
    for link, mount, live, bound in itertools.product(LINKS, MOUNTS, DEVICES, ["right", "missing", "other"]):
        kept = (*[OTHER] * beside, *filter(None, [RECORDS[record]]))
        binds = [*[b.bind(OTHER)] * beside]
        binds += {"right": [b.bind(R)], "missing": [], "other": [b.bind(R, "acme/guard-2.0")]}[bound]
        seen = dict(LINKS[link])
        guest = (b.ROOT, *MOUNTS[mount], *seen.pop("guest", ()))
        vm = b.running(
            live=b.domain(*filter(None, [DEVICES[live]])),
            persistent=b.domain(b.device(R)),
            live_records=kept,
            persistent_records=kept,
            guest=guest,
            **seen,
        )
        host = b.host(b.view(), *binds)
        if live != "right":
            host = dataclasses.replace(host, serving={})
        yield f"link {link}, mount {mount}, live {live}, bound {bound}", link, host, vm


@BESIDE
@pytest.mark.parametrize("record", RECORDS)
def test_what_a_plan_makes_is_seen_where_it_was_asked_for(record, beside):
    for state, link, host, vm in states(record, beside):
        plan = b.present(host, vm, WANTED)
        if link in BLOCKED:
            assert (plan.error and plan.error.code, plan.steps) == (BLOCKED[link], ()), state
            assert plan.error.details["mount_path"] == PATH and "/srv" in plan.error.msg
            continue
        assert plan.error is None, state
        assert ("link_in_guest" in plan.actions) is (link == "missing"), state
        after = simulator.run(host, vm, plan.steps)
        assert after[1].links[PATH], state
        assert _layers.layers(*after, plan.after).right, state
        assert b.present(*after, WANTED).actions == [], state


@BESIDE
@pytest.mark.parametrize("record", [name for name, kept in RECORDS.items() if kept])
def test_what_a_plan_takes_away_takes_its_link_with_it_and_nobody_elses(record, beside):
    for state, link, host, vm in states(record, beside):
        (plan,) = b.absent(host, vm, WANTED)
        assert plan.error is None, state
        assert ("unlink_in_guest" in plan.actions) is (link == "there"), state
        after = simulator.run(host, vm, plan.steps)
        assert not after[1].links.get(PATH), state
        assert (after[1].in_the_way, after[1].filled) == (vm.in_the_way, vm.filled), state
        assert R.uuid not in after[0].in_views and R.uuid not in after[1].records, state
        assert after[1].live.device(R.alias) == (vm.live.device(R.alias) if beside else None), state
        assert b.absent(*after, WANTED)[0].actions == [], state


@pytest.mark.parametrize(
    ("link", "expected"),
    [("there", "right"), ("missing", "wrong"), *((link, "foreign") for link in BLOCKED)],
)
def test_the_guests_part_is_right_only_with_the_link(link, expected):
    seen = dict(LINKS[link])
    guest = (b.ROOT, b.in_guest(R), *seen.pop("guest", ()))
    vm = b.running(R, guest=guest, **seen)
    assert _layers.layers(b.host(b.bind(R)), vm, R).guest == expected


def test_a_link_that_was_not_looked_at_is_unknown():
    host = b.host(b.bind(R))
    assert _layers.layers(host, b.running(R, links={}), R).guest == "unknown"
    for vm in (b.shut_off(R), b.running(R, guest=None)):
        assert _layers.guest_link(vm, R) == ("unknown" if vm.live else "not due")
    by_itself = b.record(b.wanted(transport="view", guest="none"))
    assert _layers.layers(host, b.running(by_itself), by_itself).guest == "not due"


def test_a_replaced_model_needs_nothing_of_the_guest():
    old = b.record(b.wanted(transport="view", model="acme/guard-old", model_path="acme/guard-2.0"))
    plan = b.present(b.host(b.bind(old)), b.running(old), WANTED)
    assert plan.actions == ["record", "bind_source", "verify_read_only", "release_source", "settle_record"]


def test_a_guest_that_mounts_by_itself_links_by_itself():
    by_itself = b.wanted(transport="view", guest="none")
    kept = b.record(by_itself)
    plan = b.present(b.host(), b.running(guest=None), by_itself)
    assert "link_in_guest" not in plan.actions and plan.error is None
    # Whoever made a link there, it was none of us.
    (plan,) = b.absent(b.host(b.bind(kept)), b.running(kept, links={PATH: True}), by_itself)
    assert "unlink_in_guest" not in plan.actions


def test_a_vm_that_is_shut_off_has_its_link_made_by_the_next_run():
    plan = b.present(b.host(), b.shut_off(), WANTED)
    assert plan.actions == ["record", "attach_persistent", "settle_record"]
    _host, vm = simulator.run(b.host(), b.shut_off(), plan.steps)
    vm = b.running(*vm.persistent_records, links={PATH: False})
    assert b.present(b.host(b.bind(R)), vm, WANTED).actions == ["record", "link_in_guest", "settle_record"]
    (plan,) = b.absent(b.host(), b.shut_off(R), WANTED)
    assert plan.actions == ["record", "detach_persistent", "forget_record"]


def test_a_link_that_was_left_gives_way_to_a_device():
    vm = b.running(links={PATH: True})
    plan = b.present(b.host(), vm, BY_DEVICE)
    fresh = ["bind_source", "attach", "verify_read_only", "mount_in_guest", "settle_record"]
    assert plan.actions == ["record", "unlink_in_guest", *fresh]
    simulator.run(b.host(), vm, plan.steps)


def test_by_force_a_model_goes_from_a_guest_that_does_not_answer_and_its_link_stays():
    vm = b.running(R, OTHER, guest=None, links={})
    (plan,) = b.absent(b.host(b.bind(R), b.bind(OTHER)), vm, WANTED, force=True)
    assert plan.actions == ["record", "release_source", "forget_record"]
    (plan,) = b.absent(b.host(b.bind(R), b.bind(OTHER)), vm, WANTED)
    assert plan.error.code == "agent_unavailable"


@pytest.mark.parametrize("path", ["/srv/ai", "/srv/ai/guard/below"])
def test_no_link_lies_in_another(path):
    nested = b.second(transport="view", mount_path=path)
    (plan,) = [b.present(b.host(b.bind(R)), b.running(R, links={PATH: True, path: False}), nested)]
    assert plan.error.code == "duplicate_mount"


# Models that get another transport


def world(transport, beside):
    """The host and the VM with the model by one transport, with another in the view or alone."""
    records = [b.record(OTHER_WAY[transport]), *[OTHER] * beside]
    return b.host(*map(b.bind, records)), b.running(*records)


def planned(host, vm, *mounts, present=True, **terms):
    plans = _plan.plan_vm(host, vm, list(enumerate(mounts)), _plan.Terms(present=present, **terms))
    found = [plan for several in plans.values() for plan in several]
    assert [plan.error for plan in found] == [None] * len(found)
    return found


def steps(plans):
    return [_steps.Step(batch.action, record) for batch in _steps.batches(plans) for record in batch.records]


def cuts(host, vm, all_steps):
    """The host and the VM after every step after which a run can be killed."""
    for done, following in enumerate([*all_steps, None]):
        last = all_steps[done - 1].action if done else ""
        if following is None or last != following.action or last not in WRITTEN_TOGETHER:
            yield simulator.run(host, vm, all_steps[:done])


def right(host, vm, transport, beside):
    """The model is there by its transport, and nothing of the other is left."""
    assert planned(host, vm, OTHER_WAY[transport])[0].actions == []
    kept = vm.records[R.uuid]
    assert (kept.transport, kept.intent) == (transport, "settled")
    assert bool(vm.links.get(PATH)) is (transport == "view")
    devices = sorted([b.record(OTHER_WAY[transport]).alias, *[OTHER.alias] * (beside and transport == "device")])
    for domain in (vm.live, vm.persistent):
        assert sorted(device.alias for device in domain.devices) == devices
    assert len(host.mounts) == 1 + 1 + beside + (ROOT in {mount.mount_point for mount in host.mounts})
    if beside:
        assert _layers.layers(host, vm, OTHER).right
    for record in vm.records.values():
        assert _conversion.leaving(host, vm, None, record) is None


BOTH = pytest.mark.parametrize("old", ["device", "view"])
NEW = {"device": "view", "view": "device"}
OUT, IN = ["detach_live", "detach_persistent"], ["bind_source", "attach", "verify_read_only", "mount_in_guest"]
CONVERTED = {
    ("device", False): ["unmount_in_guest", *OUT, *IN, "link_in_guest", "settle_record", "unbind_source"],
    ("device", True): [
        *(
            "unmount_in_guest",
            *OUT,
            "bind_source",
            "verify_read_only",
            "link_in_guest",
            "settle_record",
            "unbind_source",
        )
    ],
    ("view", False): ["unlink_in_guest", "unmount_in_guest", *OUT, *IN, "settle_record", "unbind_source"],
    ("view", True): ["unlink_in_guest", *IN, "release_source", "settle_record"],
}


@BESIDE
@BOTH
def test_a_device_gives_way_to_a_link_and_a_link_to_a_device(old, beside):
    host, vm = world(old, beside)
    (plan,) = planned(host, vm, OTHER_WAY[NEW[old]])
    assert plan.actions == ["record", *CONVERTED[old, beside]]
    assert plan.converts and plan.leaving.right
    right(*simulator.run(host, vm, steps([plan])), NEW[old], beside)


@BESIDE
@BOTH
@pytest.mark.parametrize("back", [False, True])
def test_what_was_cut_short_anywhere_is_finished_or_undone_by_the_next_run(old, beside, back):
    host, vm = world(old, beside)
    for cut in cuts(host, vm, steps(planned(host, vm, OTHER_WAY[NEW[old]]))):
        new = old if back else NEW[old]
        right(*simulator.run(*cut, steps(planned(*cut, OTHER_WAY[new]))), new, beside)


@BESIDE
@BOTH
def test_what_was_cut_short_anywhere_is_taken_away(old, beside):
    host, vm = world(old, beside)
    for cut in cuts(host, vm, steps(planned(host, vm, OTHER_WAY[NEW[old]]))):
        host_after, vm_after = simulator.run(*cut, steps(planned(*cut, b.wanted(model_center=""), present=False)))
        assert list(vm_after.records) == [OTHER.uuid] * beside
        assert not vm_after.links.get(PATH)
        assert [mount.mount_point for mount in vm_after.guest] == ["/", *["/models"] * beside]
        assert len(host_after.mounts) == (3 if beside else 1)
        assert len(vm_after.live.devices) == len(vm_after.persistent.devices) == beside


@BOTH
def test_another_run_carries_on_what_was_cut_short(old):
    host, vm = world(old, True)
    for cut in list(cuts(host, vm, steps(planned(host, vm, OTHER_WAY[NEW[old]]))))[1:]:
        if cut[1].records[R.uuid].intent == "settled":
            # A run that does not name it leaves it alone.
            continue
        plans = planned(*cut, NEXT)
        right(*simulator.run(*cut, steps(plans)), NEW[old], True)


@pytest.mark.parametrize("kept", [DEVICE, dataclasses.replace(DEVICE, intent="mounting")], ids=["settled", "cut short"])
def test_what_is_bound_in_a_view_that_does_not_show_it_goes_as_well(kept):
    host = b.host(b.bind(DEVICE), b.bind(OTHER), b.bind(R))
    host = dataclasses.replace(host, in_views={OTHER.uuid: host.in_views[OTHER.uuid]})
    vm = b.running(kept, OTHER)
    (plan,) = planned(host, vm, BY_DEVICE)
    assert plan.actions == ["record", "release_source", "settle_record"]
    right(*simulator.run(host, vm, steps([plan])), "device", True)
    (gone,) = planned(host, vm, BY_DEVICE, present=False)
    assert "release_source" in gone.actions
    host, vm = simulator.run(host, vm, steps([gone]))
    assert len(host.mounts) == 3 and list(vm.records) == [OTHER.uuid]


def test_the_directory_below_a_device_is_not_known_and_no_reason_to_refuse():
    host, vm = world("device", True)
    assert PATH not in vm.links
    assert planned(host, vm, WANTED)[0].actions[-4:-2] == ["verify_read_only", "link_in_guest"]


def test_a_device_beside_the_view_is_no_drift_and_its_record_none_of_that():
    host, vm = world("device", True)
    assert _conversion.leaving(host, vm, None, DEVICE) is None
    assert _conversion.paths(vm, [DEVICE, OTHER]) == set()
    assert [plan.actions for plan in planned(host, vm, BY_DEVICE, NEXT)] == [[], []]


def test_a_view_that_nobody_has_a_record_of_is_a_stray_beside_a_device():
    host, vm = world("device", False)
    domain = b.domain(*vm.live.devices, b.device(OTHER))
    vm = dataclasses.replace(vm, live=domain, persistent=domain)
    assert [stray.alias for stray in vm.strays] == [OTHER.alias]
    assert planned(host, vm, BY_DEVICE)[0].actions == []
    plans = planned(host, vm, BY_DEVICE, purge=True, owner="default")
    assert [plan.origin for plan in plans] == ["listed", "stray"]
    simulator.run(host, vm, steps(plans))


def test_the_tag_of_a_view_is_taken_beside_it():
    host, vm = world("view", True)
    tagged = b.wanted(transport="device", tag="modelfleet")
    assert b.present(host, vm, tagged).error.code == "tag_in_use"
    stray = b.running(live=b.domain(b.device(OTHER)))
    assert b.present(b.host(), stray, tagged).error.code == "tag_in_use"
    host, vm = world("view", False)
    assert planned(host, vm, tagged)[0].converts


def test_the_guest_part_may_pass_to_the_guest_with_the_transport():
    host, vm = world("view", True)
    by_itself = b.wanted(transport="device", guest="none")
    (plan,) = planned(host, vm, by_itself)
    assert plan.actions == [
        *("record", "unlink_in_guest", "bind_source", "attach", "verify_read_only", "release_source", "settle_record")
    ]


def test_what_covers_a_model_in_the_guest_keeps_it_in_the_view():
    host, vm = world("view", True)
    cover = THEIRS._replace(mount_point=_views.in_guest(b.bind(R).mount_point))
    vm = dataclasses.replace(vm, guest=(*vm.guest, cover))
    assert b.present(host, vm, BY_DEVICE).error.code == "mount_busy"
    assert b.present(host, vm, BY_DEVICE, force=True).error is None


# What must not be served any more of a model that leaves the view of others


def test_what_leaves_the_view_of_others_is_revoked_when_that_is_asked_for():
    host, vm = world("view", True)
    (plan,) = planned(host, vm, BY_DEVICE, strict=True)
    assert plan.actions == ["record", *CONVERTED["view", True][:-1], "revoke", "settle_record"]
    assert [step.record.strict for step in plan.steps if step.action in ("record", "revoke", "settle_record")] == [
        *(True, True, False)
    ]
    assert "revoke" not in planned(host, vm, BY_DEVICE)[0].actions
    # The device of a view goes with its last model, and with it all that was open.
    assert "revoke" not in planned(*world("view", False), BY_DEVICE, strict=True)[0].actions


@pytest.mark.parametrize("present", [True, False])
def test_that_it_is_revoked_is_owed_until_it_was_done(present):
    host, vm = world("view", True)
    every = steps(planned(host, vm, BY_DEVICE, strict=True))
    for cut in range(1, len(every)):
        cut_host, cut_vm = simulator.run(host, vm, every[:cut])
        (plan,) = planned(cut_host, cut_vm, BY_DEVICE, present=present)
        assert "revoke" in plan.actions, every[cut - 1].action
        after = simulator.run(cut_host, cut_vm, steps([plan]))
        assert "revoke" not in [action for left in planned(*after, NEXT) for action in left.actions]
