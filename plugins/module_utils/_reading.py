# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The child that reads whole models, by several threads; C(_reader) is its parent, and tells how they talk.

This module util is private to the collection.
"""

from __future__ import annotations

import concurrent.futures
import errno
import hashlib
import json
import os
import queue
import socket
import threading
import typing as t

from . import _content, _mountapi, _page_cache

MESSAGE = 64 << 10
_CHUNK = 4 << 20
# Seconds between two words of how far it is.
_TICK = 0.5

Message = dict[str, t.Any]


class Part(t.NamedTuple):
    """Bytes of a file, which must look as it was seen."""

    path: str
    begin: int
    end: int
    seen: _content.Seen


class How(t.NamedTuple):
    """How files are read.

    Attributes:
        jobs: by how many threads.
        digest: whether SHA-256 is made of each part.
        fresh: whether what is in memory of them is dropped first, so that the storage is asked.
        drop: whether they are dropped from memory again.
    """

    jobs: int
    digest: bool = False
    fresh: bool = False
    drop: bool = False


def serve(descriptor: int) -> None:
    """The child: do what the parent asks for, one thing after another, until it is gone."""
    connection = socket.socket(fileno=descriptor)
    try:
        _serve(connection)
    except _content.Refused as refused:
        code, what, files = refused.problem
        _end(connection, {"problem": [code, what, files[:1]]})
    except OSError as problem:
        _end(connection, {"error": problem.errno or errno.EIO, "file": problem.filename or ""})
    finally:
        # Nobody waits for threads that may be stuck.
        os._exit(0)


def _serve(connection: socket.socket) -> None:
    model = -1
    parts: list[Part] = []
    while True:
        message = connection.recv(MESSAGE)
        if not message:
            return
        request = json.loads(message)
        if "root" in request:
            model = _mountapi.open_beneath(_mountapi.open_directory(request["root"]), request["path"])
        elif "part" in request:
            path, begin, end, seen = request["part"]
            parts.append(Part(path, begin, end, _content.Seen(*seen)))
        elif "read" in request:
            _read(connection, model, parts, How(*request["read"]))
            parts = []
        else:
            _list(connection, model, request["resident"])


def _send(connection: socket.socket, message: Message) -> None:
    connection.send(json.dumps(message).encode())


def _end(connection: socket.socket, message: Message) -> None:
    """Send the last word. A socket that is closed with something unread takes it along, so the rest is read."""
    _send(connection, message)
    while connection.recv(MESSAGE):
        pass


def _list(connection: socket.socket, model: int, resident: bool) -> None:
    for path, seen in _content.files(model):
        _send(
            connection, {"file": path, "seen": seen, "resident": _resident(model, path, seen.size) if resident else 0}
        )
    _send(connection, {"done": True})


def _resident(model: int, path: str, size: int) -> int:
    descriptor = _content.open_file(model, path)
    try:
        return _page_cache.resident(descriptor, size)
    finally:
        os.close(descriptor)


def _read(connection: socket.socket, model: int, parts: t.Sequence[Part], how: How) -> None:
    readings = _Readings(model, how)
    # Not as a context: that waits for the others when one fails.
    pool = concurrent.futures.ThreadPoolExecutor(how.jobs)
    for part in parts:
        pool.submit(readings.read, part)
    for _part in parts:
        result = None
        while result is None:
            _send(connection, {"bytes": readings.done})
            result = readings.next(_TICK)
        if isinstance(result, Exception):
            raise result
        _send(connection, result)
    pool.shutdown()
    _send(connection, {"bytes": readings.done})
    _send(connection, {"done": True})


class _Readings:
    """What the threads share."""

    def __init__(self, model: int, how: How) -> None:
        self._model = model
        self._how = how
        self._results: queue.SimpleQueue[t.Union[Message, Exception]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._buffers = threading.local()
        self.done = 0

    def next(self, seconds: float) -> t.Union[Message, Exception, None]:
        """What came of the next part that is done; None when none is after some seconds."""
        try:
            return self._results.get(timeout=seconds)
        except queue.Empty:
            return None

    def read(self, part: Part) -> None:
        """Read a part in a thread."""
        try:
            descriptor = _content.open_file(self._model, part.path)
            try:
                digest = self._read(descriptor, part)
            finally:
                os.close(descriptor)
            self._results.put({"read": part.path, "sha256": digest})
        except OSError as problem:
            self._results.put(OSError(problem.errno, problem.strerror, part.path))
        except Exception as problem:
            self._results.put(problem)

    def _read(self, descriptor: int, part: Part) -> str:
        digest = hashlib.sha256()
        self._require_same(descriptor, part)
        if self._how.fresh:
            os.posix_fadvise(descriptor, part.begin, part.end - part.begin, os.POSIX_FADV_DONTNEED)
        position = part.begin
        while position < part.end:
            view = self._view()[: part.end - position]
            count = os.preadv(descriptor, [view], position)
            if count == 0:
                break
            if self._how.digest:
                digest.update(view[:count])
            if self._how.drop:
                os.posix_fadvise(descriptor, position, count, os.POSIX_FADV_DONTNEED)
            position += count
            with self._lock:
                self.done += count
        self._require_same(descriptor, part)
        return digest.hexdigest() if self._how.digest else ""

    def _view(self) -> memoryview:
        if not hasattr(self._buffers, "view"):
            self._buffers.view = memoryview(bytearray(_CHUNK))
        return t.cast(memoryview, self._buffers.view)

    def _require_same(self, descriptor: int, part: Part) -> None:
        if _content.state(os.fstat(descriptor)) != part.seen:
            problem = _content.Problem("model_damaged", "it changes while it is read", (part.path,))
            raise _content.Refused(problem)
