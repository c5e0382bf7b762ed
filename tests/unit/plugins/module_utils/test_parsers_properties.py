# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds for everything that is parsed: mount tables, records and domains, also the damaged and the hostile."""

from __future__ import annotations

import copy
import dataclasses
import datetime
import io
import sys
import types
import xml.etree.ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _devices,
    _hook,
    _identity,
    _input,
    _mountinfo,
    _records,
    _sources,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit.properties import (
    HOSTILE,
    NAMES,
    STRANGE_PATHS,
    examples,
)

XML_TEXT = HOSTILE.map(lambda text: "".join(filter(_in_xml, text)))
TIMES = st.datetimes(min_value=datetime.datetime(1970, 1, 1)).map(lambda time: time.strftime(_records.TIME))


def _in_xml(character):
    return character in "\t\n\r" or " " <= character < "\ud800" or "\ue000" <= character < "\ufffe"


# Mount tables


def mangled(text):
    """A field as the kernel writes it."""
    for character in "\\ \t\n":
        text = text.replace(character, f"\\{ord(character):03o}")
    return text


FIELDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
MOUNTS = st.builds(
    _mountinfo.Mount,
    mount_id=st.integers(0, 2**31),
    parent_id=st.integers(0, 2**31),
    device=st.tuples(st.integers(0, 4095), st.integers(0, 1 << 20)).map(lambda pair: f"{pair[0]}:{pair[1]}"),
    root=FIELDS.map(lambda text: f"/{text}"),
    mount_point=FIELDS.map(lambda text: f"/{text}"),
    options=st.frozensets(st.sampled_from(["ro", "rw", "nosuid", "relatime"]), min_size=1),
    propagation=st.sampled_from(["", "shared:1", "shared:7 master:2"]),
    fstype=st.sampled_from(["virtiofs", "ext4", "fuse.x"]),
    source=FIELDS,
    super_options=st.frozensets(st.sampled_from(["ro", "rw", "user_id=0"]), min_size=1),
)


def line(mount):
    optional = f"{mount.propagation} " if mount.propagation else ""
    return (
        f"{mount.mount_id} {mount.parent_id} {mount.device} {mangled(mount.root)} {mangled(mount.mount_point)}"
        f" {','.join(sorted(mount.options))} {optional}- {mount.fstype} {mangled(mount.source)}"
        f" {','.join(sorted(mount.super_options))}"
    )


@given(mounts=st.lists(MOUNTS, max_size=5))
@examples(200)
def test_mount_tables_come_back_as_they_are(mounts):
    assert _mountinfo.parse("".join(f"{line(mount)}\n" for mount in mounts)) == mounts


@given(
    mount=MOUNTS,
    junk=st.lists(st.one_of(st.text(), st.text("0123456789 -/,:\\\n"), HOSTILE)),
    cuts=st.lists(st.integers(0, 120), max_size=4),
)
@examples(300)
def test_any_text_is_a_mount_table_without_what_is_not_one(mount, junk, cuts):
    whole = line(mount)
    lines = [whole[:cut] + text + whole[cut:] for cut, text in zip(cuts, junk)]
    assert all(isinstance(found, _mountinfo.Mount) for found in _mountinfo.parse("\n".join([*lines, *junk])))
    assert mount in _mountinfo.parse("\n".join([*lines, *junk, whole]))


# Records


# Drawing a record from scratch takes long: what is strange about the places of one is drawn once for all its fields.
PLACES = [
    "/srv/ai/guard",
    "/x y/\u6a21\u578b",
    "/a'b\"c",
    "/%i/\\x2d$(id)",
    "/--help",
    "/\xe9\u0301\U0001f40d",
    "/" + "l" * 255,
]


