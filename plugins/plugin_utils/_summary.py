# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The end of a run: one short summary of each host, and what a workflow may go on with.

Pure, and for the controller only. This plugin util is private to the collection.
"""

from __future__ import annotations

import collections
import typing as t
from collections.abc import Mapping

from ..module_utils._errors import ModelfleetError
from . import _outcomes
from ._outcomes import Failure, Outcome

# Of what failed on a host the summary has so many lines; a result has all.
LINES = 5


def summary(
    hosts: t.Iterable[str], variables: Mapping[str, t.Any], placement: t.Optional[Mapping[str, t.Any]]
) -> dict[str, t.Any]:
    """What became of a run.

    Args:
        hosts: the KVM hosts of the run.
        variables: of all hosts, by name.
        placement: what `_placement.decide` found, if it came to that.

    Returns:
        C(lines): for people. C(failures): by host a text for its one failure, also for VMs that have no host.
        C(stats): what a workflow may go on with.
    """
    outcomes = [_outcomes.of_host(host, variables[host], placement) for host in hosts]
    lost: dict[str, Outcome] = {}
    for item in (placement or {}).get("failures", []):
        failure = Failure("", "", item["error_code"], item["msg"])
        lost.setdefault(item["vm"], Outcome(item["vm"])).failures.append(failure)
    shown = [*outcomes, *lost.values()]
    width = max((len(outcome.host) for outcome in shown), default=0)
    lines = [line for outcome in shown for line in _lines(outcome, width)]
    lines += [f"Note: {note}" for note in (placement or {}).get("notes", [])]
    failed = {outcome.host: _failed(outcome) for outcome in outcomes if outcome.state in _BAD}
    if lost and outcomes:
        # Nobody else can fail for a VM that is nowhere.
        texts = [*filter(None, [failed.get(outcomes[0].host)]), *map(_failed, lost.values())]
        failed[outcomes[0].host] = " ".join(texts)
    return {"lines": lines, "failures": failed, "stats": _stats(shown)}


_BAD = (_outcomes.FAILED, _outcomes.STOPPED, _outcomes.IDLE)


def _lines(outcome: Outcome, width: int) -> list[str]:
    state = f"{outcome.state}: {', '.join(outcome.codes)}" if outcome.failures else outcome.state
    more = []
    if outcome.mounts:
        more.append(f"{outcome.mounts_changed} of {outcome.mounts} models changed")
    if outcome.restart:
        more.append(f"stop and start {', '.join(outcome.restart[:LINES])}{_and(outcome.restart)}")
    lines = [f"{outcome.host:<{width}}  {state}" + (f" ({'; '.join(more)})" if more else "")]
    lines += [f"{'':<{width}}    {failure}" for failure in outcome.failures[:LINES]]
    if len(outcome.failures) > LINES:
        lines.append(f"{'':<{width}}    and {len(outcome.failures) - LINES} more")
    lines += [f"{'':<{width}}    due: {text}" for text in outcome.due[:LINES]]
    if len(outcome.due) > LINES:
        lines.append(f"{'':<{width}}    due: and {len(outcome.due) - LINES} more")
    return lines


def _and(names: list[str]) -> str:
    return f" and {len(names) - LINES} more" if len(names) > LINES else ""


def _failed(outcome: Outcome) -> str:
    """One text for all that failed on a host, or with a VM that has none."""
    if not outcome.failures:
        if outcome.begun:
            problem = ModelfleetError("nothing_done", f"no step for {outcome.host} has the tags of this run")
        else:
            problem = ModelfleetError("fleet_stopped", f"{outcome.host} was not begun")
        return f"{problem.code}: {problem.msg}"
    first = outcome.failures[0]
    more = f" ({len(outcome.failures) - 1} more failed.)" if len(outcome.failures) > 1 else ""
    return f"{outcome.host}: {first}{more}"


def _stats(outcomes: list[Outcome]) -> dict[str, t.Any]:
    states = collections.Counter(outcome.state for outcome in outcomes)
    codes = collections.Counter(code for outcome in outcomes for code in outcome.codes)
    return {
        **{state.replace(" ", "_"): states[state] for state in _outcomes.STATES},
        "failed_hosts": [outcome.host for outcome in outcomes if outcome.state in _BAD],
        "restart_vms": {outcome.host: outcome.restart for outcome in outcomes if outcome.restart},
        "error_codes": dict(sorted(codes.items())),
        "mounts": sum(outcome.mounts for outcome in outcomes),
        "mounts_changed": sum(outcome.mounts_changed for outcome in outcomes),
    }


def may_begin(
    hosts: t.Iterable[str],
    variables: Mapping[str, t.Any],
    percentage: float,
    placement: t.Optional[Mapping[str, t.Any]] = None,
) -> bool:
    """Whether another batch may begin: no more than this share of the hosts that have begun have failed."""
    begun = [name for name in hosts if variables[name].get(_outcomes.GO)]
    failed = [name for name in begun if _outcomes.of_host(name, variables[name], placement).failures]
    return not begun or len(failed) * 100 <= float(percentage) * len(begun)
