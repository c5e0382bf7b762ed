# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans that make a mount right: which steps are due in which state."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _refusals, _steps
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.module_utils._observed import ModelKey
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

R = b.record()
BIND = b.bind(R)


def running(live=(R,), persistent=(R,), guest=(R,), records=(R,), **changes):
    """A running VM with the devices and mounts of these records."""
    view = b.running(
        live=b.domain(*(b.device(kept) for kept in live)),
        persistent=b.domain(*(b.device(kept) for kept in persistent)),
        guest=(b.ROOT, *(b.in_guest(kept) for kept in guest)),
        live_records=records,
        persistent_records=records,
    )
    return dataclasses.replace(view, **changes)


TAGGED = b.record(tag="before")
PERSISTENT_ONLY = [_steps.RECORD, _steps.ATTACH_PERSISTENT, _steps.SETTLE]
FRESH = ["record", "bind_source", "attach", "verify_read_only", "mount_in_guest", "settle_record"]
REPLUG = ["record", "unmount_in_guest", "detach_live", "bind_source", "attach_live", "verify_read_only"]
REPLUG += ["mount_in_guest", "settle_record"]
OTHER_DIRECTORY = b.bind(R, "acme/guard-2.0")

# What is, and the steps that are due: the name of the case, the host, the VM, the steps.
DUE = {
    "fresh": (b.host(), b.running(), FRESH),
    "fresh, shut off": (b.host(), b.shut_off(), PERSISTENT_ONLY),
    "fresh, transient": (
        b.host(),
        b.running(persistent=None),
        ["record", "bind_source", "attach_live", "verify_read_only", "mount_in_guest", "settle_record"],
    ),
    "all right": (b.host(BIND), b.running(R), []),
    "all right, shut off": (b.host(), b.shut_off(R), []),
    "not mounted in the guest": (b.host(BIND), running(guest=()), ["record", "mount_in_guest", "settle_record"]),
    "mounted with other options": (
        b.host(BIND),
        b.running(R, guest=(b.ROOT, b.in_guest(R, options=b.READ_WRITE))),
        ["record", "remount_in_guest", "settle_record"],
    ),
    "not in the live XML": (
        b.host(BIND, serving={}),
        running(live=(), guest=()),
        ["record", "attach_live", "verify_read_only", "mount_in_guest", "settle_record"],
    ),
    "not in the live XML, dead mount in the guest": (
        b.host(BIND, serving={}),
        running(live=()),
        ["record", "unmount_in_guest", "attach_live", "verify_read_only", "mount_in_guest", "settle_record"],
    ),
    "not in the persistent XML": (b.host(BIND), running(persistent=()), PERSISTENT_ONLY),
    "not in the persistent XML, shut off": (b.host(), b.shut_off(R, persistent=b.domain()), PERSISTENT_ONLY),
    "wrong in the persistent XML": (
        b.host(BIND),
        b.running(R, persistent=b.domain(b.device(R, source="/data/x"))),
        ["record", "detach_persistent", "attach_persistent", "settle_record"],
    ),
    "source gone": (b.host(serving=b.served(BIND)), b.running(R), REPLUG),
    "source shows another directory": (b.host(OTHER_DIRECTORY), b.running(R), REPLUG),
    "source is writable": (b.host(b.bind(R, options=b.READ_WRITE)), b.running(R), REPLUG),
    "source is the empty directory": (
        b.host(BIND._replace(root="/lib/modelfleet/empty", device="0:40")),
        b.running(R),
        REPLUG,
    ),
    "daemon dead": (
        b.host(BIND, serving={}),
        b.running(R),
        [action for action in REPLUG if action != "bind_source"],
    ),
    "daemon serves something else": (
        b.host(BIND, serving=b.served(OTHER_DIRECTORY)),
        b.running(R),
        [action for action in REPLUG if action != "bind_source"],
    ),
    "another tag than before": (
        b.host(BIND),
        running((TAGGED,), (TAGGED,), (TAGGED,), (TAGGED,)),
        [
            *("record", "unmount_in_guest", "detach_live", "detach_persistent", "attach", "verify_read_only"),
            *("mount_in_guest", "settle_record"),
        ],
    ),
    "record missing": (b.host(BIND), running(records=()), ["settle_record"]),
    "record says something else": (b.host(BIND), running(records=(b.record(owner="ops"),)), ["settle_record"]),
    "record left by a killed run": (b.host(BIND), running(records=(b.record(intent="mounting"),)), ["settle_record"]),
    "record only in the live XML": (
        b.host(BIND),
        dataclasses.replace(b.running(R), persistent_records=()),
        ["settle_record"],
    ),
    "record only in the persistent XML": (
        b.host(BIND),
        dataclasses.replace(b.running(R), live_records=()),
        ["settle_record"],
    ),
    "record written at another time": (b.host(BIND), running(records=(b.record(generation=7),)), []),
    "dead mount in the guest": (
        b.host(BIND),
        b.running(R, stale=frozenset({R.mount_path})),
        ["record", "unmount_in_guest", "mount_in_guest", "settle_record"],
    ),
    "removal left by a killed run": (
        b.host(),
        running((), (), (), (b.record(intent="unmounting"),)),
        FRESH,
    ),
}


