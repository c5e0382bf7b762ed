# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Definitions of VMs: what they lack, and what they are with it."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _devices, _vm_definition
from ansible_collections.modelfleet.kvm.plugins.module_utils._vm_definition import Wanted
from ansible_collections.modelfleet.kvm.tests.unit.definitions import (
    AGENT,
    OURS,
    SERIAL,
    SHARED,
    SPICE,
    address,
    definition,
    port,
    ports,
    taken_by_libvirt,
)

OLD, NEW = 9_000_000, 9_002_000


def prepare(text, wish):
    """The definition that comes out as text, and the changes."""
    root, changes = _vm_definition.prepare(_vm_definition.read(text), wish)
    return _vm_definition.write(root), changes


def said(changes):
    return [(change.what, change.before, change.after) for change in changes]


def backing(text):
    """The memory backing as text, without blanks."""
    found = ET.fromstring(text).find("memoryBacking")
    assert found is not None
    return ET.tostring(found, encoding="unicode").strip()


NOTHING = Wanted(ports=0, agent=False, numa_cell=False)


# Shared memory


@pytest.mark.parametrize(
    ("given", "expected", "changes"),
    [
        (
            "",
            '<memoryBacking><access mode="shared" /><source type="memfd" /></memoryBacking>',
            [("memory access", "not set", "shared"), ("memory source", "not set", "memfd")],
        ),
        (
            "<memoryBacking><source type='anonymous'/><access mode='private'/></memoryBacking>",
            '<memoryBacking><source type="memfd" /><access mode="shared" /></memoryBacking>',
            [("memory access", "private", "shared"), ("memory source", "anonymous", "memfd")],
        ),
        (
            "<memoryBacking><source type='file'/><access mode='private'/></memoryBacking>",
            '<memoryBacking><source type="file" /><access mode="shared" /></memoryBacking>',
            [("memory access", "private", "shared")],
        ),
        (
            "<memoryBacking><source type='memfd'/></memoryBacking>",
            '<memoryBacking><source type="memfd" /><access mode="shared" /></memoryBacking>',
            [("memory access", "not set", "shared")],
        ),
        (
            "<memoryBacking><hugepages/></memoryBacking>",
            '<memoryBacking><hugepages /><access mode="shared" /></memoryBacking>',
            [("memory access", "not set", "shared")],
        ),
        (
            "<memoryBacking><hugepages><page size='2'/></hugepages></memoryBacking>",
            '<memoryBacking><hugepages><page size="2" /></hugepages><access mode="shared" /></memoryBacking>',
            [("memory access", "not set", "shared")],
        ),
        (
            "<memoryBacking><hugepages/><source type='memfd'/></memoryBacking>",
            '<memoryBacking><hugepages /><source type="memfd" /><access mode="shared" /></memoryBacking>',
            [("memory access", "not set", "shared")],
        ),
        (
            "<memoryBacking><nosharepages/><locked/></memoryBacking>",
            '<memoryBacking><nosharepages /><locked /><access mode="shared" /><source type="memfd" /></memoryBacking>',
            [("memory access", "not set", "shared"), ("memory source", "not set", "memfd")],
        ),
    ],
)
def test_memory_is_shared_and_what_else_is_said_about_it_stays(given, expected, changes):
    text, done = prepare(definition(given), NOTHING)
    assert backing(text) == expected
    assert said(done) == changes
    assert {change.action for change in done} == {"share_memory"}
    assert _devices.parse(ET.fromstring(text)).shared_memory


@pytest.mark.parametrize(
    "given",
    [
        SHARED,
        "<memoryBacking><access mode='shared'/></memoryBacking>",
        "<memoryBacking><source type='anonymous'/><access mode='shared'/></memoryBacking>",
        "<memoryBacking><hugepages/><access mode='shared'/></memoryBacking>",
    ],
)
def test_memory_that_is_shared_already_is_left_as_it_is(given):
    assert prepare(definition(given), NOTHING)[1] == []


def numa(*access, mode="host-passthrough"):
    words = (f" memAccess='{each}'" if each else "" for each in access)
    cells = (f"<cell id='{index}' cpus='{index}' memory='1024' unit='KiB'{word}/>" for index, word in enumerate(words))
    return f"<cpu mode='{mode}'><numa>{''.join(cells)}</numa></cpu>"


