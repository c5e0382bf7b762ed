# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guest through its agent, which a script plays here: an honest one, a broken one, a hostile one."""

from __future__ import annotations

import time

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _guest
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit.scripted_agent import (
    FOREVER,
    MOUNT,
    OURS,
    ROOT,
    TABLE,
    Agent,
    encoded,
    failure,
    guest,
    ours,
)

# The mount table


def test_the_mount_table_is_read_and_the_file_closed():
    agent = Agent(ROOT + OURS)
    assert [mount.mount_point for mount in guest(agent).mounts()] == ["/", "/srv/ai/guard"]
    assert agent.open == 0


def test_a_large_table_comes_in_pieces():
    agent = Agent(ROOT + "".join(OURS.replace("guard ", f"guard{index} ") for index in range(3000)))
    agent.chunk = 4099
    assert len(guest(agent).mounts()) == 3001
    assert agent.asked.count("guest-file-read") == -(-len(agent.files[TABLE]) // 4099)


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
    guest(agent).mount([("guard-tag", "/srv/ai/guard")])
    assert agent.commands[0] == ["mkdir", "-p", "/srv/ai/guard"]
    assert agent.commands[-1] == MOUNT


def test_a_directory_that_was_seen_is_not_made_again():
    agent = Agent(stat=(1, "41ed /srv/ai/guard\n", "No such file"))
    one = guest(agent)
    one.places(["/srv/ai/guard", "/srv/ai/ocr"])
    one.mount([("guard-tag", "/srv/ai/guard"), ("ocr-tag", "/srv/ai/ocr")])
    assert [command for command in agent.commands if command[0] == "mkdir"] == [["mkdir", "-p", "/srv/ai/ocr"]]
    agent.commands.clear()
    one.mount([("guard-tag", "/srv/ai/guard")])
    assert agent.commands == [MOUNT]


@pytest.mark.parametrize("said", ["mount: wrong fs type, bad option", "mount: Invalid argument"])
def test_a_tag_that_the_guest_does_not_know_yet_is_tried_again(said):
    agent = Agent(mount=[(32, said), (32, said), (0, "")])
    guest(agent).mount([("guard-tag", "/srv/ai/guard")])
    assert agent.commands.count(MOUNT) == 3


def test_a_tag_that_the_guest_never_knows_is_given_up():
    agent = Agent(mount=[(32, "mount: Invalid argument")])
    start = time.monotonic()
    assert failure(guest(agent, deadline=0.15).mount, [("guard-tag", "/srv/ai/guard")]).code == "guest_mount_failed"
    assert time.monotonic() - start < 3


def test_a_mount_that_fails_for_another_reason_is_not_tried_again():
    agent = Agent(mount=[(32, "mount: permission denied\n")])
    problem = failure(guest(agent).mount, [("guard-tag", "/srv/ai/guard")])
    assert problem.code == "guest_mount_failed"
    assert problem.details == {
        "vm": "render-4",
        "guest_output": "mount: permission denied",
        "guest_exit_code": 32,
    }
    assert agent.commands.count(MOUNT) == 1


def test_a_path_that_cannot_be_made_is_not_mounted_on():
    agent = Agent(mkdir=(1, "mkdir: read-only file system"))
    assert failure(guest(agent).mount, [("guard-tag", "/srv/ai/guard")]).code == "guest_mount_failed"
    assert MOUNT not in agent.commands


def test_a_mount_that_is_not_seen_afterwards_is_an_error():
    agent = Agent(mount=(0, ""))
    agent.guest_file_read = lambda _arguments: {"count": 5, "buf-b64": encoded(ROOT), "eof": True}
    assert failure(guest(agent).mount, [("guard-tag", "/srv/ai/guard")]).code == "guest_mount_failed"
    # What may be seen there instead is somebody else's.
    assert agent.commands[-1][0] != "umount"


PAIRS = [("guard-tag", "/srv/ai/guard"), ("ocr-tag", "/srv/ai/o c r")]
# Reading ahead


def test_all_that_was_mounted_is_read_ahead_by_one_command():
    written, pairs = [], [("guard-tag", "/srv/ai/guard"), ("ocr-tag", "/srv/ai/ocr")]
    agent = Agent(tee=lambda command, content: written.append((command, content)) or (0, "4096\n"))
    agent.files[TABLE] += b"".join(ours(tag, path).encode() for tag, path in pairs)
    agent.files[TABLE] = agent.files[TABLE].replace(b"0:55", b"0:57", 1)
    found = guest(agent, read_ahead_kb=4096)
    found.mount(pairs)
    files = [f"/sys/class/bdi/0:{minor}/read_ahead_kb" for minor in (55, 57)]
    assert written == [(["tee", *files], b"4096\n")]
    assert agent.commands[-1] == ["tee", *files] and found.warnings == []


def test_what_is_mounted_at_a_directory_that_was_there_is_read_ahead_as_well():
    agent = Agent(stat=(0, "41ed /srv/ai/guard\n"))
    found = guest(agent, read_ahead_kb=4096)
    assert found.places(["/srv/ai/guard"]).directories
    found.mount([("guard-tag", "/srv/ai/guard")])
    assert [command[0] for command in agent.commands] == ["stat", "mount", "tee"]


def test_what_the_guest_does_by_itself_is_left_to_it():
    agent = Agent()
    guest(agent, read_ahead_kb=0).mount([("guard-tag", "/srv/ai/guard")])
    assert not [command for command in agent.commands if command[0] == "tee"]


@pytest.mark.parametrize("result", [(1, "4096\n", "tee: /sys/class/bdi/0:55: No such file"), FOREVER])
def test_a_guest_that_cannot_read_ahead_has_its_model_all_the_same(result):
    agent = Agent(tee=result)
    found = guest(agent, deadline=0.2, read_ahead_kb=4096)
    found.mount([("guard-tag", "/srv/ai/guard")])
    assert [command[0] for command in agent.commands if command[0] != "cat"] == ["mkdir", "mount", "tee"]
    (warning,) = found.warnings
    assert warning.startswith("VM render-4: ")


@pytest.mark.parametrize("device", ["../../kernel", "0:55/../../../etc", "0:", "", "-a"])
def test_what_a_guest_calls_a_device_is_no_path(device):
    agent = Agent()
    table = [mount._replace(device=device) for mount in guest(Agent(ROOT + OURS)).mounts()]
    found = guest(agent, read_ahead_kb=4096)
    found.mounts = lambda: table
    found.mount([("guard-tag", "/srv/ai/guard")])
    assert [command for command in agent.commands if command[0] == "tee"] == []


TOGETHER = ["mount", "-a", "-T", "/proc/self/fd/0"]


def test_several_mounts_are_made_with_one_process():
    lines = []
    agent = Agent(mount=lambda _command, fstab: lines.extend(fstab.decode().splitlines()) or (0, ""))
    usual = agent._result

    def result(command, fstab):
        for tag, path in PAIRS if command == TOGETHER else ():
            agent.files[TABLE] += ours(tag, path.replace(" ", "\\040")).encode()
        return usual(command, fstab)

    agent._result = result
    guest(agent).mount(PAIRS)
    assert agent.commands == [["mkdir", "-p", "/srv/ai/guard", "/srv/ai/o c r"], TOGETHER]
    assert lines == [
        "guard-tag /srv/ai/guard virtiofs ro,nosuid,nodev 0 0",
        "ocr-tag /srv/ai/o\\040c\\040r virtiofs ro,nosuid,nodev 0 0",
    ]


def test_what_was_not_mounted_together_is_mounted_by_itself():
    agent = Agent(mount=[(1, "", "mount: unrecognized option: a"), (0, "")])
    guest(agent).mount([("guard-tag", "/srv/ai/guard"), ("ocr-tag", "/srv/ai/ocr")])
    assert agent.commands[1] == TOGETHER
    assert [command[-2:] for command in agent.commands[2:]] == [
        ["guard-tag", "/srv/ai/guard"],
        ["ocr-tag", "/srv/ai/ocr"],
    ]


def test_of_several_mounts_all_are_made_or_none():
    agent = Agent(mount=[(64, ""), (0, ""), (32, "mount: permission denied")])
    problem = failure(guest(agent).mount, [("guard-tag", "/srv/ai/guard"), ("ocr-tag", "/srv/ai/ocr")])
    assert (problem.code, problem.details["guest_exit_code"]) == ("guest_mount_failed", 32)
    assert agent.commands[0] == ["mkdir", "-p", "/srv/ai/guard", "/srv/ai/ocr"]
    assert agent.commands[-1] == ["umount", "/srv/ai/guard"]


def test_what_went_beside_one_that_is_in_use_comes_back():
    """One command unmounts all that it can, in whichever order they stand."""
    agent = Agent(ROOT + OURS + ours("ocr-tag", "/srv/ai/ocr"))

    def umount(command, _stdin):
        agent.files[TABLE] = agent.files[TABLE].replace(ours("ocr-tag", "/srv/ai/ocr").encode(), b"")
        return (32, "umount: /srv/ai/guard: target is busy.")

    agent.results["umount"] = umount
    problem = failure(guest(agent).unmount, [("guard-tag", "/srv/ai/guard"), ("ocr-tag", "/srv/ai/ocr")])
    assert problem.code == "mount_busy"
    assert ["mount", "-t", "virtiofs", "-o", "ro,nosuid,nodev", "ocr-tag", "/srv/ai/ocr"] in agent.commands


def test_of_several_unmounts_all_are_done_or_none():
    agent = Agent(umount=[(32, "umount: busy"), (0, ""), (32, "umount: /srv/ai/ocr: target is busy.")])
    agent.files[TABLE] += OURS.encode() + OURS.replace("guard", "ocr").encode()
    pairs = [("guard-tag", "/srv/ai/guard"), ("ocr-tag", "/srv/ai/ocr")]
    problem = failure(guest(agent).unmount, pairs)
    assert problem.code == "mount_busy" and "/srv/ai/ocr" in problem.msg
    # The first was unmounted, and is mounted again.
    assert agent.commands[:3] == [
        ["umount", "/srv/ai/guard", "/srv/ai/ocr"],
        ["umount", "/srv/ai/guard"],
        ["umount", "/srv/ai/ocr"],
    ]
    assert agent.commands[-1] == MOUNT


def test_a_mount_whose_answer_got_lost_is_taken_back():
    agent = Agent(mount=FOREVER)
    agent.files[TABLE] += OURS.encode()
    assert failure(guest(agent, deadline=0.1).mount, [("guard-tag", "/srv/ai/guard")]).code == "agent_command_failed"
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
    problem = failure(guest(Agent(umount=result)).unmount, [("guard-tag", "/srv/ai/guard")])
    assert (problem.code, problem.details["guest_exit_code"]) == (code, result[0])


def in_proc(**found):
    """What find and grep answer: `links` and `maps` of the processes, `mountinfo` of those elsewhere, their `names`."""

    def find(command, _stdin):
        kind = next((kind for kind in ("maps", "mountinfo") if f"/proc/[0-9]*/{kind}" in command), "links")
        return 0, found.get(kind, ""), "find: /proc/9/fd: No such file or directory\n"

    return {"find": find, "grep": (0, found.get("names", ""))}


BUSY = (32, "", "umount: /srv/ai/guard: target is busy.\n")
LINKS = """\
lrwxrwxrwx 1 root root  0 Nov 23 10:00 /proc/1/root -> /
lrwxrwxrwx 1 root root  0 Nov 23 10:00 /proc/412/cwd -> /srv/ai/guard
lr-x------ 1 root root 64 Nov 23 10:00 /proc/412/fd/3 -> /srv/ai/guard/weights.bin
lr-x------ 1 root root 64 Nov 23 10:00 /proc/8/fd/3 -> /srv/ai/guard/a b -> c
lr-x------ 1 root root 64 Nov 23 10:00 /proc/9/fd/3 -> /srv/ai/guardian
lr-x------ 1 root root 64 Nov 23 10:00 /proc/10/fd/3 -> /mnt/srv/ai/guard/x
lr-x------ 1 root root 64 Nov 23 10:00 /proc/self/fd/3 -> /srv/ai/guard/x
"""


def test_who_uses_a_busy_model_is_named():
    proc = in_proc(
        links=LINKS, maps="/proc/77/maps\n", names="/proc/8/comm:less\n/proc/77/comm:vllm\n/proc/412/comm:sh\n"
    )
    problem = failure(guest(Agent(umount=BUSY, **proc)).unmount, [("guard-tag", "/srv/ai/guard")])
    assert problem.code == "mount_busy"
    users = [{"pid": 8, "name": "less"}, {"pid": 77, "name": "vllm"}, {"pid": 412, "name": "sh"}]
    assert problem.details["guest_processes"] == users
    assert "8 (less), 77 (vllm), 412 (sh)" in problem.msg


def test_nothing_of_the_mount_is_touched_to_find_its_users():
    agent = Agent(umount=BUSY, **in_proc(links=LINKS))
    failure(guest(agent).unmount, [("guard-tag", "/srv/ai/guard")])
    assert not any("/srv/ai/guard" in command for command in agent.commands[1:])


def test_of_many_users_the_first_are_named():
    maps = "".join(f"/proc/{pid}/maps\n" for pid in range(300, 100, -1))
    problem = failure(guest(Agent(umount=BUSY, **in_proc(maps=maps))).unmount, [("guard-tag", "/srv/ai/guard")])
    assert problem.details["guest_processes"] == [{"pid": pid, "name": ""} for pid in range(101, 121)]
    assert "105 (), ..." in problem.msg and "106" not in problem.msg


def test_names_of_processes_are_the_guests_and_are_cut():
    names = b"/proc/77/comm:\x1b[2J\xff" + b"x" * 1000 + b"\n/proc/77/comm:second\nnonsense\n"
    problem = failure(
        guest(Agent(umount=BUSY, **in_proc(maps="/proc/77/maps\n", names=names))).unmount, [("t", "/srv/ai/guard")]
    )
    assert problem.details["guest_processes"] == [{"pid": 77, "name": "?[2J?" + "x" * 27}]
    assert problem.msg.isprintable()


@pytest.mark.parametrize("result", [FOREVER, (127, "", "find: not found"), (0, b"\xff\x00" * 10_000)])
def test_a_model_is_busy_also_when_nobody_can_be_found(result):
    agent = Agent(umount=BUSY, find=result)
    problem = failure(guest(agent, deadline=0.1).unmount, [("guard-tag", "/srv/ai/guard")])
    assert (problem.code, problem.details["guest_processes"]) == ("mount_busy", [])


def test_a_container_that_keeps_the_mount_keeps_the_model():
    proc = in_proc(mountinfo="/proc/412/mountinfo\n/proc/77/mountinfo\n", names="/proc/77/comm:conmon\n")
    agent = Agent(**proc)
    problem = failure(guest(agent).unmount, [("guard-tag", "/srv/ai/guard")])
    assert problem.code == "mount_busy"
    assert problem.details["guest_processes"] == [{"pid": 77, "name": "conmon"}, {"pid": 412, "name": ""}]
    # It was unmounted, and is mounted again.
    assert [command[0] for command in agent.commands] == ["umount", "find", "grep", "mkdir", "mount"]


def test_a_search_for_containers_that_fails_leaves_the_model_mounted():
    agent = Agent(find=FOREVER)
    assert failure(guest(agent, deadline=0.1).unmount, [("guard-tag", "/srv/ai/guard")]).code == "agent_command_failed"
    assert agent.commands[-1] == MOUNT


def test_by_force_a_model_in_use_is_unmounted_lazily():
    agent = Agent(umount=[BUSY, (0, "")])
    guest(agent).unmount([("guard-tag", "/srv/ai/guard")], force=True)
    assert agent.commands == [["umount", "/srv/ai/guard"], ["umount", "-l", "/srv/ai/guard"]]


def test_by_force_an_idle_model_is_unmounted_as_ever_and_containers_are_no_reason_to_refuse():
    agent = Agent(**in_proc(mountinfo="/proc/412/mountinfo\n"))
    guest(agent).unmount([("guard-tag", "/srv/ai/guard")], force=True)
    assert agent.commands == [["umount", "/srv/ai/guard"]]


@pytest.mark.parametrize("results", [[BUSY], [(32, "", "umount: not mounted.")]])
def test_force_has_its_limits(results):
    problem = failure(guest(Agent(umount=results)).unmount, [("guard-tag", "/srv/ai/guard")], force=True)
    assert problem.code == "guest_unmount_failed"


# Mounts that are dead

DEAD = (1, "", "stat: can't read file system information for '/srv/b': Transport endpoint is not connected\n")


def test_mounts_that_all_answer_take_one_command():
    agent = Agent(stat=(0, "0\n0\n"))
    assert guest(agent).stale(["/srv/a", "/srv/b"]) == frozenset()
    assert agent.commands == [["stat", "-f", "-c", "%i", "/srv/a", "/srv/b"]]
    assert guest(agent).stale([]) == frozenset() and len(agent.commands) == 1


def test_a_dead_mount_is_told_from_those_that_answer():
    def stat(command, _stdin):
        if command[-1] == "/srv/io":
            return 1, "", "stat: cannot read file system information for '/srv/io': Input/output error"
        return DEAD if "/srv/b" in command else (0, "0\n")

    assert guest(Agent(stat=stat)).stale(["/srv/a", "/srv/b", "/srv/io"]) == {"/srv/b"}


def test_a_mount_that_does_not_answer_is_more_than_dead():
    problem = failure(guest(Agent(stat=FOREVER), deadline=0.1).stale, ["/srv/a"])
    assert problem.code == "guest_mount_hung" and "/srv/a" in problem.msg


def test_a_guest_that_cannot_look_has_no_healthy_mounts():
    agent = Agent()
    agent.refuses = {"guest-exec": "Failed to execute child process \u201cstat\u201d (No such file or directory)"}
    assert failure(guest(agent).stale, ["/a"]).code == "agent_command_failed"


def test_a_mount_is_made_read_only_again():
    agent = Agent()
    guest(agent).remount_read_only("/srv/ai/guard")
    assert agent.commands == [["mount", "-o", "remount,ro,nosuid,nodev", "/srv/ai/guard"]]
    agent = Agent(mount=(32, "no"))
    assert failure(guest(agent).remount_read_only, "/srv/ai/guard").code == "guest_mount_failed"


def test_a_command_that_never_ends_meets_the_deadline():
    start = time.monotonic()
    problem = failure(guest(Agent(umount=FOREVER), deadline=0.2).unmount, [("guard-tag", "/srv/ai/guard")])
    assert problem.code == "agent_command_failed"
    assert 0.2 <= time.monotonic() - start < 3


def test_what_the_guest_says_is_shown_short_and_printable():
    agent = Agent(umount=(1, "\x1b[2J" + "é" * 100_000))
    problem = failure(guest(agent).unmount, [("guard-tag", "/srv/ai/guard")])
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
    assert failure(guest(agent).unmount, [("guard-tag", "/srv/ai/guard")]).code in (
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


@pytest.mark.parametrize(("code", "again"), [("agent_unavailable", True), ("agent_command_failed", False)])
def test_an_agent_that_stays_away_is_given_up(code, again):
    asked = []
    deadlines = []

    def ask(command, arguments, deadline):
        asked.append(command)
        deadlines.append(deadline)
        raise ModelfleetError(code, "VM render-4: x")

    assert failure(guest(ask, deadline=0.3).mounts).code == code
    assert (asked.count("guest-file-open") > 1) is again
    assert min(deadlines) >= 1.0


@pytest.mark.parametrize(
    ("line", "expected"),
    [(OURS, True), (OURS.replace("guard-tag", "other"), False), (OURS.replace("virtiofs", "9p"), False)],
)
def test_a_model_is_known_by_its_tag_and_type(line, expected):
    (mount,) = _guest._mountinfo.parse(line)
    assert _guest.is_mounted(mount, "guard-tag") is expected
    assert not _guest.is_mounted(None, "guard-tag")


# Agents that may not do everything, and guests that are not Linux

DISABLED = "Command {} has been disabled: the command is not allowed"
FILES = ("guest-file-open", "guest-file-read", "guest-file-close")
COMMANDS = ("guest-exec", "guest-exec-status")


@pytest.mark.parametrize("reason", [DISABLED, "Command {} has been disabled", "The command {} has not been found"])
def test_a_restricted_agent_is_called_that(reason):
    agent = Agent()
    agent.refuses = {name: reason.format(name) for name in (*FILES, *COMMANDS)}
    problem = failure(guest(agent).mounts)
    assert (problem.code, problem.details["command"]) == ("agent_restricted", "guest-exec")
    problem = failure(guest(agent).mount, [("guard-tag", "/srv/ai/guard")])
    assert (problem.code, problem.details["command"]) == ("agent_restricted", "guest-exec")


@pytest.mark.parametrize("command", FILES[:2])
def test_where_files_are_blocked_a_command_reads_the_table(command):
    agent = Agent(ROOT + OURS)
    agent.refuses = {command: DISABLED.format(command)}
    assert len(guest(agent).mounts()) == 2
    assert agent.commands == [["cat", TABLE]]


def test_where_selinux_blocks_a_file_a_command_reads_the_table():
    agent = Agent(ROOT + OURS)
    agent.refuses = {"guest-file-open": f"failed to open file '{TABLE}' (mode: 'r'): Permission denied"}
    assert len(guest(agent).mounts()) == 2


def test_where_commands_are_blocked_the_table_is_read_but_nothing_mounted():
    agent = Agent(ROOT + OURS)
    agent.refuses = {name: DISABLED.format(name) for name in COMMANDS}
    assert len(guest(agent).mounts()) == 2
    assert failure(guest(agent).require_commands).code == "agent_restricted"


def test_an_agent_that_can_do_all_is_able():
    guest(Agent()).require_commands()


def test_a_program_that_selinux_does_not_let_run_is_a_restriction():
    agent = Agent()
    agent.refuses = {"guest-exec": "Failed to execute child process \u201cmkdir\u201d (Permission denied)"}
    assert failure(guest(agent).mount, [("guard-tag", "/srv/ai/guard")]).code == "agent_restricted"


def test_a_frozen_guest_is_not_restricted():
    agent = Agent()
    agent.refuses = {"guest-file-open": "Command guest-file-open has been disabled: the agent is in frozen state"}
    assert failure(guest(agent).mounts).code == "agent_command_failed"


@pytest.mark.parametrize("refused", [(), FILES, COMMANDS, FILES + COMMANDS])
def test_windows_is_not_supported(refused):
    agent = Agent()
    agent.files = {}
    agent.refuses = {name: DISABLED.format(name) for name in refused}
    agent.guest_get_osinfo = lambda _arguments: {"id": "mswindows"}
    assert failure(guest(agent).mounts).code == "guest_unsupported"


@pytest.mark.parametrize("answer", [{}, [], None, {"id": 7}, {"id": ["mswindows"]}])
def test_what_is_not_known_to_be_windows_keeps_its_first_failure(answer):
    agent = Agent()
    agent.files = {}
    agent.guest_get_osinfo = lambda _arguments: answer
    assert failure(guest(agent).mounts).code == "agent_command_failed"


@pytest.mark.parametrize("pid", [None, "1", {"pid": 1}, 1.0, [1]])
def test_a_process_is_a_number(pid):
    agent = Agent()
    agent.guest_exec = lambda _arguments: {"pid": pid}
    assert failure(guest(agent).remount_read_only, "/srv/ai/guard").code == "agent_command_failed"
    assert agent.asked == ["guest-exec"]


# Views

BIND = "/models/.m/0123456789abcdef-1"


@pytest.mark.parametrize("mount", [(0, ""), (32, "", "mount: /models: mount point not mounted")])
@pytest.mark.parametrize("umount", [(0, ""), (32, "", "umount: no mount point specified."), (127, "")])
def test_a_guest_lets_go_of_a_model_as_far_as_it_can(umount, mount):
    agent = Agent(umount=umount, mount=mount)
    guest(agent).let_go("/models", BIND)
    assert agent.commands == [["umount", BIND], ["mount", "-o", "remount,ro,nosuid,nodev", "/models"]]


def test_a_guest_that_does_not_let_go_is_given_up():
    problem = failure(guest(Agent(umount=FOREVER), deadline=0.1).let_go, "/models", BIND)
    assert problem.code == "agent_command_failed"


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("5.4.0-216-generic", (5, 4)),
        ("6.12.43+deb13-amd64", (6, 12)),
        ("4.18.0-553.el8_10.x86_64", (4, 18)),
        ("6.1", (6, 1)),
        ("999.999", (999, 999)),
    ],
)
def test_the_version_of_the_kernel(release, expected):
    agent = Agent()
    agent.guest_get_osinfo = lambda _arguments: {"id": "debian", "kernel-release": release}
    assert guest(agent).kernel() == expected


