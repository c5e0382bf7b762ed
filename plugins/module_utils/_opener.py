# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The only code that touches storage, run in a process of its own that can be abandoned.

Looking at a path on storage whose server is gone may block for ever, and a blocked process cannot always
be killed. So a child does it and hands over what it opened; whoever asked gives up at a deadline. What a
late child opened goes with the child, and can change nothing.

Protocol: the child reads one JSON object from its standard input and answers over a socket with one JSON
object per path, in order, each with a descriptor where one was asked for.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import time
import typing as t

from . import _mountapi

_MESSAGE = 4096
_START = "import sys; sys.path[:0] = sys.argv[2:]; from {module} import serve; serve(int(sys.argv[1]))"


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


def look(root: str, paths: t.Sequence[str], deadline: float, clone: bool = False) -> list[Found]:
    """Open directories below a root, which no link may leave; the path C(.) is the root itself.

    Args:
        deadline: seconds for all of them together.
        clone: also hand over a read-only mount of each.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            # Executed, not forked, because the parent has threads; and with no descriptor of the parent's,
            # because a stuck child would keep the parent's output open.
            child = subprocess.Popen(  # pylint: disable=ansible-bad-function
                [sys.executable, "-I", "-c", _START.format(module=__name__), str(theirs.fileno()), *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        try:
            _ask(child, {"root": root, "paths": list(paths), "clone": clone})
            return _answers(ours, len(paths), time.monotonic() + deadline)
        finally:
            # Not waited for: a child that is stuck in the kernel would take us along. subprocess reaps it later.
            child.kill()
            child.poll()


def _ask(child: subprocess.Popen[bytes], request: dict[str, t.Any]) -> None:
    # The child reads all of it before it touches storage, so this cannot block for long.
    if child.stdin is not None:
        with contextlib.suppress(BrokenPipeError), child.stdin as pipe:
            pipe.write(json.dumps(request).encode())


def _answers(connection: socket.socket, count: int, end: float) -> list[Found]:
    found: list[Found] = []
    try:
        while len(found) < count:
            connection.settimeout(max(0.001, end - time.monotonic()))
            message, descriptors, _flags, _address = socket.recv_fds(connection, _MESSAGE, 1)
            if not message:
                break
            answer = json.loads(message)
            identity = tuple(answer["identity"]) if answer["identity"] else None
            found.append(Found(identity, answer["error"], descriptors[0] if descriptors else -1))
    except (socket.timeout, ConnectionError):
        pass
    return found + [Found(None, errno.ETIMEDOUT)] * (count - len(found))


def serve(descriptor: int) -> None:
    """The child: answer the one request of the parent."""
    with socket.socket(fileno=descriptor) as connection:
        request = json.load(sys.stdin)
        try:
            root = _mountapi.open_directory(request["root"])
        except OSError as problem:
            for _path in request["paths"]:
                connection.send(_message(None, problem.errno))
            return
        for path in request["paths"]:
            _serve_one(connection, root, path, request["clone"])


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
