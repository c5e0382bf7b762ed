# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Looking at storage from a process of its own, without the mounts that need root."""

from __future__ import annotations

import errno
import os
import pathlib
import time

import pytest

import ansible_collections.modelfleet.kvm.plugins.module_utils._opener as opener_module
from ansible_collections.modelfleet.kvm.plugins.module_utils import _child, _mountapi, _opener, _sources

ROOT = str(pathlib.Path(opener_module.__file__).parents[5])


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The child finds the collection by sys.path, as it does on a host."""
    monkeypatch.syspath_prepend(ROOT)


@pytest.fixture
def center(tmp_path):
    """A model center with everything in it that may be asked for."""
    root = tmp_path / "center"
    (root / "acme" / "guard").mkdir(parents=True)
    (root / "file").write_text("x")
    (tmp_path / "outside").mkdir()
    links = {
        "inside": "acme/guard",
        "acme/round": "../acme/guard",
        "absolute": str(root / "acme"),
        "out": "../outside",
        "further": "out",
        "loop": "loop",
        "dangling": "nowhere",
        "self": ".",
    }
    for name, target in links.items():
        (root / name).symlink_to(target)
    return root


def identity(path):
    status = os.stat(path)
    return status.st_dev, status.st_ino


def test_models_are_identified_in_the_order_of_the_question(center):
    found = _sources.look_at(str(center), ["acme", "acme/guard", "acme"], 30)
    expected = [identity(center / path) for path in ("acme", "acme/guard", "acme")]
    assert [item.identity for item in found] == expected
    assert [(item.error, item.tree) for item in found] == [(0, -1)] * 3


def test_links_are_followed_as_long_as_they_stay_inside(center):
    guard = identity(center / "acme" / "guard")
    assert [item.identity for item in _sources.look_at(str(center), ["inside", "acme/round"], 30)] == [guard, guard]


REFUSED = {
    "absolute": errno.EXDEV,
    "out": errno.EXDEV,
    "further": errno.EXDEV,
    "..": errno.EXDEV,
    "acme/../../outside": errno.EXDEV,
    "/etc": errno.EXDEV,
    ".": errno.EXDEV,
    "self": errno.EXDEV,
    "acme/..": errno.EXDEV,
    "loop": errno.ELOOP,
    "missing": errno.ENOENT,
    "dangling": errno.ENOENT,
    "file": errno.ENOTDIR,
    "file/x": errno.ENOTDIR,
    "x" * 300: errno.ENAMETOOLONG,
}


def test_what_cannot_be_given_to_a_vm_has_its_reason(center):
    found = _sources.look_at(str(center), list(REFUSED), 30)
    reasons = {path[:20]: errno.errorcode.get(item.error) for path, item in zip(REFUSED, found)}
    assert reasons == {path[:20]: errno.errorcode[error] for path, error in REFUSED.items()}
    assert [item.identity for item in found] == [None] * len(REFUSED)


def test_one_that_cannot_be_had_does_not_stand_in_the_way_of_the_others(center):
    found = _sources.look_at(str(center), ["missing", "acme", "out", "acme/guard"], 30)
    assert [item.identity is not None for item in found] == [False, True, False, True]


def test_a_center_that_is_not_there_is_missing_for_all(tmp_path):
    found = _sources.look_at(str(tmp_path / "missing"), ["a", "b"], 30)
    assert [(item.identity, item.error) for item in found] == [(None, errno.ENOENT)] * 2


def test_nothing_asked_is_nothing_answered(center):
    assert _opener.look(str(center), [], 30) == []


def test_names_come_through_as_they_are(center):
    names = ["ä 模型", "a\nb", 'quote"', "%s", "-rf", "x" * 255]
    for name in names:
        (center / name).mkdir()
    found = _sources.look_at(str(center), names, 30)
    assert [item.identity for item in found] == [identity(center / name) for name in names]


def test_many_models_are_looked_at_at_once(center):
    assert {item.error for item in _opener.look(str(center), ["acme/guard"] * 3000, 30)} == {0}


SLEEP = "import sys, time; sys.stdin.read(); time.sleep(60)  # {module}"
DIES = "import sys  # {module}"


def test_storage_that_never_answers_is_given_up(center, monkeypatch):
    monkeypatch.setattr(_child, "_START", SLEEP)
    start = time.monotonic()
    found = _sources.look_at(str(center), ["acme", "file"], 0.3)
    assert 0.3 <= time.monotonic() - start < 5
    assert [(item.identity, item.error, item.tree) for item in found] == [(None, errno.ETIMEDOUT, -1)] * 2


def test_a_child_that_is_stuck_is_not_left_running(center, monkeypatch):
    started = []
    popen = _child.subprocess.Popen

    def start(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[-1]

    monkeypatch.setattr(_child, "_START", SLEEP)
    monkeypatch.setattr(_child.subprocess, "Popen", start)
    _opener.look(str(center), ["acme"], 0.1)
    assert started[0].wait(5) < 0


def test_a_child_that_dies_does_not_hang_anybody(center, monkeypatch):
    monkeypatch.setattr(_child, "_START", DIES)
    start = time.monotonic()
    (found,) = _opener.look(str(center), ["acme"], 30)
    assert time.monotonic() - start < 10
    assert found.identity is None and found.error != 0


def test_no_descriptor_is_left_open(center):
    before = sorted(os.listdir("/proc/self/fd"))
    for _turn in range(3):
        _sources.look_at(str(center), ["acme", "missing"], 30)
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("failures", "opens"), [(0, True), (3, True), (1000, False)])
def test_a_path_is_tried_again_while_others_rename(failures, opens, tmp_path, monkeypatch):
    call, left = _mountapi._call, [failures]

    def disturbed(*arguments, name):
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(errno.EAGAIN, "x", name)
        return call(*arguments, name=name)

    (tmp_path / "a").mkdir()
    directory = _mountapi.open_directory(str(tmp_path))
    monkeypatch.setattr(_mountapi, "_call", disturbed)
    try:
        if opens:
            os.close(_mountapi.open_beneath(directory, "a"))
        else:
            with pytest.raises(BlockingIOError):
                _mountapi.open_beneath(directory, "a")
    finally:
        os.close(directory)
