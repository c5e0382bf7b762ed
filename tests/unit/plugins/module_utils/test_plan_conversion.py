# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans for models that get another transport: what goes, what comes, and what a run left that was cut short."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _layers, _plan, _refusals, _steps, _views
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit import simulator

BOTH = pytest.mark.parametrize("old", ["device", "view"])
WRITTEN_TOGETHER = ("record", "settle_record", "forget_record")
OTHER = {"device": "view", "view": "device"}
RUNNING = pytest.mark.parametrize("state", ["running", "shut off"])
PURGE = {"purge": True, "owner": "default"}


def wanted(transport, **changes):
    """Two models below where a view is mounted."""
    return (
        b.viewed(transport=transport, **changes),
        b.second(transport=transport, mount_path="/models/org/ocr", **changes),
    )


def world(old, state="running", **changes):
    """The host and the VM with both models by one transport."""
    records = [b.record(mount) for mount in wanted(old)]
    if state == "shut off":
        return b.host(), b.shut_off(*records, **changes)
    return b.host(*map(b.bind, records)), b.running(*records, **changes)


def planned(host, vm, *mounts, present=True, **terms):
    """The plans of a VM in the order of results."""
    plans = _plan.plan_vm(host, vm, list(enumerate(mounts)), _plan.Terms(present=present, **terms))
    unasked = plans.pop(-1, [])
    return [*(found for index in sorted(plans) for found in plans[index]), *unasked]


def steps(plans):
    assert [found.error for found in plans] == [None] * len(plans)
    batches = _steps.batches(plans)
    return [_steps.Step(batch.action, record) for batch in batches for record in batch.records]


def cuts(host, vm, all_steps):
    """The host and the VM after every step after which a run can be killed, and whether the first is done."""
    for done, following in enumerate([*all_steps, None]):
        # Records are written together.
        last = all_steps[done - 1].action if done else ""
        if following is None or last != following.action or last not in WRITTEN_TOGETHER:
            yield done > 0, simulator.run(host, vm, all_steps[:done])


def codes(plans):
    return [found.error and found.error.code for found in plans]


def there(host, vm):
    """All that there is of models, but for what only records say."""
    return (
        [mount.mount_point for mount in host.mounts[1:]],
        [domain and sorted(device.alias for device in domain.devices) for domain in (vm.live, vm.persistent)],
        sorted(mount.mount_point for mount in vm.guest or ())[1:],
    )


def right(host, vm, new):
    """Both models are there by their new transport, and nothing by the other."""
    plans = planned(host, vm, *wanted(new))
    assert [found.actions for found in plans] == [[], []]
    assert all(_layers.layers(host, vm, found.after).right for found in plans)
    binds, devices, mounts = there(host, vm)
    paths = ["/models"] if new == "view" else ["/models/guard", "/models/org/ocr"]
    assert len(devices[1]) == len(paths)
    if vm.live:
        assert (len(binds), devices[0], mounts) == (3 if new == "view" else 2, devices[1], paths)
    else:
        assert (binds, devices[0], mounts) == ([], None, [])
    assert {(kept.transport, kept.intent) for kept in vm.records.values()} == {(new, "settled")}


OUT = ["unmount_in_guest", "detach_live", "detach_persistent"]
IN = ["bind_source", "attach", "verify_read_only", "mount_in_guest"]


@BOTH
def test_the_old_way_goes_before_the_new_one_comes_and_its_source_last(old):
    host, vm = world(old)
    plans = planned(host, vm, *wanted(OTHER[old]))
    assert [found.actions for found in plans] == [["record", *OUT, *IN, "settle_record", "unbind_source"]] * 2
    several = {batch.action: len(batch.records) for batch in _steps.batches(plans)}
    device, view = (OUT, IN) if old == "device" else (IN, OUT)
    assert {several[action] for action in device} == {2}
    assert {several[action] for action in view if action not in ("bind_source", "verify_read_only")} == {1}
    right(*simulator.run(host, vm, steps(plans)), OTHER[old])


@BOTH
def test_a_vm_that_is_shut_off_is_converted_in_its_persistent_xml(old):
    host, vm = world(old, "shut off")
    plans = planned(host, vm, *wanted(OTHER[old]))
    assert [found.actions for found in plans] == [["record", OUT[2], "attach_persistent", "settle_record"]] * 2
    right(*simulator.run(host, vm, steps(plans)), OTHER[old])


@BOTH
def test_a_plan_says_what_was_and_what_will_be(old):
    host, vm = world(old)
    for found in planned(host, vm, *wanted(OTHER[old])):
        assert (found.before.transport, found.after.transport, found.converts) == (old, OTHER[old], True)
        # Nobody wanted the new one yet, and the old one is there.
        assert found.layers == ("missing",) * 4
        assert found.leaving == ("right",) * 4


