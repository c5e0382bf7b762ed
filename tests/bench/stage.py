# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where the measuring happens: a host of the lab with its guests, models, and programs that measure and verify."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_run import Ansible

from checks import places
from modelfleet_lab import Guest, Host, Lab

from . import machine

MODELS = {f"model-{number}": f"/srv/models/model-{number}" for number in range(1, 5)}
DRIFTED = "model-2"

# Read-only devices, as the bare program and the loop want them, need libvirt 11.0 and virtiofsd 1.13.
_KIND = "debian13"
_PROGRAMS = Path(__file__).parent / "on_host"
_THERE = "/opt/bench"
_INTERPRETER = f"{_THERE}/python"
_MEASURES = f"{_THERE}/measures"
# More at once would boot no sooner on few processors, and some would not answer in time.
_BOOTS_AT_ONCE = 4
_ANSIBLE_SECONDS = 3600.0
_FILE_BYTES = 64 << 10
# The share of the processors that others may take before a phase is called disturbed.
QUIET = 0.25


@dataclass(frozen=True)
class Measured:
    """What a program on the host measured of itself.

    Attributes:
        seconds: how long it lived.
        cpu: seconds of processor that it used.
        calls: count and seconds by function of libvirt.
        profile: name, seconds in all threads, in the main thread, and in the function itself.
    """

    seconds: float
    cpu: float
    calls: dict[str, tuple[int, float]]
    profile: list[tuple[str, float, float, float]]


class WrongResultError(Exception):
    """A way was quick, but did not do what it should."""


class Stage:
    """The host and its running guests, named `vm01` and so on."""

    def __init__(self, lab: Lab, threads: int, patience: float, profile: bool) -> None:
        self.host: Host = lab.up({"kvm1": _KIND})["kvm1"]
        self.ansible = Ansible(lab.inventory_path(), timeout=_ANSIBLE_SECONDS)
        self.guests: dict[str, Guest] = {}
        self._threads = threads
        self._patience = patience
        self._put_programs(profile)
        for path in MODELS.values():
            self.host.write(f"{path}/weights.bin", os.urandom(_FILE_BYTES))
        self.ansible.module("kvm_host_prepare", {})
        self.ansible.module("model_center_mount", {"name": "zoo", "storage_url": "file:///srv/models"})

    def _put_programs(self, profile: bool) -> None:
        for source in (*_PROGRAMS.glob("*.py"), places.ROOT / "plugins" / "module_utils" / "_mountapi.py"):
            self.host.write(f"{_THERE}/{source.name}", source.read_text(encoding="utf-8"))
        # An interpreter that Ansible can be told to use, in which every program is measured.
        words = [f"PYTHONPATH={_THERE}", f"BENCH_MEASURES={_MEASURES}", *(["BENCH_PROFILE=1"] if profile else [])]
        script = f'#!/bin/sh\nexec env {" ".join(words)} /usr/bin/python3 "$@"\n'
        self.host.write(_INTERPRETER, script, mode=0o755)

    @property
    def variables(self) -> dict[str, Any]:
        """Variables for Ansible with which its modules are measured."""
        return {"ansible_python_interpreter": _INTERPRETER}

    def boot(self, count: int) -> list[str]:
        """Have so many guests running, started a few at a time, and return their names.

        Also an idle guest takes something from the others, so that none is started before it is needed.
        """
        names = [f"vm{number:02}" for number in range(1, count + 1)]
        fresh = {name: self.host.guest(name) for name in names if name not in self.guests}
        self.guests.update(fresh)
        with ThreadPoolExecutor(_BOOTS_AT_ONCE) as pool:
            try:
                jobs = [pool.submit(guest.up) for guest in fresh.values()]
                for done, job in enumerate(as_completed(jobs), start=1):
                    job.result()
                    if done % 5 == 0 or done == len(jobs):
                        say(f"{count - len(fresh) + done} of {count} guests are up")
            except BaseException:
                # The pool waits for what it has begun; the others are not needed any more.
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return names

    def program(self, name: str, *words: str, vms: list[str], models: dict[str, str] = MODELS) -> str:
        """Run a program on the host for some VMs and return what it prints."""
        task = json.dumps({"vms": vms, "models": models, "threads": self._threads})
        command = [_INTERPRETER, f"{_THERE}/{name}.py", *words]
        return self.host.run(command, input=task, timeout=_ANSIBLE_SECONDS).stdout

    def measured(self) -> Measured | None:
        """What was measured on the host since this was last asked, if anything talked to libvirt."""
        lines = self.host.run(["sh", "-c", f"cat {_MEASURES}; rm -f {_MEASURES}"], check=False).stdout.splitlines()
        if not lines:
            return None
        if len(lines) > 1:
            raise WrongResultError(f"{len(lines)} programs asked libvirt where one was expected")
        return Measured(**{"profile": [], **json.loads(lines[0])})

    def processor_seconds(self) -> float:
        """The time of processors that everything on the host has used since it was started, its guests included."""
        # What the host takes for the root of all control groups is that of its container.
        microseconds = self.host.read("/sys/fs/cgroup/cpu.stat").split()[1]
        return int(microseconds) / 1e6

    def wait_quiet(self) -> float:
        """Wait a moment for others to leave the processors to us; returns the share of them that others took last."""
        end = time.monotonic() + self._patience
        while True:
            began, busy, ours = time.monotonic(), machine.busy_seconds(), self.processor_seconds()
            time.sleep(1)
            others = machine.busy_seconds() - busy - (self.processor_seconds() - ours)
            share = max(0.0, others / machine.processors() / (time.monotonic() - began))
            if share <= QUIET or time.monotonic() > end:
                return share

    def verify(self, state: str, vms: list[str], models: dict[str, str]) -> None:
        """Look for ourselves whether the models are `there`, `in_view` or `gone`."""
        problems = json.loads(self.program("verify", state, vms=vms, models=models))
        if state == "gone":
            below = ("/var/lib/modelfleet/vms/", "/var/lib/bench/")
            mounts = self.host.read("/proc/self/mountinfo").splitlines()
            problems += [f"still bound: {line}" for line in mounts if line.split()[4].startswith(below)]
        if problems:
            raise WrongResultError("; ".join(problems[:5]))
        self.measured()

    def drift(self, vm: str, path: str) -> None:
        """Have somebody in a guest unmount what is mounted at a path."""
        self.guests[vm].run(["umount", path])


def say(text: str) -> None:
    """Tell who waits what goes on."""
    print(f"bench: {text}", flush=True)
