# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What C(transport=auto) comes to, and that it is never a reason to refuse something."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.modelfleet.kvm.plugins.module_utils import _guest_view, _plan, _transports
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit.properties import examples
from ansible_collections.modelfleet.kvm.tests.unit.scripted_agent import ROOT, Agent, guest, ours

WANTED = b.viewed(transport="auto")
NEXT = b.second(transport="auto", mount_path="/models/org/ocr")
R, BESIDE = b.record(b.viewed()), b.record(b.second(transport="view", mount_path="/models/org/ocr"))
BY_DEVICE = b.record(b.second(transport="device", mount_path="/models/org/ocr"))
PRESENT = _plan.Terms(present=True)
COVER = b.in_guest(R, fstype="tmpfs", source="cover")
DATA = COVER._replace(mount_point="/models/data")


def changed(mount, **changes):
    return dataclasses.replace(mount, **changes)


ELSEWHERE = changed(NEXT, mount_path="/srv/ai/ocr")
THIRD = changed(NEXT, mount_path="/srv/ai/asr")
OPEN = changed(WANTED, persistence="auto")
VIEW_VIEW_DEVICE, DEVICE = ["view", "view", "device"], ["device"]


def chosen(*mounts, **changes):
    """The transports in a VM that runs, unless it is said otherwise."""
    vm = changes.pop("vm", None) or b.running(*changes.pop("records", ()), **changes)
    return [mount.transport for mount in _transports.chosen(mounts, vm)]


def device(**changes):
    """A device in the XML of the VM that is none of a record."""
    return {"live": b.domain(b.device(b.record(), alias="fs0", **changes))}


@pytest.mark.parametrize(
    ("mounts", "records", "expected"),
    [
        ([WANTED], [], ["view"]),
        ([WANTED, NEXT], [], ["view", "view"]),
        ([WANTED], [BESIDE], ["view"]),
        ([WANTED, changed(NEXT, transport="view")], [], ["view", "view"]),
        # What cannot be in a view is beside it.
        ([WANTED, changed(NEXT, mount_path="/srv/ai/ocr", tag="ocr")], [], ["view", "device"]),
        ([changed(WANTED, tag="guard")], [], ["device"]),
        ([changed(WANTED, tag="guard")], [BESIDE], ["device"]),
        ([changed(WANTED, mount_path="/models")], [BESIDE], ["device"]),
        ([changed(WANTED, mount_path="/models/.m/guard")], [BESIDE], ["device"]),
        # A view does not hide what there is by device, or comes in the same run.
        ([WANTED], [BY_DEVICE], ["device"]),
        ([WANTED, changed(NEXT, transport="device")], [], ["device", "device"]),
        ([WANTED, changed(NEXT, tag="ocr")], [], ["device", "device"]),
        ([WANTED, changed(NEXT, mount_path="/models")], [], ["device", "device"]),
        ([WANTED], [b.record(b.second())], ["view"]),
        # What is mounted stays as it is.
        ([WANTED], [b.record(b.viewed(transport="device"))], ["device"]),
        ([WANTED, NEXT], [b.record(b.viewed(transport="device"))], ["device", "device"]),
        ([changed(WANTED, tag="guard")], [R], ["view"]),
        ([changed(WANTED, transport="device")], [R], ["device"]),
        # Unless somebody asks for it, and then the others follow.
        ([WANTED, changed(NEXT, transport="view")], [BY_DEVICE], ["view", "view"]),
        ([WANTED, changed(NEXT, transport="device")], [BESIDE], ["device", "device"]),
        # Models that cannot share a view have devices.
        ([WANTED, changed(NEXT, guest="none")], [], ["device", "device"]),
        ([changed(WANTED, persistence="systemd"), changed(NEXT, persistence="none")], [], ["device", "device"]),
        ([changed(WANTED, persistence="systemd"), changed(NEXT, persistence="auto")], [], ["view", "view"]),
        # A path elsewhere is a link to the view.
        ([ELSEWHERE], [], ["view"]),
        ([WANTED, ELSEWHERE], [], ["view", "view"]),
        ([ELSEWHERE], [BESIDE], ["view"]),
        ([ELSEWHERE], [BY_DEVICE], ["device"]),
        ([changed(ELSEWHERE, tag="ocr")], [BESIDE], ["device"]),
        ([ELSEWHERE], [b.record(b.second())], ["device"]),
        ([ELSEWHERE], [b.record(b.second(transport="view"))], ["view"]),
        # But it may as well be mounted beside the view, where it cannot share that.
        ([WANTED, changed(ELSEWHERE, guest="none")], [], ["view", "device"]),
        ([changed(ELSEWHERE, guest="none")], [R], ["device"]),
        ([changed(ELSEWHERE, guest="none")], [b.record(b.viewed(guest="none"))], ["view"]),
        ([changed(ELSEWHERE, persistence="systemd")], [R], ["device"]),
        ([changed(ELSEWHERE, persistence="auto")], [R], ["view"]),
        ([OPEN, changed(ELSEWHERE, persistence="systemd"), changed(THIRD, persistence="none")], [], VIEW_VIEW_DEVICE),
        ([ELSEWHERE, changed(THIRD, guest="none")], [], ["view", "device"]),
        (
            [changed(ELSEWHERE, mount_path="/srv/ai/guard/ocr")],
            [b.record(b.viewed(mount_path="/srv/ai/guard"))],
            DEVICE,
        ),
        # The tag of views may be taken.
        ([WANTED, changed(NEXT, mount_path="/srv/ai/ocr", tag="modelfleet")], [], ["device", "device"]),
        ([WANTED], [b.record(b.second(tag="modelfleet"))], ["device"]),
    ],
)
def test_a_model_is_in_the_view_where_it_can_be_and_nothing_is_converted(mounts, records, expected):
    assert chosen(*mounts, records=records) == expected


