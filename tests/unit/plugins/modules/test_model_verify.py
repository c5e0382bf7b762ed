# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models verified and prefetched where they are published."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import json
import os
import pathlib
import subprocess
from types import SimpleNamespace

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _locks,
    _manifest,
    _model_prefetch,
    _observed,
    _opener,
    _page_cache,
    _published,
    _reader,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._content import Problem, Seen
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.modules import model_prefetch, model_verify
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit import weights

ROOT = str(pathlib.Path(_reader.__file__).parents[5])


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """The directory of a model in a model center that is mounted."""
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.setattr(_manifest, "DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    held = _locks.held
    monkeypatch.setattr(_locks, "held", lambda names, deadline: held(names, deadline, str(tmp_path / "locks")))
    center = dataclasses.replace(b.CENTER, name="depot", mount_point=str(tmp_path / "center"))
    monkeypatch.setattr(_observed, "find_model", lambda *_asked: center)
    directory = tmp_path / "center" / "acme" / "m"
    weights.publish(directory)
    return directory


@pytest.fixture
def verify(directory, run_module):
    """Run the module for the model."""

    def verify(**arguments):
        return run_module(model_verify, model="acme/m", model_center="depot", timeout=10, **arguments)

    return verify


def sums(directory):
    """The digests of files, made by somebody else."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir()}


def test_the_first_run_makes_the_manifest_and_the_second_reads_nothing(verify, directory):
    first = verify()
    size = sum(path.stat().st_size for path in directory.iterdir())
    assert {entry["path"]: entry["sha256"] for entry in first["manifest"]} == sums(directory)
    assert [entry["path"] for entry in first["manifest"]] == sorted(sums(directory))
    assert (first["changed"], first["actions"], first["files"]) == (True, ["write_manifest"], 4)
    assert first["bytes"] == first["bytes_read"] == size
    shell = "find . -xtype f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum"
    by_others = subprocess.run(["sh", "-c", shell], cwd=directory, check=True, capture_output=True, text=True).stdout
    assert first["digest"] == by_others.split()[0]
    kept = pathlib.Path(first["manifest_file"])
    assert json.loads(kept.read_text())["model"] == {"model_center": "depot", "path": "acme/m", "version": ""}
    assert (kept.stat().st_mode & 0o777, kept.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    second = verify()
    assert (second["changed"], second["bytes_read"], second["bytes_per_second"]) == (False, 0, 0)
    assert (second["digest"], second["manifest"]) == (first["digest"], first["manifest"])
    assert verify(compare="size")["digest"] == first["digest"]


def test_check_mode_says_the_same_and_keeps_nothing(verify):
    predicted = verify(_ansible_check_mode=True, _ansible_diff=True)
    assert not pathlib.Path(predicted["manifest_file"]).exists()
    done = verify(_ansible_diff=True)
    for result in (predicted, done):
        del result["seconds"], result["bytes_per_second"]
    assert predicted == done
    assert done["diff"] == {
        "before": "",
        "after": "".join(f"{entry['sha256']}  {entry['path']}\n" for entry in done["manifest"]),
    }
    assert verify(_ansible_check_mode=True, _ansible_diff=True)["diff"] == {
        **done["diff"],
        "before": done["diff"]["after"],
    }


def test_every_version_has_a_manifest_of_its_own(verify):
    files = {verify(**version)["manifest_file"] for version in ({}, {"model_version": "v1"}, {"model_version": "v2"})}
    assert len(files) == 3


def failure(result):
    """What a run that failed says."""
    assert result["failed"]
    return result["error_code"], result["details"].get("files")


def write_unseen(path, content):
    """Change a file so that it looks as before."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_file_of_other_bytes_is_found_by_its_digest(verify, directory):
    kept = pathlib.Path(verify()["manifest_file"])
    before = kept.read_bytes()
    (directory / "config.json").write_bytes(b"[]")
    for level in ({}, {"_ansible_check_mode": True}):
        assert failure(verify(**level)) == ("model_damaged", ["config.json"])
    # Nobody asked for what is found without reading it.
    assert verify(compare="size")["changed"] is False
    assert kept.read_bytes() == before
    write_unseen(directory / "config.json", b"{}")
    found = verify()
    assert (found["changed"], found["bytes_read"]) == (True, 2)
    assert verify()["changed"] is False


def test_decay_that_nothing_shows_is_found_by_reading_again(verify, directory):
    verify()
    write_unseen(directory / "config.json", b"[]")
    assert verify()["changed"] is False
    assert failure(verify(reread=True)) == ("model_damaged", ["config.json"])
    write_unseen(directory / "config.json", b"{}")
    found = verify(reread=True)
    assert (found["changed"], found["bytes_read"]) == (False, found["bytes"])


@pytest.mark.parametrize("level", ["size", "sha256"])
def test_files_that_are_missing_or_too_much_are_named(level, verify, directory):
    verify()
    (directory / "more.py").write_bytes(b"")
    assert failure(verify(compare=level)) == ("model_damaged", ["more.py"])
    (directory / "config.json").unlink()
    assert failure(verify(compare=level)) == ("model_incomplete", ["config.json"])


def test_the_manifest_is_made_anew_when_that_is_asked_for(verify, directory):
    first = verify()
    (directory / "config.json").write_bytes(b"[1]")
    (directory / "more.py").write_bytes(b"")
    renewed = verify(renew=True)
    assert (renewed["changed"], renewed["bytes_read"]) == (True, 3)
    assert renewed["digest"] != first["digest"]
    assert {entry["path"]: entry["sha256"] for entry in renewed["manifest"]} == sums(directory)
    assert verify(renew=True)["changed"] is False


def test_what_another_host_found_holds_here(verify, directory, tmp_path):
    manifest = verify()["manifest"]
    (tmp_path / "state" / os.listdir(tmp_path / "state")[0]).unlink()
    given = [{**entry, "sha256": entry["sha256"].upper()} for entry in manifest]
    assert verify(manifest=given)["changed"] is True
    assert verify(manifest=given)["changed"] is False
    (directory / "config.json").write_bytes(b"[]")
    assert failure(verify(manifest=given)) == ("model_damaged", ["config.json"])
    # What is given takes the place of what is kept, once it is true.
    for entry in given:
        if entry["path"] == "config.json":
            entry["sha256"] = hashlib.sha256(b"[]").hexdigest()
    assert verify(manifest=given)["changed"] is True
    assert verify()["changed"] is False


def test_a_manifest_may_leave_digests_and_sizes_out(verify, directory):
    given = [{"path": name} for name in sums(directory)]
    found = verify(manifest=given)
    assert {entry["path"]: entry["sha256"] for entry in found["manifest"]} == sums(directory)
    given[0]["size"] = 7
    assert failure(verify(manifest=given, compare="size"))[0] == "model_damaged"


@pytest.mark.parametrize(
    ("manifest", "option"),
    [
        ([], "manifest"),
        ([{"path": "../x"}], "manifest[0].path"),
        ([{"path": "/x"}], "manifest[0].path"),
        ([{"path": " "}], "manifest[0].path"),
        ([{"path": "a"}, {"path": "a"}], "manifest[1].path"),
        ([{"path": "a", "size": -1}], "manifest[0].size"),
        ([{"path": "a", "sha256": "0" * 63}], "manifest[0].sha256"),
        ([{"path": "a", "sha256": "0" * 64 + "\nx"}], "manifest[0].sha256"),
    ],
    ids=str,
)
def test_a_manifest_that_cannot_be_one_is_refused(manifest, option, verify):
    result = verify(manifest=manifest)
    assert (result["error_code"], result["details"]["option"]) == ("invalid_input", option)


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        ({"model": "../x"}, "model"),
        ({"model": " "}, "model"),
        ({"model_center": "a/b"}, "model_center"),
        ({"model_center": ""}, "model_center"),
        ({"model_path": "a/../b"}, "model_path"),
        ({"model_version": "a b"}, "model_version"),
        ({"jobs": 0}, "jobs"),
        ({"jobs": 33}, "jobs"),
        ({"timeout": 0}, "timeout"),
    ],
    ids=str,
)
@pytest.mark.parametrize("module", [model_verify, model_prefetch], ids=["verify", "prefetch"])
def test_options_that_cannot_be_used_are_refused(module, arguments, option, directory, run_module):
    result = run_module(module, **{"model": "m", "model_center": "depot", **arguments})
    assert (result["error_code"], result["details"]["option"]) == ("invalid_input", option)


