# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands in a guest on the way to mount paths."""

from __future__ import annotations

import pytest

from ansible_collections.modelfleet.kvm.tests.unit.scripted_agent import FOREVER, Agent, failure, guest

PATH = "/srv/ai/o c r"
DIRECTORY, LINK, FILE, PIPE = "41ed", "a1ff", "81a4", "11a4"


def said(*lines):
    # What is missing is told on standard error, and makes the command fail.
    return Agent(stat=(1, "".join(f"{line}\n" for line in lines), "stat: cannot statx '/nowhere'\n"))


def test_one_command_asks_for_all_that_paths_lie_in():
    agent = said()
    guest(agent).places([PATH, "/srv/ai/guard", "/top"])
    parts = ["/run/systemd/system", "/srv", "/srv/ai", "/srv/ai/guard", "/srv/ai/o c r", "/top"]
    assert agent.commands == [["stat", "-c", "%f %n", *parts]]


def test_directories_and_what_is_missing_are_in_nobodys_way():
    places = guest(said(f"{DIRECTORY} /srv", f"{DIRECTORY} {PATH}")).places([PATH, "/srv/new"])
    assert places == (False, {PATH}, {}, set(), set())


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([f"{LINK} /srv"], ("/srv", "a symbolic link")),
        ([f"{DIRECTORY} /srv", f"{FILE} /srv/ai"], ("/srv/ai", "not a directory")),
        ([f"{PIPE} {PATH}", f"{LINK} /srv/ai", f"{DIRECTORY} /srv"], ("/srv/ai", "a symbolic link")),
        ([f"{LINK} {PATH}"], (PATH, "a symbolic link")),
    ],
)
def test_the_first_thing_in_the_way_is_told(lines, expected):
    assert guest(said(*lines)).places([PATH, "/other"]).in_the_way == {PATH: expected}


@pytest.mark.parametrize(("mode", "expected"), [(DIRECTORY, True), (LINK, False), (FILE, False)])
def test_systemd_is_known_by_its_directory(mode, expected):
    assert guest(said(f"{mode} /run/systemd/system")).places([]).systemd is expected


@pytest.mark.parametrize(
    "line", ["", " ", "zz /srv", f"{LINK}/srv", f"{LINK} /elsewhere", "a" * 100_000 + " /srv", "\xff"]
)
def test_nonsense_is_in_nobodys_way(line):
    assert guest(said(line)).places([PATH]).in_the_way == {}


def test_a_guest_that_does_not_answer_is_given_up():
    assert failure(guest(Agent(stat=FOREVER), deadline=0.1).places, [PATH]).code == "agent_command_failed"


# Paths at which links are to be made, or stand already

HELD = ["find", PATH, "-mindepth", "1", "-maxdepth", "1"]
LISTED = "rwxrwxrwx 1 0 0 24 Nov 24 09:14"


def test_a_link_of_ours_is_in_nobodys_way():
    agent = said(f"{LINK} {PATH}", f"{DIRECTORY} /srv/ai")
    agent.results["ls"] = (0, f"l{LISTED} {PATH} -> /models/.at{PATH}\n")
    places = guest(agent).places([PATH, "/other"])
    assert (places.in_the_way, places.links) == ({}, {PATH})
    assert agent.commands[1:] == [["ls", "-ldn", "--", PATH]]


@pytest.mark.parametrize("line", [f"{PATH} -> /etc", "", f"{PATH} -> /models/.at/srv/ai/other"])
def test_a_link_of_anybody_else_is(line):
    agent = said(f"{LINK} {PATH}")
    agent.results["ls"] = (0, f"l{LISTED} {line}\n")
    places = guest(agent).places([PATH])
    assert (places.in_the_way, places.links) == ({PATH: (PATH, "a symbolic link")}, set())


def test_a_link_of_ours_below_a_link_is_not_looked_at():
    agent = said(f"{LINK} /srv", f"{LINK} {PATH}")
    agent.results["ls"] = (0, f"l{LISTED} {PATH} -> /models/.at{PATH}\n")
    assert guest(agent).places([PATH]).in_the_way == {PATH: ("/srv", "a symbolic link")}


