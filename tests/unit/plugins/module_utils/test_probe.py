# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The question whether a mount answers, asked for real: of directories, and of a pipe that never answers."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _center_state, _child, _probe


def ask(root, path, verify="", deadline=10, direct=False):
    return _probe.ask("depot", str(path), verify, deadline, str(root / "notes"), direct)


def operations(answers):
    return [(check.operation, check.error) for check in answers.checks]


@pytest.fixture
def depot(tmp_path):
    (tmp_path / "depot" / "acme").mkdir(parents=True)
    (tmp_path / "depot" / "acme" / "weights").write_bytes(b"x" * 100_000)
    return tmp_path / "depot"


def test_a_directory_answers(tmp_path, depot):
    answers = ask(tmp_path, depot)
    assert operations(answers) == [("stat", 0), ("statvfs", 0), ("list", 0), ("read", 0)]
    assert answers.error == 0 and answers.failed == ""
    total, free = answers.capacity
    assert total >= free > 0
    assert _center_state.judge(answers, lambda: True) == ("healthy", "")


def test_what_must_be_there_is_looked_for(tmp_path, depot):
    assert operations(ask(tmp_path, depot, "acme/weights"))[3:] == [("verify", 0), ("read", 0)]
    answers = ask(tmp_path, depot, "acme/missing")
    assert operations(answers)[3:] == [("verify", errno.ENOENT), ("read", errno.ENOENT)]
    assert _center_state.judge(answers, lambda: True)[0] == "wrong content"


def test_a_link_is_followed_as_long_as_it_stays_inside(tmp_path, depot):
    (depot / "latest").symlink_to("acme")
    (depot / "acme" / "current").symlink_to("../latest/weights")
    for verify in ("latest", "latest/weights", "acme/current"):
        assert operations(ask(tmp_path, depot, verify))[3:] == [("verify", 0), ("read", 0)]
    (tmp_path / "outside").write_text("secret")
    for number, target in enumerate(("../outside", str(tmp_path / "outside"), str(depot / "acme"))):
        (depot / f"out-{number}").symlink_to(target)
        answers = ask(tmp_path, depot, f"out-{number}")
        assert operations(answers)[3:] == [("verify", errno.EXDEV), ("read", errno.EXDEV)]
        state, why = _center_state.judge(answers, lambda: True)
        assert state == "wrong content" and "leads out" in why
    (depot / "loop").symlink_to("loop")
    assert operations(ask(tmp_path, depot, "loop"))[3] == ("verify", errno.ELOOP)


def test_a_client_that_was_thrown_out_is_dead():
    """ceph-fuse lives on, its root is not there, and everything below answers ESHUTDOWN for ever."""
    names = ("stat", errno.ENOENT), ("list", errno.ENOENT), ("verify", errno.ESHUTDOWN), ("read", errno.ESHUTDOWN)
    answers = _probe.Answers(tuple(_probe.Check(name, error, 0.1) for name, error in names))
    assert _center_state.judge(answers, lambda: True)[0] == "dead"
    assert _center_state.judge(answers._replace(checks=answers.checks[:2]), lambda: True)[0] == "error"


def test_bytes_are_read_past_caches_where_that_is_asked_for(tmp_path, depot):
    assert ask(tmp_path, depot, "acme/weights", direct=True).error in (0, errno.EINVAL)
    # What is there to read is in memory only.
    assert operations(ask(tmp_path, "/proc", "version"))[3:] == [("verify", 0), ("read", 0)]
    assert operations(ask(tmp_path, "/proc", "version", direct=True))[3:] == [("verify", 0), ("read", errno.EINVAL)]


def test_what_is_missing_is_an_error(tmp_path):
    answers = ask(tmp_path, tmp_path / "missing")
    assert (answers.error, answers.failed) == (errno.ENOENT, "stat")
    assert answers.capacity is None


def test_a_pipe_in_the_storage_does_no_harm(tmp_path, depot):
    os.mkfifo(depot / "pipe")
    assert ask(tmp_path, depot, "pipe").error in (0, errno.ESPIPE)


def test_no_answer_ends_with_the_deadline(tmp_path, depot, monkeypatch):
    monkeypatch.setattr(_child, "_START", "import time; time.sleep(60); {module}")
    began = time.monotonic()
    answers = ask(tmp_path, depot, deadline=0.3)
    assert time.monotonic() - began < 5
    assert operations(answers) == [("stat", errno.ETIMEDOUT)]
    # It could be ended, so nothing is left behind.
    assert answers.stuck == ""
    assert _center_state.judge(answers, lambda: True)[0] == "hung"


def test_a_child_that_ends_without_a_word_is_an_error(tmp_path, depot, monkeypatch):
    monkeypatch.setattr(_child, "_START", "{module}")
    assert ask(tmp_path, depot).error == errno.EIO


def test_nobody_is_sent_after_one_who_is_stuck(tmp_path, depot):
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stuck:
        notes = tmp_path / "notes"
        notes.mkdir()
        (notes / "depot").write_text(f"{stuck.pid} {_probe._started(stuck.pid)}")
        answers = ask(tmp_path, depot)
        assert answers.error == errno.ETIMEDOUT
        assert f"process {stuck.pid}" in answers.stuck
        stuck.communicate(b"\n")
    assert ask(tmp_path, depot).error == 0
    assert list(notes.iterdir()) == []


def test_a_note_of_another_process_or_a_broken_one_is_no_word(tmp_path, depot):
    notes = tmp_path / "notes"
    notes.mkdir()
    for text in (f"{os.getpid()} 1", "", "x y", "0 0"):
        (notes / "depot").write_text(text)
        assert ask(tmp_path, depot).error == 0