PRIVATE = "<memoryBacking><source type='memfd'/><access mode='private'/></memoryBacking>"


@pytest.mark.parametrize(
    ("given", "access", "changes"),
    [
        (SHARED, ("private", "shared"), [("memory access of NUMA cell 0", "private", "shared")]),
        (SHARED, (None, "private"), [("memory access of NUMA cell 1", "private", "shared")]),
        (PRIVATE, (None, "shared"), [("memory access", "private", "shared")]),
        # Every cell speaks for itself, so the word about the whole is not in the way.
        (PRIVATE, ("shared", "private"), [("memory access of NUMA cell 1", "private", "shared")]),
        (
            PRIVATE,
            (None, "private"),
            [("memory access", "private", "shared"), ("memory access of NUMA cell 1", "private", "shared")],
        ),
    ],
)
def test_every_numa_cell_must_share_its_memory(given, access, changes):
    text, done = prepare(definition(given, cpu=numa(*access)), NOTHING)
    assert said(done) == changes
    assert _devices.parse(ET.fromstring(text)).shared_memory


def test_huge_pages_of_some_numa_nodes_leave_the_others_without_a_source():
    pages = "<memoryBacking><hugepages><page size='1048576' unit='KiB' nodeset='1'/></hugepages></memoryBacking>"
    text, changes = prepare(definition(pages, cpu=numa(None, None)), NOTHING)
    assert said(changes) == [("memory access", "not set", "shared"), ("memory source", "not set", "memfd")]
    assert "nodeset" in backing(text)


# The NUMA cell


@pytest.mark.parametrize(("version", "expected"), [(7_009_000, True), (OLD, True), (9_001_999, True), (NEW, False)])
def test_only_libvirt_before_9_2_needs_a_numa_cell(version, expected):
    assert _vm_definition.wanted(8, True, version) == (8, True, expected)


CELL = {"id": "0", "memory": "4194304", "unit": "KiB", "memAccess": "shared"}


@pytest.mark.parametrize(
    ("vcpu", "cpus"),
    [
        ("<vcpu placement='static'>1</vcpu>", "0"),
        ("<vcpu placement='static'>4</vcpu>", "0-3"),
        ("<vcpu placement='static' current='2'>16</vcpu>", "0-15"),
        ("", "0"),
    ],
)
@pytest.mark.parametrize("cpu", ["", "<cpu mode='host-model'><topology sockets='1' cores='4' threads='1'/></cpu>"])
def test_the_numa_cell_has_all_processors_and_all_memory(vcpu, cpus, cpu):
    text, changes = prepare(definition(SHARED, vcpu=vcpu, cpu=cpu), NOTHING._replace(numa_cell=True))
    root = ET.fromstring(text)
    (cell,) = root.findall("cpu/numa/cell")
    assert cell.attrib == {**CELL, "cpus": cpus}
    assert said(changes) == [("NUMA cells", "none", f"cell 0 with CPUs {cpus}, 4194304 KiB, shared")]
    kept = root.find("cpu")
    assert kept.get("mode") == ("host-model" if cpu else None)
    assert (kept.find("topology") is not None) is bool(cpu)


def test_the_unit_of_the_memory_is_taken_along():
    given = definition(SHARED).replace("<memory unit='KiB'>4194304", "<memory unit='GiB'>4")
    (cell,) = ET.fromstring(prepare(given, NOTHING._replace(numa_cell=True))[0]).findall("cpu/numa/cell")
    assert (cell.get("memory"), cell.get("unit")) == ("4", "GiB")


@pytest.mark.parametrize("more", ["", "<maxMemory slots='16' unit='KiB'>8388608</maxMemory>"])
def test_a_vm_with_numa_cells_keeps_those_it_has(more):
    given = definition(SHARED + more, cpu=numa("shared", None))
    assert prepare(given, NOTHING._replace(numa_cell=True))[1] == []


# The agent's channel