@pytest.mark.parametrize(
    ("output", "filled"),
    [("", set()), (f"{PATH}/a\n{PATH}/b\n", {PATH}), ("/other/x\n", set()), (f"{PATH}\n", set()), ("\xff\n", set())],
)
def test_a_directory_in_whose_place_a_link_shall_be_must_be_empty(output, filled):
    agent = said(f"{DIRECTORY} {PATH}")
    agent.results["find"] = (1, output, "find: cannot")
    places = guest(agent).places([PATH, "/new"], [], [PATH, "/new"])
    assert (places.in_the_way, places.filled) == ({}, filled)
    assert agent.commands[1:] == [HELD]


def test_what_is_missing_or_shall_be_mounted_on_may_hold_what_it_does():
    agent = said(f"{DIRECTORY} {PATH}")
    guest(agent).places([PATH, "/new"], [], ["/new"])
    assert [command[0] for command in agent.commands] == ["stat"]


# Paths below which nothing but directories may be

VIEW = "/models"
BELOW = ["-xdev", "-maxdepth", "3", "!", "-type", "d"]
STAT = ["stat", "-c", "%f %n"]
BOTH = ["find", "/proc/self/mountinfo", VIEW, *BELOW, "-exec", *STAT, VIEW, "/run/systemd/system", "{}", "+"]
ANY = f"{FILE} /proc/self/mountinfo"


def holding(*lines):
    agent = said()
    agent.results["find"] = (1, "".join(f"{line}\n" for line in (*lines, ANY)), "find: '/models/x': Permission denied")
    return agent


@pytest.mark.parametrize("name", ["weights.bin", "a/b/c", "\xff", "two\nlines", "x" * 100_000])
@pytest.mark.parametrize("mode", [FILE, LINK])
def test_a_directory_that_holds_something_is_in_the_way(mode, name):
    agent = holding(f"{DIRECTORY} {VIEW}", f"{mode} {VIEW}/{name}")
    assert guest(agent).places([VIEW], [VIEW]).in_the_way == {VIEW: (VIEW, "not empty")}
    assert agent.commands == [BOTH]


@pytest.mark.parametrize("systemd", [False, True])
def test_a_directory_that_holds_only_directories_is_in_nobodys_way(systemd):
    agent = holding(f"{DIRECTORY} {VIEW}", *[f"{DIRECTORY} /run/systemd/system"] * systemd)
    places = guest(agent).places([VIEW], [VIEW])
    assert (places.in_the_way, places.directories, places.systemd) == ({}, {VIEW}, systemd)


def test_paths_below_what_must_be_empty_may_be_directories():
    agent = holding(f"{DIRECTORY} {VIEW}", f"{DIRECTORY} {VIEW}/llama", f"{FILE} {VIEW}x/notes")
    assert guest(agent).places([VIEW, f"{VIEW}/llama"], [VIEW]).in_the_way == {}


def test_only_what_must_be_empty_is_looked_into():
    agent = said(f"{DIRECTORY} {VIEW}")
    assert guest(agent).places([VIEW]).in_the_way == {}
    assert agent.commands == [BOTH[BOTH.index("stat") : -2]]


def test_what_is_missing_is_not_in_the_way():
    agent = holding()
    places = guest(agent).places([VIEW], [VIEW])
    assert (places.in_the_way, places.directories) == ({}, frozenset())


@pytest.mark.parametrize(("mode", "what"), [(LINK, "a symbolic link"), (FILE, "not a directory")])
def test_what_is_no_directory_is_in_the_way(mode, what):
    agent = holding(f"{mode} {VIEW}", f"{mode} {VIEW}")
    assert guest(agent).places([VIEW], [VIEW]).in_the_way == {VIEW: (VIEW, what)}


def test_a_guest_that_looks_for_ever_is_given_up():
    agent = holding()
    agent.results["find"] = FOREVER
    assert failure(guest(agent, deadline=0.1).places, [VIEW], [VIEW]).code == "agent_command_failed"
