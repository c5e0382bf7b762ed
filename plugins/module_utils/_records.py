# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Records: what is remembered about a VM's mounts, kept as metadata in the domain itself.

The metadata element stands in our own XML name space, live and persistent. libvirt keeps it through
restarts and migrations and drops it when the domain is undefined.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import typing as t
import xml.etree.ElementTree as ET

from . import _identity, _input
from ._errors import ModelfleetError

NAMESPACE = "urn:modelfleet:kvm"
PREFIX = "modelfleet"
SCHEMA_VERSION = 1
TIME = "%Y-%m-%dT%H:%M:%SZ"

# How a model reaches its VM: by a device of its own, or in the view, the one device that all of them share.
DEVICE = "device"
VIEW = "view"

MOUNTING = "mounting"
SETTLED = "settled"
UNMOUNTING = "unmounting"

# How surely what goes from a view is taken from whoever uses it.
LAZY = "lazy"
STRICT = "strict"


@dataclasses.dataclass(frozen=True)
class Record:
    """The identity of a mount and what is intended with it.

    What others may change behind our back (status, source path, host) is not stored but derived.
    Times are UTC in ISO 8601. `persistence` is empty as long as nobody could ask the guest. `revoke` is C(strict) as
    long as a run owes it that the host serves nothing more of what the mount had, and empty otherwise. `unknown` holds
    attributes that a newer release may have added.
    """

    uuid: str
    vm_instance_uuid: str
    model_uuid: str
    model_name: str
    model_version: str
    model_center_uuid: str
    model_center_name: str
    model_path: str
    mount_path: str
    tag: str
    alias: str
    transport: str
    guest: str
    persistence: str
    read_only: bool
    account_uuid: str
    owner: str
    generation: int
    create_date: str
    last_op_date: str
    intent: str
    revoke: str = ""
    unknown: tuple[tuple[str, str], ...] = ()

    @property
    def strict(self) -> bool:
        return self.revoke == STRICT

    @property
    def in_view(self) -> bool:
        return self.transport == VIEW

    @property
    def device_path(self) -> str:
        """Where the guest mounts the device that brings the model."""
        return _identity.VIEW_PATH if self.in_view else self.mount_path

    @property
    def device_uuid(self) -> str:
        """What names the device, its source and its unit in the guest: the view, or this mount."""
        return _identity.view_uuid(self.vm_instance_uuid) if self.in_view else self.uuid

    @property
    def model(self) -> tuple[str, ...]:
        """Which model it shows, and from where."""
        return self.model_uuid, self.model_version, self.model_center_uuid, self.model_path

    @property
    def linked(self) -> bool:
        """Whether a link in the guest leads to the model, whose mount path lies elsewhere than below the view."""
        return self.in_view and _identity.seen_at(self.mount_path) != self.mount_path

    @property
    def aliases(self) -> tuple[str, ...]:
        """See C(aliases)."""
        in_view = self.in_view or self.intent != SETTLED
        return aliases(self.vm_instance_uuid, self.uuid, self.mount_path, in_view)

    def says_the_same(self, other: Record) -> bool:
        """Whether two records agree on identity and intent, whenever they were written."""
        return self._timeless() == other._timeless()

    def _timeless(self) -> Record:
        return dataclasses.replace(self, create_date="", last_op_date="", generation=0, unknown=())

    def as_dict(self) -> dict[str, t.Any]:
        """The record as modules return it."""
        data = dataclasses.asdict(self)
        del data["unknown"]
        data["schema_version"] = SCHEMA_VERSION
        return data


def aliases(vm: str, mount: str, mount_path: str, in_view: bool) -> tuple[str, ...]:
    """The aliases of the devices that may bring a model: its own, and that of the view.

    Args:
        in_view: whether the model is in the view, or may have been a moment ago. Below the mount of the view there is
            no device beside it, so that it may bring the model in any case.
    """
    view = _input.is_below_view(mount_path) or (in_view and _input.can_be_in_view(mount_path))
    return (_identity.alias(mount), *([_identity.alias(_identity.view_uuid(vm))] if view else []))


_FIELDS = [field.name for field in dataclasses.fields(Record) if field.name != "unknown"]
_OPTIONAL = {"account_uuid": "", "model_version": "", "persistence": "", "revoke": ""}


def of_stray(vm: str, alias: str, tag: str) -> Record:
    """What stands for a device of a VM that has no record. It is never written."""
    blank: dict[str, t.Any] = dict.fromkeys(_FIELDS, "")
    return Record(**{**blank, "vm_instance_uuid": vm, "alias": alias, "tag": tag, "read_only": True, "generation": 0})


