# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the numbers were measured on, in the words that a reader needs to compare them, and whether it was idle."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

from modelfleet_lab import Host

# Idle guests take a few percent.
IDLE = 0.7
_IDLE_WITHIN = 10.0

_VERSION = re.compile(r"\d+(\.\d+)+")


def describe(host: Host, kind: str) -> str:
    """The machine, and the versions of what does the work."""
    ansible = subprocess.run(["ansible", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    memory = Path("/proc/meminfo").read_text(encoding="utf-8").split()[1]
    lines = {
        "processors": str(len(os.sched_getaffinity(0))),
        "memory": f"{int(memory) / (1 << 20):.0f} GiB",
        "kernel": f"Linux {_version(os.uname().release)}",
        "virtual machines": "software emulation (TCG), 1 processor each",
        "host": f"{kind}, a container of the lab, reached over SSH",
        "libvirt": _version(host.run(["libvirtd", "--version"]).stdout),
        "QEMU": _version(host.run(["qemu-system-x86_64", "--version"]).stdout),
        "ansible-core": _version(ansible),
    }
    return "\n".join(f"- {name}: {value}" for name, value in lines.items())


def _version(text: str) -> str:
    found = _VERSION.search(text)
    return found.group() if found else "unknown"


def wait_idle() -> float:
    """Wait a moment for the processors to become idle; returns the share of them that was idle in the last second."""
    end = time.monotonic() + _IDLE_WITHIN
    while True:
        idle, every = _ticks()
        time.sleep(1)
        now_idle, now_every = _ticks()
        share = (now_idle - idle) / max(1, now_every - every)
        if share >= IDLE or time.monotonic() > end:
            return share


def _ticks() -> tuple[int, int]:
    """The time of all processors since the machine started, idle and in all."""
    words = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:]
    times = [int(word) for word in words]
    return times[3] + times[4], sum(times[:8])
