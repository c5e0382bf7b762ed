# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Links in a guest: seen, made and removed, and nothing of anybody else's."""

from __future__ import annotations

import posixpath

import pytest

from ansible_collections.modelfleet.kvm.tests.unit.scripted_agent import FOREVER, Agent, failure, guest

PATH, OTHER = "/srv/ai/guard", "/srv/ai/o c r"
TARGET, OTHER_TARGET = "/models/.at/srv/ai/guard", "/models/.at/srv/ai/o c r"
DIRECTORY = "directory"
EARLIER = "rwxr-xr-x 2 1000 1000 4096 Jan  1  2025"


class Files(Agent):
    """A guest with files: links by where they lead, directories, and what is neither.

    Attributes:
        fails: programs that do not do what they are told the next time, by their names.
    """

    def __init__(self, **files):
        super().__init__()
        self.there = {}
        self.fails = set()
        for name in ("ls", "ln", "rm", "mkdir", "rmdir"):
            self.results[name] = getattr(self, f"_{name}")

    def put(self, *items):
        self.there.update(dict(items))
        return self

    def _result(self, command, stdin):
        if command[0] in self.fails:
            self.fails.discard(command[0])
            return 1, "", f"{command[0]}: no space left on device"
        return super()._result(command, stdin)

    def _answer(self, name, wrong):
        return (1, "", f"{name}: {wrong[0]}: cannot") if wrong else (0, "")

    def _ls(self, command, _stdin):
        assert command[:3] == ["ls", "-ldn", "--"]
        lines = []
        for path in sorted(command[3:]):
            what = self.there.get(path)
            if what == DIRECTORY:
                lines.append(f"d{EARLIER} {path}")
            elif what == "":
                lines.append(f"-{EARLIER} {path}")
            elif what:
                lines.append(f"lrwxrwxrwx 1 0 0 28 Nov 24 09:14 {path} -> {what}")
        missing = len(lines) < len(command[3:])
        return int(missing), "".join(f"{line}\n" for line in lines), "ls: cannot access" * missing

    def _ln(self, command, _stdin):
        assert command[:3] == ["ln", "-s", "--"] and command[-1].endswith("/")
        parent = command[-1].rstrip("/")
        paths = {f"{parent}/{posixpath.basename(target)}": target for target in command[3:-1]}
        wrong = [path for path in paths if path in self.there]
        assert parent == "" or self.there.get(parent) == DIRECTORY
        self.there.update({path: target for path, target in paths.items() if path not in wrong})
        return self._answer("ln", wrong)

    def _rm(self, command, _stdin):
        assert command[:3] == ["rm", "-f", "--"]
        wrong = [path for path in command[3:] if self.there.get(path) == DIRECTORY]
        for path in command[3:]:
            self.there.pop(path, None)
        return self._answer("rm", wrong)

    def _mkdir(self, command, _stdin):
        paths = [path for path in command[2:] if path != "--"]
        wrong = [path for path in paths if self.there.setdefault(path, DIRECTORY) != DIRECTORY]
        return self._answer("mkdir", wrong)

    def _rmdir(self, command, _stdin):
        wrong = []
        for path in command[2:]:
            if self.there.get(path) != DIRECTORY or any(other.startswith(f"{path}/") for other in self.there):
                wrong.append(path)
            else:
                del self.there[path]
        return self._answer("rmdir", wrong)


# What is seen


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (f"lrwxrwxrwx 1 0 0 24 Nov 24 09:14 {PATH} -> {TARGET}", True),
        # With what SELinux and access lists add, of busybox, of long ago.
        (f"lrwxrwxrwx. 1 0 0 24 Nov 24 09:14 {PATH} -> {TARGET}", True),
        (f"lrwxrwxrwx    1 0        0               24 Jan  1  1970 {PATH} -> {TARGET}", True),
        (f"lrwxrwxrwx 1 0 0 24 Nov 24 09:14 {PATH} -> /etc", False),
        (f"lrwxrwxrwx 1 0 0 24 Nov 24 09:14 {PATH} -> {TARGET}/", False),
        (f"lrwxrwxrwx 1 0 0 24 Nov 24 09:14 {PATH} -> {TARGET} ", False),
        (f"lrwxrwxrwx 1 0 0 24 Nov 24 09:14 /x {PATH} -> {TARGET}", False),
        (f"lrwxrwxrwx 1 0 0 24 Nov 24 09:14  {PATH} -> {TARGET}", False),
        (f"lrwxrwxrwx 1 0 0 24 Nov 24 09:14 /srv/ai -> {PATH} -> {TARGET}", False),
        (f"lrwxrwxrwx 1 0 0 24 Nov 24 09:14 {PATH} -> {OTHER_TARGET}", False),
        (f"drwxr-xr-x 2 0 0 24 Nov 24 09:14 {PATH} -> {TARGET}", False),
        (f"-rw-r--r-- 1 0 0 24 Nov 24 09:14 {PATH}", False),
        (f"brw-rw---- 1 0 6 8, 0 Nov 24 09:14 {PATH}", False),
        (f"{PATH} -> {TARGET}", False),
        (f"l {PATH} -> {TARGET}", False),
        (f"l????????? ? ? ? ? ? {PATH} -> {TARGET}", False),
        ("l" * 100_000, False),
        ("lrwxrwxrwx 1 0 0 24 Nov 24 09:14 " + "x " * 50_000, False),
        ("\xff\x00\x1b[2J", False),
        ("", False),
    ],
)
def test_only_the_whole_line_of_a_link_of_ours_is_one(line, expected):
    agent = Agent(ls=(1, f"{line}\n", "ls: cannot access"))
    assert guest(agent).links([PATH]) == {PATH: expected}
    assert agent.commands == [["ls", "-ldn", "--", PATH]]


