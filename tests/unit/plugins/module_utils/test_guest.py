# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guest through its agent, which a script plays here: an honest one, a broken one, a hostile one."""

from __future__ import annotations

import base64
import time

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _guest
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError

ROOT = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
OURS = "61 21 0:55 / /srv/ai/guard ro,nosuid,nodev,relatime shared:30 - virtiofs guard-tag rw\n"
MOUNT = ["mount", "-t", "virtiofs", "-o", "ro,nosuid,nodev", "guard-tag", "/srv/ai/guard"]
FOREVER = object()


def encoded(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


class Agent:
    """An honest agent. `results` says how commands end, by their first word; those not in it end well."""

    def __init__(self, table=ROOT, **results):
        self.table = table if isinstance(table, bytes) else table.encode()
        self.results = results
        self.commands = []
        self.asked = []
        self.open = 0
        self.chunk = 1 << 20
        self._read = 0
        self._answers = {}

    def __call__(self, command, arguments, deadline):
        self.asked.append(command)
        return getattr(self, command.replace("-", "_"))(arguments)

    def guest_file_open(self, arguments):
        assert arguments == {"path": "/proc/self/mountinfo", "mode": "r"}
        self.open += 1
        self._read = 0
        return 1000

    def guest_file_read(self, arguments):
        assert arguments["handle"] == 1000
        part = self.table[self._read : self._read + min(arguments["count"], self.chunk)]
        self._read += len(part)
        return {"count": len(part), "buf-b64": encoded(part), "eof": self._read >= len(self.table)}

    def guest_file_close(self, arguments):
        assert arguments == {"handle": 1000}
        self.open -= 1
        return {}

    def guest_exec(self, arguments):
        assert arguments["capture-output"] is True
        # In no language but the one whose messages are understood.
        assert (arguments["path"], arguments["arg"][0]) == ("env", "LC_ALL=C")
        command = arguments["arg"][1:]
        self.commands.append(command)
        result = self.results.get(command[0])
        if isinstance(result, list):
            result = result.pop(0) if len(result) > 1 else result[0]
        if result is None:
            result = (0, command[-1] + "\n" if command[0] == "readlink" else "")
        if command[0] == "mount" and result is not FOREVER and result[0] == 0 and "-t" in command:
            self.table += OURS.encode()
        self._answers[len(self.commands)] = result
        return {"pid": len(self.commands)}

    def guest_exec_status(self, arguments):
        result = self._answers[arguments["pid"]]
        if result is FOREVER:
            return {"exited": False}
        return {"exited": True, "exitcode": result[0], "out-data": encoded(result[1])}


def guest(agent, deadline=5.0):
    return _guest.Guest("render-4", agent, deadline)


def failure(call, *arguments):
    with pytest.raises(ModelfleetError) as caught:
        call(*arguments)
    assert "render-4" in caught.value.msg
    return caught.value


# The mount table


def test_the_mount_table_is_read_and_the_file_closed():
    agent = Agent(ROOT + OURS)
    assert [mount.mount_point for mount in guest(agent).mounts()] == ["/", "/srv/ai/guard"]
    assert agent.open == 0


def test_a_large_table_comes_in_pieces():
    agent = Agent(ROOT + "".join(OURS.replace("guard ", f"guard{index} ") for index in range(3000)))
    agent.chunk = 4099
    assert len(guest(agent).mounts()) == 3001
    assert agent.asked.count("guest-file-read") == -(-len(agent.table) // 4099)


def test_bytes_that_are_not_unicode_are_no_reason_to_fail():
    assert len(guest(Agent(ROOT.encode() + OURS.encode().replace(b"ai", b"\xff\xfe"))).mounts()) == 2


def test_a_table_that_never_ends_is_given_up():
    agent = Agent(ROOT)
    agent.guest_file_read = lambda arguments: {"count": 65536, "buf-b64": encoded(ROOT * 1000), "eof": False}
    assert failure(guest(agent).mounts).code == "agent_command_failed"
    assert len(agent.asked) < 120
    assert agent.open == 0


def test_an_agent_that_answers_for_ever_meets_the_deadline():
    agent = Agent()
    start = time.monotonic()

    def nothing_yet(_arguments):
        assert time.monotonic() < start + 5, "the deadline was not kept"
        return {"count": 1, "buf-b64": "", "eof": False}

    agent.guest_file_read = nothing_yet
    assert failure(guest(agent, deadline=0.05).mounts).code == "agent_command_failed"


GARBAGE = {
    "nothing": {},
    "a list": [],
    "null": None,
    "a number": 7,
    "no content": {"count": 5, "eof": True},
    "null content": {"count": 5, "buf-b64": None, "eof": True},
    "a number for content": {"count": 5, "buf-b64": 5, "eof": True},
    "a list for content": {"count": 5, "buf-b64": [ROOT], "eof": True},
    "bad base64": {"count": 5, "buf-b64": "%%%%", "eof": True},
    "cut base64": {"count": 5, "buf-b64": encoded(ROOT)[:-1], "eof": True},
    "base64 that is not ASCII": {"count": 5, "buf-b64": "é" * 4, "eof": True},
    "an empty table": {"count": 0, "buf-b64": "", "eof": True},
    "a table of nonsense": {"count": 5, "buf-b64": encoded("nonsense"), "eof": True},
}


@pytest.mark.parametrize("what", GARBAGE)
def test_garbage_never_looks_like_a_guest_in_which_nothing_is_mounted(what):
    agent = Agent()
    agent.guest_file_read = lambda _arguments: GARBAGE[what]
    assert failure(guest(agent).mounts).code == "agent_command_failed"


def test_a_table_that_breaks_off_is_no_table():
    agent = Agent()
    parts = [{"count": 5, "buf-b64": encoded(ROOT), "eof": False}, {"count": 5, "eof": True}]
    agent.guest_file_read = lambda _arguments: parts.pop(0)
    assert failure(guest(agent).mounts).code == "agent_command_failed"


@pytest.mark.parametrize("handle", [None, "1000", {}, [1000]])
def test_a_handle_that_is_no_number_is_refused(handle):
    agent = Agent()
    agent.guest_file_open = lambda _arguments: handle
    assert failure(guest(agent).mounts).code == "agent_command_failed"


# Commands


def test_a_model_is_mounted_below_a_path_that_is_made():
    agent = Agent()
    guest(agent).mount("guard-tag", "/srv/ai/guard")
    assert agent.commands[0] == ["mkdir", "-p", "/srv/ai/guard"]
    assert agent.commands[-1] == MOUNT


@pytest.mark.parametrize("said", ["mount: wrong fs type, bad option", "mount: Invalid argument"])
def test_a_tag_that_the_guest_does_not_know_yet_is_tried_again(said):
    agent = Agent(mount=[(32, said), (32, said), (0, "")])
    guest(agent).mount("guard-tag", "/srv/ai/guard")
    assert agent.commands.count(MOUNT) == 3


def test_a_tag_that_the_guest_never_knows_is_given_up():
    agent = Agent(mount=[(32, "mount: Invalid argument")])
    start = time.monotonic()
    assert failure(guest(agent, deadline=0.15).mount, "guard-tag", "/srv/ai/guard").code == "guest_mount_failed"
    assert time.monotonic() - start < 3


def test_a_mount_that_fails_for_another_reason_is_not_tried_again():
    agent = Agent(mount=[(32, "mount: permission denied\n")])
    problem = failure(guest(agent).mount, "guard-tag", "/srv/ai/guard")
    assert problem.code == "guest_mount_failed"
    assert problem.details == {
        "vm": "render-4",
        "guest_output": "mount: permission denied",
        "guest_exit_code": 32,
    }
    assert agent.commands.count(MOUNT) == 1


def test_a_path_that_cannot_be_made_is_not_mounted_on():
    agent = Agent(mkdir=(1, "mkdir: read-only file system"))
    assert failure(guest(agent).mount, "guard-tag", "/srv/ai/guard").code == "guest_mount_failed"
    assert MOUNT not in agent.commands


def test_a_path_through_a_symbolic_link_is_refused():
    agent = Agent(readlink=(0, "/etc/guard\n"))
    assert failure(guest(agent).mount, "guard-tag", "/srv/ai/guard").code == "guest_mount_failed"
    assert MOUNT not in agent.commands


def test_a_mount_that_is_not_seen_afterwards_is_taken_back():
    agent = Agent(mount=(0, ""))
    agent.guest_exec_status = lambda arguments: {"exited": True, "exitcode": 0, "out-data": encoded("/srv/ai/guard\n")}
    agent.guest_file_read = lambda _arguments: {"count": 5, "buf-b64": encoded(ROOT), "eof": True}
    assert failure(guest(agent).mount, "guard-tag", "/srv/ai/guard").code == "guest_mount_failed"
    assert agent.commands[-1] == ["umount", "/srv/ai/guard"]


@pytest.mark.parametrize(
    ("result", "code"),
    [
        ((32, "umount: /srv/ai/guard: target is busy."), "mount_busy"),
        ((1, "umount: can't unmount /srv/ai/guard: Device or resource BUSY"), "mount_busy"),
        ((32, "umount: /srv/ai/guard: not mounted."), "guest_unmount_failed"),
        ((127, ""), "guest_unmount_failed"),
    ],
)
def test_why_a_model_cannot_be_unmounted(result, code):
    problem = failure(guest(Agent(umount=result)).unmount, "guard-tag", "/srv/ai/guard")
    assert (problem.code, problem.details["guest_exit_code"]) == (code, result[0])


def test_a_container_that_keeps_the_mount_keeps_the_model():
    agent = Agent(find=(0, "/proc/412/mountinfo\n/proc/77/mountinfo\n"))
    problem = failure(guest(agent).unmount, "guard-tag", "/srv/ai/guard")
    assert (problem.code, problem.details["guest_processes"]) == ("mount_busy", [77, 412])
    # It was unmounted, and is mounted again.
    assert [command[0] for command in agent.commands] == ["umount", "find", "mkdir", "readlink", "mount"]


def test_a_mount_is_made_read_only_again():
    agent = Agent()
    guest(agent).remount_read_only("/srv/ai/guard")
    assert agent.commands == [["mount", "-o", "remount,ro,nosuid,nodev", "/srv/ai/guard"]]
    agent = Agent(mount=(32, "no"))
    assert failure(guest(agent).remount_read_only, "/srv/ai/guard").code == "guest_mount_failed"


def test_a_command_that_never_ends_meets_the_deadline():
    start = time.monotonic()
    problem = failure(guest(Agent(umount=FOREVER), deadline=0.2).unmount, "guard-tag", "/srv/ai/guard")
    assert problem.code == "agent_command_failed"
    assert 0.2 <= time.monotonic() - start < 3


def test_what_the_guest_says_is_shown_short_and_printable():
    agent = Agent(umount=(1, "\x1b[2J" + "é" * 100_000))
    problem = failure(guest(agent).unmount, "guard-tag", "/srv/ai/guard")
    assert problem.msg.isprintable() and len(problem.msg) < 5000
    assert len(problem.details["guest_output"]) <= 500


STATUS = {
    "no exit code": {"exited": True},
    "a text for an exit code": {"exited": True, "exitcode": "0"},
    "null for an exit code": {"exited": True, "exitcode": None},
    "killed by a signal": {"exited": True, "signal": 9},
    "output that is not base64": {"exited": True, "exitcode": 0, "out-data": "%%%"},
    "output that is a number": {"exited": True, "exitcode": 0, "err-data": 7},
    "a list": [],
    "null": None,
}


@pytest.mark.parametrize("what", STATUS)
def test_a_command_whose_end_is_not_understood_has_failed(what):
    agent = Agent()
    agent.guest_exec_status = lambda _arguments: STATUS[what]
    assert failure(guest(agent).unmount, "guard-tag", "/srv/ai/guard").code in (
        "agent_command_failed",
        "guest_unmount_failed",
    )


# An agent that is away


def test_an_agent_that_is_away_for_a_moment_is_asked_again():
    agent = Agent()
    silent = [ModelfleetError("agent_unavailable", "x")] * 2

    def ask(command, arguments, deadline):
        if silent:
            raise silent.pop()
        return agent(command, arguments, deadline)

    assert len(guest(ask).mounts()) == 1


@pytest.mark.parametrize(("code", "least"), [("agent_unavailable", 2), ("agent_command_failed", 1)])
def test_an_agent_that_stays_away_is_given_up(code, least):
    asked = []

    def ask(command, arguments, deadline):
        asked.append(deadline)
        raise ModelfleetError(code, "VM render-4: x")

    assert failure(guest(ask, deadline=0.3).mounts).code == code
    assert len(asked) >= least and (least > 1 or len(asked) == 1)
    assert min(asked) >= 1.0


@pytest.mark.parametrize(
    ("line", "expected"),
    [(OURS, True), (OURS.replace("guard-tag", "other"), False), (OURS.replace("virtiofs", "9p"), False)],
)
def test_a_model_is_known_by_its_tag_and_type(line, expected):
    (mount,) = _guest._mountinfo.parse(line)
    assert _guest.is_mounted(mount, "guard-tag") is expected
    assert not _guest.is_mounted(None, "guard-tag")
