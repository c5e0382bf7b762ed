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
# Its own /proc, which a virtiofsd keeps open after it has left the mount table that this stood in.
_OWN_PROC = re.compile(r"/[0-9]+/(?:fd|task|mountinfo)\Z")
_PROC = "/proc"
_POLL = 0.02


def mount_ids(source: str, bind: str) -> frozenset[int]:
    """By which numbers the processes of a daemon have a bind mounted.

    Args:
        source: what the daemon was given.
        bind: where the model is bound on the host.
    """
    return frozenset(
        mount.mount_id
        for pid in _virtiofsd.processes(source)
        for mount in _mountinfo.read(pid)
        if mount.mount_point == _views.in_daemon(bind)
    )


def is_served(source: str, gone: str, shown: str, ids: t.Optional[frozenset[int]]) -> bool:
    """Whether any process of a daemon still has something of what was bound for a mount.

    Args:
        source: what the daemon was given.
        gone: the beginning of all places at which models were bound for the mount.
        shown: where the model is bound that it may have, nothing for none.
        ids: by which numbers it had what was unbound; None when nobody knows, as after a run that was killed. Then
            any file counts that is open on a mount that is in no mount table.
    """
    beginning, allowed = _views.in_daemon(gone), shown and _views.in_daemon(shown)
    on_host = {mount.mount_id for mount in _mountinfo.read()} if ids is None else set()
    for pid in _virtiofsd.processes(source):
        table = {mount.mount_id: mount.mount_point for mount in _mountinfo.read(pid)}
        if any(point.startswith(f"{beginning}-") and point != allowed for point in table.values()):
            return True
        for number, is_model in _open_files(pid):
            # A number can be used again, once nobody has the mount any more.
            if number not in table and (is_model and number not in on_host if ids is None else number in ids):
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


def _open_files(pid: str) -> t.Iterator[tuple[int, bool]]:
    """The number of the mount of each descriptor of a process, and whether it may be a file of a model."""
    directory = f"{_PROC}/{pid}"
    try:
        descriptors = os.listdir(f"{directory}/fd")
    except OSError:
        # It has ended meanwhile.
        return
    for descriptor in descriptors:
        with contextlib.suppress(OSError):
            with open(f"{directory}/fdinfo/{descriptor}", encoding="ascii") as file:
                text = file.read()
            mount, flags = _MOUNT.search(text), _FLAGS.search(text)
            if mount and flags:
                path = os.readlink(f"{directory}/fd/{descriptor}")
                # A model is only ever opened for reading; the memory of a VM, of which a daemon has files too, is not.
                reads = int(flags.group(1), 8) & os.O_ACCMODE == os.O_RDONLY
                yield int(mount.group(1)), reads and path.startswith("/") and not _OWN_PROC.match(path)
