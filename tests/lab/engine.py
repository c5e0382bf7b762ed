# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The collection's engine, run on a host without Ansible: quickly, side by side, or killed in the middle."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_run import require_transport

from modelfleet_lab import Host
from modelfleet_lab.kernel import Kernel

_ROOT = Path(__file__).parents[2]
_THERE = "/opt/modelfleet-tests"
_COLLECTION = "ansible_collections/modelfleet/kvm"


class Unpacked:
    """The collection's code on a host, or on its second kernel."""

    def __init__(self, machine: Host | Kernel) -> None:
        self._machine = machine
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            for path in sorted((_ROOT / "plugins" / "module_utils").rglob("*.py")):
                tar.add(path, f"{_COLLECTION}/{path.relative_to(_ROOT)}")
            for path in sorted((_ROOT / "tests" / "lab" / "on_host").glob("*.py")):
                tar.add(path, f"on_host/{path.name}")
        machine.run(["rm", "-rf", _THERE])
        machine.run(["mkdir", "-p", _THERE])
        machine.run(["tar", "-x", "-C", _THERE], input=archive.getvalue())

    def centers(self, calls: list[dict[str, Any]], timeout: float = 300) -> list[dict[str, Any]]:
        """Run the engine of model centers once for each call; returns what the modules would, and how long it took.

        Args:
            calls: C(params) of model_center_mount and C(check), or C(names) and C(timeout) of model_center_info.
        """
        program = ["python3", f"{_THERE}/on_host/centers.py"]
        results: list[dict[str, Any]] = json.loads(
            self._machine.run(program, input=json.dumps(calls), timeout=timeout).stdout
        )
        return results

    def program(self, text: str) -> str:
        """Run a Python program that may import the engine, and return what it prints."""
        environment = f"PYTHONPATH={_THERE}"
        return self._machine.run(["env", environment, "python3", "-"], input=text, timeout=120).stdout


class Engine(Unpacked):
    """The engine on one host.

    Attributes:
        host: the host.
    """

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.host = host

    def run(self, mounts: list[dict[str, Any]], freeze_after: int | None = None, **params: Any) -> dict[str, Any]:
        """Converge a list of mounts; returns C(mounts) and C(failure) of the result.

        Args:
            freeze_after: libvirt is frozen, and stays so, after so many effects.
        """
        require_transport({"mounts": mounts, **params})
        done = self._converge({"params": {"mounts": mounts, **params}, "freeze_after": freeze_after})
        result: dict[str, Any] = json.loads(done.stdout)
        return result

    def _converge(self, job: dict[str, Any], check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.host.run(
            ["python3", f"{_THERE}/on_host/converge.py"],
            input=json.dumps({"kill_after": None, "freeze_after": None, **job}),
            timeout=120,
            check=check,
        )

    def killed(self, mounts: list[dict[str, Any]], kill_after: int, **params: Any) -> bool:
        """Converge a list of mounts and be killed after so many effects; False when there were fewer."""
        require_transport({"mounts": mounts, **params})
        done = self._converge({"params": {"mounts": mounts, **params}, "kill_after": kill_after}, check=False)
        assert done.returncode == 0 or done.stdout == "killed\n", done.stderr
        return done.returncode != 0


def kill_changes(
    engine: Engine,
    wanted: Callable[[str], list[dict[str, Any]]],
    mounted: Callable[[str], None],
    gone: Callable[[], None],
) -> int:
    """Kill changes of transport, to and fro, after each of their effects.

    The next run finishes, undoes or takes all away in turns.

    Args:
        wanted: the mounts by a transport.
        mounted: has them be there by a transport, and looks whether they are.
        gone: takes them away, and looks whether they are gone.

    Returns:
        How many effects the change with the fewest has.
    """
    other = {"device": "view", "view": "device"}
    mounted("device")
    effects, now = dict.fromkeys(other, 0), "device"
    to_do = set(other)
    while to_do:
        new = other[now]
        effects[new] += 1
        if not engine.killed(wanted(new), effects[new]):
            to_do.discard(new)
            now = new
        elif effects[new] % 3 == 0:
            gone()
        elif effects[new] % 3 == 1:
            now = new
        mounted(now)
    gone()
    return min(effects.values())
