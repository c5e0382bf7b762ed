"""Running commands of this machine, and finding and ending processes of the lab."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from .errors import CommandFailed, LabError, TimedOut
from .polling import Deadline

_KILL_SECONDS = 20.0


def run(argv: Sequence[str], *, check: bool = True, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run a command of this machine with no input and return its outcome.

    Raises CommandFailed when ``check`` and its status is not 0, TimedOut after ``timeout`` seconds, LabError when
    there is no such command.
    """
    try:
        done = subprocess.run(
            argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired as error:
        raise TimedOut(f"this machine: {' '.join(argv)}: no end within {timeout:g} s") from error
    except FileNotFoundError as error:
        raise LabError(f"this machine has no command {argv[0]}; see: lab requirements") from error
    if check and done.returncode != 0:
        raise CommandFailed("this machine", argv, done.returncode, done.stdout, done.stderr)
    return done


def arguments(pid: int) -> list[str]:
    """Return the command line of a process, empty for one that has ended (or is a kernel thread)."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")[:-1]
    except OSError:
        return []


def children(pid: int) -> list[int]:
    """Return the processes that a process of one thread has started and that have not ended."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def find(matches: Callable[[list[str]], bool]) -> list[int]:
    """Return the processes whose command line ``matches``, this one excepted."""
    pids = (int(entry) for entry in os.listdir("/proc") if entry.isdigit())
    return [pid for pid in pids if pid != os.getpid() and (argv := arguments(pid)) and matches(argv)]


def watch(pids: Sequence[int]) -> list[int]:
    """Return pidfds of those of the processes that exist, for wait_gone to close."""
    descriptors = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            descriptors.append(os.pidfd_open(pid))
    return descriptors


def signal_all(pids: Sequence[int], number: signal.Signals) -> list[int]:
    """Send a signal to those of the processes that exist; return pidfds of these, for wait_gone to close."""
    descriptors = watch(pids)
    for descriptor in descriptors:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)
    return descriptors


def wait_gone(descriptors: Sequence[int], seconds: float) -> bool:
    """Wait until the processes behind the pidfds have ended; False when one is left after ``seconds``."""
    deadline = Deadline(seconds)
    try:
        # A pidfd becomes readable when its process ends.
        return all(select.select([one], [], [], deadline.left())[0] for one in descriptors)
    finally:
        for one in descriptors:
            os.close(one)


def kill(pids: Sequence[int]) -> None:
    """End processes at once and wait for their end; raises TimedOut when one cannot be ended."""
    if not wait_gone(signal_all(pids, signal.SIGKILL), _KILL_SECONDS):
        raise TimedOut(f"processes {list(pids)}: still there {_KILL_SECONDS:g} s after SIGKILL")