def test_a_manifest_is_given_or_made(verify):
    assert verify(manifest=[{"path": "a"}], renew=True)["details"]["option"] == "renew"


@pytest.mark.parametrize("module", [model_verify, model_prefetch], ids=["verify", "prefetch"])
def test_other_users_than_root_are_refused(module, directory, monkeypatch, run_module):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert run_module(module, model="m", model_center="depot")["error_code"] == "not_root"


@pytest.mark.parametrize("level", ["structure", "size", "sha256"])
def test_a_torn_model_is_refused_at_every_level(level, verify, directory):
    os.truncate(directory / "model-1.safetensors", 10)
    assert failure(verify(compare=level)) == ("model_damaged", ["model-1.safetensors"])
    assert failure(verify(compare=level, renew=True)) == ("model_damaged", ["model-1.safetensors"])


def test_structure_alone_makes_no_manifest(verify, directory):
    found = verify(compare="structure")
    assert (found["changed"], found["manifest"], found["digest"]) == (False, [], "")
    assert not os.path.exists(found["manifest_file"])


def test_sizes_need_a_manifest(verify):
    assert failure(verify(compare="size")) == ("model_unverified", None)


def test_an_empty_directory_is_no_model(verify, directory):
    for path in directory.iterdir():
        path.unlink()
    assert failure(verify()) == ("model_incomplete", None)