def to_xml(records: t.Iterable[Record], vm: str) -> t.Optional[str]:
    """The metadata element for a VM's records, as libvirt wants it (without name space); None for no records."""
    every = [_attributes(record) for record in sorted(records, key=lambda item: item.mount_path)]
    shared = _shared(every)
    root = ET.Element("mounts", {"schema_version": str(SCHEMA_VERSION), "vm": vm, **shared})
    for attributes in every:
        ET.SubElement(root, "mount", {name: value for name, value in attributes.items() if name not in shared})
    return ET.tostring(root, encoding="unicode") if len(root) else None


def _attributes(record: Record) -> dict[str, str]:
    known = {**vars(record), "read_only": str(record.read_only).lower(), "generation": str(record.generation)}
    del known["unknown"]
    return {**dict(record.unknown), **known}


def _shared(every: list[dict[str, str]]) -> dict[str, str]:
    """What all of several records say alike.

    It is written once, at the element around them: libvirt takes as long as the text is, and a VM may have hundreds.
    """
    if len(every) < 2:
        return {}
    first, *others = every
    return {name: first[name] for name in _FIELDS if all(other[name] == first[name] for other in others)}


def from_domain(domain: ET.Element, vm: str) -> tuple[Record, ...]:
    """The records in a domain's XML.

    Metadata that names another VM (a clone, a pasted XML) holds no records of this one.

    Raises:
        ModelfleetError: C(record_conflict) for a newer schema, C(record_invalid) for damage.
    """
    element = domain.find(f"metadata/{{{NAMESPACE}}}mounts")
    if element is None or element.get("vm") != vm:
        return ()
    try:
        version = int(element.get("schema_version", ""))
    except ValueError:
        raise _damaged(vm, "schema_version is not a number") from None
    if version > SCHEMA_VERSION:
        raise ModelfleetError(
            "record_conflict",
            f"VM {vm}: its records have schema version {version}, this release knows {SCHEMA_VERSION}",
            vm_instance_uuid=vm,
            schema_version=version,
        )
    shared = {name: value for name, value in element.attrib.items() if name not in ("schema_version", "vm")}
    mounts = [child for child in element if child.tag.rsplit("}", 1)[-1] == "mount"]
    return tuple(_record(tuple(sorted({**shared, **child.attrib}.items())), vm) for child in mounts)


# Live and persistent XML mostly say the same.
@functools.lru_cache(maxsize=4096)
def _record(found: tuple[tuple[str, str], ...], vm: str) -> Record:
    attributes = {**_OPTIONAL, **dict(found)}
    try:
        values: dict[str, t.Any] = {field: attributes.pop(field) for field in _FIELDS}
        values["generation"] = int(values["generation"])
        for field in ("create_date", "last_op_date"):
            datetime.datetime.strptime(values[field], TIME)
    except (KeyError, ValueError) as problem:
        raise _damaged(vm, f"{problem}") from None
    values["read_only"] = values["read_only"] == "true"
    record = Record(**values, unknown=tuple(sorted(attributes.items())))
    try:
        _check(record, vm)
    except ModelfleetError as problem:
        raise _damaged(vm, problem.what) from None
    return record


def _check(record: Record, vm: str) -> None:
    """Somebody may have edited the XML: what names paths, devices and tags is checked as any input is."""
    uuid = _input.uuid("uuid", record.uuid)
    for field, value, allowed in (
        ("uuid", record.uuid, (uuid,)),
        ("vm_instance_uuid", record.vm_instance_uuid, (vm,)),
        ("transport", record.transport, (DEVICE, VIEW)),
        ("alias", record.alias, (_identity.alias(record.device_uuid),)),
        ("tag", record.tag, (_input.tag("tag", record.tag),)),
        # Not mount_path(): a path that a later release protects must still be taken away.
        ("mount_path", record.mount_path, (_mount_path(record),)),
        ("model_path", record.model_path, (_input.relative_path("model_path", record.model_path),)),
        ("model_center_name", record.model_center_name, (_input.name("model_center_name", record.model_center_name),)),
        ("persistence", record.persistence, ("", "none", "systemd")),
        ("intent", record.intent, (MOUNTING, SETTLED, UNMOUNTING)),
        ("revoke", record.revoke, ("", STRICT)),
    ):
        if value not in allowed:
            raise _input.invalid(field, f"{_input.show(value)} is not expected")


def _mount_path(record: Record) -> str:
    check = _input.path_in_view if record.in_view else _input.absolute_path
    return check("mount_path", record.mount_path)


def _damaged(vm: str, problem: str) -> ModelfleetError:
    return ModelfleetError("record_invalid", f"VM {vm}: its records are damaged ({problem})", vm_instance_uuid=vm)