@RUNNING
@pytest.mark.parametrize("back", [False, True])
@BOTH
def test_what_was_cut_short_anywhere_is_finished_or_undone_by_the_next_run(old, back, state):
    host, vm = world(old, state)
    for _begun, cut in cuts(host, vm, steps(planned(host, vm, *wanted(OTHER[old])))):
        new = old if back else OTHER[old]
        right(*simulator.run(*cut, steps(planned(*cut, *wanted(new)))), new)


@RUNNING
@BOTH
def test_what_was_cut_short_anywhere_is_taken_away(old, state):
    host, vm = world(old, state)
    for _begun, cut in cuts(host, vm, steps(planned(host, vm, *wanted(OTHER[old])))):
        found = simulator.run(*cut, steps(planned(*cut, b.nothing(), present=False)))
        assert there(*found) == ([], [vm.live and [], []], [])
        assert found[1].records == {}


@BOTH
def test_another_run_carries_on_what_was_cut_short(old):
    host, vm = world(old)
    first, second = wanted(OTHER[old])
    for begun, cut in cuts(host, vm, steps(planned(host, vm, first, second))):
        # When all is settled a run that does not name it leaves it alone.
        if begun and any(kept.intent != "settled" for kept in cut[1].records.values()):
            plans = planned(*cut, first)
            assert [found.origin for found in plans] == ["listed", "interrupted"]
            right(*simulator.run(*cut, steps(plans)), OTHER[old])


@BOTH
def test_models_that_are_not_listed_are_not_hidden(old):
    host, vm = world(old)
    first, second = wanted(OTHER[old])
    (refused,) = planned(host, vm, first)
    assert (refused.error.code, refused.steps) == ("transport_conflict", ())
    assert f"{second.mount_path} is mounted with transport={old}" in refused.error.msg
    assert "in the same task" in refused.error.msg
    # Nor those for which nobody asks for another transport.
    assert codes(planned(host, vm, first, dataclasses.replace(second, transport=old))) == ["transport_conflict"] * 2


@BOTH
def test_a_model_that_is_not_listed_may_go_instead(old):
    host, vm = world(old)
    first, _second = wanted(OTHER[old])
    plans = planned(host, vm, first, **PURGE)
    assert [found.origin for found in plans] == ["listed", "purged"]
    for begun, cut in cuts(host, vm, steps(plans)):
        # Whether or not the next run purges, what was to go goes; what nobody has begun with stays.
        for terms in [PURGE] + [{}] * begun:
            found = simulator.run(*cut, steps(planned(*cut, first, **terms)))
            assert [kept.transport for kept in found[1].records.values()] == [OTHER[old]]
            assert [plan.actions for plan in planned(*found, first)] == [[]]
            assert len(there(*found)[1][0]) == 1


def test_a_model_that_cannot_go_is_not_hidden():
    host, vm = world("device")
    first, second = wanted("view")
    copy = b.in_guest(b.record(wanted("device")[1]), mount_point="/mnt/copy")
    vm = dataclasses.replace(vm, guest=(*vm.guest, copy))
    assert codes(planned(host, vm, first, **PURGE)) == ["transport_conflict", "mount_busy"]
    kept = [dataclasses.replace(record, intent="unmounting") for record in vm.records.values()]
    kept = [kept[0], kept[1]] if kept[1].mount_path == second.mount_path else kept[::-1]
    vm = dataclasses.replace(vm, live_records=tuple(kept), persistent_records=tuple(kept))
    assert codes(planned(host, vm, first)) == ["transport_conflict", "mount_busy"]


@BOTH
def test_a_model_of_which_the_guest_has_another_mount_is_not_converted_unless_by_force(old):
    host, vm = world(old)
    kept = b.record(wanted(old)[0])
    vm = dataclasses.replace(vm, guest=(*vm.guest, b.in_guest(kept, mount_point="/mnt/copy")))
    found = planned(host, vm, *wanted(OTHER[old]))
    assert codes(found) in (["mount_busy", None], ["mount_busy"] * 2)
    assert codes(planned(host, vm, *wanted(OTHER[old]), force=True)) == [None, None]


@BOTH
def test_a_guest_that_mounts_by_itself_lets_go_first(old):
    by_itself = {"guest": "none"}
    records = [b.record(mount) for mount in wanted(old, **by_itself)]
    host, vm = b.host(*map(b.bind, records)), b.running(*records)
    plans = planned(host, vm, *wanted(OTHER[old], **by_itself))
    assert not {"unmount_in_guest", "mount_in_guest"} & {action for found in plans for action in found.actions}
    simulator.run(host, vm, steps(plans))
    vm = dataclasses.replace(vm, guest=(b.ROOT, b.in_guest(records[0])))
    assert "mount_busy" in codes(planned(host, vm, *wanted(OTHER[old], **by_itself)))


