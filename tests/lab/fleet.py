# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests do with hosts and guests, and what they look at to see the truth for themselves."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from typing import Any

import pytest
from ansible_run import Ansible, Result

from modelfleet_lab import Guest, Host
from modelfleet_lab.weights import safetensors

MODELS = "/srv/models"
# Data that differs from the examples in the documentation.
FILES = {
    "llama-nano/weights.bin": hashlib.sha512(b"llama-nano").digest() * 20_000,
    "llama-nano/config.json": b'{"hidden_size": 8}\n',
    "acme/embed.v2/model.safetensors": safetensors(hashlib.sha512(b"embed").digest() * 5_000),
    "acme/embed.v2/sub dir/vocab.txt": "a\nb\n\u00e9\n".encode(),
}

# How models reach a VM. Tests that use a fleet run once with each, or say which one and why:
# `@pytest.mark.transport("device", why="...")`.
DEVICE, VIEW = "device", "view"
BOTH = pytest.mark.parametrize("transport", [DEVICE, VIEW])
# With the default one on every run, and with both when there is time for all tests.
BOTH_AT_LENGTH = pytest.mark.parametrize("transport", [pytest.param(DEVICE, marks=pytest.mark.long), VIEW])

# The steps that bring a model into a running VM, as far as nothing of it is there, and take it away with its device.
SET_UP = ["record", "bind_source", "attach", "verify_read_only", "mount_in_guest", "settle_record"]
GONE = ["record", "unmount_in_guest", "detach_live", "detach_persistent", "unbind_source", "forget_record"]
# The same in a view that other models are in.
JOINED = ["record", "bind_source", "verify_read_only", "settle_record"]
RELEASED = ["record", "release_source", "forget_record"]


def entry(vm: str, model: str, transport: str, **options: Any) -> dict[str, Any]:
    """What asks for a model in a VM."""
    return {"vm": vm, "model": model, "model_center": "zoo", "transport": transport, **options}


# What is different about a VM by the way in which models reach it.


def place(transport: str, name: str) -> str:
    """A mount path other than the default one: anywhere for a device, below its mount for a view."""
    return f"/models/{name}" if transport == VIEW else f"/srv/{name}"


def device_path(transport: str, mount_path: str) -> str:
    """Where the guest mounts the device that brings a model."""
    return "/models" if transport == VIEW else mount_path


def devices(transport: str, models: int) -> int:
    """How many devices, daemons and mounts in the guest bring so many models."""
    return min(models, 1) if transport == VIEW else models


def binds(transport: str, models: int) -> int:
    """How many binds on the host bring so many models; a view is one itself."""
    return models + (transport == VIEW and models > 0)


def going(transport: str, stay: int = 0) -> list[str]:
    """The steps that take a model away from a running VM in which so many others stay."""
    return RELEASED if transport == VIEW and stay else GONE


def publish(host: Host, root: str = MODELS) -> None:
    """Put the tests' models on a host."""
    for path, content in FILES.items():
        host.run(["mkdir", "-p", f"{root}/{path.rpartition('/')[0]}"])
        host.write(f"{root}/{path}", content)


def checksum(path: str) -> str:
    """The SHA-256 of a published file."""
    return hashlib.sha256(FILES[path]).hexdigest()


def guest_checksum(guest: Guest, path: str) -> str:
    """The SHA-256 that the guest itself computes."""
    # A backslash before the sum says that there are escapes in the path after it.
    return guest.run(["sha256sum", path]).stdout.lstrip("\\").split(" ", 1)[0]