@st.composite
def records(draw):
    """Any record that this release or a later one may have written."""
    path = draw(st.one_of(st.sampled_from(PLACES), STRANGE_PATHS))
    uuid = _identity.mount_uuid(b.VM, path)
    return b.record(
        uuid=uuid,
        mount_path=path,
        alias=_identity.alias(uuid),
        model_path=path[1:],
        model_name=path[1:],
        model_version=draw(st.sampled_from(["", "2.1"])),
        guest=draw(st.sampled_from(["agent", "none"])),
        persistence=draw(st.sampled_from(["", "none", "systemd"])),
        read_only=draw(st.booleans()),
        account_uuid=draw(st.sampled_from(["", b.OTHER_VM])),
        generation=draw(st.integers(0, 2**63)),
        last_op_date=draw(TIMES),
        intent=draw(st.sampled_from(["mounting", "settled", "unmounting"])),
        unknown=draw(st.sampled_from([(), (("x_new", "<&> '\"\n\t\u2028"),), (("x_a", ""), ("x_b", path))])),
    )


def domain_with(metadata):
    domain = b.domain_xml()
    if metadata is not None:
        root = ET.fromstring(metadata)
        root.tag = f"{{{_records.NAMESPACE}}}mounts"
        ET.SubElement(domain, "metadata").append(root)
    return ET.fromstring(ET.tostring(domain))


@given(kept=st.lists(records(), max_size=4, unique_by=lambda record: record.uuid))
@examples(80)
def test_records_come_back_as_they_are(kept):
    found = _records.from_domain(domain_with(_records.to_xml(kept, b.VM)), b.VM)
    assert sorted(found, key=lambda record: record.uuid) == sorted(kept, key=lambda record: record.uuid)
    assert _records.from_domain(domain_with(_records.to_xml(kept, b.VM)), b.OTHER_VM) == ()


DAMAGE = st.sampled_from(["drop", "change", "add", "rename", "copy"])
ATTRIBUTES = st.sampled_from([field.name for field in dataclasses.fields(_records.Record)] + ["schema_version", "vm"])
VALUES = st.one_of(
    XML_TEXT, st.just(b.OTHER_VM), st.sampled_from(["", "1", "-1", "99", "1e9", "9" * 5000, "true", "/", "/.."])
)


def damaged(element, damages):
    """Some elements of a tree changed, with what XML can hold."""
    for kind, where, name, value in damages:
        everything = list(element.iter())
        child = everything[where % len(everything)]
        if kind == "drop":
            child.attrib.pop(name, None)
        elif kind == "change":
            child.set(sorted(child.attrib)[where % len(child.attrib)] if child.attrib else name, value)
        elif kind == "add":
            child.set(name, value)
        elif kind == "rename":
            child.tag = f"{{{_records.NAMESPACE}}}{name}"
        else:
            child.append(copy.deepcopy(child))
    return element


@given(
    kept=st.lists(records(), min_size=1, max_size=2, unique_by=lambda record: record.uuid),
    damages=st.lists(st.tuples(DAMAGE, st.integers(0, 99), ATTRIBUTES, VALUES), min_size=1, max_size=3),
)
@examples(200)
def test_damaged_records_are_refused_or_safe(kept, damages):
    metadata = damaged(ET.fromstring(_records.to_xml(kept, b.VM)), damages)
    try:
        found = _records.from_domain(domain_with(ET.tostring(metadata, encoding="unicode")), b.VM)
    except ModelfleetError as problem:
        assert problem.code in ("record_invalid", "record_conflict")
        return
    for record in found:
        datetime.datetime.strptime(record.last_op_date, _records.TIME)
        assert _input.absolute_path("", record.mount_path) == record.mount_path
        assert _input.relative_path("", record.model_path) == record.model_path
        assert _input.tag("", record.tag) == record.tag
        assert record.vm_instance_uuid == b.VM and record.alias == _identity.alias(record.uuid)
        assert _sources.path(b.VM, record.uuid).startswith(f"/var/lib/modelfleet/vms/{b.VM}/")
        assert record.intent in ("mounting", "settled", "unmounting")


# Domains


@given(tag=NAMES, alias=NAMES, source=STRANGE_PATHS, readonly=st.booleans())
@examples(150)
def test_devices_come_back_as_they_are(tag, alias, source, readonly):
    xml = _devices.virtiofs(tag, alias, source, readonly)
    (device,) = _devices.parse(b.domain_xml(xml)).devices
    assert (device.tag, device.alias, device.source) == (tag, alias, source)
    assert ET.tostring(ET.fromstring(device.element)) == ET.tostring(ET.fromstring(xml))
    assert (ET.fromstring(xml).find("readonly") is not None) == readonly


