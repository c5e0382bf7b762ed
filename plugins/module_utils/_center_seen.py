# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether what is seen at the mount point of a model center is that center.

The mount table tells, without a question to any storage; only of a directory that is reached by symbolic links it
cannot.

This module util is private to the collection.
"""

from __future__ import annotations

import os
import posixpath
import typing as t

from . import _mountinfo, _opener, _storage
from ._centers import Center
from ._errors import ModelfleetError
from ._storage._backend import Definition, Shows


def why_not(center: Center, mounts: list[_mountinfo.Mount], deadline: float) -> str:
    """Why nobody finds a center at its mount point, for people; empty when it is there.

    A mount of somebody else's must never be taken for the center: its directories would be given to VMs as models.

    Args:
        mounts: the mount table.
        deadline: seconds for an answer, where the mount table does not tell.
    """
    mount = _mountinfo.visible(mounts, center.mount_point)
    if mount is None:
        return "nothing is mounted there"
    above = _mountinfo.shadow(mounts, mount)
    if above is not None:
        return hides(above)
    try:
        shows = _storage.definition(center).shows
    except ModelfleetError as problem:
        # The record of a storage that this release does not know.
        return problem.msg
    if not recognised(shows, mount):
        return instead(mount)
    known = not shows.directory or proves_directory(shows.directory, mount, mounts)
    return "" if known or same_directory(center, shows.directory, deadline) else "another directory is seen there"


def hides(above: _mountinfo.Mount) -> str:
    """What a mount further up does to a mount point, for people."""
    return f"{above.fstype} from {above.source} at {above.mount_point} hides it"


def instead(mount: _mountinfo.Mount) -> str:
    """What is seen that should not be, for people."""
    return f"{mount.fstype} from {mount.source} is seen there"


def recognised(shows: Shows, mount: _mountinfo.Mount) -> bool:
    """Whether the mount table shows what a definition makes; of a bind see C(proves_directory)."""
    if shows.fstypes and not any(_is_type(wanted, mount.fstype) for wanted in shows.fstypes):
        return False
    if shows.source and not matches(shows.source, mount.source):
        return False
    if shows.backing_file and _backing_file(mount.device) != shows.backing_file:
        return False
    return not shows.device or _device(shows.device) == mount.device


def _is_type(wanted: str, shown: str) -> bool:
    return shown.startswith(wanted) if wanted.endswith(".") else shown == wanted


def matches(wanted: str, shown: str) -> bool:
    """Whether a source is the wanted one, in which an asterisk at an end stands for anything."""
    if wanted.startswith("*"):
        return shown.endswith(wanted[1:])
    return shown.startswith(wanted[:-1]) if wanted.endswith("*") else shown == wanted


def _backing_file(device: str) -> str:
    try:
        with open(f"/sys/dev/block/{device}/loop/backing_file", encoding="utf-8", errors="surrogateescape") as file:
            return file.read().rstrip("\n")
    except OSError:
        return ""


def _device(path: str) -> str:
    try:
        number = os.stat(path).st_rdev
    except OSError:
        return ""
    return f"{os.major(number)}:{os.minor(number)}"


def access_right(center: Center, definition: Definition, mount: _mountinfo.Mount) -> bool:
    """Whether a mount is read-only as wanted, and safe."""
    if definition.adopted:
        # Of what somebody else mounts no more is asked than that nobody writes, where that is wanted.
        return mount.read_only or not center.read_only
    if mount.read_only != center.read_only:
        return False
    # A FUSE client decides itself what it makes of these; what a VM gets has them in any case.
    return bool(definition.command) or {"nosuid", "nodev"} <= mount.options


def proves_directory(directory: str, mount: _mountinfo.Mount, mounts: t.Iterable[_mountinfo.Mount]) -> bool:
    """Whether the mount table proves that a mount shows a directory; it does not where the path has symbolic links."""
    holders = [other for other in mounts if other != mount and _mountinfo.holds(other.mount_point, directory)]
    # The longest is the innermost, and of several over one another the last is seen.
    holder = max(reversed(holders), key=lambda other: len(other.mount_point), default=None)
    if holder is None:
        return False
    inside = posixpath.relpath(directory, holder.mount_point)
    return (mount.device, mount.root) == (holder.device, posixpath.normpath(posixpath.join(holder.root, inside)))


def same_directory(center: Center, directory: str, deadline: float) -> bool:
    """Whether a center shows a directory of this host, which is asked."""
    there = _opener.look(center.mount_point, ["."], deadline)[0].identity
    return there is not None and there == _opener.look(directory, ["."], deadline)[0].identity