def test_a_manifest_that_is_damaged_is_not_made_anew(verify):
    kept = pathlib.Path(verify()["manifest_file"])
    kept.write_text("{")
    for level in ({}, {"compare": "size"}, {"renew": True}):
        assert verify(**level)["error_code"] == "manifest_invalid"
    assert kept.read_text() == "{"


def test_storage_that_fails_says_where(verify, monkeypatch):
    def files(self, resident=False):
        raise OSError(errno.EIO, "?", "model-1.safetensors")

    monkeypatch.setattr(_reader.Reader, "files", files)
    result = verify()
    assert (result["error_code"], result["details"]["path"]) == ("storage_error", "acme/m/model-1.safetensors")


def test_names_that_are_no_text_can_be_told(verify, directory):
    (directory / "x\udcff\n").write_bytes(b"1")
    assert [entry["path"] for entry in verify()["manifest"]][-1] == "x\\xff\n"
    (directory / "x\udcff\n").unlink()
    assert failure(verify()) == ("model_incomplete", ["x\\xff\n"])


def test_of_many_files_a_message_names_the_first():
    error = _published.refused("depot", "m", Problem("model_incomplete", "it is not there", tuple("abc")))
    assert error.msg.startswith("model center 'depot': m: 'a': it is not there, and 2 more. ")
    assert error.details == {"center": "depot", "path": "m", "file": "a", "files": ["a", "b", "c"], "count": 3}


GB = 1 << 30


@pytest.mark.parametrize(
    ("missing", "free", "available", "reserve", "evict", "why"),
    [
        (0, 0, 0, 0, 0, ""),
        (10, 0, 10, 0, None, ""),
        (11, 0, 10, 0, None, "reserve_mb"),
        (10, 10, 20, 10, 0, ""),
        (11, 10, 20, 10, None, "reserve_mb"),
        (11, 10, 20, 9, 0, "evict_mb"),
        (11, 10, 20, 9, 1, ""),
        (12, 10, 30, 0, 1, "evict_mb"),
        # Nothing to read needs no room.
        (0, 0, 5, 10, 0, ""),
    ],
)
def test_room_in_memory(missing, free, available, reserve, evict, why):
    memory = _page_cache.Memory(free * GB, available * GB)
    found = _model_prefetch.no_room(missing * GB, memory, reserve * GB, None if evict is None else evict * GB)
    assert (why in found) if why else (found == "")


def test_memory_is_what_the_kernel_says():
    text = "MemTotal:  100 kB\nMemFree:    10 kB\nMemAvailable:   30 kB\nHugePages_Total:   0\n"
    assert _page_cache.memory(text) == (10 << 10, 30 << 10)
    with open("/proc/meminfo", encoding="ascii") as file:
        free, available = _page_cache.memory(file.read())
    assert 0 < free and 0 < available


def test_great_files_are_read_in_parts():
    size = 600 << 20
    files = {
        "great": _reader.File(Seen(size, 1, 1), 5),
        "there": _reader.File(Seen(9, 1, 2), 9),
        "empty": _reader.File(Seen(0, 1, 3), 0),
    }
    ranges = [(part.path, part.begin >> 20, part.end >> 20) for part in _model_prefetch.parts(files, whole=False)]
    assert ranges == [("great", 0, 256), ("great", 256, 512), ("great", 512, 600)]
    assert [part.path for part in _model_prefetch.parts(files, whole=True)] == ["great"] * 3 + ["there"]


