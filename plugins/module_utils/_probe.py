# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Does a mount answer? Asked by a process of its own that can be abandoned, since whoever asks may hang for ever.

Success of one call proves nothing: attributes are cached, names are as well, and a client without its server still
answers for them. So the file system is asked for its attributes, its size, its names, and for bytes of a file.

A process that is stuck in a file system cannot always be killed. At most one is left behind per mount: while it is
there, that is the answer.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import socket
import stat
import subprocess
import time
import typing as t

from . import _child, _mountapi

DIRECTORY = "/run/modelfleet/probes"

# What is asked, in this order.
STAT, STATVFS, LIST, VERIFY, READ = "stat", "statvfs", "list", "verify", "read"

_MESSAGE = 64 << 10
_BYTES = 64 << 10
# Names that are looked at in search of a file to read, and directories that are entered for it.
_NAMES, _DEPTH = 50, 3


class Check(t.NamedTuple):
    """What came of one question.

    Attributes:
        error: errno, 0 for success, ETIMEDOUT when no answer came.
    """

    operation: str
    error: int
    seconds: float


class Answers(t.NamedTuple):
    """What a mount answered.

    Attributes:
        checks: what was asked, in its order; the last one may be without an answer.
        capacity: bytes of the file system and those that are free; None when they are not known.
        stuck: what a process that was left behind waits for, in the kernel's words; empty when none was.
    """

    checks: tuple[Check, ...]
    capacity: t.Optional[tuple[int, int]] = None
    stuck: str = ""

    @property
    def error(self) -> int:
        """The first error, 0 for none."""
        return next((check.error for check in self.checks if check.error), 0)

    @property
    def failed(self) -> str:
        """The operation that failed first, empty for none."""
        return next((check.operation for check in self.checks if check.error), "")


def ask(
    name: str, path: str, verify: str, deadline: float, directory: str = DIRECTORY, direct: bool = False
) -> Answers:
    """Ask the mount of a center.

    Args:
        name: of the mount; while it is the same, at most one process is left behind.
        path: of the mount point.
        verify: what must be there, relative to the mount point; empty to read any file.
        deadline: seconds for all answers.
        directory: where it is remembered who was left behind.
        direct: whether bytes are read past all caches; not every file system can do that.
    """
    note = os.path.join(directory, name)
    left_behind = _stuck(note)
    if left_behind:
        return Answers((Check(STAT, errno.ETIMEDOUT, 0.0),), stuck=left_behind)
    end = time.monotonic() + deadline
    ours, child = _child.start(__name__)
    with ours:
        answers = _collected(ours, {"path": path, "verify": verify, "direct": direct}, end)
    if answers.error == errno.ETIMEDOUT and child.poll() is None:
        child.kill()
        answers = answers._replace(stuck=_left_behind(child, note))
    else:
        child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(1)
    return answers


def _collected(connection: socket.socket, request: dict[str, t.Any], end: float) -> Answers:
    checks: list[Check] = []
    capacity = None
    asked, since = STAT, time.monotonic()
    try:
        connection.send(json.dumps(request).encode())
        while True:
            connection.settimeout(max(0.001, end - time.monotonic()))
            message = connection.recv(_MESSAGE)
            if not message:
                # It ended, without a word of what it did last.
                return Answers((*checks, Check(asked, errno.EIO, time.monotonic() - since)), capacity)
            answer = json.loads(message)
            if "done" in answer:
                return Answers(tuple(checks), capacity)
            checks.append(Check(answer["operation"], answer["error"], answer["seconds"]))
            capacity = tuple(answer["capacity"]) if answer.get("capacity") else capacity
            asked, since = answer["next"], time.monotonic()
    except socket.timeout:
        return Answers((*checks, Check(asked, errno.ETIMEDOUT, time.monotonic() - since)), capacity)
    except ConnectionError:
        return Answers((*checks, Check(asked, errno.EIO, time.monotonic() - since)), capacity)


def _left_behind(child: subprocess.Popen[bytes], note: str) -> str:
    with contextlib.suppress(subprocess.TimeoutExpired):
        # One that can be killed is gone at once.
        child.wait(0.2)
    where = _waits_for(child.pid)
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(note), 0o700, exist_ok=True)
        with open(note, "w", encoding="ascii") as file:
            file.write(f"{child.pid} {_started(child.pid)}")
    return where