@pytest.mark.parametrize("case", DUE)
def test_the_steps_that_are_due(case):
    host, vm, expected = DUE[case]
    plan = b.present(host, vm, b.wanted())
    assert plan.error is None
    assert plan.actions == expected
    assert plan.conditional == ()


def test_a_guest_that_mounts_by_itself_is_left_alone():
    wanted = b.wanted(guest="none")
    plan = b.present(b.host(), b.running(guest=None), wanted)
    assert plan.actions == ["record", "bind_source", "attach", "verify_read_only", "settle_record"]
    kept = b.record(wanted)
    assert b.present(b.host(b.bind(kept)), b.running(kept, guest=None), wanted).actions == []


def test_what_is_taken_down_is_what_was_there():
    host, vm, _actions = DUE["another tag than before"]
    tags = {step.action: step.record.tag for step in b.present(host, vm, b.wanted()).steps}
    assert tags["unmount_in_guest"] == tags["detach_live"] == tags["detach_persistent"] == "before"
    assert tags["attach"] == tags["mount_in_guest"] == tags["record"] == R.tag


def test_a_plan_says_what_was_and_what_will_be():
    before = b.record(owner="ops")
    plan = b.present(b.host(BIND), running(records=(before,)), b.wanted())
    assert plan.before == before
    assert plan.after.says_the_same(R)
    assert tuple(plan.layers) == ("right",) * 4
    assert (plan.vm_uuid, plan.vm_name) == (b.VM, "render-4")


PROBLEM = ModelfleetError("storage_timeout", "x")
AGENT = ModelfleetError("agent_command_failed", "x")
FOREIGN = b.device(R, alias="fs0", source="/data/home")
KEY = ModelKey("depot", "acme/guard-2.1")
FOREIGN_MOUNT = b.in_guest(R, fstype="tmpfs", source="cover")

