# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs run with their output in a log, and ended with all their children when the run ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

_GRACE = 30.0

_running: set[subprocess.Popen[bytes]] = set()
_guard = threading.Lock()
_interrupted = threading.Event()


# A usual run takes less, also on a slow machine; LONG=1 has all tests of the lab, for which there is more.
_SECONDS = 4 * 3600.0 if os.environ.get("LONG") else 3600.0


class CheckError(Exception):
    """A check did not pass; the message is for the person who reads the report."""


class Log:
    """The file that holds what one check printed."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
        self.path = path

    def write(self, text: str) -> None:
        """Add a line of our own."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(text + "\n")

    def run(self, argv: Sequence[str], *, cwd: Path, environ: Mapping[str, str], timeout: float = _SECONDS) -> None:
        """Run a program to its end; raise CheckError when it fails or takes too long."""
        self.write(f"$ {' '.join(argv)}")
        with self.path.open("ab") as file, _guard:
            if _interrupted.is_set():
                raise CheckError("interrupted")
            process = subprocess.Popen(
                argv,
                cwd=cwd,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            _running.add(process)
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise CheckError(f"did not end within {timeout:.0f} s") from None
        finally:
            _end(process)
            with _guard:
                _running.discard(process)
        if status:
            raise CheckError(f"ended with status {status}")


def interrupt() -> None:
    """End every program that is still running, and start no other."""
    with _guard:
        _interrupted.set()
        for process in _running:
            _ask(process)
        for process in _running:
            _end(process)


def _ask(process: subprocess.Popen[bytes]) -> None:
    """Let a program end itself, so that tests clean up after themselves."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a program, and then all that it left in its session."""
    if process.poll() is None:
        _ask(process)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