def _stuck(note: str) -> str:
    """What the process waits for that an earlier look left behind; empty when there is none any more."""
    try:
        with open(note, encoding="ascii") as file:
            number, started = file.read().split()
            pid = int(number)
    except (OSError, ValueError):
        return ""
    if started == _started(pid):
        return _waits_for(pid)
    with contextlib.suppress(OSError):
        os.unlink(note)
    return ""


def _started(pid: int) -> str:
    """When a process started (proc(5), field 22), its identity together with its number; empty when it has ended."""
    fields = _status(pid)
    return "" if not fields or fields[0] in "ZX" else fields[19]


def _waits_for(pid: int) -> str:
    fields = _status(pid)
    if not fields or fields[0] in "ZX":
        return ""
    place = ""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/wchan", encoding="ascii") as file:
        place = file.read().strip("0")
    return f"process {pid}, state {fields[0]}{', in ' if place else ''}{place}"


def _status(pid: int) -> list[str]:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def serve(descriptor: int) -> None:
    """The child: do one thing after another, and tell of each before the next begins."""
    with socket.socket(fileno=descriptor) as connection:
        request = json.loads(connection.recv(_MESSAGE))
        path, verify = request["path"], request["verify"]
        operations: list[tuple[str, t.Callable[[], t.Any]]] = [
            (STAT, lambda: os.stat(path)),
            (STATVFS, lambda: os.statvfs(path)),
            (LIST, lambda: os.listdir(path)),
        ]
        if verify:
            operations.append((VERIFY, lambda: _verify(path, verify)))
        flags = os.O_DIRECT if request["direct"] else 0
        operations.append((READ, lambda: _read_below(path, verify or ".", flags)))
        names = [operation for operation, _call in operations]
        for (operation, call), following in zip(operations, [*names[1:], ""]):
            began = time.monotonic()
            answer: dict[str, t.Any] = {"operation": operation, "error": 0, "next": following}
            try:
                result = call()
                if operation == STATVFS:
                    answer["capacity"] = [result.f_blocks * result.f_frsize, result.f_bavail * result.f_frsize]
            except OSError as problem:
                answer["error"] = problem.errno or errno.EIO
            answer["seconds"] = round(time.monotonic() - began, 4)
            connection.send(json.dumps(answer).encode())
        connection.send(b'{"done": true}')


@contextlib.contextmanager
def _opened(path: str, below: str) -> t.Iterator[int]:
    """A descriptor, for looking only, of what is below a directory; links that lead out of that are not followed."""
    root = _mountapi.open_directory(path)
    try:
        found = _mountapi.open_beneath(root, below, 0)
    finally:
        os.close(root)
    try:
        yield found
    finally:
        os.close(found)


def _verify(path: str, verify: str) -> None:
    with _opened(path, verify) as found:
        os.fstat(found)


def _read_below(path: str, below: str, flags: int) -> None:
    with _opened(path, below) as found:
        # By its descriptor, so that no link on the way is followed again.
        again = f"/proc/self/fd/{found}"
        if stat.S_ISDIR(os.fstat(found).st_mode):
            _read(again, flags)
        else:
            _read_file(again, flags)


def _read(path: str, flags: int, depth: int = _DEPTH) -> None:
    """Read some bytes of the first file that is found below a directory."""
    directories = []
    with os.scandir(path) as entries:
        for _number, entry in zip(range(_NAMES), entries):
            if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_size:
                _read_file(entry.path, flags | os.O_NOFOLLOW)
                return
            if entry.is_dir(follow_symlinks=False):
                directories.append(entry.path)
    if directories and depth:
        _read(directories[0], flags, depth - 1)


def _read_file(path: str, flags: int) -> None:
    # O_NONBLOCK: whatever it is, opening it is not waited for.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | flags)
    try:
        # Bytes that are in memory already prove nothing.
        with contextlib.suppress(OSError):
            os.posix_fadvise(descriptor, 0, _BYTES, os.POSIX_FADV_DONTNEED)
        # Memory of whole pages, as O_DIRECT wants it.
        with mmap.mmap(-1, _BYTES) as memory:
            os.preadv(descriptor, [memory], 0)
    finally:
        os.close(descriptor)
