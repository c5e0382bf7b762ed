# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What became of each host of a run, from the results that its tasks registered. Pure, and for the controller only.

This plugin util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Mapping

# States of a host, the worst first; a result's word for each.
FAILED = "failed"
STOPPED = "not begun"
IDLE = "nothing done"
RESTART = "waiting for restart"
CHANGED = "changed"
OK = "ok"
STATES = (FAILED, STOPPED, IDLE, RESTART, CHANGED, OK)

# What the roles and playbooks register. All that fails is read from here as well.
SEEN = "modelfleet_seen"
WAY = "modelfleet_way"
CENTERS = "model_center_result"
# The name of the model center in each of these.
CENTER = "model_center_name"
INFO = "modelfleet_info"
DEFINED = "modelfleet_centers"
STEPS = (
    "kvm_host_result",
    CENTERS,
    "vm_prepare_result",
    "vm_models_result",
    INFO,
    DEFINED,
    "modelfleet_absent",
)
RESULTS = (SEEN, WAY, *STEPS)
# What was noted in a rescue: failures, in the form of `failures`.
NOTED = "modelfleet_failures"
# The same, for what is in the way of an evacuation.
USERS = "modelfleet_users"
# Whether a host was allowed to begin.
GO = "modelfleet_go"


@dataclasses.dataclass(frozen=True)
class Failure:
    """Something that failed; without a VM it is the host's.

    Attributes:
        place: the mount path in the VM, or the model center of the host, where there is one.
    """

    vm: str
    place: str
    error_code: str
    msg: str

    def __str__(self) -> str:
        return f"{' '.join(filter(None, (self.vm, self.place)))}: {self.error_code}: {self.msg}".lstrip(": ")


@dataclasses.dataclass
class Outcome:
    """What became of a host.

    Attributes:
        idle: whether no step was for it, because of the tags of the run.
        restart: VMs that must be stopped and started.
        due: what else somebody has to do, in words.
        mounts, mounts_changed: how many there were, and how many of them changed.
    """

    host: str
    begun: bool = True
    idle: bool = False
    changed: bool = False
    failures: list[Failure] = dataclasses.field(default_factory=list)
    restart: list[str] = dataclasses.field(default_factory=list)
    due: list[str] = dataclasses.field(default_factory=list)
    mounts: int = 0
    mounts_changed: int = 0

    @property
    def state(self) -> str:
        if self.failures:
            return FAILED
        if not self.begun:
            return STOPPED
        if self.idle:
            return IDLE
        return RESTART if self.restart else CHANGED if self.changed else OK

    @property
    def codes(self) -> list[str]:
        """Codes of what failed, each once."""
        return list(dict.fromkeys(failure.error_code for failure in self.failures))


def of_host(host: str, variables: Mapping[str, t.Any], placement: t.Optional[Mapping[str, t.Any]] = None) -> Outcome:
    """What became of a host, from its variables and what `_placement.decide` found."""
    outcome = Outcome(host, begun=bool(variables.get(GO, True)))
    outcome.idle = not any(name in variables for name in STEPS)
    decided = (placement or {}).get("problems", {}).get(host) or []
    for noted in [*decided, *(variables.get(NOTED) or []), *(variables.get(USERS) or [])]:
        _add(outcome.failures, Failure(**noted))
    for name in RESULTS:
        result = variables.get(name)
        if isinstance(result, Mapping):
            for leaf in leaves(result):
                _take(outcome, leaf, look=name == WAY)
    return outcome


def leaves(result: Mapping[str, t.Any]) -> list[Mapping[str, t.Any]]:
    """The results of the items of a loop, or the only result that there is. What was skipped is none."""
    items = result.get("results")
    found = list(items) if isinstance(items, (list, tuple)) and items else [result]
    return [leaf for leaf in found if isinstance(leaf, Mapping) and not leaf.get("skipped")]


def failures(result: Mapping[str, t.Any]) -> list[Failure]:
    """All that failed in the result of a task: VM by VM where it says so."""
    found: list[Failure] = []
    for leaf in leaves(result):
        inside: list[Failure] = []
        # Of what looks only, the errors are those of layers.
        for item in (*_list(leaf, "mounts"), *_list(leaf, "vms")) if leaf.get("failed") else ():
            error = item.get("error")
            if error:
                _add(inside, _told(item.get("vm", ""), item.get("mount_path", ""), error))
        for error in _list(leaf, "errors"):
            _add(inside, _told(error.get("vm", ""), "", error))
        if leaf.get("unreachable"):
            inside = [Failure("", "", "host_unreachable", str(leaf.get("msg", "")))]
        elif not inside and leaf.get("failed"):
            center = leaf.get(CENTER)
            inside = [_told("", f"model center {center}" if center else "", leaf)]
        for failure in inside:
            _add(found, failure)
    return found


def noted(vm: str, error: Mapping[str, t.Any], place: str = "") -> dict[str, str]:
    """A failure as it is noted for a host: what an error of ours says, in the form of C(Failure)."""
    return {"vm": vm, "place": place, "error_code": error["error_code"], "msg": error["msg"]}


def _told(vm: t.Any, place: t.Any, error: Mapping[str, t.Any]) -> Failure:
    # What Ansible itself says may be long and have lines.
    msg = " ".join(str(error.get("msg", "")).split())
    code = error["error_code"] if error.get("error_code") else "task_failed"
    return Failure(str(vm or ""), str(place or ""), str(code), msg)


def _add(known: list[Failure], failure: Failure) -> None:
    # Every task of a host that libvirt does not answer on fails in the same way.
    same = (failure.vm, failure.place, failure.error_code)
    if all((other.vm, other.place, other.error_code) != same for other in known):
        known.append(failure)


def _take(outcome: Outcome, leaf: Mapping[str, t.Any], look: bool) -> None:
    for failure in failures(leaf):
        _add(outcome.failures, failure)
    outcome.changed = outcome.changed or bool(leaf.get("changed"))
    summary = leaf.get("summary")
    if isinstance(summary, Mapping) and not look:
        outcome.mounts += int(summary.get("total", 0))
        outcome.mounts_changed += int(summary.get("changed", 0))
    for item in (*_list(leaf, "mounts"), *_list(leaf, "vms")):
        vm = str(item.get("vm", ""))
        if item.get("restart_required") and vm not in outcome.restart:
            outcome.restart.append(vm)
        if not item.get("error") and not item.get("restart_required"):
            outcome.due += [f"{vm} {item.get('mount_path', '')}: {text}" for text in item.get("due") or []]


def _list(result: Mapping[str, t.Any], name: str) -> list[Mapping[str, t.Any]]:
    found = result.get(name)
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, (list, tuple)) else []
