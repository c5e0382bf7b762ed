# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds for every value that somebody gives: it is refused with one code, or it can be used anywhere."""

from __future__ import annotations

import dataclasses
import posixpath
import re
import unicodedata
import xml.etree.ElementTree as ET

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.modelfleet.kvm.plugins.module_utils import _arguments, _filters, _input, _storage, _wanted
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit.builders import CENTER
from ansible_collections.modelfleet.kvm.tests.unit.properties import (
    HOSTILE,
    NAMES,
    PATHS,
    STRANGE_PATHS,
    UUIDS,
    examples,
)

PLAIN = {
    _input.name: r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}",
    _input.model_name: r"[A-Za-z0-9][A-Za-z0-9._+-]*(/[A-Za-z0-9][A-Za-z0-9._+-]*)*",
    _input.version: r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}",
    _input.tag: r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}",
    _input.uuid: r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}",
}
PATH_CHECKS = [_input.absolute_path, _input.relative_path, _input.mount_path, _input.mount_point]
SYSTEM = "bin boot dev etc lib lib64 proc sbin sys".split()


def accepted(check, value):
    """What a check makes of a value, None when it refuses it as every check must."""
    try:
        return check("some_option", value)
    except ModelfleetError as problem:
        assert problem.code == "invalid_input"
        assert "some_option" in problem.msg and len(problem.msg) < 600
        assert problem.msg.isprintable()
        return None


def survives_every_format(text):
    """A text that comes back the same from XML, UTF-8, a line of a unit file and a terminal."""
    assert not {unicodedata.category(character) for character in text} & {"Cc", "Cs", "Zl", "Zp"}
    # systemd ignores a line with a noncharacter (utf8_is_valid).
    assert not any(ord(character) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(character) <= 0xFDEF for character in text)
    xml = ET.tostring(ET.Element("a", {"b": text}), encoding="unicode")
    assert ET.fromstring(xml).get("b") == text
    assert text.encode().decode() == text and len(text.splitlines()) == 1


@pytest.mark.parametrize("check", PLAIN, ids=lambda check: check.__name__)
@given(value=st.one_of(HOSTILE, NAMES, UUIDS, UUIDS.map(str.upper)))
@examples(250)
def test_what_must_be_plain_is_plain(check, value):
    result = accepted(check, value)
    if result is not None:
        assert re.fullmatch(PLAIN[check], result) and len(result) <= 255
        assert result.lower() == value.lower() and accepted(check, result) == result


@pytest.mark.parametrize("check", PATH_CHECKS, ids=lambda check: check.__name__)
@given(value=st.one_of(PATHS, STRANGE_PATHS, STRANGE_PATHS.map(lambda path: path[1:])))
@example(value="/models/\ufdd0")
@example(value="/models/\U0001fffe/x")
@example(value="//")
@examples(400)
def test_paths_are_normal_or_refused(check, value):
    result = accepted(check, value)
    if result is None:
        return
    survives_every_format(result)
    assert posixpath.normpath(result) == result and ".." not in result.split("/")
    assert len(result.encode()) <= 1024 and all(len(part.encode()) <= 255 for part in result.split("/"))
    assert posixpath.isabs(result) == (check is not _input.relative_path)
    assert [part for part in value.split("/") if part] == [part for part in result.split("/") if part]
    assert accepted(check, result) == result
    if check in (_input.mount_path, _input.mount_point):
        assert result not in ("/", "/usr", "/var", "/home", "/root") and result.split("/")[1] not in SYSTEM
    if check is _input.mount_point:
        assert not re.match(r"/(run|usr|var/log|var/lib/libvirt)/", result)
        assert not result.startswith("/var/lib/modelfleet/vms")


@given(value=st.one_of(HOSTILE, UUIDS.map(str.upper)))
@examples(250)
def test_names_of_vms_can_be_looked_up(value):
    result = accepted(_input.vm_name, value)
    if result is not None:
        survives_every_format(result)
        assert result and "/" not in result and accepted(_input.vm_name, result) == result