@BOTH
def test_the_units_of_the_guest_change_with_the_transport(old):
    lasting = {"persistence": "systemd"}
    records = [b.record(mount) for mount in wanted(old, **lasting)]
    paths = ["/models", "/models/guard", "/models/org/ocr"]
    units = {**dict.fromkeys(paths), **{kept.device_path: simulator.unit(kept) for kept in records}}
    host, vm = b.host(*map(b.bind, records)), b.running(*records, units=units, systemd=True)
    mounts = wanted(OTHER[old], persistence="auto")
    for _begun, cut in cuts(host, vm, steps(planned(host, vm, *mounts))):
        _host, after = simulator.run(*cut, steps(planned(*cut, *mounts)))
        new = [mount.record(b.VM, b.CENTER) for mount in mounts]
        assert after.units == {**dict.fromkeys(paths), **{kept.device_path: simulator.unit(kept) for kept in new}}
        assert {kept.persistence for kept in after.records.values()} == {"systemd"}


def test_how_the_guest_mounts_a_view_at_boot_is_decided_anew():
    records = [b.record(mount, persistence=how) for mount, how in zip(wanted("device"), ("none", "systemd"))]
    host, vm = b.host(*map(b.bind, records)), b.running(*records, systemd=True, units={"/models": None})
    vm.units["/models/org/ocr"] = simulator.unit(records[1])
    plans = planned(host, vm, *wanted("view", persistence="auto"))
    assert [found.after.persistence for found in plans] == ["systemd"] * 2


def test_ports_are_counted_with_those_that_become_free():
    host, vm = world("device")
    vm = dataclasses.replace(vm, live=vm.live._replace(free_ports=0))
    assert _refusals.too_few_ports(vm, planned(host, vm, *wanted("view"))) is None
    host, vm = world("view")
    vm = dataclasses.replace(vm, live=vm.live._replace(free_ports=0))
    assert _refusals.too_few_ports(vm, planned(host, vm, *wanted("device"))).details["needed"] == 1


def test_a_tag_that_leaves_with_its_device_may_be_taken_again():
    tagged = b.viewed(transport="device", tag="modelfleet")
    kept = b.record(tagged)
    host, vm = b.host(b.bind(kept)), b.running(kept)
    mount = b.viewed()
    host, vm = simulator.run(host, vm, steps(planned(host, vm, mount)))
    assert [found.actions for found in planned(host, vm, mount)] == [[]]
    host, vm = simulator.run(host, vm, steps(planned(host, vm, tagged)))
    assert [found.actions for found in planned(host, vm, tagged)] == [[]]


# Drift


@pytest.mark.parametrize("where", ["live", "persistent", "bind", "all"])
def test_a_device_beside_the_view_is_seen_and_taken_away(where):
    host, vm = world("view")
    old = b.record(wanted("device")[0])
    domain = b.domain(*vm.live.devices, b.device(old))
    vm = dataclasses.replace(
        vm,
        live=domain if where in ("live", "all") else vm.live,
        persistent=domain if where in ("persistent", "all") else vm.persistent,
    )
    if where in ("bind", "all"):
        host = b.host(*host.mounts[1:], b.bind(old))
    assert vm.strays == ()
    plans = planned(host, vm, *wanted("view"))
    assert len(plans[0].actions) > 2 and plans[1].actions == []
    assert plans[0].leaving is not None
    right(*simulator.run(host, vm, steps(plans)), "view")


def test_a_view_beside_devices_is_seen_and_taken_away():
    host, vm = world("device")
    in_view = [b.record(mount) for mount in wanted("view")]
    domain = b.domain(*vm.live.devices, b.device(in_view[0]))
    vm = dataclasses.replace(vm, live=domain, persistent=domain)
    host = b.host(*host.mounts[1:], *map(b.bind, in_view))
    right(*simulator.run(host, vm, steps(planned(host, vm, *wanted("device")))), "device")


def test_what_one_left_in_a_view_that_another_joins_goes_with_it():
    host, vm = world("view")
    first, second = wanted("device")
    begun = [b.record(mount, intent="mounting") for mount in (first, second)]
    vm = dataclasses.replace(vm, live_records=tuple(begun), persistent_records=tuple(begun))
    third = b.viewed(model="asr", model_path="ocr-2", mount_path="/models/asr")
    host = dataclasses.replace(host, models={**host.models, ("depot", "ocr-2"): (1, 2)})
    plans = planned(host, vm, third, **PURGE)
    host, vm = simulator.run(host, vm, steps(plans))
    left = [mount.mount_point for mount in host.mounts if mount.mount_point.startswith(_views.source(b.VM))]
    assert left == [_views.source(b.VM), b.bind(b.record(third)).mount_point]
    assert [kept.mount_path for kept in vm.records.values()] == ["/models/asr"]


# What a view would hide in the guest


def test_a_file_system_of_somebody_else_is_not_hidden():
    theirs = b.in_guest(b.record(), mount_point="/models/data", fstype="ext4", source="/dev/vdb")
    for mount in (theirs, theirs._replace(fstype="virtiofs", source="home")):
        problem = b.present(b.host(), b.running(guest=(b.ROOT, mount)), b.viewed()).error
        assert problem.code == "mount_path_in_use" and "/models/data" in problem.msg
    host, vm = world("device")
    vm = dataclasses.replace(vm, guest=(*vm.guest, theirs))
    assert codes(planned(host, vm, *wanted("view"))) == ["mount_path_in_use"] * 2
