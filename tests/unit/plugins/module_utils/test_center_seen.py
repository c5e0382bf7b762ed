# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether what is seen at the mount point of a model center is that center."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _center_seen, _opener
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

FOREIGN = b.MOUNTED._replace(mount_id=51, parent_id=50, device="0:99", root="/", fstype="tmpfs", source="scratch")
NFS = dataclasses.replace(b.CENTER, storage_url="nfs://filer/vol")
NFS_MOUNT = b.MOUNTED._replace(device="0:60", root="/", fstype="nfs4", source="filer:/vol")
DISK = b.ROOT._replace(mount_id=60, parent_id=21, device="8:17", root="/volumes/a", mount_point="/data")


@pytest.fixture(autouse=True)
def asked(monkeypatch):
    """The directories that were asked who they are, and the answers: the same for all that are not in them."""
    answers = {}

    def look(root, paths, deadline):
        assert (paths, deadline) == (["."], 5)
        answers.setdefault(root, (1, 1))
        return [_opener.Found(answers[root], 0)]

    monkeypatch.setattr(_opener, "look", look)
    return answers


def why_not(*mounts, center=b.CENTER):
    return _center_seen.why_not(center, [b.ROOT, *mounts], 5)


@pytest.mark.parametrize(
    ("center", "mounts"),
    [
        (b.CENTER, [b.MOUNTED]),
        (NFS, [NFS_MOUNT]),
        # What lies below, or beside it, is of no concern.
        (NFS, [b.MOUNTED, NFS_MOUNT._replace(mount_id=51, parent_id=50)]),
        (b.CENTER, [b.MOUNTED, FOREIGN._replace(parent_id=21, mount_point="/mnt/depot-2")]),
        # The directory is on a disk of its own, of which a part is mounted.
        (b.CENTER, [DISK, b.MOUNTED._replace(device="8:17", root="/volumes/a/depot")]),
        (b.CENTER, [DISK._replace(mount_point="/data/depot"), b.MOUNTED._replace(device="8:17", root="/volumes/a")]),
        (dataclasses.replace(b.CENTER, storage_url="existing:///mnt/depot"), [FOREIGN]),
    ],
)
def test_what_a_center_makes_is_known_without_a_question_to_storage(center, mounts, asked):
    assert (why_not(*mounts, center=center), asked) == ("", {})


@pytest.mark.parametrize(
    ("center", "mounts", "why"),
    [
        (b.CENTER, [], "nothing is mounted there"),
        (NFS, [FOREIGN], "tmpfs from scratch is seen there"),
        (NFS, [NFS_MOUNT, FOREIGN], "tmpfs from scratch is seen there"),
        (NFS, [NFS_MOUNT._replace(source="filer:/other")], "nfs4 from filer:/other is seen there"),
        (
            NFS,
            [NFS_MOUNT, FOREIGN._replace(parent_id=21, mount_point="/mnt")],
            "tmpfs from scratch at /mnt hides it",
        ),
        (dataclasses.replace(b.CENTER, storage_url="existing:///mnt/depot?fstype=wekafs"), [FOREIGN], "tmpfs from"),
        (dataclasses.replace(b.CENTER, storage_url="later://depot"), [b.MOUNTED], "storage_url"),
    ],
)
def test_what_is_not_the_center_is_named_without_a_question_to_storage(center, mounts, why, asked):
    assert why in why_not(*mounts, center=center)
    assert asked == {}


@pytest.mark.parametrize("mount", [FOREIGN, b.MOUNTED._replace(root="/srv/big/depot"), b.MOUNTED._replace(root="/")])
def test_a_directory_that_may_have_been_reached_by_links_is_asked(mount, asked):
    assert why_not(mount) == ""
    assert set(asked) == {"/data/depot", "/mnt/depot"}
    asked["/mnt/depot"] = (1, 2)
    assert why_not(mount) == "another directory is seen there"
    asked["/mnt/depot"] = asked["/data/depot"] = None
    assert why_not(mount) == "another directory is seen there"


@pytest.mark.parametrize(
    ("url", "wanted", "options", "right"),
    [
        ("nfs://filer/vol", True, b.READ_ONLY, True),
        ("nfs://filer/vol", True, b.READ_WRITE, False),
        ("nfs://filer/vol", False, b.READ_ONLY, False),
        ("nfs://filer/vol", False, b.READ_WRITE, True),
        ("nfs://filer/vol", True, frozenset(("ro", "nosuid")), False),
        # What somebody else mounts must be read-only where that is wanted, and need not be anything else.
        ("existing:///mnt/depot", True, frozenset(("ro",)), True),
        ("existing:///mnt/depot", True, b.READ_WRITE, False),
        ("existing:///mnt/depot", False, frozenset(("ro",)), True),
        ("existing:///mnt/depot", False, b.READ_WRITE, True),
    ],
)
def test_a_center_is_read_only_where_that_is_wanted(url, wanted, options, right):
    center = dataclasses.replace(b.CENTER, storage_url=url, read_only=wanted)
    definition = _center_seen._storage.definition(center)
    assert _center_seen.access_right(center, definition, NFS_MOUNT._replace(options=options)) is right
