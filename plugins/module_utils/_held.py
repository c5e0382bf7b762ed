# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the virtiofsd of a view still has of models that were unbound: in its mount tables, and in its open files.

A file that is open keeps the mount that it was opened on, also one that was unbound lazily and stands in no mount table
any more. Every descriptor names its mount by a number, so that no storage is asked, which may be dead.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import typing as t

from . import _mountinfo, _views, _virtiofsd

_MOUNT = re.compile(r"^mnt_id:\s*([0-9]+)$", re.MULTILINE)
_FLAGS = re.compile(r"^flags:\s*([0-7]+)$", re.MULTILINE)
_OWN_TABLE = re.compile(r"/[0-9]+/mountinfo\Z")
_PROC = "/proc"
_POLL = 0.02


def is_served(source: str, gone: str, shown: str) -> bool:
    """Whether any process of a daemon may still have something of what was bound for a mount.

    A mount that is in no mount table does not tell which model it was of. So any file that is open on such a mount
    counts, also of a model that was taken out of the view earlier and that somebody was left with.

    Args:
        source: what the daemon was given.
        gone: the beginning of all places at which models were bound for the mount.
        shown: where the model is bound that it may have, nothing for none.
    """
    beginning, allowed = _views.in_daemon(gone), shown and _views.in_daemon(shown)
    on_host = {mount.mount_id for mount in _mountinfo.read()}
    for pid in _virtiofsd.processes(source):
        table = {mount.mount_id: mount.mount_point for mount in _mountinfo.read(pid)}
        if any(point.startswith(f"{beginning}-") and point != allowed for point in table.values()):
            return True
        if not _models_open(pid).issubset({*table, *on_host}):
            return True
    return False


def wait_until_ended(pids: t.Collection[str], source: str, deadline: float) -> bool:
    """Wait for processes of a daemon to end; False when some have not at the deadline."""
    end = time.monotonic() + deadline
    while not set(pids).isdisjoint(_virtiofsd.processes(source)):
        if time.monotonic() > end:
            return False
        time.sleep(_POLL)
    return True


def _models_open(pid: str) -> set[int]:
    """The numbers of the mounts of which a process may have files of models open."""
    directory = f"{_PROC}/{pid}"
    found: set[int] = set()
    try:
        descriptors = os.listdir(f"{directory}/fd")
    except OSError:
        # It has ended meanwhile.
        return found
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            with open(f"{directory}/fdinfo/{descriptor}", encoding="ascii") as file:
                text = file.read()
            mount, flags = _MOUNT.search(text), _FLAGS.search(text)
            path = os.readlink(f"{directory}/fd/{descriptor}")
            if mount and flags and _may_be_model(path, int(flags.group(1), 8)):
                found.add(int(mount.group(1)))
    return found


def _may_be_model(path: str, flags: int) -> bool:
    """Whether an open file may be of a model (virtiofsd 7.2 in C, 1.13 in Rust); one that is has no name of its own.

    Beside models a daemon has the memory of its VM open, which is no file that it only reads, and a part of /proc that
    is in no mount table of its own either. What a guest looks up is opened in a way that follows no link, and is kept
    open as long as a file of it is.
    """
    if not path.startswith("/") or flags & os.O_ACCMODE != os.O_RDONLY:
        return False
    return bool(flags & os.O_NOFOLLOW) if flags & os.O_PATH else not _OWN_TABLE.match(path)
