# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""VMs made able to take models: their definitions prepared, and where told to, the VMs restarted.

This module util is private to the collection.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import typing as t
import xml.etree.ElementTree as ET

from . import _agents, _devices, _domain, _locks, _vm_definition
from ._errors import ModelfleetError, internal

# Steps, beside those of _vm_definition.
SHUT_DOWN = "shut_down"
START = "start"

# libvirtd serves five requests of one connection at a time, and guests that boot need the host's processors.
_VMS_AT_ONCE = 4
# What libvirt adds by itself can take a port that was meant for a model.
_ROUNDS = 3


@dataclasses.dataclass(frozen=True)
class Request:
    """What a task asks for.

    Attributes:
        vms: names or UUIDs.
        ports: how many models each VM shall have room for.
        agent: whether each shall have the agent's channel.
        restart: whether a VM that runs without what its XML has is shut down and started.
        deadline: seconds that any single wait may take.
    """

    vms: list[str]
    ports: int
    agent: bool
    restart: bool
    check_mode: bool
    deadline: float


class Layer(t.NamedTuple):
    """What one XML of a VM has."""

    enough: _vm_definition.Enough
    ports: t.Optional[int]


@dataclasses.dataclass
class Outcome:
    """What became of one VM. It is filled on the way, so that it says how far that went.

    Attributes:
        persistent, running: what was found, before anything was changed.
        changes: what was changed in the persistent XML, or is due in check mode.
        restart: the steps of a restart that were done, or are due in check mode.
        lacking: what the VM runs without, in the end.
    """

    vm: str
    uuid: str = ""
    state: str = ""
    persistent: t.Optional[Layer] = None
    running: t.Optional[Layer] = None
    changes: list[_vm_definition.Change] = dataclasses.field(default_factory=list)
    restart: list[str] = dataclasses.field(default_factory=list)
    lacking: list[str] = dataclasses.field(default_factory=list)
    error: t.Optional[ModelfleetError] = None

    @property
    def actions(self) -> list[str]:
        return [*dict.fromkeys(change.action for change in self.changes), *self.restart]


def prepare(host: _domain.Host, request: Request) -> list[Outcome]:
    """Prepare VMs, or only say what is due; in the order in which they were named. One's failure leaves the others."""
    found: dict[str, t.Union[_domain.Vm, Outcome]] = {}
    for name in request.vms:
        try:
            vm = host.vm(name)
            found.setdefault(vm.uuid, vm)
        except ModelfleetError as problem:
            found[name] = Outcome(name, error=problem)
    run = _Run(host, request)
    with concurrent.futures.ThreadPoolExecutor(_VMS_AT_ONCE) as pool:
        return list(pool.map(lambda item: item if isinstance(item, Outcome) else run.isolated(item), found.values()))