SEEN = {
    "nothing": ({}, "view"),
    "an old kernel": ({"kernel": (5, 4)}, "device"),
    "a kernel": ({"kernel": (5, 10)}, "view"),
    "files": ({"in_the_way": {"/models": ("/models", "not empty")}}, "device"),
    "files elsewhere": ({"in_the_way": {"/models/guard": ("/models/guard", "not a directory")}}, "view"),
    "a file system": ({"guest": (b.ROOT, COVER)}, "device"),
    "a file system below": ({"guest": (b.ROOT, DATA)}, "device"),
    "a file system elsewhere": ({"guest": (b.ROOT, COVER._replace(mount_point="/modelsx"))}, "view"),
    "a device with the tag": (device(tag="modelfleet"), "device"),
    "another device": (device(tag="home"), "view"),
    "a unit of the guest": ({"foreign_units": {"/models": "/etc/fstab"}}, "view"),
    "nothing known": ({"guest": None}, "view"),
}


@pytest.mark.parametrize("what", SEEN)
def test_a_guest_that_cannot_have_a_view_gets_a_device(what):
    seen, expected = SEEN[what]
    assert chosen(WANTED, NEXT, **seen) == [expected] * 2
    # Where it is asked for by name, and where it is there, it is not for this to say.
    assert chosen(WANTED, changed(NEXT, transport="view"), **seen) == ["view"] * 2
    assert chosen(WANTED, records=[BESIDE], **seen) == ["view"]


AT_LINK = {
    "nothing": ({}, "view"),
    "a link of ours": ({"links": {"/srv/ai/ocr": True}}, "view"),
    "no link": ({"links": {"/srv/ai/ocr": False}}, "view"),
    "a directory": ({"filled": frozenset(["/srv/ai/ocr"])}, "device"),
    "a directory elsewhere": ({"filled": frozenset(["/srv/ai/guard"])}, "view"),
    "a file": ({"in_the_way": {"/srv/ai/ocr": ("/srv/ai/ocr", "not a directory")}}, "device"),
    "a file system": ({"guest": (b.ROOT, DATA._replace(mount_point="/srv/ai/ocr"))}, "device"),
    "an old kernel": ({"kernel": (5, 4)}, "device"),
    "files below the view": ({"in_the_way": {"/models": ("/models", "not empty")}}, "device"),
    "a file system over the view": ({"guest": (b.ROOT, COVER)}, "device"),
    "nothing known": ({"guest": None}, "view"),
}


