# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What was measured, as Markdown: pure functions of measures."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence

from .stage import MODELS, QUIET
from .ways import FIRST, NOTHING, PHASES, Bare, Collection, Loop, Measure, OneDevice, View, Way

# What the project promises itself.
_CONVERGE_RATIO = 1.3
_VIEW_RATIO = 0.5
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
    rows = []
    for count in sorted({item.vms for item in measures}):
        for phase in PHASES:
            ours, bare, loop, view = (_rounds(measures, way, phase, count) for way in (Collection, Bare, Loop, View))
            cells = (
                _shown(_ratio(ours, bare, _on_host), 2),
                _shown(_ratio(ours, bare, lambda item: item.processors), 2),
                _shown(_ratio(loop, ours, lambda item: item.wall), 1),
                _shown(_ratio(view, bare, _on_host), 2),
                _shown(_ratio(view, ours, _on_host), 2),
            )
            if any(cells):
                rows.append((str(count), phase, *cells))
    head = (
        "VMs",
        "phase",
        "collection / bare, on the host",
        "collection / bare, processor",
        "loop / collection, wall",
        "view / bare, on the host",
        "view / device, on the host",
    )
    return markdown(head, rows) if rows else ""


def goals(measures: Sequence[Measure]) -> str:
    """What the goals came to; what was not measured is not said."""
    lines = []
    for count in sorted({item.vms for item in measures}):
        ours, bare, view, one = (_rounds(measures, way, FIRST, count) for way in (Collection, Bare, View, OneDevice))
        lines += [
            _goal(f"First converge of {count} VMs", "the bare program's", ours, bare, _CONVERGE_RATIO),
            _goal(f"First converge of {count} VMs by views", "the bare program's", view, bare, _CONVERGE_RATIO),
            _goal(f"First converge of {count} VMs by views", "the devices'", view, ours, _VIEW_RATIO),
            _limit(count, _ratio(one, bare, _on_host)),
        ]
        for way, how in ((Collection, ""), (View, ", by views")):
            idle = _rounds(medians(measures), way, NOTHING, count)
            if idle and count * len(MODELS) == _NOTHING_MOUNTS:
                verdict = _verdict(idle[0].module < _NOTHING_SECONDS, _is_quiet(idle))
                lines.append(
                    f"Nothing to do for {_NOTHING_MOUNTS} mounts{how}: {idle[0].module:.1f} s on the host"
                    f" (goal: below {_NOTHING_SECONDS:.0f} s, {verdict})."
                )
    lines += [line for phase in PHASES if (line := _growth(medians(measures), phase))]
    if disturbed := [item.others for item in measures if item.others > QUIET]:
        lines.append(
            f"Disturbed: before {len(disturbed)} of {len(measures)} phases others took up to {max(disturbed):.0%}"
            " of the processors; these times are too long."
        )
    return "\n".join(f"- {line}" for line in lines if line)


def _rounds(measures: Sequence[Measure], way: type[Way], phase: str, count: int) -> list[Measure]:
    """The rounds of a phase in the order in which they were measured."""
    return [item for item in measures if (item.way, item.phase, item.vms) == (way.name, phase, count)]


def _ratio(ours: Sequence[Measure], theirs: Sequence[Measure], value: Callable[[Measure], float]) -> float:
    """The median of the ratios of each round, of those that nobody disturbed if there are any; 0 where there is none.

    What is beside one another in time is compared, because the machine itself is not always as fast.
    """
    pairs = list(zip(ours, theirs, strict=False))
    pairs = list(filter(_is_quiet, pairs)) or pairs
    values = [(value(one), value(other)) for one, other in pairs]
    return statistics.median(one / other for one, other in values) if values and all(pair[1] for pair in values) else 0


def _is_quiet(measures: Iterable[Measure]) -> bool:
    return all(item.others <= QUIET for item in measures)


def _on_host(measure: Measure) -> float:
    return measure.module


def _shown(ratio: float, digits: int) -> str:
    return f"{ratio:.{digits}f}" if ratio else ""


def _goal(what: str, whose: str, ours: Sequence[Measure], theirs: Sequence[Measure], most: float) -> str:
    ratio = _ratio(ours, theirs, _on_host)
    if not ratio:
        return ""
    quiet = any(map(_is_quiet, zip(ours, theirs, strict=False)))
    verdict = _verdict(ratio <= most, quiet)
    return f"{what}: {ratio:.2f} times {whose} time on the host (goal: at most {most}, {verdict})."


def _limit(count: int, ratio: float) -> str:
    """What nobody can save: what the bare program takes with one device beside what it takes with all."""
    what = f"The bare program's own first converge of {count} VMs with one device"
    return f"{what}: {ratio:.2f} times its time with {len(MODELS)}." if ratio else ""


def _growth(measures: Sequence[Measure], phase: str) -> str:
    ours = sorted((item for item in measures if (item.way, item.phase) == (Collection.name, phase)), key=_size)
    if len(ours) < 2:
        return ""
    each = ", ".join(f"{item.module / item.vms * 1000:.0f} ms with {item.vms}" for item in ours)
    return f"Growth, {phase}: each VM takes {each}."


def _size(measure: Measure) -> int:
    return measure.vms


def _verdict(met: bool, quiet: bool) -> str:
    if not quiet:
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
