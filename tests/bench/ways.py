# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The three ways to bring models into VMs that are compared, each in the same four phases."""

from __future__ import annotations

import base64
import dataclasses
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

from ansible_run import Run

from .stage import DRIFTED, MODELS, Measured, Stage, WrongResultError, say

FIRST, NOTHING, DRIFT, UNMOUNT = "first converge", "nothing to do", "one VM drifted", "full unmount"
PHASES = (FIRST, NOTHING, DRIFT, UNMOUNT)

_LOOP = Path(__file__).parent / "loop"


@dataclasses.dataclass(frozen=True)
class Measure:
    """One phase of one way.

    Attributes:
        wall: seconds from the start of the command to its end.
        module: seconds on the host alone: the life of the module or program; for the loop, of its virsh commands.
        calls: requests to libvirt; for the loop, virsh commands, of which each makes several.
        output: bytes printed.
        result: bytes of the results that Ansible brought back.
        details: what was measured on the host, where a program of its own did the work.
        processors: seconds of processor that the host and its guests used.
        others: the share of the machine's processors that others took right before.
    """

    way: str
    vms: int
    phase: str
    wall: float
    module: float
    calls: int
    output: int
    result: int
    details: Measured | None = None
    processors: float = 0.0
    others: float = 0.0


class Way(ABC):
    """One way; it says of every phase how many mounts it changed.

    Attributes:
        unmounted: what somebody in a guest unmounts, so that it drifts.
        drifted: how many mounts are not right then.
        state: what is to be found in the VMs when all is mounted.
        models: what each VM gets.
    """

    name: str
    models: ClassVar[dict[str, str]] = MODELS
    unmounted = f"/models/{DRIFTED}"
    drifted = 1
    state = "there"

    def __init__(self, stage: Stage) -> None:
        self.stage = stage

    @abstractmethod
    def run(self, phase: str, vms: list[str]) -> tuple[Measure, int]:
        """Do one phase."""

    def phases(self, vms: list[str]) -> Iterable[Measure]:
        """Do all phases; what each leaves behind is looked at before the next."""
        everything = len(vms) * len(self.models)
        expected = {FIRST: everything, NOTHING: 0, DRIFT: self.drifted, UNMOUNT: everything}
        for phase in PHASES:
            if phase == DRIFT:
                self.stage.drift(vms[-1], self.unmounted)
            others = self.stage.wait_quiet()
            before = self.stage.processor_seconds()
            measure, changed = self.run(phase, vms)
            processors = self.stage.processor_seconds() - before
            say(f"{self.name}, {len(vms)} VMs, {phase}: {measure.wall:.1f} s, on the host {measure.module:.1f} s")
            if changed != expected[phase]:
                raise WrongResultError(f"{self.name}, {phase}: {changed} mounts changed, not {expected[phase]}")
            self.stage.verify("gone" if phase == UNMOUNT else self.state, vms, self.models)
            yield dataclasses.replace(measure, processors=processors, others=others)


class Collection(Way):
    """This collection: a play with one task."""

    name = "collection"
    transport = "device"

    def run(self, phase: str, vms: list[str]) -> tuple[Measure, int]:
        """Run vm_model_mount once, with a list of all mounts."""
        state = "absent" if phase == UNMOUNT else "present"
        mounts = [
            {"vm": vm, "model": model, "model_center": "zoo", "transport": self.transport}
            for vm in vms
            for model in MODELS
        ]
        # What the other ways do not do is not measured here either.
        arguments = {"state": state, "mounts": mounts, "read_ahead_kb": 0}
        task = {"name": "Mount", "modelfleet.kvm.vm_model_mount": arguments}
        run = self.stage.ansible.play([task], variables=self.stage.variables)
        (result,) = run.of("vm_model_mount").values()
        measured = self.stage.measured()
        if measured is None:
            raise WrongResultError("the module did not talk to libvirt")
        measure = _measure(self.name, phase, vms, run, measured)
        return measure, sum(mount["changed"] for mount in result["mounts"])


class View(Collection):
    """This collection, with the models of a VM in its view."""

    name = "collection, view"
    transport = "view"
    unmounted = "/models"
    drifted = len(MODELS)
    state = "in_view"


class Loop(Way):
    """What a user would write today: a play with loops over virsh, the best of its kind."""

    name = "loop"

    def run(self, phase: str, vms: list[str]) -> tuple[Measure, int]:
        """Run the play that mounts or the one that unmounts."""
        playbook = _LOOP / ("unmount.yml" if phase == UNMOUNT else "mount.yml")
        run = self.stage.ansible.run(str(playbook), {"vms": vms, "models": MODELS})
        commands = [result for result in _items(run) if "cmd" in result]
        seconds = sum(_seconds(result["delta"]) * result.get("attempts", 1) for result in commands)
        calls = sum(result.get("attempts", 1) for result in commands)
        measure = Measure(self.name, len(vms), phase, run.seconds, seconds, calls, len(run.output), _size(run))
        return measure, sum(map(_changed, commands))


class Bare(Way):
    """The limit: a program on the host that does the unavoidable calls only, in parallel."""

    name = "bare program"

    def run(self, phase: str, vms: list[str]) -> tuple[Measure, int]:
        """Run the program over SSH."""
        word = {FIRST: "mount", NOTHING: "look", DRIFT: "repair", UNMOUNT: "unmount"}[phase]
        began = time.monotonic()
        output = self.stage.program("bare", word, vms=vms, models=self.models)
        wall = time.monotonic() - began
        measured = self.stage.measured()
        if measured is None:
            raise WrongResultError("the program did not talk to libvirt")
        calls = sum(count for count, _seconds in measured.calls.values())
        measure = Measure(self.name, len(vms), phase, wall, measured.seconds, calls, len(output), 0, measured)
        return measure, json.loads(output)["changed"]


class OneDevice(Bare):
    """The limit of what a view can save: the program with a single device in each VM."""

    name = "bare program, one device"
    models: ClassVar[dict[str, str]] = dict(list(MODELS.items())[:1])
    unmounted = f"/models/{next(iter(MODELS))}"


WAYS: dict[str, type[Way]] = {
    "collection": Collection,
    "view": View,
    "loop": Loop,
    "bare": Bare,
    "one": OneDevice,
}


def _measure(name: str, phase: str, vms: list[str], run: Run, measured: Measured) -> Measure:
    calls = sum(count for count, _seconds in measured.calls.values())
    return Measure(name, len(vms), phase, run.seconds, measured.seconds, calls, len(run.output), _size(run), measured)


def _size(run: Run) -> int:
    return sum(len(json.dumps(line["result"])) for line in run.lines)


def _items(run: Run) -> Iterable[dict[str, Any]]:
    """The results of all tasks, those of loops one by one."""
    for line in run.lines:
        yield from line["result"].get("results", [line["result"]])


def _changed(result: dict[str, Any]) -> int:
    """How many mounts a virsh command changed: unplugged one, or had the guest mount some."""
    if "detach-device" in result["cmd"]:
        return 1
    if not result["changed"] or "attach-device" in result["cmd"]:
        return 0
    return len(base64.b64decode(json.loads(result["stdout"])["return"]["out-data"]).split())


def _seconds(delta: str) -> float:
    hours, minutes, seconds = delta.split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
