# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The safetensors format: whole files pass, torn ones do not, and hostile ones do no harm."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.modelfleet.kvm.plugins.module_utils import _safetensors as s
from ansible_collections.modelfleet.kvm.tests.unit import weights
from ansible_collections.modelfleet.kvm.tests.unit.properties import examples


def check(file: bytes) -> None:
    """What is done with a file."""
    length = s.header_length(file[: s.PREFIX], len(file))
    s.require_size(s.file_size(file[s.PREFIX : s.PREFIX + length]), len(file))


files = st.dictionaries(st.text(min_size=1, max_size=20), st.binary(max_size=50), max_size=5).map(
    lambda tensors: weights.safetensors(**tensors)
)


@examples(100)
@given(files)
def test_whole_files_pass(file):
    check(file)


@examples(200)
@given(files, st.data())
def test_a_file_that_was_cut_off_is_damaged(file, data):
    size = data.draw(st.integers(0, len(file) - 1))
    with pytest.raises(s.Damaged):
        check(file[:size])


@examples(100)
@given(files, st.binary(min_size=1, max_size=20))
def test_a_file_with_more_behind_it_is_damaged(file, more):
    with pytest.raises(s.Damaged):
        check(file + more)


@examples(300)
@given(st.binary(max_size=200))
def test_any_bytes_are_damaged_or_whole(file):
    try:
        check(file)
    except s.Damaged as problem:
        assert str(problem)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)
tensor = st.fixed_dictionaries({}, optional={"data_offsets": json_values, "dtype": json_values, "shape": json_values})


@examples(300)
@given(json_values | st.dictionaries(st.text(max_size=12), json_values | tensor, max_size=4), st.binary(max_size=50))
def test_any_header_is_damaged_or_whole(header, data):
    try:
        check(weights.with_header(json.dumps(header).encode(), data))
    except s.Damaged as problem:
        assert str(problem)


@examples(300)
@given(json_values | st.fixed_dictionaries({"weight_map": json_values | st.dictionaries(st.text(), st.text())}))
def test_an_index_names_files_below_it_or_is_damaged(index):
    try:
        names = s.shards(json.dumps(index).encode())
    except s.Damaged:
        return
    for name in names:
        assert name and not name.startswith("/") and ".." not in name.split("/") and "\0" not in name


def test_an_index_names_each_file_once():
    assert s.shards(weights.index("b", "a", "b", "c/d")) == ["a", "b", "c/d"]


NAMES = ["../x", "/etc/passwd", "a/../b", "", ".", "a//b", "a/", "x\0y", "\ud800"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_an_index_that_names_something_else_is_damaged(name):
    with pytest.raises(s.Damaged, match="outside"):
        s.shards(weights.index("a", name))


ENTRY = b'{"a": {"data_offsets": [%s]}}'
DAMAGED = {
    b"": "ends after 0 bytes",
    b"\x05\0\0": "ends after 3 bytes",
    (1 << 63).to_bytes(8, "little"): "does not begin with the length",
    (s.HEADER_MAX + 1).to_bytes(8, "little"): "does not begin with the length",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n": "pointer of Git LFS",
    weights.with_header(b"{}")[:9]: "its header needs 10 bytes, and the file has 9",
    weights.with_header(b"[]"): "not a JSON object",
    weights.with_header(b" {}"): "not a JSON object",
    weights.with_header(b"{"): "not JSON",
    weights.with_header(b'{"a": NaN}'): "not JSON",
    weights.with_header(b'{"a": "\xff"}'): "not JSON",
    weights.with_header(b'{"a": 1}'): "where its tensors are",
    weights.with_header(ENTRY % b"0"): "where its tensors are",
    weights.with_header(ENTRY % b"0, 1, 2"): "where its tensors are",
    weights.with_header(ENTRY % b"0, 1.0"): "where its tensors are",
    weights.with_header(ENTRY % b"false, true"): "where its tensors are",
    weights.with_header(ENTRY % b"3, 2"): "ends before it begins",
    weights.with_header(ENTRY % b"-1, 2"): "ends before it begins",
    weights.with_header(ENTRY % b"0, 18446744073709551615"): "by its header",
}


@pytest.mark.parametrize("file", DAMAGED, ids=lambda file: ascii(file[:40]))
def test_a_damaged_file_says_why(file):
    with pytest.raises(s.Damaged, match=DAMAGED[file]):
        check(file)


BOMBS = {
    "deep": b'{"a":' + b"[" * 5_000_000,
    "deep objects": b'{"a":' * 2_000_000,
    "a long number": b'{"a": ' + b"9" * 5_000_000 + b"}",
    "a long negative number": b'{"a": {"data_offsets": [-' + b"9" * 5_000_000 + b", 0]}}",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_is_damaged_at_once(bomb):
    began = time.monotonic()
    with pytest.raises(s.Damaged):
        s.file_size(BOMBS[bomb])
    with pytest.raises(s.Damaged):
        s.shards(BOMBS[bomb])
    assert time.monotonic() - began < 5
