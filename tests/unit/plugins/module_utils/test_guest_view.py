# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a guest is asked about the view of its VM."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _guest_view, _plan
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit.scripted_agent import ROOT, Agent, guest, ours

WANTED, NEXT = b.viewed(), b.second(transport="view", mount_path="/models/org/ocr")
R, OTHER = b.record(WANTED), b.record(NEXT)
PRESENT = _plan.Terms(present=True)
MOUNTED = ours("modelfleet", "/models")


class Kernel(Agent):
    """A guest with a kernel and an empty directory for the view."""

    def guest_get_osinfo(self, _arguments):
        return {"id": "debian", "kernel-release": "6.12.43"}

    def usual(self, command, stdin):
        if command[0] == "stat" and "/models" in command:
            return 1, "41ed /models\n", "stat: cannot statx"
        return super().usual(command, stdin)


def view_of(*records, **changes):
    return b.running(*records, guest=None, links={}, **changes)


def test_users_are_looked_for_where_the_guest_sees_the_models():
    asked = []
    there = SimpleNamespace(users=lambda path: asked.append(path) or [{"pid": 7, "name": "sh"}])
    device = b.record(b.wanted(transport="device", mount_path="/srv/a"))
    hidden = b.record(b.second(transport="view", mount_path="/srv/b"))
    binds = {R.uuid: "/run/v/.m/0123-2", device.uuid: "/var/lib/x", hidden.uuid: ""}
    host = SimpleNamespace(source=lambda record: binds[record.uuid])
    found = _guest_view.users(host, b.running(R, device, hidden, guest=[]), there)
    assert asked == ["/models/.m/0123-2", "/srv/a"]
    assert found == {key: [{"pid": 7, "name": "sh"}] for key in (R.uuid, device.uuid)}


@pytest.mark.parametrize(
    "changes", [{"guest": None}, {"guest": [], "guest_error": ModelfleetError("agent_unavailable", "x")}]
)
def test_nobody_is_looked_for_in_a_guest_that_does_not_answer(changes):
    assert _guest_view.users(None, b.running(R, **changes), None) == {}


def test_what_a_guest_mounts_by_itself_is_its_own():
    assert _guest_view.users(None, b.running(b.record(b.wanted(guest="none")), guest=[]), None) == {}


def test_before_a_view_is_mounted_its_place_and_the_kernel_are_looked_at():
    agent = Kernel(find=(0, "41ed /models\n81a4 /models/weights.bin\n"))
    seen = _guest_view.for_run(view_of(), guest(agent), [WANTED, NEXT], PRESENT)
    assert (seen.kernel, seen.in_the_way) == ((6, 12), {"/models": ("/models", "not empty")})
    assert [command[0] for command in agent.commands] == ["find"]
    assert agent.asked.count("guest-get-osinfo") == 1


def test_a_view_that_is_mounted_is_not_looked_into():
    agent = Kernel(ROOT + MOUNTED)
    seen = _guest_view.for_run(view_of(R), guest(agent), [WANTED, NEXT], PRESENT)
    assert (seen.kernel, seen.in_the_way) == (None, {})
    assert agent.commands == [] and "guest-get-osinfo" not in agent.asked


def test_only_a_view_must_be_empty_and_needs_a_kernel():
    agent = Kernel()
    seen = _guest_view.for_run(view_of(), guest(agent), [b.viewed(transport="device")], PRESENT)
    assert (seen.kernel, seen.in_the_way) == (None, {})
    assert [command[0] for command in agent.commands] == ["stat"]


def test_the_one_unit_of_a_view_is_read_once():
    agent = Kernel(ROOT + MOUNTED)
    records = [dataclasses.replace(kept, persistence="systemd") for kept in (R, OTHER)]
    seen = _guest_view.for_run(view_of(*records), guest(agent), [b.nothing()], _plan.Terms(present=False))
    assert seen.units == {"/models": None}
    assert agent.asked.count("guest-file-open") + len(agent.commands) == 2


def test_a_guest_that_mounts_by_itself_is_not_asked():
    agent = Kernel()
    by_itself = [dataclasses.replace(mount, guest="none", persistence="none") for mount in (WANTED, NEXT)]
    assert _guest_view.for_run(view_of(), guest(agent), by_itself, PRESENT) == view_of()
    assert agent.asked == []


# Models that are seen elsewhere than below the view

LINKED = b.wanted(transport="view")
L = b.record(LINKED)
LINK = f"lrwxrwxrwx 1 0 0 24 Nov 24 09:14 {L.mount_path} -> /models/.at{L.mount_path}\n"
ABSENT = _plan.Terms(present=False)


def test_one_command_sees_all_links_of_a_vm_and_none_is_run_where_there_are_none():
    agent = Kernel(ROOT + MOUNTED, ls=(1, LINK, "ls: cannot access"))
    beside = b.record(b.second(transport="view"))
    for ask in (
        lambda: _guest_view.for_run(view_of(L, beside, R), guest(agent), [LINKED, b.second(transport="view")], PRESENT),
        lambda: _guest_view.for_run(view_of(L, beside, R), guest(agent), [b.nothing()], ABSENT),
        lambda: _guest_view.for_info(view_of(L, beside, R), guest(agent)),
    ):
        agent.commands.clear()
        agent.results["stat"] = (0, "")
        assert ask().links == {L.mount_path: True, beside.mount_path: False}
        assert [command[0] for command in agent.commands if command[0] != "stat"] == ["ls"]
    agent.commands.clear()
    assert _guest_view.for_info(view_of(R), guest(agent)).links == {}
    assert agent.commands == []


