# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many models in one VM, by each transport: what one more costs when so many are there already."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Sequence
from typing import Any

from engine import Engine

from modelfleet_lab import Guest

from .stage import Stage, WrongResultError, say
from .table import markdown

TRANSPORTS = ("device", "view")
# As many as the guest has PCIe ports for.
MOST_DEVICES = 20
_ROUNDS, _READS = 25, 5
# The same engine that the module calls: what it takes to mount a model, beyond the same when it is there.
_PROGRAM = """
import json, sys, time
sys.path.insert(0, "/opt/modelfleet-tests/on_host")
import converge

def seconds(mount, state="present"):
    began = time.perf_counter()
    for outcome in converge.run({"mounts": [mount], "state": state}):
        assert outcome.error is None, outcome.error
    return time.perf_counter() - began

mount, more = %r, []
for _round in range(%d):
    seconds({"vm": mount["vm"], "model": mount["model"]}, "absent")
    more.append(seconds(mount) - seconds(mount))
print(json.dumps(more))
"""


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one model more costs.

    Attributes:
        models: how many are there with it.
        more: seconds on the host to mount it, beyond the same when it is there.
        read: seconds that the guest takes to read a file of it for the first time, the agent's part included.
        processes: virtiofsd processes of the VM.
        memory: their anonymous memory in MB.
        ports: PCIe ports that the models take.
        whole: seconds on the host to mount all of them at once.
    """

    transport: str
    models: int
    more: float
    read: float
    processes: int
    memory: float
    ports: int
    whole: float


class Many:
    """One VM and many models."""

    def __init__(self, stage: Stage, most: int) -> None:
        self._stage = stage
        self._names = [f"many-{number:03}" for number in range(1, most + 1)]
        script = 'for name; do mkdir -p "/srv/models/$name" && echo "$name" > "/srv/models/$name/config.json"; done'
        stage.host.run(["sh", "-c", script, "sh", *self._names])
        self._guest: Guest = stage.host.guest("many", memory_mb=160, ports=MOST_DEVICES)
        self._guest.up()
        self._engine = Engine(stage.host)

    def costs(self, sizes: Sequence[int]) -> list[Cost]:
        """Measure all sizes with all transports that can have them."""
        found = []
        for transport in TRANSPORTS:
            for size in sizes:
                if transport == "view" or size <= MOST_DEVICES:
                    found.append(self._cost(transport, self._names[:size]))
                    say(f"{transport}, {size} models: one more in {found[-1].more * 1000:.0f} ms on the host")
        return found

    def _cost(self, transport: str, names: list[str]) -> Cost:
        last = names[-1]
        whole = self._run(transport, names)
        # The difference is small beside what a process takes to start, so that one process does all of it.
        seconds = json.loads(self._engine.program(_PROGRAM % (self._entry(transport, last), _ROUNDS)))
        reads = []
        for _round in range(_READS):
            self._run(transport, [last], state="absent")
            self._run(transport, [last])
            began = time.monotonic()
            text = self._guest.run(["cat", f"/models/{last}/config.json"]).stdout
            reads.append(time.monotonic() - began)
            if text != f"{last}\n":
                raise WrongResultError(f"{transport}: the guest reads {text!r}")
        ports = len(self._guest.xml().findall("devices/filesystem"))
        processes, memory = self._daemons()
        self._run(transport, names, state="absent")
        more, read = statistics.median(seconds), statistics.median(reads)
        return Cost(transport, len(names), more, read, processes, memory, ports, whole)

    def _entry(self, transport: str, name: str) -> dict[str, Any]:
        return {"vm": self._guest.name, "model": name, "model_center": "zoo", "transport": transport}

    def _run(self, transport: str, names: Sequence[str], state: str = "present") -> float:
        mounts = [self._entry(transport, name) for name in names]
        arguments = {"state": state, "mounts": mounts, "return": "changed"}
        self._stage.ansible.play([{"modelfleet.kvm.vm_model_mount": arguments}], variables=self._stage.variables)
        measured = self._stage.measured()
        if measured is None:
            raise WrongResultError("the module did not talk to libvirt")
        return measured.seconds

    def _daemons(self) -> tuple[int, float]:
        """Processes and anonymous memory (MB) of the VM's virtiofsds."""
        script = (
            f"for pid in $(pgrep virtiofsd); do grep -q {self._guest.uuid} /proc/$pid/cmdline &&"
            " grep -h RssAnon /proc/$pid/status; done 2>/dev/null"
        )
        lines = self._stage.host.run(["sh", "-c", script], check=False).stdout.splitlines()
        return len(lines), sum(int(line.split()[1]) for line in lines) / 1024


def table(costs: Sequence[Cost]) -> str:
    """One line for every size and transport."""
    head = (
        "transport",
        "models",
        "one more, ms beyond a run with nothing to do",
        "first read in the guest, ms",
        "all at once, s",
        "daemon processes",
        "anonymous MB",
        "PCIe ports",
    )
    rows = [
        (
            cost.transport,
            str(cost.models),
            f"{cost.more * 1000:.0f}",
            f"{cost.read * 1000:.0f}",
            f"{cost.whole:.1f}",
            str(cost.processes),
            f"{cost.memory:.1f}",
            str(cost.ports),
        )
        for cost in costs
    ]
    return markdown(head, rows)
