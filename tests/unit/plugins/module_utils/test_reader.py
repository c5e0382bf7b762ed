# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models looked at and read by processes of their own."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import subprocess
import time

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _checker,
    _child,
    _content,
    _manifest,
    _opener,
    _progress,
    _reader,
    _reading,
)
from ansible_collections.modelfleet.kvm.tests.unit import weights

ROOT = str(pathlib.Path(_reader.__file__).parents[5])
MODEL = "7f1c3c8e-0000-5000-8000-000000000001"
SLEEP = "import time; time.sleep(60)  # {module}"
DIES = "import sys  # {module}"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """The child finds the collection by sys.path, as it does on a host."""
    monkeypatch.syspath_prepend(ROOT)


@pytest.fixture
def center(tmp_path):
    """A model center with a model."""
    weights.publish(tmp_path / "acme" / "m", **{"big.bin": os.urandom(9 << 20), "empty": b""})
    return tmp_path


@pytest.fixture
def directory(center):
    return center / "acme" / "m"


def all_parts(files):
    return [_reading.Part(path, 0, file.seen.size, file.seen) for path, file in files.items()]


def test_files_are_listed_and_read(center, directory):
    told = []
    with _reader.Reader(str(center), "acme/m", 10) as reader:
        files = reader.files()
        assert sorted(files) == sorted(os.listdir(directory))
        assert {path: file.seen.size for path, file in files.items()} == {
            path.name: path.stat().st_size for path in directory.iterdir()
        }
        digests = reader.read(all_parts(files), _reading.How(3, digest=True), told.append)
    assert digests == {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}
    assert told == sorted(told)
    assert told[-1] == sum(path.stat().st_size for path in directory.iterdir())


@pytest.mark.parametrize("how", [_reading.How(2, fresh=True, drop=True), _reading.How(1)])
def test_parts_of_files_are_read_without_digests(center, how):
    told = []
    with _reader.Reader(str(center), "acme/m", 10) as reader:
        seen = reader.files()["big.bin"].seen
        parts = [_reading.Part("big.bin", begin, begin + (1 << 20), seen) for begin in (0, 3 << 20)]
        assert reader.read(parts, how, told.append) == {"big.bin": ""}
        assert told[-1] == 2 << 20
        # It can be asked for more, and for nothing.
        assert reader.read([], how, told.append) == {}
        assert told[-1] == 0


def test_what_is_in_memory_is_told(center):
    with _reader.Reader(str(center), "acme/m", 10) as reader:
        files = reader.files(resident=True)
        assert [file.resident for file in files.values()] == [file.seen.size for file in files.values()]
        assert {file.resident for file in reader.files().values()} == {0}


def test_a_file_that_changes_is_refused(center, directory):
    with _reader.Reader(str(center), "acme/m", 10) as reader:
        files = reader.files()
        os.utime(directory / "config.json", (1, 1))
        with pytest.raises(_content.Refused) as refused:
            reader.read(all_parts(files), _reading.How(4, digest=True), lambda done: None)
    assert refused.value.problem == ("model_damaged", "it changes while it is read", ("config.json",))


def test_a_file_that_was_cut_off_meanwhile_is_refused(center, directory):
    with _reader.Reader(str(center), "acme/m", 10) as reader:
        files = reader.files()
        os.truncate(directory / "big.bin", 5)
        with pytest.raises(_content.Refused):
            reader.read(all_parts(files), _reading.How(4, digest=True), lambda done: None)


def test_a_file_that_went_is_refused(center, directory):
    with _reader.Reader(str(center), "acme/m", 10) as reader:
        files = reader.files()
        (directory / "big.bin").unlink()
        with pytest.raises(_content.Refused) as refused:
            reader.read(all_parts(files), _reading.How(4), lambda done: None)
    assert refused.value.problem[::2] == ("model_incomplete", ("big.bin",))


@pytest.mark.parametrize(
    ("path", "number"), [("acme/none", errno.ENOENT), ("..", errno.EXDEV), ("acme/m/empty", errno.ENOTDIR)]
)
def test_what_is_no_model_below_the_center_is_an_error(path, number, center):
    with _reader.Reader(str(center), path, 10) as reader, pytest.raises(OSError) as raised:
        reader.files()
    assert raised.value.errno == number


def test_storage_that_is_silent_is_given_up(center, monkeypatch):
    monkeypatch.setattr(_child, "_START", SLEEP)
    began = time.monotonic()
    with _reader.Reader(str(center), "acme/m", 0.3) as reader, pytest.raises(OSError) as raised:
        reader.files()
    assert 0.3 <= time.monotonic() - began < 5
    assert raised.value.errno == errno.ETIMEDOUT


STUCK = (
    "import sys, time; sys.path[:0] = sys.argv[2:]; from {module} import _Readings, serve;"
    "_Readings.read = lambda *_a: time.sleep(60); serve(int(sys.argv[1]))"
)


