# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A run ends as red as it should, and tells what went wrong."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

import pytest

from checks.jobs import Job, Progress, Result, run
from checks.process import CheckError, Log
from checks.report import duration, summary


def _pass(log: Log) -> None:
    log.write("fine")


def _fail(log: Log) -> None:
    log.write("the reason")
    raise CheckError("did not pass")


def _break(_log: Log) -> None:
    raise ZeroDivisionError("a fault of ours")


def _run(tmp_path: Path, *jobs: Job, workers: int = 2) -> list[Result]:
    return run(jobs, tmp_path, workers, Progress())


def test_every_check_runs_whatever_became_of_the_others(tmp_path: Path) -> None:
    results = _run(tmp_path, Job("a", _fail), Job("b", _break), Job("c", _pass))
    assert [result.failure for result in results] == ["did not pass", "ZeroDivisionError: a fault of ours", None]
    assert "the reason" in (tmp_path / "a.log").read_text()
    assert summary(results, 1.0).splitlines()[-1] == "1 passed, 2 failed"


def test_a_check_whose_preparation_failed_is_failed(tmp_path: Path) -> None:
    results = _run(tmp_path, Job("prepare", _fail, check=False), Job("a", _pass, needs=("prepare",)), Job("b", _pass))
    assert [result.failure for result in results] == ["did not pass", "needs prepare, which failed", None]
    assert summary(results, 1.0).splitlines()[-1] == "1 passed, 2 failed"


def test_preparations_do_not_count_as_checks(tmp_path: Path) -> None:
    results = _run(tmp_path, Job("prepare", _pass, check=False), Job("a", _pass, needs=("prepare",)))
    assert summary(results, 1.0).splitlines()[-1] == "1 passed, 0 failed"


def test_jobs_of_a_lane_run_one_after_the_other_and_beside_the_rest(tmp_path: Path) -> None:
    both = threading.Barrier(2, timeout=10)
    running: list[str] = []

    def in_lane(name: str) -> Job:
        def work(_log: Log) -> None:
            running.append(name)
            assert running == [name]
            both.wait()
            running.remove(name)

        return Job(name, work, lane="lab")

    def beside(_log: Log) -> None:
        both.wait()

    # The one worker meets each job of the lane in turn, which it can only while that one runs.
    results = _run(tmp_path, in_lane("lab-1"), in_lane("lab-2"), Job("a", beside), Job("b", beside), workers=1)
    assert [result.failure for result in results] == [None] * 4


def test_a_program_that_fails_or_hangs_fails_the_check(tmp_path: Path) -> None:
    log = Log(tmp_path / "log")
    with pytest.raises(CheckError, match="status 3"):
        log.run([sys.executable, "-c", "print('said'); raise SystemExit(3)"], cwd=tmp_path, environ={})
    assert "said" in log.path.read_text()
    with pytest.raises(CheckError, match="did not end"):
        log.run(["sleep", "60"], cwd=tmp_path, environ={}, timeout=0.2)


def test_what_a_program_left_behind_is_ended(tmp_path: Path) -> None:
    Log(tmp_path / "log").run(["sh", "-c", "sleep 61 & echo $! > pid"], cwd=tmp_path, environ={})
    status = Path("/proc") / (tmp_path / "pid").read_text().strip() / "status"
    for _attempt in range(50):
        if not status.exists() or "State:\tZ" in status.read_text():
            return
        time.sleep(0.1)
    pytest.fail("it still runs")


def test_times_read_like_times() -> None:
    times = {0.04: "0.0s", 59.2: "59.2s", 59.97: "1m 00s", 61: "1m 01s", 3600: "60m 00s"}
    assert {seconds: duration(seconds) for seconds in times} == times