@pytest.mark.parametrize("devices", ["", SPICE + SERIAL.format(address(1))])
@pytest.mark.parametrize("machine", ["pc-q35-7.2", "pc-i440fx-7.2"])
def test_the_agent_gets_its_channel(devices, machine):
    text, changes = prepare(definition(SHARED, devices, machine), NOTHING._replace(agent=True))
    assert _devices.parse(ET.fromstring(text)).agent_channel
    assert said(changes)[0] == ("guest agent channel", "missing", "there")
    assert text.count("<channel") == 1 + devices.count("<channel")


@pytest.mark.parametrize(("devices", "agent"), [(AGENT, True), (AGENT, False), ("", False)])
def test_a_channel_that_is_there_or_not_wanted_is_left_alone(devices, agent):
    given = definition(SHARED, SERIAL.format("") + devices)
    assert prepare(given, NOTHING._replace(agent=agent))[1] == []


# Root ports


@pytest.mark.parametrize(
    ("devices", "wish", "added"),
    [
        ("", 1, 1),
        (ports(1), 9, 8),
        (ports(8), 8, 0),
        (ports(10), 8, 0),
        (ports(3) + f"<interface>{address(1)}</interface>", 3, 1),
        (port(1) + port(2, "off") + port(3, "on"), 3, 1),
        # What a model of ours is on stays room for a model, so that mounts do not make a VM want more ports.
        (ports(3) + OURS.format("1", address(2)), 3, 0),
        (ports(3) + OURS.format("1", address(2)) + f"<interface>{address(1)}</interface>", 3, 1),
        # A foreign virtiofs device is a device like any.
        (ports(3) + OURS.format("1", address(2)).replace("ua-modelfleet", "ua-other"), 3, 1),
        (ports(17) + f"<interface>{address(16)}</interface>", 17, 1),
        ("", 0, 0),
    ],
)
@pytest.mark.parametrize("machine", ["pc-q35-7.2", "virt-9.0"])
def test_missing_root_ports_are_added_and_libvirt_gives_them_their_places(devices, wish, added, machine):
    text, changes = prepare(definition(SHARED, devices, machine), NOTHING._replace(ports=wish))
    there = devices.count("pcie-root-port")
    assert said(changes) == ([("PCIe root ports", str(there), str(there + added))] if added else [])
    new = [item.attrib for item in ET.fromstring(text).findall("devices/controller") if item.get("index") is None]
    assert new == [{"type": "pci", "model": "pcie-root-port"}] * added


@pytest.mark.parametrize("machine", ["pc-i440fx-7.2", "s390-ccw-virtio-7.2", "microvm", "isapc"])
def test_machine_types_without_root_ports_need_none(machine):
    given = definition(SHARED, machine=machine)
    assert prepare(given, NOTHING._replace(ports=8))[1] == []
    enough = _vm_definition.enough(ET.fromstring(given), NOTHING._replace(ports=8))
    assert (enough.ports, enough.lacking) == (None, [])


@pytest.mark.parametrize(
    ("devices", "added"),
    [(ports(8), 1), (ports(8) + SERIAL.format(address(1)), 1), (ports(9) + SERIAL.format(address(1)), 0)],
)
def test_the_first_channel_brings_a_controller_that_takes_a_port(devices, added):
    text, _changes = prepare(definition(SHARED, devices), NOTHING._replace(ports=8, agent=True))
    assert text.count("pcie-root-port") == devices.count("pcie-root-port") + added


# All of it

EVERYTHING = Wanted(ports=8, agent=True, numa_cell=True)


def test_the_steps_of_a_vm_that_has_nothing():
    _text, changes = prepare(definition(), EVERYTHING)
    steps = list(dict.fromkeys(change.action for change in changes))
    assert steps == ["share_memory", "add_numa_cell", "add_agent_channel", "add_root_ports"]


def test_what_is_enough():
    nothing = _vm_definition.enough(ET.fromstring(definition()), EVERYTHING)
    assert nothing == (False, False, False, False)
    assert nothing.lacking == ["shared_memory", "ports", "agent_channel", "numa_cell"]
    assert _vm_definition.enough(ET.fromstring(definition(devices=AGENT)), NOTHING) == (False, True, None, None)
    everything = definition(SHARED, ports(8) + AGENT, cpu=numa(None))
    assert _vm_definition.enough(ET.fromstring(everything), EVERYTHING) == (True, True, True, True)


