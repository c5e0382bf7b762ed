# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is in the directory of a model, and whether that is whole."""

from __future__ import annotations

import errno
import os

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _content, _mountapi
from ansible_collections.modelfleet.kvm.tests.unit import weights

FIRST, SECOND, INDEX = "model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"


@pytest.fixture
def directory(tmp_path):
    """A model that is whole, in a model center with others."""
    weights.publish(tmp_path / "model")
    weights.publish(tmp_path / "other")
    return tmp_path / "model"


@pytest.fixture
def opened(directory):
    """A descriptor of its directory."""
    descriptor = _mountapi.open_directory(str(directory))
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def problem(opened):
    """What is wrong with it: the code, the words, the files."""

    def problem():
        with pytest.raises(_content.Refused) as refused:
            _content.require_structure(opened)
        return tuple(refused.value.problem)

    return problem


def test_a_whole_model_passes(opened):
    _content.require_structure(opened)


def test_shards_that_are_missing_are_named(directory, problem):
    (directory / FIRST).unlink()
    (directory / SECOND).unlink()
    what = f"it is not there, and {INDEX} names it"
    assert problem() == ("model_incomplete", what, (FIRST, SECOND))


def test_a_shard_below_the_index_is_found(directory, opened, problem):
    (directory / "unet").mkdir()
    (directory / "unet" / "u.safetensors.index.json").write_bytes(weights.index("parts/1"))
    assert problem()[2] == ("unet/parts/1",)
    (directory / "unet" / "parts").mkdir()
    (directory / "unet" / "parts" / "1").write_bytes(b"not looked into: nothing says that it is safetensors")
    _content.require_structure(opened)


def test_a_torn_file_is_named(directory, problem):
    size = (directory / SECOND).stat().st_size
    os.truncate(directory / SECOND, size - 1)
    what = f"it has {size - 1} bytes, and by its header {size}"
    assert problem() == ("model_damaged", what, (SECOND,))


def test_a_torn_file_deeper_down_is_named(directory, problem):
    (directory / "a" / "b" / "c").mkdir(parents=True)
    (directory / "a" / "b" / "c" / "x.safetensors").write_bytes(b"\x01")
    assert problem()[2] == ("a/b/c/x.safetensors",)


def test_what_is_deeper_or_beyond_many_names_is_not_looked_at(directory, opened, monkeypatch):
    (directory / "a" / "b" / "c" / "d").mkdir(parents=True)
    (directory / "a" / "b" / "c" / "d" / "x.safetensors").write_bytes(b"")
    _content.require_structure(opened)
    monkeypatch.setattr(_content, "_SHORT_NAMES", 0)
    (directory / FIRST).write_bytes(b"")
    _content.require_structure(opened)


@pytest.mark.parametrize("name", [".x.safetensors", "._model.safetensors.index.json", "x.safetensors.part"])
def test_what_systems_keep_beside_files_is_no_weight(name, directory, opened):
    (directory / name).write_bytes(b"?")
    _content.require_structure(opened)


LINKS = {
    "inside": (None, "parts/w", ""),
    "dangling": ("model_incomplete", "nowhere", "it is not there"),
    "loop": ("model_incomplete", "x.safetensors", "it is a link to itself"),
    "out": ("model_incomplete", f"../other/{FIRST}", "it is a link that leads out of the model"),
    "absolute": ("model_incomplete", "/etc/passwd", "it is a link that leads out of the model"),
    "directory": ("model_damaged", "parts", "it is not a file"),
}


@pytest.mark.parametrize("link", LINKS)
def test_links_are_what_a_vm_finds_behind_them(link, directory, opened, problem):
    code, target, what = LINKS[link]
    (directory / "parts").mkdir()
    (directory / "parts" / "w").write_bytes(weights.safetensors(w=b"1"))
    (directory / "x.safetensors").symlink_to(target)
    if code is None:
        _content.require_structure(opened)
    else:
        assert problem() == (code, what, ("x.safetensors",))


def test_a_model_in_a_cache_of_the_hub_needs_its_links_resolved(tmp_path, problem, directory):
    """A snapshot there is a directory of links to blobs beside it, which a VM does not get."""
    (tmp_path / "blobs").mkdir()
    (directory / FIRST).rename(tmp_path / "blobs" / "0a")
    (directory / FIRST).symlink_to("../blobs/0a")
    what = f"it is a link that leads out of the model, and {INDEX} names it"
    assert problem() == ("model_incomplete", what, (FIRST,))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "directory"])
def test_what_is_no_file_is_not_opened(make, directory, problem):
    (directory / FIRST).unlink()
    make(directory / FIRST)
    assert problem()[:2] == ("model_damaged", f"it is not a file, and {INDEX} names it")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", weights.index("../other/model-1.safetensors")], ids=ascii)