# Why nothing can be done: the name of the case, the host, the VM, the code.
REFUSED = {
    "paused": (b.host(), b.running(state="paused"), "vm_state"),
    "paused and all right": (b.host(BIND), b.running(R, state="paused", guest=None), "vm_state"),
    "crashed": (b.host(), b.running(state="crashed"), "vm_state"),
    "storage does not answer": (b.host(models={KEY: PROBLEM}), b.running(), "storage_timeout"),
    "foreign mount at the path": (
        b.host(),
        b.running(guest=(b.ROOT, FOREIGN_MOUNT)),
        "mount_path_in_use",
    ),
    "foreign mount over ours": (b.host(BIND), b.running(R, guest=(b.in_guest(R), FOREIGN_MOUNT)), "mount_path_in_use"),
    "tag in use in the live XML": (b.host(), b.running(live=b.domain(FOREIGN)), "tag_in_use"),
    "tag in use in the persistent XML": (b.host(), b.shut_off(persistent=b.domain(FOREIGN)), "tag_in_use"),
    "same model at another path": (
        b.host(),
        b.running(b.record(b.wanted(mount_path="/srv/elsewhere"))),
        "duplicate_mount",
    ),
    "no shared memory": (b.host(), b.running(live=b.domain(shared_memory=False)), "no_shared_memory"),
    "no shared memory, shut off": (
        b.host(),
        b.shut_off(persistent=b.domain(shared_memory=False)),
        "no_shared_memory",
    ),
    "agent not asked": (b.host(), b.running(guest=None), "agent_unavailable"),
    "agent does not answer": (b.host(), b.running(guest=None, guest_error=AGENT), "agent_command_failed"),
    "hook missing": (b.host(prepared=False), b.running(), "host_not_prepared"),
    "replug while mounted elsewhere too": (
        b.host(OTHER_DIRECTORY),
        b.running(R, guest=(b.in_guest(R), b.in_guest(R, mount_point="/mnt/copy"))),
        "mount_busy",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_refused(case):
    host, vm, code = REFUSED[case]
    plan = b.present(host, vm, b.wanted())
    assert plan.error is not None, plan.actions
    assert plan.error.code == code
    assert plan.steps == ()


def test_what_is_already_right_needs_no_shared_memory():
    # It was taken from the persistent XML; that shows at the next start, not now.
    vm = b.running(R, live=b.domain(b.device(R), shared_memory=False))
    assert b.present(b.host(BIND), vm, b.wanted()).actions == []
    vm = dataclasses.replace(vm, guest=(b.ROOT,))
    assert "mount_in_guest" in b.present(b.host(BIND), vm, b.wanted()).actions


def test_a_missing_hook_is_a_condition_of_check_mode():
    plan = b.present(b.host(prepared=False), b.running(), b.wanted(), check_mode=True)
    assert plan.actions == FRESH
    assert len(plan.conditional) == 1


def test_a_planned_center_is_a_condition():
    host = b.host(models={}, planned=frozenset({"depot"}))
    plan = b.present(host, b.running(), b.wanted(), check_mode=True)
    assert plan.actions == FRESH
    assert len(plan.conditional) == 1 and "depot" in plan.conditional[0]


def test_ports_are_counted_over_all_plans_of_a_vm():
    vm = b.running(live=b.domain(free_ports=1))
    plans = [b.present(b.host(), vm, mount) for mount in (b.wanted(), b.second())]
    assert _refusals.too_few_ports(vm, plans[:1]) is None
    problem = _refusals.too_few_ports(vm, plans)
    assert (problem.code, problem.details["needed"], problem.details["free"]) == ("no_free_pci_port", 2, 1)


def test_a_replug_needs_no_further_port():
    vm = b.running(R, live=b.domain(b.device(R), free_ports=0))
    plan = b.present(b.host(OTHER_DIRECTORY), vm, b.wanted())
    assert plan.actions == REPLUG
    assert _refusals.too_few_ports(vm, [plan]) is None


@pytest.mark.parametrize("vm", [b.running(live=b.domain(free_ports=None)), b.shut_off()], ids=["i440fx", "shut off"])
def test_ports_do_not_count_where_none_are_needed(vm):
    plans = [b.present(b.host(), vm, mount) for mount in (b.wanted(), b.second())]
    assert _refusals.too_few_ports(vm, plans) is None


def test_what_a_guest_says_of_its_mounts_is_shown_in_short():
    # A megabyte in a mount table, or what moves the cursor of whoever reads the error.
    cover = FOREIGN_MOUNT._replace(fstype="\x1b[2J", source="x" * 1_000_000)
    problem = b.present(b.host(), b.running(guest=(b.ROOT, cover)), b.wanted()).error
    assert problem.msg.isprintable() and len(problem.msg) < 500
    copy = b.in_guest(R, mount_point="/" + "y" * 1_000_000)
    (gone,) = b.absent(b.host(BIND), b.running(R, guest=(b.ROOT, b.in_guest(R), copy)), b.wanted())
    assert gone.error.code == "mount_busy" and len(gone.error.msg) < 500
