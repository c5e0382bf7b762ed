# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _devices
from ansible_collections.modelfleet.kvm.tests.unit.builders import domain_xml

SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
FOREIGN = """
  <filesystem type='mount' accessmode='passthrough'>
    <driver type='virtiofs'/><source dir='/data/home'/><target dir='home'/><alias name='fs0'/>
    <address type='pci' domain='0x0000' bus='0x03' slot='0x00' function='0x0'/>
  </filesystem>
"""


def cells(*access):
    """NUMA cells with these kinds of memory access, None for no word about it."""
    rows = (f"<cell id='{index}' cpus='{index}'{word(each)}/>" for index, each in enumerate(access))
    return f"<cpu><numa>{''.join(rows)}</numa></cpu>"


def word(access):
    return f" memAccess='{access}'" if access else ""


def port(index, target=""):
    """A PCIe root port."""
    return f"<controller type='pci' index='{index}' model='pcie-root-port'>{target}</controller>"


def at(bus):
    """A network card on a bus."""
    return f"<interface><address type='pci' domain='0x0000' bus='{bus}' slot='0x00' function='0x0'/></interface>"


def test_a_device_of_ours_is_read_as_it_was_written():
    xml = _devices.virtiofs("guard-tag", "ua-modelfleet-0123456789abcdef", "/var/lib/x/<&'\"模型", readonly=True)
    (found,) = _devices.parse(domain_xml(xml)).devices
    assert (found.tag, found.alias, found.source) == (
        "guard-tag",
        "ua-modelfleet-0123456789abcdef",
        "/var/lib/x/<&'\"模型",
    )
    assert found.ours
    # libvirt takes back what it wrote.
    assert _devices.parse(domain_xml(found.element)).devices == (found,)


def test_the_elements_stand_in_the_order_of_libvirt_s_schema():
    element = ET.fromstring(_devices.virtiofs("guard", "ua-modelfleet-1", "/src", readonly=True))
    assert [child.tag for child in element] == ["driver", "source", "target", "readonly", "alias"]
    assert element.attrib == {"type": "mount", "accessmode": "passthrough"}


def test_the_queue_is_always_the_largest_and_nothing_is_cached_or_locked():
    element = ET.fromstring(_devices.virtiofs("guard", "ua-modelfleet-1", "/src", readonly=False))
    assert element.find("driver").attrib == {"type": "virtiofs", "queue": "1024"}
    assert element.find("binary") is None


@pytest.mark.parametrize("readonly", [True, False])
def test_virtiofsd_is_only_asked_to_be_read_only_where_it_can(readonly):
    element = ET.fromstring(_devices.virtiofs("guard", "ua-modelfleet-1", "/src", readonly))
    assert (element.find("readonly") is not None) is readonly


def test_devices_of_others_are_seen_and_not_ours():
    (found,) = _devices.parse(domain_xml(FOREIGN)).devices
    assert (found.tag, found.alias, found.source, found.ours) == ("home", "fs0", "/data/home", False)


def test_a_file_system_that_is_not_virtiofs_is_none_of_our_business():
    ninep = "<filesystem type='mount'><driver type='path'/><source dir='/a'/><target dir='home'/></filesystem>"
    bare = "<filesystem type='mount'><source dir='/b'/><target dir='b'/></filesystem>"
    assert _devices.parse(domain_xml(ninep + bare)).devices == ()


def test_what_a_device_does_not_say_is_empty():
    # The persistent XML has no aliases but those of users.
    (found,) = _devices.parse(domain_xml("<filesystem><driver type='virtiofs'/></filesystem>")).devices
    assert (found.tag, found.alias, found.source) == ("", "", "")


