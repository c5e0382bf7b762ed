# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Model centers: their records, which live in the systemd units that mount them.

A unit of ours has a section C([X-Modelfleet]), which systemd leaves to others (systemd.unit(5)).

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import typing as t

from . import _storage, _systemd
from ._errors import ModelfleetError

SCHEMA_VERSION = 1
_SECTION = "[X-Modelfleet]"
# What starts VMs must come after the centers, so that a VM that starts with the host finds its models. Without the
# default dependencies, because a bind that systemd takes for local, of a directory on a network file system, would have
# to come before local-fs.target and after the network: a cycle, which systemd breaks by dropping some mount.
_BEFORE = "libvirtd.service virtqemud.service libvirt-guests.service"


@dataclasses.dataclass(frozen=True)
class Center:
    """A model center as this host mounts it."""

    name: str
    uuid: str
    storage_url: str
    mount_point: str
    read_only: bool

    def as_dict(self) -> dict[str, t.Any]:
        """The center as modules return it."""
        return {**dataclasses.asdict(self), "schema_version": SCHEMA_VERSION}


class Unit(t.NamedTuple):
    """A unit of ours on disk: its path, its text, and the record in it."""

    path: str
    text: str
    center: Center


def render(center: Center) -> str:
    """The text of the mount unit of a center."""
    mount = _storage.definition(center.storage_url, center.read_only)
    return f"""\
# Written by modelfleet.kvm for model center "{center.name}". Changes made here are overwritten.

[Unit]
Description=Model center {_escaped(center.name)}
DefaultDependencies=no
After=local-fs.target
Conflicts=umount.target
Before=umount.target {_BEFORE}

[Mount]
What={_escaped(mount.what)}
Where={_escaped(center.mount_point)}
Type={mount.fstype}
Options={_escaped(",".join(mount.options))}
DirectoryMode=0755

[Install]
WantedBy=multi-user.target

{_SECTION}
SchemaVersion={SCHEMA_VERSION}
Name={center.name}
Uuid={center.uuid}
StorageUrl={center.storage_url}
MountPoint={center.mount_point}
ReadOnly={"yes" if center.read_only else "no"}
"""


def parse(path: str, text: str) -> t.Optional[Center]:
    """The record in the text of a unit; None when the unit is not ours.

    Raises:
        ModelfleetError: C(center_conflict) for a record that a newer release wrote or that is damaged.
    """
    if f"\n{_SECTION}\n" not in text:
        return None
    section = text.split(f"\n{_SECTION}\n", 1)[1]
    values = dict(line.split("=", 1) for line in section.splitlines() if "=" in line)
    try:
        version = int(values["SchemaVersion"])
        center = Center(
            values["Name"], values["Uuid"], values["StorageUrl"], values["MountPoint"], values["ReadOnly"] == "yes"
        )
    except (KeyError, ValueError) as problem:
        raise ModelfleetError(
            "center_conflict", f"unit {path}: its model center record is damaged ({problem})"
        ) from None
    if version > SCHEMA_VERSION:
        raise ModelfleetError("center_conflict", f"unit {path} was written by a newer release (schema {version})")
    return center


def units(directory: str = _systemd.UNIT_DIRECTORY) -> list[Unit]:
    """The units of all model centers of this host. Touches no storage."""
    found = []
    for path in sorted(glob.glob(os.path.join(glob.escape(directory), "*.mount"))):
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
            center = parse(path, text)
        except (OSError, UnicodeDecodeError, ModelfleetError):
            # One unit that cannot be understood must not stand in the way of the others. To whoever wants its mount
            # point it is somebody else's.
            continue
        if center is not None:
            found.append(Unit(path, text, center))
    return found


def _escaped(value: str) -> str:
    # systemd.unit(5): a percent sign starts a specifier.
    return value.replace("%", "%%")
