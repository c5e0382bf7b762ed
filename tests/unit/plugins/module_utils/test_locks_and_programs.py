# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Locks of the host, and programs with a deadline."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _locks, _process
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError


def refusal(call, *arguments):
    with pytest.raises(ModelfleetError) as caught:
        call(*arguments)
    return caught.value


def enter(names, deadline, directory):
    with _locks.held(names, deadline, str(directory)):
        pass


def test_a_lock_is_held_by_one_at_a_time(tmp_path):
    with _locks.held(["vm-a"], 5, str(tmp_path)):
        start = time.monotonic()
        problem = refusal(enter, ["vm-a"], 0.2, tmp_path)
        assert (problem.code, problem.details) == ("lock_timeout", {"lock": "vm-a"})
        assert 0.2 <= time.monotonic() - start < 3
    enter(["vm-a"], 0.2, tmp_path)


def test_locks_are_for_root_only(tmp_path):
    enter(["vm-a"], 1, tmp_path / "run" / "locks")
    assert (tmp_path / "run" / "locks").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "run" / "locks" / "vm-a").stat().st_mode & 0o777 == 0o600


def test_another_lock_is_another_matter(tmp_path):
    with _locks.held(["vm-a"], 5, str(tmp_path)):
        enter(["vm-b", "vm-c"], 0.2, tmp_path)


def test_a_lock_that_cannot_be_had_gives_back_the_others(tmp_path):
    with _locks.held(["vm-b"], 5, str(tmp_path)):
        refusal(enter, ["vm-a", "vm-b"], 0.1, tmp_path)
        enter(["vm-a"], 0.2, tmp_path)


def test_the_same_lock_twice_is_once(tmp_path):
    enter(["vm-a", "vm-a"], 0.2, tmp_path)


def test_locks_are_taken_in_the_order_of_their_names(tmp_path):
    # Whoever waits for c has not taken d, so that two runs cannot wait for each other.
    with _locks.held(["vm-c"], 5, str(tmp_path)):
        refusal(enter, ["vm-d", "vm-c"], 0.1, tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["vm-c"]


def test_a_failure_gives_the_lock_back(tmp_path):
    with pytest.raises(RuntimeError), _locks.held(["vm-a"], 5, str(tmp_path)):
        raise RuntimeError
    enter(["vm-a"], 0.2, tmp_path)


def test_a_child_does_not_keep_a_lock(tmp_path):
    with _locks.held(["vm-a"], 5, str(tmp_path)):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, close_fds=False)
    try:
        enter(["vm-a"], 0.2, tmp_path)
    finally:
        child.kill()
        child.wait()


def test_a_program_has_no_shell_and_nothing_to_read():
    done = _process.run(["echo", "$HOME;", "a b"], 10)
    assert (done.returncode, done.stdout) == (0, "$HOME; a b\n")
    assert _process.run(["cat"], 10).stdout == ""


def test_what_is_not_unicode_is_no_reason_to_fail():
    assert _process.run(["printf", r"a\377b"], 10).stdout == "a\ufffdb"


def test_a_program_that_fails_is_for_the_caller_to_judge():
    assert _process.run(["false"], 10).returncode == 1


def test_a_program_that_does_not_end_is_killed():
    start = time.monotonic()
    assert refusal(_process.run, ["sleep", "60"], 0.2).code == "program_timeout"
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("command", [["/nonexistent/program"], ["/etc/passwd"], ["/"]])
def test_a_program_that_cannot_be_run_is_what_the_host_lacks(command):
    assert refusal(_process.run, command, 5).code == "host_unsupported"