def test_a_device_is_found_by_its_alias():
    domain = _devices.parse(domain_xml(FOREIGN + _devices.virtiofs("guard", "ua-modelfleet-1", "/src", False)))
    assert domain.device("ua-modelfleet-1").tag == "guard"
    assert domain.device("ua-modelfleet-2") is None


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", False),
        ("<memoryBacking/>", False),
        ("<memoryBacking><access mode='private'/></memoryBacking>", False),
        ("<memoryBacking><source type='memfd'/></memoryBacking>", False),
        (SHARED, True),
        (SHARED + cells(None, None), True),
        (SHARED + cells(None, "private"), False),
        (SHARED + cells("private"), False),
        (cells("shared", "shared"), True),
        (cells("shared", None), False),
        (cells("shared", "private"), False),
        ("<memoryBacking><access mode='private'/></memoryBacking>" + cells("shared"), True),
        (SHARED + "<cpu mode='host-passthrough'/>", True),
    ],
)
def test_memory_is_shared_when_all_of_it_is(more, expected):
    assert _devices.parse(domain_xml(more=more)).shared_memory is expected


@pytest.mark.parametrize(
    ("name", "expected"), [("org.qemu.guest_agent.0", True), ("com.redhat.spice.0", False), ("", False)]
)
def test_the_channel_of_the_agent_is_known_by_its_name(name, expected):
    channel = f"<channel type='unix'><target type='virtio' name='{name}'/></channel>"
    assert _devices.parse(domain_xml(channel)).agent_channel is expected


HOSTDEV = "<hostdev><source><address domain='0x0000' bus='0x02' slot='0x00' function='0x0'/></source>{}</hostdev>"
OFF = "<target chassis='1' port='0x10' hotplug='off'/>"
ON = "<target chassis='1' port='0x10' hotplug='on'/>"


@pytest.mark.parametrize(
    ("machine", "devices", "expected"),
    [
        ("pc-q35-7.2", "", 0),
        ("pc-q35-7.2", port(1) + port(2) + port(3), 3),
        ("virt-9.0", port(1), 1),
        ("pc-q35-7.2", port(1) + port(2) + at("0x01"), 1),
        ("pc-q35-7.2", port(16) + port(17) + at("0x10"), 1),
        ("pc-q35-7.2", port(1) + at("0x01") + at("0x01"), 0),
        ("pc-q35-7.2", port(1, ON) + port(2, OFF) + port(3, ON), 2),
        # The address in the source of a hostdev is that of the host's device.
        ("pc-q35-7.2", port(1) + port(2) + HOSTDEV.format(""), 2),
        ("pc-q35-7.2", port(1) + port(2) + HOSTDEV.format("<address type='pci' bus='0x01'/>"), 1),
        ("pc-q35-7.2", "<controller type='pci' index='0' model='pcie-root'/>" + port(1), 1),
        ("pc-q35-7.2", port(1) + "<disk><address type='drive' bus='0x01'/></disk>", 1),
        # The old machine type has slots on one bus, and plugging needs no port.
        ("pc-i440fx-7.2", port(1), None),
        ("s390-ccw-virtio-7.2", "", None),
        ("virt", port(1), 1),
        ("", "", None),
    ],
)
def test_free_ports_are_root_ports_that_nothing_uses(machine, devices, expected):
    assert _devices.parse(domain_xml(devices, machine)).free_ports == expected


OURS = "<filesystem><alias name='ua-modelfleet-1'/><address type='pci' bus='0x02'/></filesystem>"


@pytest.mark.parametrize(
    ("machine", "devices", "expected"),
    [
        ("pc-q35-7.2", port(1) + port(2) + port(3), 3),
        ("pc-q35-7.2", port(1) + port(2) + port(3) + OURS, 3),
        ("pc-q35-7.2", port(1) + port(2) + port(3) + OURS + at("0x01"), 2),
        ("pc-q35-7.2", port(2) + OURS + at("0x02"), 0),
        ("pc-q35-7.2", port(2) + OURS.replace("ua-modelfleet", "fs"), 0),
        ("pc-i440fx-7.2", port(1), None),
    ],
)
def test_there_is_room_for_the_models_that_are_there_already(machine, devices, expected):
    assert _devices.model_ports(domain_xml(devices, machine)) == expected
