"""Locks between processes, on files that do not stay behind."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from .errors import TimedOut
from .polling import wait_until
from .progress import say


def _try(path: Path) -> int | None:
    """Return a descriptor that holds the lock, or None when somebody else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        # Somebody has just removed the empty directory.
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The holder before us may have removed the file: then we locked a file that nobody else will find.
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(descriptor)
    return None


def acquire(path: Path, what: str, seconds: float) -> int:
    """Take the lock ``path`` and return its descriptor, which a child process may inherit to hold the lock longer.

    Raises TimedOut, naming ``what`` as the thing in use, when it is not free within ``seconds``.
    """
    if (descriptor := _try(path)) is not None:
        return descriptor
    say(f"{what} is in use by another process, waiting for it")
    try:
        # Descriptors are numbers from 0 on; a tuple is true whatever its number.
        return wait_until(what, seconds, lambda: None if (got := _try(path)) is None else (got,))[0]
    except TimedOut as error:
        raise TimedOut(f"{what} is in use by another process (lock {path}), waited {seconds:g} s") from error


def release(path: Path, descriptor: int) -> None:
    """Give the lock back and remove its file."""
    remove_file(path)
    os.close(descriptor)


def remove_file(path: Path) -> None:
    """Remove a file, if it is there, and its directory, if that is empty then."""
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()


@contextlib.contextmanager
def locked(path: Path, what: str, seconds: float) -> Iterator[None]:
    """Hold the lock ``path``; raises TimedOut like acquire."""
    descriptor = acquire(path, what, seconds)
    try:
        yield
    finally:
        release(path, descriptor)