@pytest.fixture
def prefetch(directory, run_module):
    """Run the module for the model."""

    def prefetch(**arguments):
        arguments = {"reserve_mb": 0, "timeout": 10, **arguments}
        return run_module(model_prefetch, model="acme/m", model_center="depot", **arguments)

    return prefetch


def forget(directory):
    """Take the files of a directory out of memory, and say how many bytes that were."""
    for path in directory.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return sum(path.stat().st_size for path in directory.iterdir())


def can_be_forgotten(directory):
    """Whether this file system forgets."""
    forget(directory)
    with open(directory / "model-1.safetensors", "rb") as file:
        return _page_cache.resident(file.fileno(), 3000) == 0


def test_what_is_not_in_memory_is_read(prefetch, directory):
    if not can_be_forgotten(directory):
        pytest.skip("a file system that keeps everything in memory")
    size = forget(directory)
    predicted = prefetch(_ansible_check_mode=True)
    assert (predicted["changed"], predicted["bytes_read"], predicted["resident_bytes"]) == (True, size, 0)
    done = prefetch()
    assert (done["changed"], done["bytes"], done["bytes_read"]) == (True, size, size)
    assert (done["resident_bytes_before"], done["resident_bytes"]) == (0, size)
    again = prefetch()
    assert (again["changed"], again["bytes_read"], again["resident_bytes_before"]) == (False, 0, size)


def test_for_the_client_all_is_read_and_nothing_kept_in_memory(prefetch, directory):
    size = forget(directory)
    done = prefetch(into="client")
    assert (done["changed"], done["bytes_read"]) == (True, size)
    if can_be_forgotten(directory):
        assert prefetch(into="client")["resident_bytes"] == 0


def test_too_much_is_refused_before_anything_is_read(prefetch, directory, monkeypatch):
    monkeypatch.setattr(_reader.Reader, "read", None)
    monkeypatch.setattr(_page_cache, "memory", lambda _text: _page_cache.Memory(1000, 2000))
    monkeypatch.setattr(_page_cache, "resident", lambda *_asked: 0)
    forget(directory)
    if can_be_forgotten(directory):
        for check in (True, False):
            result = prefetch(_ansible_check_mode=check)
            assert result["error_code"] == "no_room_for_model"


def test_a_cache_that_is_too_small_for_it_is_refused(prefetch, directory, monkeypatch):
    with open(directory / "big", "wb") as file:
        file.truncate(3 << 20)
    center = dataclasses.replace(_observed.find_model(), cache_dir="/srv/cache", cache_size=3)
    monkeypatch.setattr(_observed, "find_model", lambda *_asked: center)
    assert prefetch(into="client")["error_code"] == "no_room_for_model"
    center = dataclasses.replace(center, cache_size=4)
    assert prefetch(into="client")["changed"] is True


@pytest.mark.parametrize("option", ["reserve_mb", "evict_mb"])
def test_sizes_that_cannot_be_are_refused(option, prefetch):
    assert prefetch(**{option: -1})["details"]["option"] == option


def test_what_the_host_did_not_keep_is_told():
    result = {"bytes": 10, "resident_bytes": 4}
    assert model_prefetch.warnings(result, "memory", False) == [
        "of 10 bytes that were read the host has kept 4 in memory"
    ]
    assert model_prefetch.warnings(result, "client", False) == model_prefetch.warnings(result, "memory", True) == []


def test_a_model_is_found_in_a_center_that_is_mounted(monkeypatch):
    found = {}
    monkeypatch.setattr(_observed, "_look_at_models", lambda *_asked: {KEY: found["view"]})
    monkeypatch.setattr(_observed._centers, "units", lambda: [SimpleNamespace(center=b.CENTER)])
    monkeypatch.setattr(_observed._mountinfo, "read", list)
    found["view"] = (1, 2)
    with _opener.Openers() as openers:
        assert _observed.find_model(KEY, 5, openers) == b.CENTER
        found["view"] = ModelfleetError("source_missing", "x")
        with pytest.raises(ModelfleetError):
            _observed.find_model(KEY, 5, openers)


KEY = _observed.ModelKey(b.CENTER.name, "m")
