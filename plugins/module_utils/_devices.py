# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Domain XML: what a VM has, and the virtiofs devices we give it. Pure functions of XML.

This module util is private to the collection.
"""

from __future__ import annotations

import typing as t
import xml.etree.ElementTree as ET

from . import _identity

AGENT_CHANNEL = "org.qemu.guest_agent.0"
# Where the PCIe root ports stand in the XML.
ROOT_PORTS = "devices/controller[@type='pci'][@model='pcie-root-port']"
# A request of virtiofs is as large as the queue allows: 1 MiB with 1024 descriptors, 453 KiB with QEMU's 128.
_QUEUE = "1024"


class Device(t.NamedTuple):
    """A virtiofs device of a domain. `element` is its XML as libvirt wrote it."""

    tag: str
    alias: str
    source: str
    element: str

    @property
    def ours(self) -> bool:
        return self.alias.startswith(_identity.ALIAS_PREFIX)

    @property
    def token(self) -> str:
        """The token of the mount that a device of ours is for."""
        return self.alias[len(_identity.ALIAS_PREFIX) :]

    def as_dict(self) -> dict[str, str]:
        """The device as modules return it where no record is for it."""
        return {"tag": self.tag, "alias": self.alias, "source_path": self.source}


class Domain(t.NamedTuple):
    """What one XML description of a domain, live or persistent, says that matters here."""

    devices: tuple[Device, ...]
    shared_memory: bool
    agent_channel: bool
    free_ports: t.Optional[int]
    agent_connected: bool = False

    def tag_taken(self, tag: str, alias: str) -> bool:
        """Whether a device other than the one with an alias has a tag."""
        return any(device.tag == tag and device.alias != alias for device in self.devices)

    def device(self, alias: str) -> t.Optional[Device]:
        """The device with an alias."""
        return next((device for device in self.devices if device.alias == alias), None)


def parse(root: ET.Element) -> Domain:
    """Read a domain's XML. `free_ports` is None for machine types whose devices need no PCIe root port."""
    agent = root.find(f"devices/channel/target[@name='{AGENT_CHANNEL}']")
    return Domain(
        tuple(_device(element) for element in root.findall("devices/filesystem") if _is_virtiofs(element)),
        _shared_memory(root),
        agent is not None,
        _free_ports(root),
        agent is not None and agent.get("state") == "connected",
    )


def virtiofs(tag: str, alias: str, source: str, readonly: bool) -> str:
    """The XML of a device.

    Args:
        readonly: ask virtiofsd itself to refuse writes (libvirt 11.0 and virtiofsd 1.13; older ones
            fail on it). The source is read-only by itself in any case.
    """
    device = ET.Element("filesystem", {"type": "mount", "accessmode": "passthrough"})
    ET.SubElement(device, "driver", {"type": "virtiofs", "queue": _QUEUE})
    ET.SubElement(device, "source", {"dir": source})
    ET.SubElement(device, "target", {"dir": tag})
    if readonly:
        ET.SubElement(device, "readonly")
    ET.SubElement(device, "alias", {"name": alias})
    return ET.tostring(device, encoding="unicode")


def _is_virtiofs(element: ET.Element) -> bool:
    driver = element.find("driver")
    return driver is not None and driver.get("type") == "virtiofs"


def _device(element: ET.Element) -> Device:
    def attribute(child: str, name: str) -> str:
        found = element.find(child)
        return "" if found is None else found.get(name, "")

    return Device(
        attribute("target", "dir"),
        attribute("alias", "name"),
        attribute("source", "dir"),
        ET.tostring(element, encoding="unicode").strip(),
    )


def _shared_memory(root: ET.Element) -> bool:
    # One NUMA cell with private memory is enough for libvirt to refuse; cells without a word of their
    # own follow memoryBacking (qemuValidateDomainDefVhostUserRequireSharedMemory).
    access = root.find("memoryBacking/access")
    default = access is not None and access.get("mode") == "shared"
    cells = root.findall("cpu/numa/cell")
    return all(cell.get("memAccess", "shared" if default else "") == "shared" for cell in cells) if cells else default


def model_ports(root: ET.Element) -> t.Optional[int]:
    """How many models a VM has room for: its root ports that are free or have a device of ours.

    None for machine types whose devices need no PCIe root port.
    """
    return _ports_without(root, lambda device: not _is_ours(device))


def _free_ports(root: ET.Element) -> t.Optional[int]:
    return _ports_without(root, lambda _device: True)


def _ports_without(root: ET.Element, counts: t.Callable[[ET.Element], bool]) -> t.Optional[int]:
    """The root ports, fit for plugging, that no device that counts is on."""
    if not _has_root_ports(root):
        return None
    devices = filter(counts, root.findall("devices/*"))
    used = {address.get("bus") for device in devices for address in device.findall("address[@type='pci']")}
    ports = root.findall(ROOT_PORTS)
    return sum(1 for port in ports if f"{int(port.get('index', '0')):#04x}" not in used and _hotpluggable(port))


def _has_root_ports(root: ET.Element) -> bool:
    # Not all that have the word in their names: s390x' machines are called s390-ccw-virtio-7.2.
    found = root.find("os/type")
    machine = "" if found is None else found.get("machine", "")
    return "q35" in machine or machine == "virt" or machine.startswith("virt-")


def _is_ours(device: ET.Element) -> bool:
    alias = device.find("alias")
    return alias is not None and alias.get("name", "").startswith(_identity.ALIAS_PREFIX)


def _hotpluggable(port: ET.Element) -> bool:
    target = port.find("target")
    return target is None or target.get("hotplug") != "off"
