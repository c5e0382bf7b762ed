# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The definition of a VM that can take models: what its XML lacks, and the XML that has it. Pure functions of XML.

This module util is private to the collection.
"""

from __future__ import annotations

import copy
import typing as t
import xml.etree.ElementTree as ET
import xml.parsers.expat

from . import _devices

# Steps, in the words that results show.
SHARE_MEMORY = "share_memory"
ADD_NUMA_CELL = "add_numa_cell"
ADD_AGENT_CHANNEL = "add_agent_channel"
ADD_ROOT_PORTS = "add_root_ports"

# Before 9.2.0, after a restart of itself, libvirt refuses virtiofs to running VMs without a NUMA cell.
_NUMA_CELL_UNTIL = 9_002_000

_NOT_SET = "not set"


class Wanted(t.NamedTuple):
    """What a VM shall have.

    Attributes:
        ports: how many models it shall have room for.
        agent: whether it shall have the agent's channel.
        numa_cell: whether it needs a NUMA cell.
    """

    ports: int
    agent: bool
    numa_cell: bool


class Enough(t.NamedTuple):
    """What a VM has enough of; None is what it does not need."""

    shared_memory: bool
    ports: t.Optional[bool]
    agent_channel: t.Optional[bool]
    numa_cell: t.Optional[bool]

    @property
    def lacking(self) -> list[str]:
        return [name for name, there in self._asdict().items() if there is False]


class Change(t.NamedTuple):
    """One difference that a person understands; several of them can make one step."""

    action: str
    what: str
    before: str
    after: str


def wanted(ports: int, agent: bool, libvirt_version: int) -> Wanted:
    """What VMs shall have on a host with this version of libvirt."""
    return Wanted(ports, agent, libvirt_version < _NUMA_CELL_UNTIL)


def read(text: str) -> ET.Element:
    """A definition as libvirt wrote it.

    The parser knows no name spaces, so that prefixes and their declarations, in the metadata of others for example,
    are attributes and tags like any and are written again as they were.
    """
    builder = ET.TreeBuilder(insert_comments=True)
    parser = xml.parsers.expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.CommentHandler = builder.comment
    parser.Parse(text, True)
    return builder.close()


def write(root: ET.Element) -> str:
    """A definition as libvirt takes it."""
    # In texts ElementTree leaves a carriage return as it is, and no parser would hand it on.
    return ET.tostring(root, encoding="unicode").replace("\r", "&#13;")


def enough(root: ET.Element, wish: Wanted) -> Enough:
    """What a VM with this XML, live or persistent, has enough of."""
    domain = _devices.parse(root)
    ports = _devices.model_ports(root)
    return Enough(
        shared_memory=domain.shared_memory,
        ports=None if ports is None else ports >= wish.ports,
        agent_channel=domain.agent_channel if wish.agent else None,
        numa_cell=bool(_cells(root)) if wish.numa_cell else None,
    )


def prepare(root: ET.Element, wish: Wanted) -> tuple[ET.Element, list[Change]]:
    """The persistent XML with what it lacks, and what that changes; all else stays as it is."""
    prepared = copy.deepcopy(root)
    has = enough(root, wish)
    changes: list[Change] = []
    if not has.shared_memory:
        changes += _share_memory(prepared)
    if has.numa_cell is False:
        changes.append(_add_numa_cell(prepared))
    if has.agent_channel is False:
        changes.append(_add_agent_channel(prepared))
    return prepared, changes + _add_root_ports(prepared, wish.ports)


def _share_memory(root: ET.Element) -> list[Change]:
    cells = _cells(root)
    backing = _child(root, "memoryBacking")
    changes = []
    # Cells that say nothing follow the access of the whole.
    if not cells or any(cell.get("memAccess") is None for cell in cells):
        changes += _set(_child(backing, "access"), "mode", "shared", "memory access")
    for cell in cells:
        if cell.get("memAccess") == "private":
            changes += _set(cell, "memAccess", "shared", f"memory access of NUMA cell {cell.get('id')}")
    source = backing.find("source")
    kept = _all_huge(backing) if source is None else source.get("type") != "anonymous"
    if not kept:
        # Otherwise libvirt would take a file on the host's disk, as it does for anonymous memory that is shared.
        changes += _set(_child(backing, "source"), "type", "memfd", "memory source")
    return changes


def _set(element: ET.Element, attribute: str, value: str, what: str) -> list[Change]:
    before = element.get(attribute, _NOT_SET)
    element.set(attribute, value)
    return [Change(SHARE_MEMORY, what, before, value)] if before != value else []


def _all_huge(backing: ET.Element) -> bool:
    """Whether all memory is huge pages, and not that of some NUMA nodes only."""
    huge = backing.find("hugepages")
    if huge is None:
        return False
    pages = huge.findall("page")
    return not pages or any(page.get("nodeset") is None for page in pages)


def _add_numa_cell(root: ET.Element) -> Change:
    """One cell with all processors and all memory.

    A VM whose memory can grow (C(maxMemory)) always has cells: libvirt sees to that.
    """
    memory = _child(root, "memory")
    size, unit = (memory.text or "").strip(), memory.get("unit", "KiB")
    # All that there can be, not those that are plugged now (its attribute `current`).
    last = int(root.findtext("vcpu") or "1") - 1
    cpus = f"0-{last}" if last else "0"
    cell = {"id": "0", "cpus": cpus, "memory": size, "unit": unit, "memAccess": "shared"}
    ET.SubElement(_child(_child(root, "cpu"), "numa"), "cell", cell)
    return Change(ADD_NUMA_CELL, "NUMA cells", "none", f"cell 0 with CPUs {cpus}, {size} {unit}, shared")


def _add_agent_channel(root: ET.Element) -> Change:
    channel = ET.SubElement(_child(root, "devices"), "channel", {"type": "unix"})
    ET.SubElement(channel, "target", {"type": "virtio", "name": _devices.AGENT_CHANNEL})
    return Change(ADD_AGENT_CHANNEL, "guest agent channel", "missing", "there")


def _add_root_ports(root: ET.Element, wish: int) -> list[Change]:
    ports = _devices.model_ports(root)
    if ports is None:
        return []
    missing = wish + _ports_to_be_taken(root) - ports
    if missing <= 0:
        return []
    there = len(root.findall(_devices.ROOT_PORTS))
    for _port in range(missing):
        # libvirt gives them their numbers and addresses.
        ET.SubElement(_child(root, "devices"), "controller", {"type": "pci", "model": "pcie-root-port"})
    return [Change(ADD_ROOT_PORTS, "PCIe root ports", str(there), str(there + missing))]


def _ports_to_be_taken(root: ET.Element) -> int:
    """How many ports libvirt takes for what the XML needs but does not name: the controller of the first channel."""
    channels = root.find("devices/channel/target[@type='virtio']")
    return int(channels is not None and root.find("devices/controller[@type='virtio-serial']") is None)


def _cells(root: ET.Element) -> list[ET.Element]:
    return root.findall("cpu/numa/cell")


def _child(parent: ET.Element, tag: str) -> ET.Element:
    found = parent.find(tag)
    return ET.SubElement(parent, tag) if found is None else found