@pytest.mark.parametrize("records", [[], [R]])
@pytest.mark.parametrize("what", AT_LINK)
def test_a_guest_that_cannot_have_a_link_gets_a_device(what, records):
    seen, expected = AT_LINK[what]
    assert chosen(ELSEWHERE, records=records, **seen) == [expected]
    assert chosen(changed(ELSEWHERE, transport="view"), **seen) == ["view"]
    assert chosen(ELSEWHERE, records=[b.record(changed(ELSEWHERE, transport="view"))], **seen) == ["view"]
    # It is none of the business of others.
    if "view" not in what and "kernel" not in what:
        assert chosen(WANTED, ELSEWHERE, records=records, **seen)[0] == "view"


@pytest.mark.parametrize("what", AT_LINK)
def test_links_that_are_not_ours_to_make_are_not_looked_for(what):
    seen = AT_LINK[what][0]
    assert chosen(changed(ELSEWHERE, guest="none"), **seen) == ["view"]
    assert chosen(ELSEWHERE, vm=b.shut_off()) == ["view"]


def test_a_guest_that_defines_the_mount_by_itself_cannot_have_a_unit_for_it():
    seen = {"foreign_units": {"/models": "/etc/fstab"}}
    assert chosen(changed(WANTED, persistence="systemd"), **seen) == ["device"]


@pytest.mark.parametrize("what", SEEN)
def test_a_guest_that_mounts_by_itself_and_a_vm_that_is_shut_off_are_not_looked_at(what):
    seen = SEEN[what][0]
    by_itself = changed(WANTED, guest="none")
    assert chosen(by_itself, **seen) == ["device" if "tag" in what else "view"]
    assert chosen(WANTED, vm=b.shut_off()) == ["view"]


def test_what_one_says_of_the_persistence_of_a_view_holds_for_those_that_leave_it_open():
    mounts = [b.viewed(persistence="auto"), b.second(transport="view", mount_path="/models/ocr", persistence="systemd")]
    beside = b.wanted(mount_path="/srv/ai/other", persistence="auto", transport="device")
    found = _transports.chosen([*mounts, beside], b.running())
    assert [mount.persistence for mount in found] == ["systemd", "systemd", "auto"]


# The guest is asked as little as before


class Kernel(Agent):
    """A guest with a kernel and a directory for the view."""

    release = "6.12.43"

    def guest_get_osinfo(self, _arguments):
        return {"id": "debian", "kernel-release": self.release}

    def usual(self, command, stdin):
        if command[0] == "stat" and "/models" in command:
            return 1, "41ed /models\n", "stat: cannot statx"
        return super().usual(command, stdin)


def seen_by(agent, vm, *mounts):
    vm = _guest_view.for_run(vm, guest(agent), mounts, PRESENT)
    return vm, [mount.transport for mount in _transports.chosen(mounts, vm)]


def test_for_a_view_no_more_is_asked_than_when_it_is_named():
    named, new = Kernel(), Kernel()
    seen_by(named, b.running(guest=None), changed(WANTED, transport="view"))
    vm, found = seen_by(new, b.running(guest=None), WANTED)
    assert (found, vm.kernel) == (["view"], (6, 12))
    assert (new.asked, new.commands) == (named.asked, named.commands)


@pytest.mark.parametrize("kept", [R, b.record(b.viewed(transport="device"))])
def test_when_there_is_nothing_to_do_nothing_more_is_asked(kept):
    agent = Kernel(ROOT + ours(kept.tag, kept.device_path))
    _vm, found = seen_by(agent, b.running(kept, guest=None), WANTED)
    assert found == [kept.transport]
    assert agent.commands == [] and "guest-get-osinfo" not in agent.asked


