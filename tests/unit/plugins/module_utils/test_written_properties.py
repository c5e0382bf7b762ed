# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds for everything that is written for others to parse: shells, fstab, systemd, cloud-init."""

from __future__ import annotations

import json
import re
import shlex

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _center_unit,
    _centers,
    _input,
    _mount_lines,
    _storage,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit.properties import HOSTILE, NAMES, STRANGE_PATHS, examples

LONG = st.sampled_from(["/" + "l" * 255, "/" + "\xe9" * 127, "/" + "/".join("d" * 9 for _each in range(60))])


def usable(check, path):
    try:
        return check("path", path)
    except ModelfleetError:
        return None


# Whatever the checks of input let through must be written down so that it is read as it was.
PATHS = st.one_of(STRANGE_PATHS, LONG, HOSTILE.map(lambda text: f"/{text}"))
MOUNT_PATHS = PATHS.map(lambda path: usable(_input.mount_path, path)).filter(bool)
MOUNT_POINTS = PATHS.map(lambda path: usable(_input.mount_point, path)).filter(bool)


def settings_of(unit):
    """The sections of a unit as systemd reads them (systemd.syntax(7)), with specifiers resolved."""
    sections = {}
    for line in unit.split("\n"):
        assert not line.endswith("\\"), "systemd would join the next line"
        if line.startswith("["):
            section = sections.setdefault(line, {})
            if line.startswith("[X-"):
                # Left to others, by systemd.
                break
        elif line and line[0] not in "#;":
            name, _equals, value = line.partition("=")
            assert not re.search(r"%[^%]", value.replace("%%", "")), "a specifier"
            section[name] = value.strip(" \t").replace("%%", "%")
    return sections


def path_of_unit(name):
    """What C(systemd-escape --unescape --path) makes of the name of a unit."""
    plain = name[: -len(".mount")].replace("-", "/").encode()
    return b"/" + re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found.group(1), 16)]), plain)


@given(tag=NAMES, path=MOUNT_PATHS)
@examples(200)
def test_a_shell_and_fstab_and_cloud_init_read_the_path(tag, path):
    lines = _mount_lines.mount_lines(tag, path)
    made, mounted = lines["command"].split(" && mount ")
    assert shlex.split(made) == ["mkdir", "-p", path]
    assert shlex.split(mounted) == ["-t", "virtiofs", "-o", "ro,nosuid,nodev", tag, path]
    fields = re.split("[ \t]", lines["fstab"])
    unescaped = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), fields[1])
    assert (fields[0], unescaped, len(fields)) == (tag, path, 6)
    first, second, rest = lines["cloud_init"].split("\n")
    assert (first, rest, second[:4]) == ("mounts:", "", "  - ")
    assert json.loads(second[4:]) == fields and second.isascii()
    assert _mount_lines.stands_in_fstab(f"# {path}\n{lines['fstab']}\n", path)


@given(tag=NAMES, path=MOUNT_PATHS)
@examples(200)
def test_systemd_in_the_guest_reads_the_path(tag, path):
    unit = _mount_lines.unit(tag, path, b.VM)
    assert _mount_lines.mount_of_unit(unit) == b.VM
    mount = settings_of(unit)["[Mount]"]
    assert (mount["What"], mount["Where"], mount["Type"]) == (tag, path, "virtiofs")
    if _mount_lines.can_be_unit(path):
        name = _mount_lines.unit_name(path)
        assert re.fullmatch(r"[A-Za-z0-9:_.\\-]{1,249}\.mount", name) and name[0] != "."
        assert path_of_unit(name) == path.encode()
    else:
        assert _mount_lines.mount_lines(tag, path)["systemd"] == ""


@given(text=HOSTILE, path=MOUNT_PATHS)
@examples(200)
def test_only_our_own_units_are_ours(text, path):
    assert _mount_lines.mount_of_unit(text) is None
    assert _mount_lines.mount_of_unit(_mount_lines.unit("x", path)) is None
    assert isinstance(_mount_lines.stands_in_fstab(text, path), bool)


@given(name=NAMES, directory=MOUNT_PATHS, mount_point=MOUNT_POINTS, read_only=st.booleans())
@examples(200)
def test_the_unit_of_a_model_center_is_its_record(name, directory, mount_point, read_only):
    try:
        url = _storage.check("file://" + "".join(f"%{byte:02X}" for byte in directory.encode()).replace("%2F", "/"))
    except ModelfleetError as problem:
        assert problem.code == "invalid_input"
        return
    center = _centers.Center(name, b.VM, url, mount_point, read_only)
    text = _center_unit.render(center)
    assert _centers.parse("x.mount", text) == center
    mount = settings_of(text)["[Mount]"]
    assert (mount["What"], mount["Where"], mount["Type"]) == (directory, mount_point, "none")
    assert mount["Options"] == f"bind,{'ro' if read_only else 'rw'},nosuid,nodev"


@given(
    center=st.just(b.CENTER),
    cuts=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 40), HOSTILE), min_size=1, max_size=4),
)
@examples(200)
def test_a_damaged_unit_is_no_record_or_refused(center, cuts):
    text = _center_unit.render(center)
    for place, length, insertion in cuts:
        text = text[:place] + insertion + text[place + length :]
    try:
        found = _centers.parse("x.mount", text)
    except ModelfleetError as problem:
        assert problem.code == "center_unreadable"
        return
    assert found is None or isinstance(found, _centers.Center)