@given(value=st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), HOSTILE), st.lists))
@examples(60)
def test_trimming_is_done_after_the_first_time(value):
    once = _input.trimmed(value)
    assert _input.trimmed(once) == once
    if isinstance(once, str):
        assert once and once in value and once.strip() == once


@given(urls=st.one_of(PATHS, STRANGE_PATHS), scheme=st.sampled_from(["file://", "FILE://", "", "nfs4://", "file:"]))
@examples(300)
def test_urls_of_storage_name_one_directory_or_are_refused(urls, scheme):
    try:
        result = _storage.check(scheme + urls)
    except ModelfleetError as problem:
        assert problem.code == "invalid_input" and problem.msg.isprintable()
        return
    assert re.fullmatch(r"file:///[A-Za-z0-9_.~%/-]+", result) and _storage.check(result) == result
    mount = _storage.definition(dataclasses.replace(CENTER, storage_url=result))
    survives_every_format(mount.what)
    assert mount.what == _storage.directory(result) == posixpath.normpath(mount.what) and mount.what.startswith("/")
    assert mount.what != "/" and mount.what.split("/")[1] not in ("boot", "dev", "etc", "proc", "sys")


ENTRIES = st.fixed_dictionaries(
    {
        name: st.one_of(st.none(), usual, HOSTILE)
        for name, usual in {
            "vm": st.sampled_from(["a", "b"]),
            "model": NAMES,
            "model_version": NAMES,
            "model_uuid": UUIDS,
            "model_center": NAMES,
            "model_path": STRANGE_PATHS.map(lambda path: path[1:]),
            "mount_path": STRANGE_PATHS,
            "tag": NAMES,
            "account_uuid": UUIDS,
            "owner": NAMES,
        }.items()
        if name in _arguments.mount()
    }
)


@given(entries=st.lists(ENTRIES, max_size=4), present=st.booleans(), persistence=st.sampled_from(["auto", "systemd"]))
@examples(120)
def test_entries_are_complete_or_refused(entries, present, persistence):
    entries = [{**entry, "guest": "agent", "persistence": persistence} for entry in _input.trimmed(entries)]
    try:
        wanted = _wanted.from_params({"mounts": entries}, present)
    except ModelfleetError as problem:
        assert problem.code in ("invalid_input", "duplicate_mount")
        return
    assert len(wanted) == len(entries)
    for mount in wanted:
        assert mount.vm or mount.model
        if present:
            assert mount.vm and mount.model and mount.model_center and mount.model_path and mount.mount_path
    places = sorted((mount.vm, f"{mount.mount_path}/") for mount in wanted if present)
    for (vm, path), (other, below) in zip(places, places[1:]):
        assert vm != other or not below.startswith(path)


@given(option=st.sampled_from(_filters.OPTIONS), values=st.lists(st.one_of(st.none(), HOSTILE, NAMES)), text=HOSTILE)
@example(option="mount_paths", values=["/srv/[a-z]"], text="/srv/b")
@examples(250)
def test_filters_match_or_are_refused(option, values, text):
    values = _input.trimmed(values)
    try:
        filters = _filters.from_params({option: values})
    except ModelfleetError as problem:
        assert problem.code == "invalid_input" and option in problem.msg and problem.msg.isprintable()
        return
    chosen = getattr(filters, option)
    if any(values):
        assert [value.text for value in chosen] and all(isinstance(value.matches(text), bool) for value in chosen)
        assert all(value.matches(value.text) for value in chosen)
    else:
        assert chosen == (() if values == [] else None)


@given(stars=st.integers(1, 16), ending=st.sampled_from(["", "b", "[!a]", "?"]))
@examples(40)
def test_no_pattern_takes_long(stars, ending):
    filters = _filters.from_params({"mount_paths": ["a*" * stars + "a" * 900 + ending]})
    assert filters.mount_paths is not None
    # The deadline of an example is the assertion.
    filters.mount_paths[0].matches("a" * 1023)
