# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whole models, listed and read by a child with several threads, which is given up when nothing moves any more.

However long it takes to read a model, a deadline is for the time in which not a byte comes.

Protocol: one JSON object per message. First C(root) and C(path). To C(resident) the child answers with C(file) after
C(file), to C(part) after C(part) and a C(read) with how many C(bytes) it has read so far, and with each part that it
has C(read); both end with C(done). A C(problem) or an C(error) is its last word.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
import typing as t

from . import _child, _reading
from ._content import Problem, Refused, Seen
from ._reading import How, Part


class File(t.NamedTuple):
    """A file of a model; `resident` are the bytes of it that are in memory, if that was asked."""

    seen: Seen
    resident: int


class Reader:
    """A child that reads one model.

    Args:
        root: the mount point of its center.
        deadline: seconds for which nothing may move.

    All methods raise C(Refused) for a model with a problem, and OSError, with ETIMEDOUT where nothing moved.
    """

    def __init__(self, root: str, path: str, deadline: float) -> None:
        self._deadline = deadline
        self._ours, self._child = _child.start(_reading.__name__)
        self._send({"root": root, "path": path})

    def files(self, resident: bool = False) -> dict[str, File]:
        """All files of the model by their paths, those of links to files as well.

        Args:
            resident: also tell how much of each is in memory.
        """
        self._send({"resident": resident})
        return {answer["file"]: File(Seen(*answer["seen"]), answer["resident"]) for answer in self._answers()}

    def read(self, parts: t.Iterable[Part], how: How, tell: t.Callable[[int], None]) -> dict[str, str]:
        """Read parts of files, the longest first; the digests of parts by their paths, where they were to be made.

        Args:
            tell: called again and again with the number of bytes that were read so far.
        """
        for part in sorted(parts, key=lambda part: part.begin - part.end):
            self._send({"part": part})
        self._send({"read": how})
        digests = {}
        for answer in self._answers():
            if "bytes" in answer:
                tell(answer["bytes"])
            else:
                digests[answer["read"]] = answer["sha256"]
        return digests

    def _send(self, message: t.Any) -> None:
        self._ours.settimeout(self._deadline)
        try:
            # If it has ended, its last word tells why.
            with contextlib.suppress(ConnectionError):
                self._ours.send(json.dumps(message).encode())
        except socket.timeout:
            raise _silent() from None

    def _answers(self) -> t.Iterator[dict[str, t.Any]]:
        moved, last = time.monotonic(), b""
        while True:
            message = self._receive(moved + self._deadline)
            # While nothing moves, the child says the same again and again.
            if message != last:
                moved, last = time.monotonic(), message
            answer = json.loads(message)
            if "done" in answer:
                return
            if "error" in answer:
                raise OSError(answer["error"], os.strerror(answer["error"]), answer["file"])
            if "problem" in answer:
                code, what, files = answer["problem"]
                raise Refused(Problem(code, what, tuple(files)))
            yield answer

    def _receive(self, end: float) -> bytes:
        self._ours.settimeout(max(0.001, end - time.monotonic()))
        try:
            message = self._ours.recv(_reading.MESSAGE)
        except socket.timeout:
            raise _silent() from None
        except ConnectionError:
            message = b""
        if not message:
            raise OSError(errno.EIO, "the process that reads has ended")
        return message

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_failure: object) -> None:
        _child.abandon(self._ours, self._child)


def _silent() -> OSError:
    return OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
