# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the numbers were measured on, in the words that a reader needs to compare them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from modelfleet_lab import Host

_VERSION = re.compile(r"\d+(\.\d+)+")


def describe(host: Host) -> str:
    """The machine, and the versions of what does the work."""
    ansible = subprocess.run(["ansible", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    memory = Path("/proc/meminfo").read_text(encoding="utf-8").split()[1]
    lines = {
        "processors": str(processors()),
        "memory": f"{int(memory) / (1 << 20):.0f} GiB",
        "kernel": f"Linux {_version(os.uname().release)}",
        "virtual machines": "software emulation (TCG), 1 processor each",
        "host": f"{host.kind}, a container of the lab, reached over SSH",
        "libvirt": _version(host.run(["libvirtd", "--version"]).stdout),
        "QEMU": _version(host.run(["qemu-system-x86_64", "--version"]).stdout),
        "ansible-core": _version(ansible),
    }
    return "\n".join(f"- {name}: {value}" for name, value in lines.items())


def _version(text: str) -> str:
    found = _VERSION.search(text)
    return found.group() if found else "unknown"


def busy_seconds() -> float:
    """The seconds that the processors have worked since the machine started, all together."""
    words = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:]
    times = [int(word) for word in words[:8]]
    idle = times[3] + times[4]
    return (sum(times) - idle) / os.sysconf("SC_CLK_TCK")


def processors() -> int:
    """How many processors we may use."""
    return len(os.sched_getaffinity(0))
