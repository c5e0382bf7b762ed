# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The limit: a program that does only what cannot be avoided, in parallel. Nothing is checked and nothing undone.

Usage: bare.py mount|look|repair|unmount, with a task on standard input. It prints how many mounts it changed.
"""

from __future__ import annotations

import json
import os
import sys
import time
import xml.etree.ElementTree as ET
from typing import Any

import agents
import libvirt

# The collection's own system calls for a bind that is born read-only, copied here beside this program.
from _mountapi import attach, open_directory, read_only_clone, unmount

_LIVE = libvirt.VIR_DOMAIN_AFFECT_LIVE
_CONFIG = libvirt.VIR_DOMAIN_AFFECT_CONFIG
_NAMESPACE = "urn:modelfleet:bench"
_DEADLINE = 60.0


class Bare:
    """The ways to treat one VM; each returns how many of its mounts were changed."""

    def __init__(self, models: dict[str, str]) -> None:
        self._models = models

    def mount(self, domain: Any) -> int:
        """Mount all models without looking first."""
        making = agents.start(domain, "mkdir", "-p", *map(_mount_path, self._models))
        self._remember(domain, list(self._models))
        for model, directory in self._models.items():
            source = _source(domain, model)
            os.makedirs(source)
            tree = read_only_clone(open_directory(directory))
            attach(tree, source)
            os.close(tree)
            domain.attachDeviceFlags(_device(domain, model), _LIVE | _CONFIG)
        agents.finish(domain, making)
        _mount_in_guest(domain, list(self._models))
        return len(self._models)

    def look(self, domain: Any) -> int:
        """Look at all layers of a VM in which everything is right."""
        if missing := self._missing(domain):
            raise RuntimeError(f"{domain.name()}: {missing} are not mounted")
        return 0

    def repair(self, domain: Any) -> int:
        """Look at all layers, and mount what the guest has lost."""
        missing = self._missing(domain)
        if missing:
            self._remember(domain, list(self._models))
            _mount_in_guest(domain, missing)
        return len(missing)

    def unmount(self, domain: Any) -> int:
        """Take all models away."""
        agents.succeed(domain, "umount", *map(_mount_path, self._models))
        for model in self._models:
            domain.detachDeviceAlias(_alias(model), _LIVE)
        end = time.monotonic() + _DEADLINE
        while _aliases(domain.XMLDesc(0)):
            if time.monotonic() > end:
                raise TimeoutError(f"{domain.name()}: the guest does not let go of its devices")
            time.sleep(0.1)
        for model in self._models:
            domain.detachDeviceFlags(_device(domain, model), _CONFIG)
            unmount(_source(domain, model))
            os.rmdir(_source(domain, model))
        self._remember(domain, [])
        return len(self._models)

    def _missing(self, domain: Any) -> list[str]:
        """The models that the guest does not show; the devices must all be there."""
        for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE):
            if _aliases(domain.XMLDesc(flags)) != set(map(_alias, self._models)):
                raise RuntimeError(f"{domain.name()}: devices are missing")
        mounted = {words[1] for words in agents.mount_table(domain) if words[2] == "virtiofs"}
        return [model for model in self._models if _mount_path(model) not in mounted]

    def _remember(self, domain: Any, models: list[str]) -> None:
        root = ET.Element("mounts")
        for model in models:
            ET.SubElement(root, "mount", model=model, path=_mount_path(model))
        text = ET.tostring(root, encoding="unicode") if models else None
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, text, "bench", _NAMESPACE, _LIVE | _CONFIG)


def _mount_in_guest(domain: Any, models: list[str]) -> None:
    end = time.monotonic() + _DEADLINE
    fstab = "".join(f"bench-{model} {_mount_path(model)} virtiofs ro,nosuid,nodev 0 0\n" for model in models)
    # Right after a hot-plug the kernel does not know the tag yet.
    while agents.finish(domain, agents.start(domain, "mount", "-a", "-T", "/proc/self/fd/0", content=fstab))[0] != 0:
        if time.monotonic() > end:
            raise TimeoutError(f"{domain.name()}: {models} cannot be mounted")


def _mount_path(model: str) -> str:
    return f"/models/{model}"


def _source(domain: Any, model: str) -> str:
    return f"/var/lib/bench/{domain.name()}/{model}"


def _alias(model: str) -> str:
    return f"ua-bench-{model}"


def _aliases(xml: str) -> set[str]:
    return {alias.get("name", "") for alias in ET.fromstring(xml).iterfind("devices/filesystem/alias")}


def _device(domain: Any, model: str) -> str:
    device = ET.Element("filesystem", type="mount", accessmode="passthrough")
    ET.SubElement(device, "driver", type="virtiofs", queue="1024")
    ET.SubElement(device, "source", dir=_source(domain, model))
    ET.SubElement(device, "target", dir=f"bench-{model}")
    ET.SubElement(device, "readonly")
    ET.SubElement(device, "alias", name=_alias(model))
    return ET.tostring(device, encoding="unicode")


def main() -> None:
    """Do one job for all VMs."""
    task = agents.read_task()
    changed = agents.of_every_vm(task, getattr(Bare(task["models"]), sys.argv[1]))
    print(json.dumps({"changed": sum(changed.values())}))


if __name__ == "__main__":
    main()
