# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a person sees of a run: progress, the output of what failed, and a closing table."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from .jobs import Job, Progress, Result

_SHOWN_LINES = 80
_PULSE = 30.0


class Report(Progress):
    """Prints a line for each job that ended, and in between what is running.

    On a terminal that is one line, rewritten each second; elsewhere a line now and then, so that a long part
    does not look like a standstill.
    """

    def __init__(self, total: int, logs: Path) -> None:
        super().__init__()
        self._total = total
        self._logs = logs
        self._ended = 0
        self._live = sys.stdout.isatty()
        self._last = time.monotonic()

    def started(self, job: Job) -> None:
        """Show the job among those that run."""
        super().started(job)
        self.tick()

    def ended(self, result: Result) -> None:
        """Print how the job went, with its output if it failed."""
        super().ended(result)
        self._ended += 1
        word = "FAILED" if result.failure else "passed" if result.job.check else "ready"
        self._print(f"[{self._ended:2}/{self._total}] {word:6} {duration(result.seconds):>8}  {result.job.name}")
        if result.failure:
            self._print(_failure(result))

    def tick(self) -> None:
        """Show what is running."""
        now = time.monotonic()
        names = ", ".join(f"{job.name} ({duration(now - start)})" for job, start in self.running.items())
        if len(self.running) == 1:
            names += self._last_words(*self.running)
        if self._live and names:
            line = f"        running: {names}"[: shutil.get_terminal_size().columns - 1]
            print(f"\r\033[K{line}", end="", flush=True)
        elif names and now - self._last >= _PULSE:
            self._print(f"        running: {names}")

    def _last_words(self, job: Job) -> str:
        """Return what the only check that runs said last, which for the long ones is the test that runs."""
        path = self._logs / f"{job.name}.log"
        if not (job.check and path.exists()):
            return ""
        lines = path.read_bytes()[-500:].decode(errors="replace").splitlines()
        return f": {lines[-1]}" if lines else ""

    def _print(self, text: str) -> None:
        self._last = time.monotonic()
        print(f"\r\033[K{text}" if self._live else text, flush=True)


def summary(results: Sequence[Result], seconds: float) -> str:
    """Return the table of all jobs and, as the last line, how many checks passed and failed."""
    lines = ["", f"{'part':24} {'time':>8}  result"]
    for result in results:
        word = "FAILED" if result.failure else "passed" if result.job.check else "ready"
        lines.append(f"{result.job.name:24} {duration(result.seconds):>8}  {word}")
    lines.append(f"{'all, side by side':24} {duration(seconds):>8}")
    lines += [f"{result.job.name}: {_reason(result)}" for result in results if result.failure]
    # A preparation that failed counts too: nothing may be green that was not made as it should be.
    failed = sum(result.failure is not None for result in results)
    passed = sum(result.failure is None and result.job.check for result in results)
    return "\n".join([*lines, "", f"{passed} passed, {failed} failed"])


def duration(seconds: float) -> str:
    """Return a time as a person says it."""
    whole = round(seconds)
    return f"{whole // 60}m {whole % 60:02}s" if whole >= 60 else f"{seconds:.1f}s"


def _reason(result: Result) -> str:
    return f"{result.failure}; see {result.log}" if result.log else str(result.failure)


def _failure(result: Result) -> str:
    """Return the reason, and the end of the output of a job that got as far as to have one."""
    shown = result.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_SHOWN_LINES:] if result.log else []
    return "\n".join([f"    {_reason(result)}", *(f"    | {line}" for line in shown)])