MORE = ["", SHARED, PRIVATE, "<memoryBacking><hugepages/></memoryBacking>", "<memoryBacking><locked/></memoryBacking>"]
CPUS = ["", "<cpu mode='maximum'/>", numa(None), numa("private", None), numa("private", "shared")]
WITH_SERIAL = SERIAL.format(address(1))
DEVICES = ["", ports(1), ports(9), ports(2) + WITH_SERIAL + SPICE, ports(9) + WITH_SERIAL + AGENT, port(1, "off")]
MACHINES = ["pc-q35-7.2", "virt", "pc-i440fx-7.2"]
WISHES = [EVERYTHING, NOTHING, Wanted(28, False, True), Wanted(3, True, False)]


@pytest.mark.parametrize("wish", WISHES, ids=str)
@pytest.mark.parametrize("machine", MACHINES)
def test_what_is_prepared_once_is_prepared(machine, wish):
    for more, cpu, devices in itertools.product(MORE, CPUS, DEVICES):
        once, changes = prepare(definition(more, devices, machine, cpu), wish)
        lacked = _vm_definition.enough(_vm_definition.read(definition(more, devices, machine, cpu)), wish).lacking
        assert bool(changes) is bool(lacked), (more, cpu, devices)
        twice, further = prepare(taken_by_libvirt(once), wish)
        assert further == [], (more, cpu, devices)
        assert _vm_definition.enough(_vm_definition.read(twice), wish).lacking == []


# What is not ours

FOREIGN = """<metadata>
    <modelfleet:mounts xmlns:modelfleet="urn:modelfleet:kvm" vm="x"><mount tag="a&amp;b"/></modelfleet:mounts>
    <app:state xmlns:app="urn:app:1" app:note="two&#10;lines &quot;quoted&quot;">text&#13;<!-- kept --></app:state>
    <plain xmlns="urn:other"><child/></plain>
  </metadata>"""


def test_the_metadata_of_others_is_written_as_it_was():
    text, _changes = prepare(definition(FOREIGN), EVERYTHING)
    for words in (
        '<modelfleet:mounts xmlns:modelfleet="urn:modelfleet:kvm" vm="x"><mount tag="a&amp;b" />',
        '<app:state xmlns:app="urn:app:1" app:note="two&#10;lines &quot;quoted&quot;">',
        ">text&#13;<!-- kept --></app:state>",
        '<plain xmlns="urn:other"><child /></plain>',
    ):
        assert words in text


def test_everything_else_stays_where_and_as_it_is():
    given = definition(
        FOREIGN + "<description>模型 &lt;b&gt;</description>",
        "<graphics type='vnc' passwd='geheim'/>" + ports(1),
        cpu="<cpu mode='custom'><model fallback='forbid'>qemu64</model></cpu>",
    ).replace("</domain>", "<qemu:commandline xmlns:qemu='urn:q'><qemu:arg value='-s'/></qemu:commandline></domain>")
    before = _vm_definition.read(given)
    after, _changes = _vm_definition.prepare(before, EVERYTHING)
    ours = {"memoryBacking", "cpu", "devices"}

    def rest(root):
        return [ET.tostring(item) for item in root if item.tag not in ours]

    assert rest(after) == rest(before)
    devices = [ET.tostring(item) for item in after.find("devices")]
    assert devices[: len(before.find("devices"))] == [ET.tostring(item) for item in before.find("devices")]
    assert after.find("devices/graphics").get("passwd") == "geheim"


def test_preparing_changes_nothing_it_was_given():
    root = _vm_definition.read(definition())
    before = _vm_definition.write(root)
    _vm_definition.prepare(root, EVERYTHING)
    assert _vm_definition.write(root) == before


def test_a_definition_that_lacks_nothing_is_read_and_written_unchanged():
    given = definition(SHARED + FOREIGN, ports(8) + AGENT + SERIAL.format(""))
    assert ET.canonicalize(prepare(given, NOTHING)[0]) == ET.canonicalize(given)
