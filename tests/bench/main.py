# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The benchmark from beginning to end."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from checks import catalogue, packages, places, tree
from checks.process import CheckError, Log
from modelfleet_lab import Lab, LabError

from . import machine, many, reading, table
from .stage import MODELS, Stage, WrongResultError, say
from .ways import WAYS, Measure

_DOCUMENT = places.ROOT / "docs" / "benchmarks.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit status."""
    options = _parser().parse_args(arguments)
    # Whoever ends us wants everything ended that we started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _prepare()
        with Lab.temporary(options.lab) as lab:
            stage = Stage(lab, options.threads, options.patience, options.profile)
            facts = machine.describe(stage.host)
            measures = _measure(stage, options)
            costs = many.Many(stage, max(options.models)).costs(options.models) if options.models else []
            speeds = reading.Reading(stage).speeds(options.rounds) if options.reading else []
    except (AssertionError, CheckError, LabError, WrongResultError) as failure:
        print(f"\nThe benchmark failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; everything that was started is stopped.", file=sys.stderr)
        return 130
    today = time.strftime("%Y-%m-%d", time.gmtime())
    sections: dict[str, list[str]] = {}
    if measures or costs:
        about = f"Measured on {today}, {len(MODELS)} models in each VM, medians of {options.rounds} rounds (loop: 1)."
        parts = [about, facts, table.full(table.medians(measures)), table.ratios(measures), table.goals(measures)]
        sections["measured"] = parts + (["### Many models in one VM", many.table(costs)] if costs else [])
    if speeds:
        about = f"Measured on {today}, medians of {options.rounds} rounds."
        sections["measured reading"] = [about, facts, reading.table(speeds)]
    for name, parts in sections.items():
        text = "\n\n".join(filter(None, parts))
        print(f"\n{text}")
        if options.save and not options.profile:
            save(_DOCUMENT, text, name)
    if options.profile:
        print("\n\n".join(filter(None, map(table.profile, table.medians(measures)))))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description="Measure the collection beside other ways.")
    parser.add_argument("--vms", type=_counts, default=[10, 25, 50], metavar="N,N", help="sizes (10,25,50)")
    parser.add_argument("--models", type=_counts, default=[], metavar="N,N", help="models in one VM, by each transport")
    parser.add_argument("--reading", action="store_true", help="also read a large file in a guest")
    parser.add_argument("--loop-vms", type=_counts, metavar="N,N", help="sizes for the loop, if others: it is slow")
    parser.add_argument("--ways", type=_ways, default=list(WAYS), metavar="WAY,WAY", help=f"of {', '.join(WAYS)}")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of which the median counts; one loop (3)")
    parser.add_argument("--threads", type=int, default=8, metavar="N", help="of the bare program (8)")
    parser.add_argument(
        "--patience", type=float, default=30, metavar="S", help="seconds to wait for a quiet machine (30)"
    )
    parser.add_argument("--profile", action="store_true", help="also print where the time on the host goes")
    parser.add_argument("--save", action="store_true", help=f"write the result into {_DOCUMENT.name}")
    parser.add_argument("--lab", default="bench", help="name of the lab (bench)")
    return parser


def _counts(text: str) -> list[int]:
    return sorted({int(word) for word in text.split(",") if word})


def _ways(text: str) -> list[str]:
    words = text.split(",")
    if unknown := set(words) - set(WAYS):
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}")
    return words


def _prepare() -> None:
    log = Log(places.cache() / "logs" / "bench.log")
    packages.install(log, packages.missing(lab=True))
    catalogue.OLD.ensure(log)
    environ = {**catalogue.OLD.environ, "ANSIBLE_COLLECTIONS_PATH": str(tree.make())}
    # What the caller has set for Ansible would bend the result.
    os.environ.clear()
    os.environ.update(environ)


def _measure(stage: Stage, options: argparse.Namespace) -> list[Measure]:
    measures: list[Measure] = []
    for count in options.vms:
        vms = stage.boot(count)
        # The ways take turns, because guests that were just booted are slower, and a machine is not always as fast.
        for turn in range(options.rounds):
            for name in options.ways:
                if name != "loop" or (turn == 0 and count in (options.loop_vms or options.vms)):
                    measures += WAYS[name](stage).phases(vms)
    say("done")
    return measures


def save(path: Path, text: str, name: str) -> None:
    """Put a result between the two marks of the document that it has."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->\n"
    before, found, rest = path.read_text(encoding="utf-8").partition(begin)
    _old, _, after = rest.partition(end)
    if not found:
        raise WrongResultError(f"{path.name} has no place for what was {name}")
    path.write_text(f"{before}{begin}\n{text}\n\n{end}{after}", encoding="utf-8")
