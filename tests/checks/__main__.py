# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The commands behind the Makefile's targets."""

from __future__ import annotations

import argparse
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from . import catalogue, chores, error_pages, jobs, packages, places, tree
from .process import CheckError, Log
from .report import Report, summary


def main() -> int:
    """Run one command and return its exit status."""
    parser = argparse.ArgumentParser(prog="checks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the checks")
    run.add_argument("--only", default="", metavar="NAMES", help="checks to run, by the beginnings of their names")
    run.add_argument("--without", default="", metavar="NAMES", help="checks to leave out, likewise")
    commands.add_parser("list", help="print the names of the checks")
    commands.add_parser("tree", help="bring the copy of the collection up to date, print its ANSIBLE_COLLECTIONS_PATH")
    newest = commands.add_parser("new", help="run a command with the newest ansible-core, on Debian 13")
    newest.add_argument("argv", nargs=argparse.REMAINDER)
    commands.add_parser("format", help="bring the Python sources into the project's format")
    commands.add_parser("docs", help="write the pages of error codes again")
    commands.add_parser("pins", help="renew the exact versions of the requirements")
    commands.add_parser("clean", help="remove what the checks made outside the sources")
    arguments = parser.parse_args()
    logs = places.cache() / "logs" / places.checkout_id()
    # Whoever ends us wants everything ended that we started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        match arguments.command:
            case "run":
                return _run(_selected(catalogue.jobs(), _words(arguments.only), _words(arguments.without)), logs)
            case "list":
                print("\n".join(job.name for job in catalogue.jobs() if job.check))
            case "tree":
                print(tree.make())
            case "new":
                return _run_new(arguments.argv, Log(logs / "ansible-new.log"))
            case "format":
                chores.format_sources(Log(logs / "format.log"))
            case "docs":
                print("\n".join(str(path.relative_to(places.ROOT)) for path in error_pages.write()) or "nothing to do")
            case "pins":
                chores.pin(Log(logs / "pins.log"))
            case "clean":
                chores.clean()
    except CheckError as failure:
        print(f"{arguments.command}: {failure}; see the newest file in {logs}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.replace(",", " ").split())


def _selected(every: Sequence[jobs.Job], only: tuple[str, ...], without: tuple[str, ...]) -> list[jobs.Job]:
    """Return the checks whose names begin with one of these words, and what they need."""
    checks = [job.name for job in every if job.check]
    for word in (*only, *without):
        if not any(name.startswith(word) for name in checks):
            raise SystemExit(f"no check is called {word}; there are {', '.join(checks)}")
    names = {name for name in checks if name.startswith(only or "") and not (without and name.startswith(without))}
    for job in reversed(every):
        if job.name in names:
            names.update(job.needs)
    return [job for job in every if job.name in names]


def _run(selected: Sequence[jobs.Job], logs: Path) -> int:
    start = time.monotonic()
    print(f"{sum(job.check for job in selected)} checks; what they print goes to {logs}", flush=True)
    lacking = packages.missing(lab=any("image" in job.name for job in selected))
    if lacking:
        print(f"installing what this machine lacks: {' '.join(lacking)}", flush=True)
        first = jobs.Job("packages", lambda log: packages.install(log, lacking), check=False)
        selected = [first, *(dataclasses.replace(job, needs=(*job.needs, first.name)) for job in selected)]
    results = jobs.run(selected, logs, os.cpu_count() or 1, Report(len(selected), logs))
    print(summary(results, time.monotonic() - start), flush=True)
    return 1 if any(result.failure for result in results) else 0


def _run_new(argv: Sequence[str], log: Log) -> int:
    """Run a command on the newest control node, in the current directory and with the caller's variables."""
    environment = catalogue.new()
    environment.ensure(log)
    environ = {**os.environ, **environment.environ}
    environ.pop("PYTHONPATH", None)
    return subprocess.run(environment.command(argv, Path.cwd(), environ), env=environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
