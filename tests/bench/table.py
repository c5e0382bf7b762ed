# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was measured, as Markdown: pure functions of measures."""

from __future__ import annotations

from collections.abc import Sequence

from .stage import MODELS, QUIET
from .ways import FIRST, NOTHING, PHASES, Bare, Collection, Loop, Measure

# What the project promises itself.
_CONVERGE_RATIO = 1.3
_NOTHING_SECONDS = 3.0
_NOTHING_MOUNTS = 200
_TOP = 25

_HEAD = ("VMs", "phase", "way", "wall s", "on the host s", "processor s", "libvirt calls", "output kB", "results kB")


def medians(measures: Sequence[Measure]) -> list[Measure]:
    """Of every phase of every way the round with the median time on the host (of two, the longer)."""
    rounds: dict[tuple[str, int, str], list[Measure]] = {}
    for item in measures:
        rounds.setdefault((item.way, item.vms, item.phase), []).append(item)
    return [sorted(items, key=lambda item: item.module)[len(items) // 2] for items in rounds.values()]


def full(measures: Sequence[Measure]) -> str:
    """One line for every phase of every way, the same phase of all ways together."""
    order = sorted(measures, key=lambda measure: (measure.vms, PHASES.index(measure.phase)))
    rows = [
        (
            str(item.vms),
            item.phase,
            item.way,
            f"{item.wall:.1f}",
            f"{item.module:.1f}",
            f"{item.processors:.1f}",
            str(item.calls),
            f"{item.output / 1000:.1f}",
            f"{item.result / 1000:.1f}",
        )
        for item in order
    ]
    return markdown(_HEAD, rows)


def ratios(measures: Sequence[Measure]) -> str:
    """How the ways compare, where both were measured."""
    by_key = _by_key(measures)
    rows = []
    for count in sorted({item.vms for item in measures}):
        for phase in PHASES:
            ours = by_key.get((Collection.name, phase, count))
            bare = by_key.get((Bare.name, phase, count))
            loop = by_key.get((Loop.name, phase, count))
            if ours and (bare or loop):
                time = f"{ours.module / bare.module:.2f}" if bare else ""
                work = f"{ours.processors / bare.processors:.2f}" if bare and bare.processors else ""
                to_ours = f"{loop.wall / ours.wall:.1f}" if loop else ""
                rows.append((str(count), phase, time, work, to_ours))
    head = ("VMs", "phase", "collection / bare, on the host", "collection / bare, processor", "loop / collection, wall")
    return markdown(head, rows) if rows else ""


def goals(measures: Sequence[Measure]) -> str:
    """What the goals came to; what was not measured is not said."""
    by_key = _by_key(measures)
    lines = []
    for count in sorted({item.vms for item in measures}):
        ours = by_key.get((Collection.name, FIRST, count))
        bare = by_key.get((Bare.name, FIRST, count))
        if ours and bare:
            ratio = ours.module / bare.module
            lines.append(
                f"First converge of {count} VMs: {ratio:.2f} times the bare program's time on the host"
                f" (goal: at most {_CONVERGE_RATIO}, {_verdict(ratio <= _CONVERGE_RATIO, ours, bare)})."
            )
        idle = by_key.get((Collection.name, NOTHING, count))
        if idle and count * len(MODELS) == _NOTHING_MOUNTS:
            lines.append(
                f"Nothing to do for {_NOTHING_MOUNTS} mounts: {idle.module:.1f} s on the host"
                f" (goal: below {_NOTHING_SECONDS:.0f} s, {_verdict(idle.module < _NOTHING_SECONDS, idle)})."
            )
    lines += [line for phase in PHASES if (line := _growth(measures, phase))]
    if disturbed := [item.others for item in measures if item.others > QUIET]:
        lines.append(
            f"Disturbed: before {len(disturbed)} of {len(measures)} phases others took up to {max(disturbed):.0%}"
            " of the processors; these times are too long."
        )
    return "\n".join(f"- {line}" for line in lines)


def _by_key(measures: Sequence[Measure]) -> dict[tuple[str, str, int], Measure]:
    return {(item.way, item.phase, item.vms): item for item in measures}


def _growth(measures: Sequence[Measure], phase: str) -> str:
    ours = sorted((item for item in measures if (item.way, item.phase) == (Collection.name, phase)), key=_size)
    if len(ours) < 2:
        return ""
    each = ", ".join(f"{item.module / item.vms * 1000:.0f} ms with {item.vms}" for item in ours)
    return f"Growth, {phase}: each VM takes {each}."


def _size(measure: Measure) -> int:
    return measure.vms


def _verdict(met: bool, *measures: Measure) -> str:
    if any(item.others > QUIET for item in measures):
        return "not judged, since others disturbed it"
    return "met" if met else "not met"


def profile(measure: Measure) -> str:
    """Where a phase spent its time: the functions, waiting included, and the requests to libvirt."""
    if measure.details is None:
        return ""
    found = measure.details
    functions = [
        (name, f"{every:.2f}", f"{main:.2f}", f"{itself:.2f}") for name, every, main, itself in found.profile[:_TOP]
    ]
    calls = [
        (name, str(count), f"{seconds:.2f}", f"{seconds / count * 1000:.1f}")
        for name, (count, seconds) in sorted(found.calls.items(), key=lambda item: -item[1][1])
    ]
    parts = [
        f"### {measure.way}, {measure.vms} VMs, {measure.phase}: {found.seconds:.2f} s, {found.cpu:.2f} s of processor",
        markdown(("function", "s with all it calls", "in the main thread", "by itself"), functions),
        markdown(("request to libvirt", "times", "s", "ms each"), calls),
    ]
    return "\n\n".join(parts)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells are as they stand."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    rule = tuple("-" * width for width in widths)
    return "\n".join(
        f"| {' | '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))} |"
        for row in (head, rule, *rows)
    )
