# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Sources: the read-only binds below our state directory that virtiofsd is given.

C(/var/lib/modelfleet/vms/VM UUID/TOKEN) is the same path on every host, which migration needs.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import errno
import os
import typing as t

from . import _identity, _mountapi, _mountinfo, _opener, _unmounter

STATE_DIRECTORY = "/var/lib/modelfleet"
VMS_DIRECTORY = f"{STATE_DIRECTORY}/vms"
# Bound, read-only, where a model should be whose storage is down: a VM starts and sees an empty directory.
EMPTY_DIRECTORY = f"{STATE_DIRECTORY}/empty"

_ENFORCED = frozenset(("ro", "nosuid", "nodev"))


def path(vm: str, mount: str) -> str:
    """Where the source of a mount is; both are UUIDs."""
    return f"{VMS_DIRECTORY}/{vm}/{_identity.token(mount)}"


# Only root may enter the directory of the VMs: a user of the host has no business in a VM's models.
_DIRECTORIES = {STATE_DIRECTORY: 0o755, VMS_DIRECTORY: 0o700, EMPTY_DIRECTORY: 0o555}


def missing_directories() -> list[str]:
    """Those of the directories that all sources lie in that are not there."""
    return [directory for directory in _DIRECTORIES if not os.path.isdir(directory)]


def make_directories() -> None:
    """Make what all sources lie in."""
    for directory in missing_directories():
        os.makedirs(directory, exist_ok=True)
        os.chmod(directory, _DIRECTORIES[directory])


def enforced(mount: _mountinfo.Mount) -> bool:
    """Whether a mount is read-only, nosuid and nodev, as every source must be."""
    return _ENFORCED <= mount.options


def empty_identity() -> t.Optional[tuple[int, int]]:
    """Device and inode number of the empty directory."""
    try:
        status = os.stat(EMPTY_DIRECTORY)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def bind(tree: int, target: str) -> None:
    """Show a detached read-only mount at a source path, in the place of what is there, and close its descriptor."""
    try:
        unbind(target)
        os.makedirs(target, 0o755, exist_ok=True)
        _mountapi.attach(tree, target)
    finally:
        os.close(tree)


def empty_clone() -> int:
    """A detached read-only mount of the empty directory."""
    directory = _mountapi.open_directory(EMPTY_DIRECTORY)
    try:
        return _mountapi.read_only_clone(directory)
    finally:
        os.close(directory)


def bind_empty(target: str) -> None:
    """Show the empty directory at a source path."""
    bind(empty_clone(), target)


def unbind(target: str) -> None:
    """Unmount whatever is at a source path and remove the directory, and the VM's when it was the last."""
    try:
        # Nothing asks what is bound there: its storage may be dead.
        if os.path.basename(target) not in os.listdir(os.path.dirname(target)):
            return
    except FileNotFoundError:
        return
    for mount in reversed(_mountinfo.at(target)):
        try:
            _unmounter.take_away(mount)
        except OSError as problem:
            if problem.errno != errno.EBUSY:
                raise
            # Whoever still has a file open in it keeps what it has; nobody finds it any more.
            _unmounter.take_away(mount, lazy=True)
    with contextlib.suppress(OSError):
        os.rmdir(target)
        os.rmdir(os.path.dirname(target))


class Look(t.Protocol):
    """Opens directories below a root; C(_opener.look), or that of an opener which is shared."""

    def __call__(
        self, root: str, paths: t.Sequence[str], deadline: float, clone: bool = False
    ) -> list[_opener.Found]: ...


def keep(source: str, deadline: float, look: Look = _opener.look) -> int:
    """A descriptor of what is bound at a source path, to bind it again later; -1 when its storage does not answer."""
    return look(VMS_DIRECTORY, [os.path.relpath(source, VMS_DIRECTORY)], deadline, clone=True)[0].tree


def look_at(
    center: str, paths: t.Sequence[str], deadline: float, clone: bool = False, look: Look = _opener.look
) -> list[_opener.Found]:
    """Open models below the mount point of a center; `error` is EXDEV for one that is its root or outside of it."""
    root, *found = look(center, [".", *paths], deadline, clone)
    close(root.tree)
    return [_not_the_root(item, root) for item in found]


def close(tree: int) -> None:
    """Let go of a mount that nobody has attached."""
    if tree >= 0:
        os.close(tree)


def _not_the_root(found: _opener.Found, root: _opener.Found) -> _opener.Found:
    if found.identity is None or found.identity != root.identity:
        return found
    close(found.tree)
    return _opener.Found(None, errno.EXDEV)
