# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans that take a mount away."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _refusals
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

R = b.record()
OTHER = b.record(b.second())
BIND = b.bind(R)
GONE = b.wanted(model="", model_version="", model_center="", model_path="")
EVERYTHING = [
    "record",
    "unmount_in_guest",
    "detach_live",
    "detach_persistent",
    "unbind_source",
    "forget_record",
]


def host(*binds, **changes):
    """A host that was not asked about models, as nothing needs to be known of what goes."""
    return b.host(*binds, **{"models": {}, "bound": {}, **changes})


def without(*actions):
    return [action for action in EVERYTHING if action not in actions]


def absent(on, vm, wanted=GONE):
    (plan,) = b.absent(on, vm, wanted)
    return plan


COVER = b.in_guest(R, fstype="tmpfs", source="cover", mount_id=99)
FOREIGN = b.device(R, alias="fs0", source="/data/home")

# What is, and the steps that are due.
DUE = {
    "running": (host(BIND), b.running(R), EVERYTHING),
    "shut off": (host(), b.shut_off(R), ["record", "detach_persistent", "forget_record"]),
    "transient": (host(BIND), b.running(R, persistent=None, persistent_records=()), without("detach_persistent")),
    "not mounted in the guest": (host(BIND), b.running(R, guest=(b.ROOT,)), without("unmount_in_guest")),
    "no device any more": (
        host(BIND),
        b.running(R, live=b.domain(), persistent=b.domain(), guest=(b.ROOT,)),
        ["record", "unbind_source", "forget_record"],
    ),
    "only the record is left": (
        host(),
        b.running(R, live=b.domain(), persistent=b.domain(), guest=(b.ROOT,)),
        ["record", "forget_record"],
    ),
    "a removal that was cut short": (
        host(BIND),
        b.running(b.record(intent="unmounting"), live=b.domain(), guest=(b.ROOT,)),
        ["record", "detach_persistent", "unbind_source", "forget_record"],
    ),
    "daemon dead": (host(BIND, serving={}), b.running(R), EVERYTHING),
    "source gone": (host(), b.running(R), without("unbind_source")),
    "source is writable": (host(b.bind(R, options=b.READ_WRITE)), b.running(R), EVERYTHING),
    "device was edited": (
        host(BIND),
        b.running(R, live=b.domain(b.device(R, source="/data/x")), persistent=b.domain(b.device(R, tag="x"))),
        EVERYTHING,
    ),
    # libvirt 9.0 lets a second device with the same tag through; ours goes, theirs stays.
    "somebody else has the tag as well": (
        host(BIND),
        b.running(R, live=b.domain(FOREIGN, b.device(R)), persistent=b.domain(b.device(R), FOREIGN)),
        EVERYTHING,
    ),
    "somebody else has the tag, and ours is gone": (
        host(BIND),
        b.running(R, live=b.domain(FOREIGN), persistent=b.domain(FOREIGN), guest=(b.ROOT,)),
        ["record", "unbind_source", "forget_record"],
    ),
    "something else is mounted at the path": (
        host(BIND),
        b.running(R, guest=(b.ROOT, COVER)),
        without("unmount_in_guest"),
    ),
}


@pytest.mark.parametrize("case", DUE)
def test_the_steps_that_are_due(case):
    on, vm, expected = DUE[case]
    plan = absent(on, vm)
    assert plan.error is None
    assert plan.actions == expected
    assert plan.before is not None and plan.after is None


def test_the_record_says_unmounting_before_anything_happens():
    first = absent(host(BIND), b.running(R)).steps[0]
    assert first.record == dataclasses.replace(R, intent="unmounting")


def test_a_guest_that_mounts_by_itself_is_left_alone():
    kept = b.record(guest="none")
    assert absent(host(BIND), b.running(kept, guest=None)).actions == without("unmount_in_guest")


@pytest.mark.parametrize("vm", [b.running(OTHER), b.shut_off(OTHER), b.running()], ids=["running", "shut off", "bare"])
def test_what_is_already_gone_needs_nothing(vm):
    plan = absent(host(), vm)
    assert (plan.actions, plan.error, plan.before) == ([], None, None)


AGENT = ModelfleetError("agent_command_failed", "x")
REFUSED = {
    "paused": (b.running(R, state="paused"), "vm_state"),
    "shutting down": (b.running(R, state="shutdown"), "vm_state"),
    "agent not there": (b.running(R, guest=None), "agent_unavailable"),
    "agent does not answer": (b.running(R, guest=None, guest_error=AGENT), "agent_command_failed"),
    "also mounted elsewhere": (
        b.running(R, guest=(b.in_guest(R), b.in_guest(R, mount_point="/mnt/copy"))),
        "mount_busy",
    ),
    "only mounted elsewhere": (b.running(R, guest=(b.in_guest(R, mount_point="/mnt/copy"),)), "mount_busy"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_done_is_refused(case):
    vm, code = REFUSED[case]
    plan = absent(host(BIND), vm)
    assert (plan.error.code, plan.steps) == (code, ())
    assert plan.before == R


@pytest.mark.parametrize("guest", [(b.in_guest(R), COVER), (COVER, b.in_guest(R), COVER)])
def test_a_model_that_is_mounted_under_something_else_is_not_taken_away(guest):
    plan = absent(host(BIND), b.running(R, guest=(b.ROOT, *guest)))
    assert plan.error is not None, plan.actions
    assert plan.error.code in ("mount_busy", "mount_path_in_use")


def test_an_entry_may_mean_several_mounts():
    old = b.record(b.wanted(model_version="2.0", model_path="old", mount_path="/srv/ai/old"))
    mount = b.wanted(model_version="", mount_path="")
    plans = b.absent(host(), b.shut_off(R, old, OTHER), mount)
    assert [plan.before.mount_path for plan in plans] == ["/srv/ai/guard", "/srv/ai/old"]


def test_no_mount_is_taken_away_twice():
    by_path, by_model = b.absent(host(), b.shut_off(R), GONE, b.wanted(mount_path=""))
    assert by_path.actions == ["record", "detach_persistent", "forget_record"]
    assert by_model.actions == []


def test_no_port_is_needed():
    vm = b.running(R, live=b.domain(b.device(R), free_ports=0))
    assert _refusals.too_few_ports(vm, [absent(host(BIND), vm)]) is None