def test_a_link_that_is_there_needs_no_look_at_its_place():
    agent = Kernel(ROOT + MOUNTED, ls=(0, LINK))
    seen = _guest_view.for_run(view_of(L), guest(agent), [LINKED], PRESENT)
    assert (seen.links, seen.in_the_way, seen.kernel) == ({L.mount_path: True}, {}, None)
    assert agent.commands == [["ls", "-ldn", "--", L.mount_path]]


@pytest.mark.parametrize("found", ["nothing", "a directory", "files", "a file"])
def test_the_place_of_a_link_that_is_missing_is_looked_at(found):
    mode = {"nothing": "41ed /srv", "a file": f"81a4 {L.mount_path}"}.get(found, f"41ed {L.mount_path}")
    held = f"{L.mount_path}/notes\n" * (found == "files")
    agent = Kernel(ROOT + MOUNTED, ls=(1, ""), stat=(1, f"{mode}\n"), find=(0, held))
    seen = _guest_view.for_run(view_of(R), guest(agent), [LINKED], PRESENT)
    assert seen.links == {L.mount_path: False}
    assert set(seen.in_the_way) == ({L.mount_path} if found == "a file" else set())
    assert seen.filled == ({L.mount_path} if found == "files" else set())
    assert [command[0] for command in agent.commands] == [
        *("ls", "stat", *["find"] * (found in ("a directory", "files")))
    ]


def test_nothing_is_looked_at_through_a_device_that_gives_way_to_a_link():
    agent = Kernel(ROOT + ours("guard-tag", L.mount_path), stat=(1, ""))
    seen = _guest_view.for_run(view_of(b.record()), guest(agent), [LINKED], PRESENT)
    assert seen.links == {}
    assert not any(L.mount_path in command for command in agent.commands)


def test_a_link_that_gives_way_to_a_device_is_looked_at():
    agent = Kernel(ROOT + MOUNTED, ls=(0, LINK), stat=(1, f"a1ff {L.mount_path}\n"))
    by_device = dataclasses.replace(LINKED, transport="device")
    for vm in (view_of(L), view_of(b.record(intent="mounting")), view_of()):
        seen = _guest_view.for_run(vm, guest(agent), [by_device], PRESENT)
        assert (seen.links, seen.in_the_way) == ({L.mount_path: True}, {})


@pytest.mark.parametrize("intent", ["settled", "mounting", "unmounting"])
def test_a_device_is_asked_for_a_link_only_where_a_change_may_have_been_cut_short(intent):
    agent = Kernel(ls=(0, LINK))
    seen = _guest_view.for_run(view_of(b.record(intent=intent)), guest(agent), [b.nothing()], ABSENT)
    assert seen.links == ({} if intent == "settled" else {L.mount_path: True})


def test_links_of_guests_that_mount_by_themselves_are_not_looked_at():
    agent = Kernel(ROOT + MOUNTED, ls=(0, LINK))
    by_itself = b.record(b.wanted(transport="view", guest="none"))
    vm = view_of(by_itself, live=b.domain(b.device(by_itself), agent_connected=True))
    assert _guest_view.for_run(vm, guest(agent), [b.nothing()], ABSENT).links == {}
    assert not any(command[0] == "ls" for command in agent.commands)


# Models that get another transport


def test_nothing_is_looked_at_through_a_view_that_goes():
    agent = Kernel(ROOT + MOUNTED)
    by_device = dataclasses.replace(WANTED, transport="device", persistence="systemd")
    lasting = dataclasses.replace(R, persistence="systemd")
    seen = _guest_view.for_run(view_of(lasting), guest(agent), [by_device], PRESENT)
    assert seen.in_the_way == {}
    # Its unit goes, and another comes.
    assert set(seen.units) == {"/models", "/models/guard"}
    assert ["stat", "-c", "%f %n", "/run/systemd/system"] in agent.commands
    assert not any("/models/guard" in command for command in agent.commands if command[0] in ("stat", "find"))


def test_the_unit_of_a_device_that_was_left_is_looked_at():
    agent = Kernel(ROOT + MOUNTED)
    left = b.record(b.viewed(transport="device"))
    domain = b.domain(b.device(R), b.device(left))
    records = [dataclasses.replace(R, persistence="systemd")]
    seen = _guest_view.for_run(view_of(*records, live=domain), guest(agent), [WANTED], PRESENT)
    assert set(seen.units) == {"/models", "/models/guard"}


# Mounts behind which nobody is any more


AFTER, LONG_BEFORE = 1_790_000_000.0, 1_700_000_000.0


@pytest.mark.parametrize(
    ("since", "last", "asked"),
    [(AFTER, "2026-01-17T21:40:09Z", True), (LONG_BEFORE, "2026-01-17T21:40:09Z", False)],
)
def test_a_daemon_that_is_younger_than_all_models_of_its_view_is_suspect(since, last, asked):
    agent = Agent(stat=(0, "0\n"))
    records = [dataclasses.replace(kept, last_op_date=last) for kept in (R, OTHER)]
    serving = b.served(b.view(), since=since)
    host = b.host(b.bind(R), b.bind(OTHER), serving=serving)
    _guest_view.with_stale(host, b.running(*records), guest(agent), records)
    assert agent.commands == ([["stat", "-f", "-c", "%i", "/models"]] if asked else [])


def test_a_daemon_that_came_with_the_last_model_is_not_suspect():
    agent = Agent()
    joined = dataclasses.replace(OTHER, last_op_date="2027-01-01T00:00:00Z")
    host = b.host(b.bind(R), b.bind(OTHER), serving=b.served(b.view(), since=AFTER))
    _guest_view.with_stale(host, b.running(R, joined), guest(agent), [R])
    assert agent.commands == []
