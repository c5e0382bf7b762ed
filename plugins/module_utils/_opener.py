# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The only code that touches storage, run in a process of its own that can be abandoned.

Looking at a path on storage whose server is gone may block for ever, and a blocked process cannot always
be killed. So a child does it and hands over what it opened; whoever asked gives up at a deadline. What a
late child opened goes with the child, and can change nothing.

Protocol: over a socket, one JSON object per message. First the root, then path after path, each answered with one
object, and a descriptor where one was asked for; or modules to import, whose C(answer) is told the rest of the message.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import socket
import threading
import time
import typing as t

from . import _child, _mountapi

# Paths of up to 4096 bytes, each of which may become six characters.
_MESSAGE = 192 << 10

Answer = dict[str, t.Any]


class Found(t.NamedTuple):
    """What a path on storage turned out to be.

    Attributes:
        identity: device and inode number of the directory, None when it could not be opened.
        error: errno of the failure, 0 for none; ETIMEDOUT when the storage did not answer by the deadline.
        tree: descriptor of a read-only detached mount of the directory, -1 when none was asked for or got.
            The caller closes it.
    """

    identity: t.Optional[tuple[int, int]]
    error: int
    tree: int = -1


class Opener:
    """A child that opens directories below a root, which no link may leave; the path C(.) is the root itself.

    Threads may share one; they are served one after another. Once the storage did not answer in time nothing more is
    asked of it, so that many who want something of it wait for one deadline, not each for their own.
    """

    def __init__(self, root: str) -> None:
        self._lock = threading.Lock()
        self._gave_up = False
        self._ours, self._child = _child.start(__name__)
        with contextlib.suppress(ConnectionError):
            self._ours.send(json.dumps({"root": root}).encode())

    def look(self, paths: t.Sequence[str], deadline: float, clone: bool = False) -> list[Found]:
        """Open directories.

        Args:
            deadline: seconds for all of them together.
            clone: also hand over a read-only mount of each.
        """
        end = time.monotonic() + deadline
        found: list[Found] = []
        with self._lock:
            while len(found) < len(paths) and not self._gave_up:
                answer = self._ask(paths[len(found)], clone, end)
                self._gave_up = answer is None
                found += [answer] if answer else []
        return found + [Found(None, errno.ETIMEDOUT)] * (len(paths) - len(found))

    def call(self, module: str, arguments: Answer, deadline: float) -> t.Optional[Answer]:
        """Have a module look at something below the root.

        Args:
            module: its name; its C(answer) gets a descriptor of the root, or why there is none, and the arguments.

        Returns:
            What it answered, None for nothing by the deadline.
        """
        with self._lock:
            if self._gave_up:
                return None
            asked = self._exchange({"module": module, "arguments": arguments}, time.monotonic() + deadline)
            self._gave_up = asked is None
            return asked and asked[0]

    def _ask(self, path: str, clone: bool, end: float) -> t.Optional[Found]:
        asked = self._exchange({"path": path, "clone": clone}, end)
        if asked is None:
            return None
        answer, descriptors = asked
        identity = tuple(answer["identity"]) if answer["identity"] else None
        return Found(identity, answer["error"], descriptors[0] if descriptors else -1)

    def _exchange(self, request: Answer, end: float) -> t.Optional[tuple[Answer, list[int]]]:
        try:
            self._ours.settimeout(max(0.001, end - time.monotonic()))
            self._ours.send(json.dumps(request).encode())
            message, descriptors, _flags, _address = socket.recv_fds(self._ours, _MESSAGE, 1)
        except (socket.timeout, ConnectionError):
            return None
        return (json.loads(message), descriptors) if message else None

    def close(self) -> None:
        """End the child. It is not waited for: one that is stuck in the kernel would take us along."""
        _child.abandon(self._ours, self._child)


class Openers:
    """One opener per root, made when it is first needed, for as long as a run lasts."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._openers: dict[str, Opener] = {}

    def look(self, root: str, paths: t.Sequence[str], deadline: float, clone: bool = False) -> list[Found]:
        """As C(Opener.look)."""
        return self._of(root).look(paths, deadline, clone)

    def call(self, root: str, module: str, arguments: Answer, deadline: float) -> t.Optional[Answer]:
        """As C(Opener.call)."""
        return self._of(root).call(module, arguments, deadline)

    def _of(self, root: str) -> Opener:
        with self._lock:
            if root not in self._openers:
                self._openers[root] = Opener(root)
            return self._openers[root]

    def __enter__(self) -> Openers:
        return self

    def __exit__(self, *_failure: object) -> None:
        for opener in self._openers.values():
            opener.close()


def look(root: str, paths: t.Sequence[str], deadline: float, clone: bool = False) -> list[Found]:
    """As C(Opener.look), with a child for this once."""
    with Openers() as openers:
        return openers.look(root, paths, deadline, clone)


def serve(descriptor: int) -> None:
    """The child: answer the parent until it is gone."""
    with socket.socket(fileno=descriptor) as connection:
        root: t.Union[int, OSError] = OSError(errno.EINVAL, "")
        while True:
            message = connection.recv(_MESSAGE)
            if not message:
                return
            request = json.loads(message)
            if "root" in request:
                try:
                    root = _mountapi.open_directory(request["root"])
                except OSError as problem:
                    root = problem
            elif "module" in request:
                answer = importlib.import_module(request["module"]).answer(root, **request["arguments"])
                connection.send(json.dumps(answer).encode())
            elif isinstance(root, OSError):
                connection.send(_message(None, root.errno))
            else:
                _serve_one(connection, root, request["path"], request["clone"])


def _serve_one(connection: socket.socket, root: int, path: str, clone: bool) -> None:
    try:
        directory = _mountapi.open_beneath(root, path)
    except OSError as problem:
        connection.send(_message(None, problem.errno))
        return
    try:
        status = os.fstat(directory)
        identity = (status.st_dev, status.st_ino)
        if not clone:
            connection.send(_message(identity, 0))
            return
        tree = _mountapi.read_only_clone(directory)
        socket.send_fds(connection, [_message(identity, 0)], [tree])
        os.close(tree)
    except OSError as problem:
        connection.send(_message(None, problem.errno))
    finally:
        os.close(directory)


def _message(identity: t.Optional[tuple[int, int]], error: t.Optional[int]) -> bytes:
    return json.dumps({"identity": identity, "error": error or 0}).encode()