def leftovers(guest: Guest, host: Host, inside: bool = True) -> dict[str, Any]:
    """Everything of ours that is still in or about a VM, layer by layer; nothing when it is clean.

    Without `inside` the guest is not asked: some agents would not answer.
    """
    found: dict[str, Any] = {}
    live = guest.xml()
    for name, xml in (("live", live), ("persistent", guest.xml(inactive=True))):
        found[f"{name} devices"] = [item.get("dir") for item in xml.findall("devices/filesystem/target")]
        found[f"{name} records"] = [item.tag for item in xml.findall("metadata/{urn:modelfleet:kvm}mounts")]
    channel = live.find("devices/channel/target[@name='org.qemu.guest_agent.0']")
    if inside and guest.state() == "running" and channel is not None:
        found["guest mounts"] = mentioning(" virtiofs ", guest.run(["cat", "/proc/mounts"]).stdout)
    found["virtiofsd"] = mentioning(guest.uuid, mentioning("virtiofsd", host.run(["ps", "-eo", "args"]).stdout))
    found["binds"] = mentioning(guest.uuid, host.run(["cat", "/proc/self/mountinfo"]).stdout)
    places = ["/var/lib/modelfleet", "/run/modelfleet"]
    found["directories"] = host.run(["find", *places, "-name", guest.uuid], check=False).stdout
    return {what: items for what, items in found.items() if items}


def mentioning(text: str, lines: str) -> str:
    """The lines that a text stands in."""
    return "\n".join(line for line in lines.splitlines() if text in line)


@dataclass(frozen=True)
class Fleet:
    """A VM of the same name on every host."""

    hosts: dict[str, Host]
    ansible: Ansible
    guests: dict[str, Guest]
    transport: str
    _spoiled: list[bool] = field(default_factory=list)

    @property
    def vm(self) -> str:
        return next(iter(self.guests.values())).name

    def by(self, transport: str) -> Fleet:
        """The same VMs, with models by one transport from now on."""
        return dataclasses.replace(self, transport=transport)

    def mount(
        self, model: str = "llama-nano", *, ok: bool = True, check: bool = False, **options: Any
    ) -> dict[str, Result]:
        """Run vm_model_mount with one mount on every host."""
        arguments = self.entry(model, **options)
        return self.ansible.module("vm_model_mount", arguments, ok=ok, check=check, limit=self._limit)

    def entry(self, model: str = "llama-nano", **options: Any) -> dict[str, Any]:
        """What asks for a model in the VM."""
        return {**entry(self.vm, model, self.transport), **options}

    def refuse(self, *cases: tuple[str, dict[str, Any]]) -> None:
        """Mounts must be refused, each with its code, in check mode as in earnest, and leave nothing behind."""
        calls = [self.entry(**options) for _code, options in cases]
        expected = [(code, False) for code, _options in cases for _check in range(2)]
        for host, results in self.ansible.each("vm_model_mount", calls, limit=self._limit).items():
            assert [(result.get("error_code"), result["changed"]) for result in results] == expected, host
        assert self.leftovers() == {}

    def unmount(
        self, model: str = "llama-nano", *, ok: bool = True, check: bool = False, **options: Any
    ) -> dict[str, Result]:
        """Run vm_model_mount to take one model away on every host."""
        arguments = {"vm": self.vm, "model": model, "state": "absent", **options}
        return self.ansible.module("vm_model_mount", arguments, ok=ok, check=check, limit=self._limit)

    def info(self) -> dict[str, list[Result]]:
        """The mounts of the VM, as vm_model_mount_info shows them."""
        results = self.ansible.module("vm_model_mount_info", {"vms": [self.vm]}, limit=self._limit)
        return {host: result["mounts"] for host, result in results.items()}

    def spoil(self) -> None:
        """Say that the guests are changed for good, so that no other test gets them."""
        self._spoiled.append(True)

    def reusable(self) -> bool:
        """Whether another test may have the guests: they run, and nothing of ours is left about them."""
        running = all(guest.state() == "running" for guest in self.guests.values())
        return running and not self._spoiled and self.leftovers() == {}

    def leftovers(self) -> dict[str, dict[str, Any]]:
        """Hosts on which something of ours is left about the VM, and what."""
        found = {name: leftovers(guest, self.hosts[name]) for name, guest in self.guests.items()}
        return {name: items for name, items in found.items() if items}

    @property
    def _limit(self) -> str:
        return ",".join(self.guests)