def test_words_without_progress_are_silence(center, monkeypatch):
    monkeypatch.setattr(_child, "_START", STUCK)
    began = time.monotonic()
    with _reader.Reader(str(center), "acme/m", 1.2) as reader:
        files = reader.files()
        with pytest.raises(OSError) as raised:
            reader.read(all_parts(files), _reading.How(1), lambda done: None)
    assert raised.value.errno == errno.ETIMEDOUT
    assert 1.2 <= time.monotonic() - began < 6


FAILS = (
    "import os, sys; sys.path[:0] = sys.argv[2:]; from {module} import serve;"
    "os.preadv = lambda *_a: os.open('/proc/self/mem/x', 0); serve(int(sys.argv[1]))"
)


def test_a_failure_of_the_storage_names_the_file(center, monkeypatch):
    monkeypatch.setattr(_child, "_START", FAILS)
    with _reader.Reader(str(center), "acme/m", 10) as reader:
        parts = [part for part in all_parts(reader.files()) if part.path == "big.bin"]
        with pytest.raises(OSError) as raised:
            reader.read(parts, _reading.How(1), lambda done: None)
    assert (raised.value.errno, raised.value.filename) == (errno.ENOTDIR, "big.bin")


def test_a_child_that_dies_does_not_hang_anybody(center, monkeypatch):
    monkeypatch.setattr(_child, "_START", DIES)
    with _reader.Reader(str(center), "acme/m", 30) as reader, pytest.raises(OSError) as raised:
        reader.files()
    assert raised.value.errno == errno.EIO


def test_the_last_word_of_a_child_is_heard_however_much_it_did_not_listen_to(center):
    with _reader.Reader(str(center), "acme/none", 10) as reader:
        for _more in range(3):
            reader._send({"resident": False})
        with contextlib.suppress(subprocess.TimeoutExpired):
            reader._child.wait(0.5)
        with pytest.raises(OSError) as raised:
            reader.files()
    assert raised.value.errno == errno.ENOENT


@pytest.mark.parametrize(
    ("how", "forgotten"),
    [
        (_reading.How(1), []),
        (_reading.How(1, fresh=True), [(2, 7)]),
        (_reading.How(1, drop=True), [(2, 7)]),
        (_reading.How(1, fresh=True, drop=True), [(2, 7), (2, 7)]),
    ],
)
def test_memory_is_dropped_before_and_after_as_it_was_asked(how, forgotten, directory, monkeypatch):
    asked = []
    monkeypatch.setattr(os, "posix_fadvise", lambda _file, begin, length, advice: asked.append((begin, length)))
    model = os.open(directory, os.O_PATH)
    part = _reading.Part("big.bin", 2, 9, _content.state(os.stat(directory / "big.bin")))
    readings = _reading._Readings(model, how)
    readings.read(part)
    os.close(model)
    assert readings.next(0) == {"read": "big.bin", "sha256": ""}
    assert (asked, readings.done) == (forgotten, 7)


def test_a_child_ends_when_nobody_listens(center):
    reader = _reader.Reader(str(center), "acme/m", 10)
    reader.files()
    reader._ours.close()
    assert reader._child.wait(10) == 0


def test_progress_is_told_now_and_then():
    said, clock = [], [0.0]
    part = _reading.Part("a", 0, 4_000_000_000, None)
    progress = _progress.Progress(said.append, "verify zoo:m", [part, part], lambda: clock[0])
    for now, done in ((1, 0), (9, 10), (10, 2_000_000_000), (15, 3_000_000_000), (20, 4_000_000_000)):
        clock[0] = now
        progress.tell(done)
    assert said == [
        "verify zoo:m: 2.00 of 8.00 GB, 200 MB/s, 30 s left",
        "verify zoo:m: 4.00 of 8.00 GB, 200 MB/s, 20 s left",
    ]
    assert (progress.total, progress.seconds) == (8_000_000_000, 20)
    progress.end()
    assert said[2:] == ["verify zoo:m: all 8000000000 bytes in 20.0 s"]
    _progress.Progress(said.append, "nothing", []).end()
    assert len(said) == 3


@pytest.fixture
def check(center, monkeypatch):
    """Check the model, at one level or the other."""
    monkeypatch.setattr(_manifest, "DIRECTORY", str(center / "state"))

    def check(level, path="acme/m", deadline=10):
        with _opener.Openers() as openers:
            return _checker.Checks(level, deadline, openers).check(str(center), path, MODEL)

    return check


NOTHING = _checker.Checked(None)


def test_a_whole_model_may_be_mounted(check):
    assert check("structure") == NOTHING


def test_a_torn_one_may_not(check, directory):
    os.truncate(directory / "model-2.safetensors", 7)
    assert check("structure").problem[::2] == ("model_damaged", ("model-2.safetensors",))
    assert check("none") == NOTHING