def test_a_directory_that_is_not_empty_is_mounted_on_and_keeps_what_it_has():
    path = ELSEWHERE.mount_path
    agent = Kernel(ROOT + ours(R.tag, R.device_path), stat=(1, f"41ed {path}\n"), find=(0, f"{path}/notes\n"))
    vm, found = seen_by(agent, b.running(R, guest=None), ELSEWHERE)
    assert found == ["device"]
    plan = b.present(b.host(b.bind(R)), vm, _transports.chosen([ELSEWHERE], vm)[0])
    assert (plan.error, plan.after.transport) == (None, "device")


@pytest.mark.parametrize("why", ["an old kernel", "files", "a file system"])
def test_the_place_of_a_device_is_looked_at_once_there_can_be_no_view(why):
    agent = Kernel()
    if why == "an old kernel":
        agent.release = "5.4.0"
    elif why == "files":
        agent = Kernel(find=(0, "41ed /models\n81a4 /models/notes\n"))
    else:
        agent = Kernel(ROOT + ours("cover", "/models/data").replace("virtiofs", "tmpfs"))
    vm, found = seen_by(agent, b.running(guest=None), WANTED)
    assert found == ["device"]
    # What is mounted is known before anything is looked at.
    looks = ["stat"] if why == "a file system" else ["find", "stat"]
    assert [command[0] for command in agent.commands] == looks
    assert any("/models/guard" in command for command in agent.commands)
    plan = b.present(b.host(), vm, _transports.chosen([WANTED], vm)[0])
    assert (plan.error, plan.after.transport) == (None, "device")


# Never an error because of the choice


def plans(vm, mounts, purge):
    terms = _plan.Terms(present=True, purge=purge, owner="default")
    found = _plan.plan_vm(b.host(), vm, list(enumerate(_transports.chosen(mounts, vm))), terms)
    return [plan.error and plan.error.code for several in found.values() for plan in several]


NEW = st.builds(
    changed,
    st.just(WANTED),
    tag=st.sampled_from(["", "", "guard", "modelfleet"]),
    mount_path=st.sampled_from(["/models/guard", "/models/guard", "/models", "/srv/ai/guard"]),
    guest=st.sampled_from(["agent", "agent", "none"]),
    persistence=st.just("none"),
)
OTHER = st.builds(
    changed,
    st.just(NEXT),
    tag=st.sampled_from(["", "", "ocr"]),
    mount_path=st.sampled_from(["/models/org/ocr", "/models/.ocr", "/srv/ai/ocr", "/srv/ai/ocr", "/srv/ai/below/x"]),
    guest=st.sampled_from(["agent", "agent", "none"]),
    transport=st.sampled_from(["auto", "auto", "device"]),
)
KEPT = [
    (),
    (BY_DEVICE,),
    (b.record(b.second()),),
    (b.record(b.viewed(model="asr", model_version="", model_path="asr", mount_path="/models/asr")),),
    (b.record(b.viewed(model="asr", model_version="", model_path="asr", mount_path="/models/asr", guest="none")),),
    (b.record(b.viewed(model="asr", model_version="", model_path="asr", mount_path="/srv/ai/below")),),
]
ALL_SEEN = {**SEEN, **{f"{what} at the link": seen for what, seen in AT_LINK.items()}}


@given(
    first=NEW,
    second=OTHER,
    seen=st.sampled_from(sorted(ALL_SEEN)),
    kept=st.sampled_from(KEPT),
    purge=st.booleans(),
)
@examples(600)
def test_what_devices_can_do_auto_can_do(first, second, seen, kept, purge):
    vm = b.running(*kept, **ALL_SEEN[seen][0])
    # Two entries for a path inside one another are refused before anybody looks.
    if first.mount_path == "/models" and second.mount_path.startswith("/models/"):
        return
    mounts = [first, second]
    # A model below a view joins it, whether or not the others of that leave.
    purge = purge and not any(mount.mount_path.startswith("/models/") for mount in mounts)
    by_device = [changed(mount, transport="device") for mount in mounts]
    wrong, usual = (set(plans(vm, which, purge)) - {None} for which in (mounts, by_device))
    # A device below a view is refused for that; a model that joins it may be refused for what is wrong with the view.
    assert wrong <= usual or "transport_conflict" in usual
