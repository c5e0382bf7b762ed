# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lines with which a guest mounts by itself, for paths that need every kind of escape."""

from __future__ import annotations

import configparser
import json
import posixpath
import re
import shlex

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _mount_lines
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError

UUID = "3d1f7a52-64f0-4a0e-9d6b-0d5a1f2c7e11"
# Paths, with the names that `systemd-escape --path --suffix=mount` gives them.
PATHS = {
    "/srv/ai/guard": "srv-ai-guard.mount",
    "/srv/a b/c": r"srv-a\x20b-c.mount",
    "/srv/100%/%n": r"srv-100\x25-\x25n.mount",
    "/srv/a-b\\c": r"srv-a\x2db\x5cc.mount",
    "/.srv/.x_y:z": r"\x2esrv-.x_y:z.mount",
    "/srv/'q\"$(id)`;&|<>*?#!~": r"srv-\x27q\x22\x24\x28id\x29\x60\x3b\x26\x7c\x3c\x3e\x2a\x3f\x23\x21\x7e.mount",
    "/srv/模型/é": r"srv-\xe6\xa8\xa1\xe5\x9e\x8b-\xc3\xa9.mount",
    "/" + "x" * 248: "x" * 248 + ".mount",
}


def octal(field):
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), field)


@pytest.mark.parametrize("path", PATHS)
def test_the_name_of_a_unit_is_the_one_that_systemd_demands(path):
    assert _mount_lines.unit_name(path) == PATHS[path]
    assert _mount_lines.mount_lines("guard-tag", path)["systemd"].startswith(f"# /etc/systemd/system/{PATHS[path]}\n")


@pytest.mark.parametrize("path", PATHS)
def test_a_shell_that_runs_the_command_sees_the_path(path):
    words = shlex.split(_mount_lines.mount_lines("guard-tag", path)["command"])
    assert words[:4] == ["mkdir", "-p", path, "&&"]
    assert words[4:] == ["mount", "-t", "virtiofs", "-o", "ro,nosuid,nodev", "guard-tag", path]


@pytest.mark.parametrize("path", PATHS)
def test_fstab_has_one_field_for_the_path(path):
    line = _mount_lines.mount_lines("guard-tag", path)["fstab"]
    fields = line.split()
    assert [fields[0], octal(fields[1]), *fields[2:]] == [
        "guard-tag",
        path,
        "virtiofs",
        "ro,nosuid,nodev,nofail",
        "0",
        "0",
    ]
    assert _mount_lines.stands_in_fstab(f"# comment\n\n  {line}\n", path)


@pytest.mark.parametrize("path", PATHS)
def test_cloud_init_has_the_fields_of_fstab(path):
    lines = _mount_lines.mount_lines("guard-tag", path)
    head, entry, end = lines["cloud_init"].split("\n")
    assert (head, entry[:4], end) == ("mounts:", "  - ", "")
    assert " ".join(json.loads(entry[4:])) == lines["fstab"]


@pytest.mark.parametrize("path", PATHS)
def test_a_unit_names_the_path_without_specifiers(path):
    parser = configparser.RawConfigParser(delimiters="=", comment_prefixes="#", strict=True)
    parser.optionxform = str
    parser.read_string(_mount_lines.unit("guard-tag", path, UUID))
    mount = dict(parser["Mount"])
    assert mount["Where"].replace("%%", "") == path.replace("%", "")
    assert mount["Where"].count("%%") * 2 == mount["Where"].count("%") == path.count("%") * 2
    assert (mount["What"], mount["Type"], mount["Options"]) == ("guard-tag", "virtiofs", "ro,nosuid,nodev")


@pytest.mark.parametrize("path", ["/" + "x" * 250, "/" + "模" * 30, "/a" * 126])
def test_a_path_that_is_too_long_for_a_unit_is_refused_and_has_the_other_lines(path):
    with pytest.raises(ModelfleetError) as caught:
        _mount_lines.unit_name(path)
    assert caught.value.code == "invalid_input" and "mount_path" in caught.value.msg
    lines = _mount_lines.mount_lines("guard-tag", path)
    assert lines["systemd"] == "" and path in lines["fstab"]


@pytest.mark.parametrize("path", PATHS)
def test_a_shell_that_makes_the_link_sees_both_paths(path):
    words = shlex.split(_mount_lines.mount_lines("modelfleet", "/models", (path, f"/models/.at{path}"))["link"])
    assert words == ["mkdir", "-p", posixpath.dirname(path), "&&", "ln", "-s", f"/models/.at{path}", path]


@pytest.mark.parametrize("path", PATHS)
def test_the_line_for_tmpfiles_reads_back_in_all_versions(path):
    line = _mount_lines.mount_lines("modelfleet", "/models", (path, f"/models/.at{path}"))["tmpfiles"]
    # In quotes these two escapes are read alike, whether all of C's are known or not.
    letter, quoted, argument = re.fullmatch(r'(L) "((?:[^"\\]|\\["\\])*)" - - - - (\S+)', line).groups()
    assert re.sub(r"\\(.)", r"\1", quoted).replace("%%", "%") == path
    plain = re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found.group(1), 16)), argument)
    assert plain.replace("%%", "%") == f"/models/.at{path}"
    assert letter == "L" and quoted.count("%") == 2 * path.count("%")


def test_where_no_link_is_needed_no_line_makes_one():
    lines = _mount_lines.mount_lines("modelfleet", "/models")
    assert (lines["link"], lines["tmpfiles"]) == ("", "")


def test_only_a_unit_of_ours_carries_the_mark():
    assert _mount_lines.mount_of_unit(_mount_lines.unit("guard-tag", "/srv", UUID)) == UUID
    assert _mount_lines.mount_of_unit(_mount_lines.mount_lines("guard-tag", "/srv")["systemd"]) is None
    assert _mount_lines.mount_of_unit("\n" + _mount_lines.unit("guard-tag", "/srv", UUID)) is None
    assert _mount_lines.mount_of_unit("# modelfleet.kvm mount 7;") is None
    assert _mount_lines.mount_of_unit("") is None


@pytest.mark.parametrize(
    ("fstab", "expected"),
    [
        ("", False),
        ("x /srv/b virtiofs\n", False),
        ("#x /srv/a\\040b virtiofs\n  # x /srv/a\\040b\n", False),
        ("x /srv/a\\040b/c virtiofs\n", False),
        ("x /srv/a b virtiofs\n", False),
        ("x\t/srv/a\\040b\tvirtiofs\n", True),
        ("x /srv/a\\040b/", True),
    ],
)
def test_fstab_lines_are_found_by_their_path(fstab, expected):
    assert _mount_lines.stands_in_fstab(fstab, "/srv/a b") is expected


def test_a_blank_that_is_none_to_fstab_is_part_of_a_path():
    path = "/srv/a\xa0b"
    assert _mount_lines.stands_in_fstab(_mount_lines.mount_lines("guard-tag", path)["fstab"], path)