def test_an_index_that_is_none_is_named(content, directory, problem):
    (directory / INDEX).write_bytes(content)
    code, _what, files = problem()
    assert (code, files) == ("model_damaged", (INDEX,))


def test_an_index_has_a_greatest_size(directory, problem, monkeypatch):
    monkeypatch.setattr(_content._safetensors, "INDEX_MAX", 10)
    assert problem() == ("model_damaged", "it has more than 10 bytes", (INDEX,))


def test_an_index_names_not_ever_so_many_files(directory, problem, monkeypatch):
    monkeypatch.setattr(_content._safetensors, "SHARDS_MAX", 1)
    assert problem() == ("model_damaged", "it names more than 1 files", (INDEX,))


def test_headers_and_indexes_of_a_model_have_a_greatest_size(directory, opened, problem, monkeypatch):
    header = len(weights.safetensors(weight=b"1" * 3000)) - 3000 - 8
    length = (directory / INDEX).stat().st_size + 2 * header
    monkeypatch.setattr(_content._safetensors, "HEADER_MAX", length)
    _content.require_structure(opened)
    monkeypatch.setattr(_content._safetensors, "HEADER_MAX", length - 1)
    assert problem()[:2] == ("model_damaged", "its headers and indexes are larger than those of any model")


def fail(monkeypatch, number, *names):
    """Have the storage fail for files of some names."""
    really = _mountapi.open_in_tree

    def open_in_tree(directory, path):
        if path in names:
            raise OSError(number, os.strerror(number), path)
        return really(directory, path)

    monkeypatch.setattr(_mountapi, "open_in_tree", open_in_tree)


@pytest.mark.parametrize("path", [".", FIRST, INDEX])
def test_a_failure_of_the_storage_is_not_the_models(path, opened, monkeypatch):
    fail(monkeypatch, errno.EIO, path)
    with pytest.raises(OSError) as raised:
        _content.require_structure(opened)
    assert raised.value.errno == errno.EIO


@pytest.mark.parametrize("path", [".", FIRST, INDEX])
def test_what_only_a_vm_may_read_is_left_to_it(path, opened, monkeypatch):
    fail(monkeypatch, errno.EACCES, path)
    _content.require_structure(opened)


def test_what_is_mounted_in_a_model_is_not_there(directory, opened, monkeypatch, problem):
    (directory / "sub").mkdir()
    (directory / "sub" / "x.safetensors").write_bytes(b"?")
    assert problem()[2] == ("sub/x.safetensors",)
    fail(monkeypatch, errno.EXDEV, "sub")
    _content.require_structure(opened)
    assert "sub/x.safetensors" not in dict(_content.files(opened))


def test_all_files_are_listed_with_what_tells_their_states_apart(directory, opened):
    (directory / ".hidden").mkdir()
    (directory / ".hidden" / "\udcff\n").write_bytes(b"12")
    (directory / "link").symlink_to(FIRST)
    (directory / "round").symlink_to(".hidden")
    os.mkfifo(directory / "pipe")
    found = dict(_content.files(opened))
    names = [".hidden/\udcff\n", "config.json", "link", FIRST, SECOND, INDEX]
    assert list(found) == names
    for name in names:
        status = os.stat(directory / name)
        assert found[name] == (status.st_size, status.st_mtime_ns, status.st_ino)
    assert found["link"] == found[FIRST]


@pytest.mark.parametrize("target", ["nowhere", "../other", "link"])
def test_a_link_that_leads_nowhere_in_a_vm_is_named(target, directory, opened):
    (directory / "link").symlink_to(target)
    with pytest.raises(_content.Refused) as refused:
        list(_content.files(opened))
    assert (refused.value.problem.code, refused.value.problem.files) == ("model_incomplete", ("link",))


def test_a_model_is_no_library(directory, opened, monkeypatch):
    monkeypatch.setattr(_content, "_NAMES", 4)
    assert len(list(_content.files(opened))) == 4
    (directory / "one.more").write_bytes(b"")
    with pytest.raises(_content.Refused, match="more than 4 files"):
        list(_content.files(opened))


def test_directories_in_directories_have_an_end(directory, opened, monkeypatch):
    monkeypatch.setattr(_content, "_DEPTH", 2)
    (directory / "a" / "b").mkdir(parents=True)
    assert len(list(_content.files(opened))) == 4
    (directory / "a" / "b" / "c").mkdir()
    with pytest.raises(_content.Refused, match="2 directories"):
        list(_content.files(opened))


def test_no_descriptor_is_left_open(directory, opened, problem):
    (directory / FIRST).unlink()
    (directory / "x.safetensors").symlink_to("nowhere")
    os.mkfifo(directory / "y.safetensors")
    before = sorted(os.listdir("/proc/self/fd"))
    problem()
    with pytest.raises(_content.Refused):
        list(_content.files(opened))
    assert sorted(os.listdir("/proc/self/fd")) == before
