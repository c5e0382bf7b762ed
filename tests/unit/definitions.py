# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Definitions of VMs as libvirt writes them, and what libvirt makes of what it is given."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

from ansible_collections.modelfleet.kvm.plugins.module_utils import _vm_definition

SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
SERIAL = "<controller type='virtio-serial' index='0'>{}</controller>"
AGENT = "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"
SPICE = "<channel type='spicevmc'><target type='virtio' name='com.redhat.spice.0'/></channel>"
OURS = "<filesystem type='mount'><driver type='virtiofs'/><alias name='ua-modelfleet-{}'/>{}</filesystem>"


def address(bus: int) -> str:
    """The address of a device on a bus."""
    return f"<address type='pci' domain='0x0000' bus='{bus:#04x}' slot='0x00' function='0x0'/>"


def port(index: int, hotplug: str = "") -> str:
    """A PCIe root port."""
    target = f"<target chassis='{index}' hotplug='{hotplug}'/>" if hotplug else f"<target chassis='{index}'/>"
    return f"<controller type='pci' index='{index}' model='pcie-root-port'>{target}</controller>"


def ports(count: int) -> str:
    """That many root ports."""
    return "".join(port(index) for index in range(1, count + 1))


def definition(
    more: str = "",
    devices: str = "",
    machine: str = "pc-q35-7.2",
    cpu: str = "",
    vcpu: str = "<vcpu placement='static'>4</vcpu>",
) -> str:
    """A definition, as libvirt writes it."""
    return (
        "<domain type='kvm'>\n  <name>render-4</name>\n  <memory unit='KiB'>4194304</memory>\n"
        f"  <currentMemory unit='KiB'>2097152</currentMemory>\n  {more}\n  {vcpu}\n"
        f"  <os>\n    <type arch='x86_64' machine='{machine}'>hvm</type>\n  </os>\n  {cpu}\n"
        f"  <devices>\n    <emulator>/usr/bin/qemu</emulator>\n    {devices}\n  </devices>\n</domain>\n"
    )


def taken_by_libvirt(text: str) -> str:
    """A definition after libvirt has taken it: what was added has a number and an address."""
    root = _vm_definition.read(text)
    devices = root.find("devices")
    assert devices is not None
    if devices.find("channel") is not None and devices.find("controller[@type='virtio-serial']") is None:
        ET.SubElement(devices, "controller", {"type": "virtio-serial", "index": "0"})
    taken = {item.get("index") for item in devices.findall("controller[@type='pci']")}
    free = (str(index) for index in itertools.count(1) if str(index) not in taken)
    for item in devices.findall("controller[@type='pci']"):
        item.set("index", item.get("index") or next(free))
    serial = devices.find("controller[@type='virtio-serial']")
    if serial is not None and serial.find("address") is None:
        used = {item.get("bus") for item in devices.findall("*/address")}
        buses = (f"{int(item.get('index', '')):#04x}" for item in devices.findall("controller[@type='pci']"))
        bus = next((bus for bus in buses if bus not in used), "0x00")
        ET.SubElement(serial, "address", {"type": "pci", "bus": bus})
    return _vm_definition.write(root)
