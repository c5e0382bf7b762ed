# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Looks whether the VMs really have their models, or nothing at all, whoever was here. Prints what is not so.

Usage: verify.py there|gone, with a task on standard input.
"""

from __future__ import annotations

import hashlib
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import agents
import libvirt

FILE = "weights.bin"


def there(task: agents.Task, domain: Any) -> list[str]:
    """Every model must be read right in the guest, read-only, from a device in the live and the persistent XML."""
    return _there(task, domain, [f"/models/{model}" for model in task["models"]])


def in_view(task: agents.Task, domain: Any) -> list[str]:
    """Every model must be read right in the guest, read-only, from the one device of its view."""
    return _there(task, domain, ["/models"])


def _there(task: agents.Task, domain: Any, mounted: list[str]) -> list[str]:
    wanted = {f"/models/{model}/{FILE}": _checksum(Path(path, FILE)) for model, path in task["models"].items()}
    seen = agents.succeed(domain, "sha256sum", *wanted).splitlines()
    read = {path: checksum for checksum, path in (line.split() for line in seen)}
    problems = [f"{path} is {read.get(path)}" for path, checksum in wanted.items() if read.get(path) != checksum]
    # What is mounted in a view is shown by some guests as well.
    mounts = [words for words in _virtiofs(domain) if "/.m/" not in words[1]]
    read_only = [words[1] for words in mounts if "ro" in words[3].split(",")]
    if sorted(read_only) != sorted(mounted):
        problems.append(f"read-only mounts: {read_only}")
    if set(_devices(domain)) != {len(mounted)}:
        problems.append(f"devices: {_devices(domain)}")
    return problems


def gone(_task: agents.Task, domain: Any) -> list[str]:
    """Nothing may be left in the guest, in both XMLs and in the records."""
    problems = [f"still mounted: {words}" for words in _virtiofs(domain)]
    if any(_devices(domain)):
        problems.append(f"devices: {_devices(domain)}")
    if "urn:modelfleet" in domain.XMLDesc(0):
        problems.append("records are left")
    return problems


def _virtiofs(domain: Any) -> list[list[str]]:
    return [words for words in agents.mount_table(domain) if words[2] == "virtiofs"]


def _devices(domain: Any) -> list[int]:
    texts = (domain.XMLDesc(0), domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE))
    return [len(ET.fromstring(text).findall("devices/filesystem")) for text in texts]


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main() -> None:
    """Look at all VMs."""
    task = agents.read_task()
    look = {"there": there, "in_view": in_view, "gone": gone}[sys.argv[1]]
    found = agents.of_every_vm(task, lambda domain: look(task, domain))
    print(json.dumps([f"{vm}: {problem}" for vm, problems in found.items() for problem in problems]))


if __name__ == "__main__":
    main()