def test_one_command_sees_all_links():
    agent = Files().put((PATH, TARGET), (OTHER, OTHER_TARGET))
    assert guest(agent).links([PATH, OTHER, "/top"]) == {PATH: True, OTHER: True, "/top": False}
    assert len(agent.commands) == 1


def test_a_path_may_have_an_arrow_in_it():
    arrow = "/srv/a -> b"
    agent = Files().put((arrow, f"/models/.at{arrow}"))
    assert guest(agent).links([arrow, "/srv/a"]) == {arrow: True, "/srv/a": False}
    agent = Files().put(("/srv/a", "b -> /models/.at/srv/a -> b"))
    assert guest(agent).links(["/srv/a"]) == {"/srv/a": False}


def test_a_guest_that_does_not_answer_is_given_up():
    assert failure(guest(Agent(ls=FOREVER), deadline=0.1).links, [PATH]).code == "agent_command_failed"


# What is made


def test_links_are_made_with_a_command_for_each_directory():
    agent = Files()
    assert guest(agent).link([PATH, OTHER, "/top"]) == []
    assert agent.there == {
        **dict.fromkeys(["/", "/srv/ai"], DIRECTORY),
        PATH: TARGET,
        OTHER: OTHER_TARGET,
        "/top": "/models/.at/top",
    }
    assert [command[0] for command in agent.commands] == ["ls", "mkdir", "ln", "ln"]


def test_an_empty_directory_gives_way_and_comes_back():
    agent = Files().put(("/srv/ai", DIRECTORY), (PATH, DIRECTORY))
    assert guest(agent).link([PATH, OTHER]) == [PATH]
    assert agent.there[PATH] == TARGET
    assert guest(agent).unlink([PATH, OTHER], [PATH]) == [PATH, OTHER]
    assert agent.there == {"/srv/ai": DIRECTORY, PATH: DIRECTORY}


def test_a_link_that_is_there_is_not_made_again():
    agent = Files().put((PATH, TARGET))
    assert guest(agent).link([PATH]) == []
    assert [command[0] for command in agent.commands] == ["ls"]


@pytest.mark.parametrize(
    "theirs", [[(PATH, "")], [(PATH, "/etc")], [(PATH, DIRECTORY), (f"{PATH}/notes", "")], [("/srv/ai", "")]]
)
def test_nothing_of_anybody_else_is_overwritten(theirs):
    there = dict([("/srv/ai", DIRECTORY), (OTHER, DIRECTORY), *theirs])
    agent = Files().put(*there.items())
    if there["/srv/ai"] != DIRECTORY:
        del there[OTHER], agent.there[OTHER]
    problem = failure(guest(agent).link, [OTHER, PATH])
    assert problem.code == ("mount_path_unusable" if there["/srv/ai"] == DIRECTORY else "guest_mount_failed")
    assert agent.there == there


@pytest.mark.parametrize("program", ["mkdir", "ln"])
def test_when_one_cannot_be_made_none_is(program):
    agent = Files().put(("/srv/ai", DIRECTORY), (PATH, DIRECTORY), (OTHER, OTHER_TARGET))
    agent.fails = {program}
    code = {"mkdir": "guest_mount_failed", "ln": "mount_path_unusable"}[program]
    assert failure(guest(agent).link, [PATH, OTHER]).code == code
    assert agent.there == {"/srv/ai": DIRECTORY, PATH: DIRECTORY, OTHER: OTHER_TARGET}


def test_a_directory_that_is_seen_by_the_run_is_made_again_for_a_mount():
    agent = Files().put(("/srv/ai", DIRECTORY), (PATH, DIRECTORY))
    agent.results["stat"] = (0, f"41ed {PATH}\n")
    seen = guest(agent)
    seen.places([PATH])
    seen.link([PATH])
    seen.unlink([PATH])
    seen.mount([("guard-tag", PATH)])
    assert ["mkdir", "-p", PATH] in agent.commands


# What is removed


def test_only_links_of_ours_are_removed():
    theirs = {"/srv/ai": DIRECTORY, OTHER: "/etc", "/srv/ai/asr": ""}
    agent = Files().put((PATH, TARGET), *theirs.items())
    assert guest(agent).unlink([PATH, OTHER, "/srv/ai/asr", "/srv/ai/tts"]) == [PATH]
    assert agent.there == theirs
    assert agent.commands[-1] == ["rm", "-f", "--", PATH]


def test_a_link_that_cannot_be_removed_is_told():
    agent = Files().put((PATH, TARGET))
    agent.fails = {"rm"}
    assert failure(guest(agent).unlink, [PATH]).code == "guest_unmount_failed"
    assert agent.there == {PATH: TARGET}


def test_a_directory_that_cannot_come_back_is_told_and_the_link_stays():
    agent = Files().put(("/srv/ai", DIRECTORY), (PATH, TARGET))
    agent.fails = {"mkdir"}
    assert failure(guest(agent).unlink, [PATH], [PATH]).code == "guest_unmount_failed"
    assert agent.there == {"/srv/ai": DIRECTORY, PATH: TARGET}