DOMAIN = b.domain_xml(
    "<controller type='pci' index='0' model='pcie-root'/>"
    "<controller type='pci' index='1' model='pcie-root-port'><target port='0x8' hotplug='on'/></controller>"
    "<filesystem type='mount'><driver type='virtiofs'/><source dir='/x'/><target dir='y'/><alias name='ua-z'/>"
    "<address type='pci' domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></filesystem>"
    "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>",
    more="<memoryBacking><access mode='shared'/></memoryBacking><cpu><numa><cell id='0'/></numa></cpu>",
)
IN_DOMAINS = st.sampled_from("type index model bus name dir state mode memAccess hotplug machine".split())


@given(damages=st.lists(st.tuples(DAMAGE, st.integers(0, 99), IN_DOMAINS, VALUES), min_size=1, max_size=4))
@examples(120)
def test_every_domain_can_be_read(damages):
    root = damaged(copy.deepcopy(DOMAIN), damages)
    for element in root.iter():
        if "index" in element.attrib:
            # libvirt's own numbers are numbers.
            element.set("index", "1")
    domain = _devices.parse(root)
    assert domain.free_ports is None or domain.free_ports >= 0
    assert all(ET.fromstring(device.element) is not None for device in domain.devices)


# The hook

DOMAINS = st.builds(
    lambda uuid, alias, source: ET.tostring(
        b.domain_xml(_devices.virtiofs("t", f"ua-modelfleet-{alias}", source + alias, False), uuid=uuid)
    ),
    uuid=st.sampled_from([b.VM, "..", "../..", "../../../srv", ".", "/", "x y"]),
    alias=st.sampled_from([b.device(b.record()).token, "..", "../x", "", "/etc", "../../../../srv"]),
    source=st.sampled_from([f"{_sources.VMS_DIRECTORY}/{name}/" for name in (b.VM, "..", "../..", ".")]),
)


@given(
    xml=st.one_of(st.binary(), HOSTILE.map(lambda text: text.encode("utf-8", "surrogatepass")), DOMAINS),
    words=st.lists(st.one_of(HOSTILE, NAMES), max_size=3),
    operation=st.sampled_from(["prepare", "release", "started", ""]),
)
@examples(200)
def test_the_hook_never_fails_and_stays_in_its_directory(xml, words, operation):
    # No fixture: every example starts with nothing touched.
    touched = []
    stand_ins = types.SimpleNamespace(
        VMS_DIRECTORY=_sources.VMS_DIRECTORY,
        make_directories=lambda: None,
        unbind=touched.append,
        bind_empty=touched.append,
        bind=lambda _tree, path: touched.append(path),
        look_at=_sources.look_at,
    )
    listed = []
    files = types.SimpleNamespace(
        path=types.SimpleNamespace(isdir=lambda path: listed.append(path) or True), listdir=lambda _path: ["0f0f"]
    )
    journal = types.SimpleNamespace(
        LOG_PID=0, LOG_DAEMON=0, LOG_WARNING=0, openlog=lambda *_: None, syslog=lambda _level, text: text.encode()
    )
    real = _hook._sources, _hook.os, _hook.syslog, sys.stdin
    _hook._sources, _hook.os, _hook.syslog = stand_ins, files, journal
    sys.stdin = types.SimpleNamespace(buffer=io.BytesIO(xml))
    try:
        assert _hook.main(["hook", *words[:1], operation, *words[1:]]) == 0
        sys.stdin.buffer.seek(0)
        assert _hook.main(["hook", "vm", operation, "begin", "-"]) == 0
    finally:
        _hook._sources, _hook.os, _hook.syslog, sys.stdin = real
    for path in (*touched, *listed):
        assert path.startswith(f"/var/lib/modelfleet/vms/{b.VM}") and ".." not in path.split("/")