def test_of_many_files_few_are_told_and_none_is_too_long(check, directory):
    names = [f"{number}-{'x' * 300}/{'é' * 2000}" for number in range(100)]
    (directory / "a.safetensors.index.json").write_bytes(weights.index(*names))
    files = check("structure").problem.files
    assert len(files) == 20
    assert {len(name) for name in files} == {1024}


LITTLE = (
    "import sys; sys.path[:0] = sys.argv[2:]; from {module} import _child, serve;"
    "import importlib; checker = importlib.import_module(_child.__package__ + '._checker');"
    "checker._MEMORY = 256 << 20; serve(int(sys.argv[1]))"
)


def test_a_header_that_takes_too_much_memory_is_damaged(check, directory, monkeypatch):
    monkeypatch.setattr(_child, "_START", LITTLE)
    assert check("structure") == NOTHING
    header = b'{"a":[' + b"[]," * 6_000_000 + b"[]]}"
    (directory / "x.safetensors").write_bytes(weights.with_header(header))
    assert check("structure").problem[::2] == ("model_damaged", ("x.safetensors",))


@pytest.mark.parametrize(("path", "number"), [("acme/none", errno.ENOENT), ("../x", errno.EXDEV)])
def test_storage_that_fails_is_told_by_its_error(path, number, check):
    assert check("structure", path) == _checker.Checked(None, number)


def test_a_center_that_is_not_there_is_told(center):
    with _opener.Openers() as openers:
        checks = _checker.Checks("structure", 10, openers)
        assert checks.check(str(center / "none"), "acme/m", MODEL) == _checker.Checked(None, errno.ENOENT)


def test_who_checks_models_still_opens_them(center):
    with _opener.Openers() as openers:
        checks = _checker.Checks("structure", 10, openers)
        assert checks.check(str(center), "acme/m", MODEL) == NOTHING
        assert [found.error for found in openers.look(str(center), ["acme/m", "none"], 10)] == [0, errno.ENOENT]


def verified(directory, center, **other):
    """Keep a manifest of the model as it is, or nearly."""
    files = {}
    for path in directory.iterdir():
        state = _content.state(path.stat())
        files[path.name] = _manifest.Digested("0" * 64, other.get(path.stem.replace("-", "_"), state))
    (center / "state").mkdir()
    pathlib.Path(_manifest.path(MODEL)).write_text(_manifest.dump(files, {}))


def test_a_model_that_nobody_verified_is_refused_if_that_matters(check):
    assert check("manifest").problem == ("model_unverified", "this host has no manifest of it", ())


def test_a_model_that_is_as_it_was_verified_may_be_mounted(check, directory, center):
    verified(directory, center)
    assert check("manifest") == NOTHING


def test_one_that_was_written_to_since_then_is_refused(check, directory, center):
    verified(directory, center)
    os.utime(directory / "big.bin", (1, 1))
    assert check("manifest").problem[::2] == ("model_unverified", ("big.bin",))
    (directory / "big.bin").write_bytes(b"2")
    assert check("manifest").problem[::2] == ("model_damaged", ("big.bin",))
    (directory / "big.bin").unlink()
    assert check("manifest").problem[::2] == ("model_incomplete", ("big.bin",))


def test_a_manifest_that_cannot_be_read_is_told(check, directory, center):
    verified(directory, center)
    pathlib.Path(_manifest.path(MODEL)).write_text(json.dumps({"schema_version": 2}))
    assert check("manifest").problem.code == "manifest_invalid"


def test_a_model_is_checked_once_however_many_vms_get_it(center, monkeypatch):
    asked = []
    really = _opener.Openers.call

    def call(self, root, module, arguments, deadline):
        asked.append(arguments["path"])
        return really(self, root, module, arguments, deadline)

    monkeypatch.setattr(_opener.Openers, "call", call)
    with _opener.Openers() as openers:
        checks = _checker.Checks("structure", 10, openers)
        assert [checks.check(str(center), path, MODEL) for path in ("acme/m", "acme/m", "acme", "acme/m")] == [
            NOTHING
        ] * 4
    assert asked == ["acme/m", "acme"]


def test_storage_that_does_not_answer_is_asked_once(center, monkeypatch):
    monkeypatch.setattr(_child, "_START", SLEEP)
    began = time.monotonic()
    with _opener.Openers() as openers:
        checks = _checker.Checks("structure", 0.5, openers)
        found = [checks.check(str(center), path, MODEL) for path in ("acme/m", "acme", "acme/x")]
    assert found == [_checker.Checked(None, errno.ETIMEDOUT)] * 3
    assert 0.5 <= time.monotonic() - began < 1.4


def test_no_descriptor_and_no_child_is_left(center):
    before = sorted(os.listdir("/proc/self/fd"))
    for _turn in range(2):
        with _opener.Openers() as openers, _reader.Reader(str(center), "acme/m", 10) as reader:
            _checker.Checks("manifest", 10, openers).check(str(center), "acme/m", MODEL)
            reader.files(resident=True)
        reader._child.wait(5)
    assert sorted(os.listdir("/proc/self/fd")) == before
