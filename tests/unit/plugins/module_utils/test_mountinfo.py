# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _mountinfo

TABLE = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw
35 21 0:31 / /srv rw,nosuid - tmpfs tmpfs rw,size=64m
61 35 0:55 / /srv/ai/guard ro,nosuid,nodev,relatime shared:30 master:2 - virtiofs guard-tag rw
"""


def test_a_line_is_read_field_by_field():
    mount = _mountinfo.parse(TABLE)[2]
    assert mount == _mountinfo.Mount(
        mount_id=61,
        parent_id=35,
        device="0:55",
        root="/",
        mount_point="/srv/ai/guard",
        options=frozenset({"ro", "nosuid", "nodev", "relatime"}),
        propagation="shared:30 master:2",
        fstype="virtiofs",
        source="guard-tag",
        super_options=frozenset({"rw"}),
    )
    assert mount.shows == ("0:55", "/")


def test_optional_fields_may_be_missing():
    srv = _mountinfo.parse(TABLE)[1]
    assert (srv.propagation, srv.fstype, srv.source) == ("", "tmpfs", "tmpfs")


def test_the_kernel_s_escapes_are_undone():
    line = r"40 21 0:41 /a\040b /mnt/tab\011new\012back\134slash\043 rw - ext4 /dev/disk\040one rw"
    (mount,) = _mountinfo.parse(line)
    assert mount.root == "/a b"
    assert mount.mount_point == "/mnt/tab\tnew\nback\\slash#"
    assert mount.source == "/dev/disk one"


def test_an_escaped_backslash_does_not_start_another_escape():
    (mount,) = _mountinfo.parse(r"40 21 0:41 / /mnt/\134040 rw - ext4 /dev/vdb rw")
    assert mount.mount_point == r"/mnt/\040"


def test_lines_that_are_no_mounts_are_left_out():
    garbage = [
        "",
        " ",
        "-",
        "nonsense",
        "a b c d e f - g h",
        "40 21 0:41 / /mnt rw",
        "40 21 0:41 / /mnt rw -",
        "40 21 0:41 / /mnt rw - ext4",
        "40 x 0:41 / /mnt rw - ext4 /dev/vdb rw",
        "\0" * 100,
        " ".join("-" * 50),
    ]
    mounts = _mountinfo.parse("\n".join([*garbage, TABLE, *garbage]))
    assert [mount.mount_point for mount in mounts] == ["/", "/srv", "/srv/ai/guard"]


def test_a_guest_cannot_make_one_mount_look_like_two():
    line = "61 35 0:55 / /srv/x\\012{n}\\04035\\0400:9\\040/\\040/srv/ai/guard ro - virtiofs{n}guard-tag rw"
    for character in ("\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\r"):
        assert len(_mountinfo.parse(line.replace("{n}", character))) == 1


def test_a_line_ends_where_the_kernel_ends_it():
    # Only space, tab, newline, backslash and hash are escaped; all else stands as it is.
    names = ["a\x0bb", "a\x0cb", "a\x1cb", "a\x85b", "a\u2028b", "a\rb"]
    table = "".join(f"{index} 21 0:41 / /mnt/{name} rw - ext4 /dev/vdb rw\n" for index, name in enumerate(names, 40))
    assert [mount.mount_point for mount in _mountinfo.parse(table)] == [f"/mnt/{name}" for name in names]


def test_the_last_mount_at_a_path_is_the_one_that_is_seen():
    over = "70 61 0:60 / /srv/ai/guard rw - tmpfs cover rw\n"
    mounts = _mountinfo.parse(TABLE + over)
    assert _mountinfo.visible(mounts, "/srv/ai/guard").source == "cover"
    assert [mount.source for mount in _mountinfo.stack(mounts, "/srv/ai/guard")] == ["guard-tag", "cover"]


@pytest.mark.parametrize("path", ["/srv/ai", "/srv/ai/guard/", "/srv/ai/guard2", ""])
def test_only_the_very_path_counts(path):
    mounts = _mountinfo.parse(TABLE)
    assert _mountinfo.visible(mounts, path) is None
    assert _mountinfo.stack(mounts, path) == []


def test_the_table_of_this_process_has_a_root():
    assert _mountinfo.visible(_mountinfo.read(), "/") is not None
    assert _mountinfo.visible(_mountinfo.read(os.getpid()), "/") is not None


def test_a_process_that_is_gone_has_no_mounts():
    assert _mountinfo.read(2**22 + 1) == []


@pytest.mark.parametrize(
    ("options", "super_options", "read_only"),
    [
        ("ro,nosuid", "rw", True),
        ("rw", "ro,user_id=0", True),
        ("rw", "rw,errors=remount-ro", False),
        ("ro", "ro", True),
    ],
)
def test_read_only_may_be_said_of_the_mount_or_of_the_file_system(options, super_options, read_only):
    text = f"61 35 0:55 / /srv {options} - fuse.x y {super_options}"
    assert _mountinfo.parse(text)[0].read_only is read_only


SHADOWED = """\
21 1 8:1 / / rw - ext4 /dev/vda1 rw
35 21 0:31 / /srv rw - tmpfs tmpfs rw
61 35 0:55 / /srv/ai/guard ro - nfs4 a:/b rw
62 61 0:56 / /srv/ai/guard ro - nfs4 a:/c rw
"""


@pytest.mark.parametrize(
    ("more", "shadow"),
    [
        ("", None),
        ("70 35 0:70 / /srv/ai rw - tmpfs over rw", "over"),
        ("70 35 0:70 / /srv rw - tmpfs over rw", "over"),
        ("70 21 0:70 / / rw - tmpfs over rw", "over"),
        ("70 35 0:70 / /srv/a rw - tmpfs beside rw", None),
        ("70 35 0:70 / /srv/ai/gua rw - tmpfs beside rw", None),
        ("70 62 0:70 / /srv/ai/guard/x rw - tmpfs below rw", None),
    ],
)
def test_a_mount_may_be_hidden_by_one_further_up(more, shadow):
    mounts = _mountinfo.parse(SHADOWED + more)
    found = _mountinfo.shadow(mounts, _mountinfo.visible(mounts, "/srv/ai/guard"))
    assert (found.source if found else None) == shadow


@pytest.mark.parametrize("path", ["/srv/a b", "/srv/a\\b", "/srv/tab\tand\nline", "/srv/é", "/srv"])
def test_what_lies_at_a_path_is_found_however_the_kernel_writes_it(monkeypatch, path):
    written = "".join(f"\\{ord(each):03o}" if each in " \t\n\\" else each for each in path)
    lines = [
        f"61 35 0:55 / {written} ro - tmpfs lower rw",
        f"62 35 0:56 / {written}/below ro - tmpfs below rw",
        f"63 35 0:57 {written} /elsewhere ro - tmpfs source rw",
        f"64 61 0:58 / {written} ro - tmpfs upper rw",
    ]
    monkeypatch.setattr(_mountinfo, "_table", lambda pid: "\n".join([*lines, ""]))
    assert [mount.source for mount in _mountinfo.at(path)] == ["lower", "upper"]
    assert [mount.source for mount in _mountinfo.stack(_mountinfo.read(), path)] == ["lower", "upper"]