HOSTILE = [
    "",
    "6",
    "x6.1",
    " 6.1",
    "-6.1",
    "6.x",
    "1000.1",
    "\u0666.\u0661",
    "6\n.1",
    "." * 100_000,
    None,
    6.1,
    [6, 1],
    {},
]


@pytest.mark.parametrize("release", HOSTILE, ids=lambda value: repr(value)[:20])
def test_a_kernel_that_tells_nonsense_has_no_version(release):
    agent = Agent()
    agent.guest_get_osinfo = lambda _arguments: {"kernel-release": release}
    assert guest(agent).kernel() is None


def test_a_guest_that_may_not_tell_its_kernel_has_no_version():
    agent = Agent()
    agent.refuses["guest-get-osinfo"] = "Command guest-get-osinfo has been disabled"
    assert guest(agent).kernel() is None


def test_a_bind_elsewhere_of_what_a_view_shows_is_known():
    below = "60 59 0:56 / /models/.m/x-1 ro - virtiofs none rw\n"
    view = "59 21 0:55 / /models ro - virtiofs modelfleet rw\n"
    other = "70 21 0:70 / /mnt ro - virtiofs share rw\n71 70 0:71 / /mnt/sub ro - virtiofs none rw\n"
    elsewhere = "61 21 0:56 / /srv/x ro - virtiofs none rw\n"
    mounts = guest(Agent(ROOT + view + below + other + elsewhere)).mounts()
    assert [mount.mount_point for mount in mounts if _guest.is_of_a_view(mount, mounts)] == ["/srv/x"]


def test_a_long_version_is_no_large_number():
    agent = Agent()
    agent.guest_get_osinfo = lambda _arguments: {"kernel-release": "6." + "9" * 100_000}
    assert guest(agent).kernel() == (6, 999)


def test_a_guest_that_tells_no_release_has_no_version():
    assert guest(Agent()).kernel() is None


@pytest.mark.parametrize("answer", [None, [], "6.1", 7])
def test_an_answer_that_is_nothing_of_the_kind_is_an_error(answer):
    agent = Agent()
    agent.guest_get_osinfo = lambda _arguments: answer
    assert failure(guest(agent).kernel).code == "agent_command_failed"
