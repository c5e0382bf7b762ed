# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Jobs run side by side, in the order given as far as what they need allows."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from .process import CheckError, Log, interrupt


@dataclass(frozen=True)
class Job:
    """One piece of work: a check, or a preparation that checks need.

    Jobs of the same lane run one after the other; they use something there is one of, and mostly wait for it, so that
    a lane does not count among the workers.
    """

    name: str
    run: Callable[[Log], None]
    needs: tuple[str, ...] = ()
    check: bool = True
    lane: str = ""


@dataclass(frozen=True)
class Result:
    """How a job went."""

    job: Job
    seconds: float
    log: Path | None
    failure: str | None = None


class Progress:
    """Told about each job's start and end; the jobs that run now, with their start."""

    def __init__(self) -> None:
        self.running: dict[Job, float] = {}

    def started(self, job: Job) -> None:
        """Note that a job runs."""
        self.running[job] = time.monotonic()

    def ended(self, result: Result) -> None:
        """Note that a job ended."""
        self.running.pop(result.job, None)

    def tick(self) -> None:
        """Be called about once a second."""


def run(jobs: Sequence[Job], logs: Path, workers: int, progress: Progress) -> list[Result]:
    """Run all jobs and return their results in the order of the jobs.

    A job whose preparation failed counts as failed; all others run whatever became of the rest.
    """
    waiting = list(jobs)
    results: dict[str, Result] = {}
    running: dict[Future[Result], Job] = {}
    with ThreadPoolExecutor(workers + len({job.lane for job in jobs if job.lane})) as pool:
        try:
            while waiting or running:
                for job in list(waiting):
                    broken = next((name for name in job.needs if name in results and results[name].failure), None)
                    if broken:
                        future: Future[Result] = Future()
                        future.set_result(Result(job, 0.0, None, f"needs {broken}, which failed"))
                    elif _has_room(job, running.values(), workers) and all(name in results for name in job.needs):
                        progress.started(job)
                        future = pool.submit(_run, job, logs / f"{job.name}.log")
                    else:
                        continue
                    waiting.remove(job)
                    running[future] = job
                done, _pending = wait(running, timeout=1, return_when=FIRST_COMPLETED)
                progress.tick()
                for future in done:
                    result = results[running.pop(future).name] = future.result()
                    progress.ended(result)
        except KeyboardInterrupt:
            # The pool waits for its threads, and they for their programs.
            print("\nending what still runs", flush=True)
            interrupt()
            raise
    return [results[job.name] for job in jobs]


def _has_room(job: Job, running: Collection[Job], workers: int) -> bool:
    if job.lane:
        return all(other.lane != job.lane for other in running)
    return sum(not other.lane for other in running) < workers


def _run(job: Job, path: Path) -> Result:
    start = time.monotonic()
    log = Log(path)
    failure = None
    try:
        job.run(log)
    except CheckError as error:
        failure = str(error)
    except Exception as error:
        # A fault of the checks themselves must not hide what the other checks found.
        log.write(traceback.format_exc())
        failure = f"{type(error).__name__}: {error}"
    return Result(job, time.monotonic() - start, path, failure)
