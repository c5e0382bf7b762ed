"""The libvirt domain XML of a guest."""

from __future__ import annotations

import uuid as uuids
from dataclasses import dataclass
from xml.etree import ElementTree

AGENT_CHANNEL = "org.qemu.guest_agent.0"
_TRANSLATED_MB = 64


@dataclass(frozen=True)
class Domain:
    """What a guest's domain is made of; paths are the host's.

    ``spare_ports`` counts the PCIe root ports that stay free for devices plugged in later. ``disk`` is a qcow2 file
    with the root file system, or None for a guest that lives in its initramfs.
    """

    name: str
    uuid: uuids.UUID
    memory_mb: int
    kernel: str
    initrd: str
    console_log: str
    disk: str | None = None
    spare_ports: int = 8
    shared_memory: bool = True
    agent: bool = True

    def xml(self) -> str:
        """Return the domain XML."""
        root = ElementTree.Element("domain", type="qemu")
        _add(root, "name", self.name)
        _add(root, "uuid", str(self.uuid))
        _add(root, "memory", str(self.memory_mb), unit="MiB")
        if self.shared_memory:
            backing = _add(root, "memoryBacking")
            _add(backing, "source", type="memfd")
            _add(backing, "access", mode="shared")
        _add(root, "vcpu", "1")
        self._boot(root)
        # Without ACPI, QEMU 7.2 answers the first PCI hot-plug by unplugging every root port of the guest.
        features = _add(root, "features")
        _add(features, "acpi")
        _add(features, "apic")
        # QEMU's own limit for translated code is a gigabyte a guest, and the more it holds, the longer reboots take.
        _add(_add(features, "tcg"), "tb-cache", str(_TRANSLATED_MB), unit="MiB")
        # As virt-install has it. QEMU lets a HPET that the guest has stopped go on ticking: 250 times a second each.
        _add(_add(root, "clock", offset="utc"), "timer", name="hpet", present="no")
        _add(root, "on_poweroff", "destroy")
        _add(root, "on_reboot", "restart")
        _add(root, "on_crash", "destroy")
        self._devices(_add(root, "devices"))
        ElementTree.indent(root)
        return ElementTree.tostring(root, encoding="unicode")

    def _boot(self, root: ElementTree.Element) -> None:
        """Add the machine type, the kernel and its command line."""
        # The kernel's check of its timer counts ticks in real time: on a busy machine it finds none and panics.
        words = ["console=ttyS0", "mitigations=off", "no_timer_check", f"systemd.hostname={self.name}"]
        if self.disk:
            words += ["root=/dev/vda", f"systemd.machine_id={self.uuid.hex}"]
        system = _add(root, "os")
        _add(system, "type", "hvm", arch="x86_64", machine="q35")
        _add(system, "kernel", self.kernel)
        _add(system, "initrd", self.initrd)
        _add(system, "cmdline", " ".join(words))

    def _devices(self, devices: ElementTree.Element) -> None:
        """Add the devices: none that the guest can do without."""
        _add(devices, "controller", type="usb", model="none")
        _add(devices, "controller", type="pci", model="pcie-root")
        for _ in range(self.spare_ports + bool(self.disk) + self.agent):
            _add(devices, "controller", type="pci", model="pcie-root-port")
        if self.disk:
            disk = _add(devices, "disk", type="file", device="disk")
            _add(disk, "driver", name="qemu", type="qcow2", cache="unsafe")
            _add(disk, "source", file=self.disk)
            _add(disk, "target", dev="vda", bus="virtio")
        serial = _add(devices, "serial", type="file")
        _add(serial, "source", path=self.console_log)
        if self.agent:
            channel = _add(devices, "channel", type="unix")
            _add(channel, "target", type="virtio", name=AGENT_CHANNEL)
        _add(devices, "memballoon", model="none")


def _add(parent: ElementTree.Element, tag: str, text: str | None = None, **attributes: str) -> ElementTree.Element:
    """Add an element and return it."""
    element = ElementTree.SubElement(parent, tag, attributes)
    element.text = text
    return element
