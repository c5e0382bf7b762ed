# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ansible, run against the hosts of a lab as anybody would, with every result at hand."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Result = dict[str, Any]

_HERE = Path(__file__).parent


def require_transport(arguments: dict[str, Any] | None) -> None:
    """Insist that mounts which shall be there say by which transport: the module's default may change."""
    if arguments and arguments.get("state", "present") == "present":
        entries = arguments.get("mounts")
        for entry in [arguments] if entries is None else entries:
            assert "transport" in entry, f"by which transport? {entry}"


@dataclass(frozen=True)
class Run:
    """One run of ansible-playbook.

    Attributes:
        status: its exit status.
        output: what it printed.
        results: per host the results of the collection's modules, in order, each with `action` and `failed`.
        seconds: how long it took.
        lines: every result of any module, as the callback plugin `collect` wrote it.
    """

    status: int
    output: str
    results: dict[str, list[Result]]
    seconds: float
    lines: list[dict[str, Any]]

    def of(self, module: str) -> dict[str, Result]:
        """Per host the last result of a module."""
        found = {}
        for host, results in self.results.items():
            for result in results:
                if result["action"] == f"modelfleet.kvm.{module}":
                    found[host] = result
        return found

    def changes(self) -> dict[str, list[tuple[str, bool]]]:
        """Per host which modules ran and whether they changed something."""
        return {host: [(item["action"], item["changed"]) for item in results] for host, results in self.results.items()}


class Ansible:
    """Runs playbooks and modules.

    MODELFLEET_CONTROL names a program that is put before the command, for another control node.
    """

    def __init__(self, inventory: Path, timeout: float = 300) -> None:
        self._inventory = inventory
        self._timeout = timeout

    def playbook(self, name: str, variables: dict[str, Any] | None = None, *, ok: bool = True, **how: Any) -> Run:
        """Run a playbook by its name in the collection.

        Args:
            ok: whether it must succeed; with False it must fail.
            how: `check`, `diff`, `limit` and `verbose`, as on the command line.
        """
        return self.run(f"modelfleet.kvm.{name}", variables or {}, ok, **how)

    def module(self, name: str, arguments: dict[str, Any], *, ok: bool = True, **how: Any) -> dict[str, Result]:
        """Run one module on every host, or those of `limit`; returns the result of each host."""
        task = {"name": name, f"modelfleet.kvm.{name}": arguments}
        return self.play([task], ok, **how).of(name)

    def each(self, name: str, calls: list[dict[str, Any]], **how: Any) -> dict[str, list[Result]]:
        """Run one module several times in one play, whatever becomes of each; per host the results in their order.

        Every call is made twice, first in check mode.
        """
        tasks = [
            {"name": name, f"modelfleet.kvm.{name}": arguments, "ignore_errors": True, "check_mode": check}
            for arguments in calls
            for check in (True, False)
        ]
        return self.play(tasks, ok=True, **how).results

    def play(
        self,
        tasks: list[dict[str, Any]],
        ok: bool = True,
        variables: dict[str, Any] | None = None,
        as_written: bool = False,
        **how: Any,
    ) -> Run:
        """Run a play of these tasks on every host.

        Args:
            as_written: mounts may leave it to the module how models reach the VM.
        """
        for task in tasks if not as_written else ():
            require_transport(task.get("modelfleet.kvm.vm_model_mount"))
        with tempfile.NamedTemporaryFile("w", suffix=".yml", prefix="modelfleet-") as file:
            json.dump([{"hosts": "kvm_hosts", "gather_facts": False, "tasks": tasks}], file)
            file.flush()
            return self.run(file.name, variables or {}, ok, **how)

    def run(
        self,
        playbook: str,
        variables: dict[str, Any],
        ok: bool = True,
        check: bool = False,
        diff: bool = False,
        limit: str | None = None,
        verbose: int = 0,
    ) -> Run:
        """Run a playbook by its name or path."""
        with tempfile.TemporaryDirectory(prefix="modelfleet-") as directory:
            collected = Path(directory) / "results"
            extra = Path(directory) / "variables.json"
            extra.write_text(json.dumps(variables))
            command = shlex.split(os.environ.get("MODELFLEET_CONTROL", ""))
            command += ["ansible-playbook", "-i", str(self._inventory), playbook, "-e", f"@{extra}"]
            command += ["--check"] * check + ["--diff"] * diff + (["--limit", limit] if limit else [])
            command += [f"-{'v' * verbose}"] if verbose else []
            environment = os.environ | {
                "ANSIBLE_CALLBACK_PLUGINS": str(_HERE / "callback_plugins"),
                "ANSIBLE_CALLBACKS_ENABLED": "collect",
                "ANSIBLE_PIPELINING": "1",
                "ANSIBLE_LOCALHOST_WARNING": "0",
                "COLLECT_FILE": str(collected),
            }
            began = time.monotonic()
            done = subprocess.run(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=self._timeout,
                check=False,
            )
            seconds = time.monotonic() - began
            written = collected.read_text().splitlines() if collected.exists() else []
        results: dict[str, list[Result]] = {}
        lines = [json.loads(line) for line in written]
        for line in lines:
            if line["action"].startswith("modelfleet.kvm."):
                # A loop's result holds those of its items.
                for result in line["result"].get("results", [line["result"]]):
                    result = {"changed": False, **result, "action": line["action"], "failed": line["kind"] != "ok"}
                    results.setdefault(line["host"], []).append(result)
        run = Run(done.returncode, done.stdout, results, seconds, lines)
        if (run.status == 0) != ok:
            raise AssertionError(f"{playbook} ended with status {run.status}\n{run.output}")
        return run