class _Run:
    """What a task asks for, done to one VM after another."""

    def __init__(self, host: _domain.Host, request: Request) -> None:
        self._request = request
        self._wish = _vm_definition.wanted(request.ports, request.agent, host.version)
        self._agents = _agents.Agents(host)

    def isolated(self, vm: _domain.Vm) -> Outcome:
        """What becomes of one VM, whatever happens."""
        outcome = Outcome(vm.name, vm.uuid)
        try:
            with contextlib.ExitStack() as stack:
                if not self._request.check_mode:
                    stack.enter_context(_locks.held([_locks.vm(vm.uuid)], self._request.deadline))
                self._prepare(vm, outcome)
        except Exception as unexpected:
            outcome.error = internal(unexpected, f"VM {vm}")
        return outcome

    def _prepare(self, vm: _domain.Vm, outcome: Outcome) -> None:
        outcome.state = vm.state()
        if not vm.persistent():
            raise ModelfleetError("vm_transient", f"VM {vm} has no persistent definition", vm=vm.name)
        definition = _vm_definition.read(vm.definition())
        outcome.persistent = self._layer(definition)
        outcome.running = self._running(vm)
        outcome.lacking = _lacking(outcome.running)
        prepared, due = _vm_definition.prepare(definition, self._wish)
        if due and not self._request.check_mode:
            vm.define(_vm_definition.write(prepared))
        outcome.changes = due
        if due and not self._request.check_mode:
            self._complete(vm)
        # One that is off with a managed save goes on with its old XML; nobody asked for it to be started.
        if self._request.restart and outcome.lacking and outcome.state != "shutoff":
            self._restart(vm, outcome)

    def _layer(self, root: ET.Element) -> Layer:
        return Layer(_vm_definition.enough(root, self._wish), _devices.model_ports(root))

    def _running(self, vm: _domain.Vm) -> t.Optional[Layer]:
        root = vm.running_xml()
        return None if root is None else self._layer(root)

    def _complete(self, vm: _domain.Vm) -> None:
        """See to it that the definition has everything, with what libvirt has added to it."""
        for rounds_left in reversed(range(_ROUNDS)):
            prepared, missing = _vm_definition.prepare(_vm_definition.read(vm.definition()), self._wish)
            if not missing:
                return
            if rounds_left:
                vm.define(_vm_definition.write(prepared))
        raise ModelfleetError(
            "define_failed",
            f"VM {vm}: libvirt took its XML, but not all of it: {missing[0].what}",
            vm=vm.name,
            missing=[change.action for change in missing],
        )

    def _restart(self, vm: _domain.Vm, outcome: Outcome) -> None:
        """Stop and start: a reboot of the guest would stay in the same QEMU, with the old XML."""
        if outcome.state not in ("running", "blocked"):
            raise ModelfleetError(
                "vm_state", f"VM {vm} is {outcome.state}, so its guest cannot shut down for the restart", vm=vm.name
            )
        if self._request.check_mode:
            outcome.restart, outcome.lacking = [SHUT_DOWN, START], []
            return
        vm.shut_down(self._request.deadline, by_agent=self._agent_answers(vm))
        outcome.restart, outcome.lacking, outcome.state = [SHUT_DOWN], [], "shutoff"
        vm.start()
        outcome.restart.append(START)
        outcome.state = vm.state()
        outcome.lacking = _lacking(self._running(vm))

    def _agent_answers(self, vm: _domain.Vm) -> bool:
        try:
            self._agents.ask(vm, "guest-ping", {}, self._request.deadline)
        except ModelfleetError:
            return False
        return True


def _lacking(layer: t.Optional[Layer]) -> list[str]:
    return [] if layer is None else layer.enough.lacking


def report(outcomes: t.Iterable[Outcome]) -> list[dict[str, t.Any]]:
    """The C(vms) of a result."""
    return [_vm(outcome) for outcome in outcomes]


def _vm(outcome: Outcome) -> dict[str, t.Any]:
    layers = {"persistent": outcome.persistent, "running": outcome.running}
    return {
        "vm": outcome.vm,
        "vm_instance_uuid": outcome.uuid,
        "vm_state": outcome.state,
        "changed": bool(outcome.actions),
        "actions": outcome.actions,
        "enough": {name: layer and layer.enough._asdict() for name, layer in layers.items()},
        "ports": {name: layer and layer.ports for name, layer in layers.items()},
        "restart_required": bool(outcome.lacking),
        "restart_reasons": outcome.lacking,
        "error": outcome.error.as_result() if outcome.error else None,
    }


def diff(outcomes: t.Iterable[Outcome]) -> dict[str, str]:
    """Before and after of every VM that changes, a line for each thing."""
    before, after = [], []
    for outcome in outcomes:
        lines = [(change.what, change.before, change.after) for change in outcome.changes]
        if START in outcome.restart:
            lines.append(("the running VM has all of it", "no", "yes"))
        if lines:
            before.append(_side(outcome.vm, [(what, was) for what, was, _is in lines]))
            after.append(_side(outcome.vm, [(what, is_) for what, _was, is_ in lines]))
    return {"before": "".join(before), "after": "".join(after)}


def _side(vm: str, lines: t.Iterable[tuple[str, str]]) -> str:
    return "".join([f"VM {vm}\n", *(f"  {what}: {value}\n" for what, value in lines)])
