# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifests: what differs from them, and how they are kept."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.modelfleet.kvm.plugins.module_utils import _manifest as m
from ansible_collections.modelfleet.kvm.plugins.module_utils._content import Seen
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit.properties import HOSTILE, examples

names = st.one_of(HOSTILE, st.text(max_size=5)).filter(lambda name: "\0" not in name and _can_be_a_name(name))
sizes = st.integers(0, 1 << 60)
seen = st.builds(Seen, sizes, st.integers(-(1 << 60), 1 << 60), st.integers(0, (1 << 64) - 1))
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
manifests = st.dictionaries(names, st.builds(m.Digested, digests, seen), min_size=1, max_size=5)


def _can_be_a_name(name: str) -> bool:
    try:
        return bool(os.fsencode(name))
    except UnicodeEncodeError:
        return False


def state(manifest: m.Manifest) -> dict[str, Seen]:
    """The files of a manifest as they were seen."""
    return {name: file.seen for name, file in manifest.items()}


@examples(200)
@given(manifests)
def test_what_is_as_it_was_has_no_difference(manifest):
    assert m.changed(manifest, state(manifest)) is None
    assert m.unknown(manifest, state(manifest)) == []
    assert m.wrong(m.expected(manifest), {name: file.sha256 for name, file in manifest.items()}) is None


@examples(200)
@given(manifests)
def test_what_was_kept_is_what_is_loaded(manifest):
    assert m.parse(m.dump(manifest, {"path": "x"})) == manifest
    m.dump(manifest, {}).encode("ascii")


@examples(200)
@given(manifests, st.data())
def test_every_difference_is_told_with_its_file(manifest, data):
    name = data.draw(st.sampled_from(sorted(manifest)))
    files = state(manifest)
    kind = data.draw(st.sampled_from(["missing", "size", "time", "inode", "more", "bytes"]))
    if kind == "missing":
        del files[name]
    elif kind == "size":
        files[name] = files[name]._replace(size=files[name].size + 1)
    elif kind == "time":
        files[name] = files[name]._replace(mtime_ns=files[name].mtime_ns + 1)
    elif kind == "inode":
        files[name] = files[name]._replace(inode=files[name].inode + 1)
    elif kind == "more":
        name += "x"
        if name in files:
            return
        files[name] = Seen(1, 1, 1)
    else:
        sums = {other: file.sha256 for other, file in manifest.items()}
        problem = m.wrong(m.expected(manifest), {**sums, name: "0"})
        assert problem and (problem.code, problem.files) == ("model_damaged", (name,))
        return
    problem = m.changed(manifest, files)
    codes = {"missing": "model_incomplete", "time": "model_unverified", "inode": "model_unverified"}
    assert problem and (problem.code, problem.files) == (codes.get(kind, "model_damaged"), (name,))
    assert kind in ("missing",) or name in m.unknown(manifest, files)


FILES = {"a": Seen(1, 5, 7), "b": Seen(2, 5, 8)}


@pytest.mark.parametrize(
    ("wanted", "code", "what", "files"),
    [
        ({"a": (None, ""), "b": (2, "")}, None, "", ()),
        ({"a": (1, ""), "b": (2, ""), "d": (1, ""), "c": (1, "")}, "model_incomplete", "not there", ("c", "d")),
        ({"a": (3, ""), "b": (3, "")}, "model_damaged", "it has 1 bytes, and by the manifest 3", ("a", "b")),
        ({"a": (1, "")}, "model_damaged", "not in the manifest", ("b",)),
        ({}, "model_damaged", "not in the manifest", ("a", "b")),
    ],
)
def test_differences(wanted, code, what, files):
    problem = m.difference({name: m.Expected(*entry) for name, entry in wanted.items()}, FILES)
    if code is None:
        assert problem is None
    else:
        assert (problem.code, problem.files) == (code, files)
        assert what in problem.what


def test_a_digest_that_is_not_given_is_not_compared():
    wanted = {"a": m.Expected(None, ""), "b": m.Expected(None, "2")}
    assert m.wrong(wanted, {"a": "1", "b": "2"}) is None
    assert m.wrong(wanted, {"a": "1", "b": "3"}).files == ("b",)


def test_a_model_without_files_is_none():
    assert m.nothing({}).code == "model_incomplete"
    assert m.nothing(FILES) is None


def test_the_text_is_that_of_sha256sum(tmp_path):
    contents = {"b": b"1", "a": b"2", "sub/a": b"3", "back\\slash": b"4", "new\nline": b"5", "\udcff": b"6", "é": b"7"}
    (tmp_path / "sub").mkdir()
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    sums = {name: m.hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    ordered = sorted(contents, key=os.fsencode)
    printed = subprocess.run(["sha256sum", "--", *ordered], cwd=tmp_path, check=True, capture_output=True).stdout
    assert os.fsencode(m.text(sums)) == printed
    assert m.digest(sums) == m.hashlib.sha256(printed).hexdigest()


KEPT = json.loads(m.dump({"a": m.Digested("0" * 64, Seen(1, 2, 3))}, {}))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "{}"]
    + [json.dumps({**KEPT, "schema_version": 2}), json.dumps({**KEPT, "files": []})]
    + [
        json.dumps({**KEPT, "files": {"a": entry}})
        for entry in (None, [], ["0", 1, 2], ["0", 1, 2, 3, 4], ["0", "x", 1, 1])
    ],
)
def test_a_manifest_that_cannot_be_understood_is_never_taken_for_none(text, tmp_path):
    (tmp_path / "kept").write_text(text)
    with pytest.raises(ModelfleetError) as raised:
        m.load(str(tmp_path / "kept"))
    assert raised.value.code == "manifest_invalid"


def test_no_manifest_is_none(tmp_path):
    assert m.load(str(tmp_path / "kept")) is None
