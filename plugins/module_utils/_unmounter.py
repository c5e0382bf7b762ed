# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unmounting storage, in a process of its own that can be abandoned.

Whoever takes away the last mount of some storage has its client end the session, lazily or not, and may wait for a
server that is frozen for as long as it is: NFS 4.1 and later do. The mount has left the mount table by then.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import subprocess
import threading
import typing as t

from . import _child, _mountapi, _mountinfo

# File systems that wait for nobody but a disk of this host.
_LOCAL = frozenset("btrfs erofs ext2 ext3 ext4 f2fs iso9660 overlay ramfs squashfs tmpfs xfs".split())
# Seconds for one of the others, when a model is taken away.
_WAIT = 5.0
_MESSAGE = 32 << 10


class Unmounter:
    """A child that unmounts one thing after another, made when it is first needed.

    Threads may share one. Once it does not answer it is left behind, and the next is made.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: t.Optional[tuple[socket.socket, subprocess.Popen[bytes]]] = None

    def unmount(self, path: str, deadline: float, lazy: bool = False) -> int:
        """Unmount what is seen at a path.

        Args:
            deadline: seconds after which the process is killed, and left behind if that does not end it.

        Returns:
            An errno, 0 for success, ETIMEDOUT at the deadline.
        """
        with self._lock:
            self._child = self._child or _child.start(__name__)
            connection = self._child[0]
            try:
                connection.settimeout(deadline)
                connection.send(json.dumps({"path": path, "lazy": lazy}).encode())
                answer = connection.recv(_MESSAGE)
            except socket.timeout:
                self._abandon()
                return errno.ETIMEDOUT
            except ConnectionError:
                answer = b""
            if not answer:
                self._abandon()
                return errno.EIO
            return int(json.loads(answer)["error"])

    def _abandon(self) -> None:
        if self._child is None:
            return
        connection, child = self._child
        self._child = None
        _child.abandon(connection, child)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.2)


_shared = Unmounter()


def unmount(path: str, deadline: float, lazy: bool = False) -> int:
    """As C(Unmounter.unmount), by the child that all of this process share."""
    return _shared.unmount(path, deadline, lazy)


def take_away(mount: _mountinfo.Mount, lazy: bool = False) -> None:
    """Take a mount away that nothing lies over, without waiting for a server.

    Raises:
        OSError: EBUSY for one that is in use, when it is not done lazily; ETIMEDOUT for one that stays.
    """
    path = mount.mount_point
    if mount.fstype in _LOCAL:
        _mountapi.unmount(path, lazy)
        return
    error = unmount(path, _WAIT, lazy)
    # What is gone from the table is gone, whoever still waits for its server.
    if error and not (error == errno.ETIMEDOUT and mount not in _mountinfo.at(path)):
        raise OSError(error, os.strerror(error), path)


def serve(descriptor: int) -> None:
    """The child: unmount what it is told to until the parent is gone, and answer with the errno."""
    with socket.socket(fileno=descriptor) as connection:
        while True:
            message = connection.recv(_MESSAGE)
            if not message:
                return
            request = json.loads(message)
            error = 0
            try:
                _mountapi.unmount(request["path"], lazy=request["lazy"])
            except OSError as problem:
                error = problem.errno or errno.EIO
            connection.send(json.dumps({"error": error}).encode())
