# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Model centers: their records, which live in the systemd units that mount them.

A unit of ours has a section C([X-Modelfleet]), which systemd leaves to others (systemd.unit(5)). It is a mount unit, or
the service that runs a client in the foreground.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import glob
import os
import typing as t

from . import _systemd
from ._errors import ModelfleetError

SCHEMA_VERSION = 1
SECTION = "[X-Modelfleet]"
# systemd decides what the unit of a mount is called; a service is called by us.
_PATTERNS = ("*.mount", "modelfleet-center-*.service")


@dataclasses.dataclass(frozen=True)
class Center:
    """A model center as this host mounts it.

    Attributes:
        options: options of the storage's client, beside or in the place of the defaults.
        client: which of several clients mounts it; empty for the usual one.
        helper: the program of the client, where it is called otherwise; empty for the usual one.
        cache_dir: where the client keeps what it has read; empty for nowhere.
        cache_size: MiB of it, 0 for the client's own limit.
        verify_path: a path below the mount point that must be there; empty for none.
        credentials: the names of the secrets that its client was given.
        keep_alive: whether a timer looks after it.
    """

    name: str
    uuid: str
    storage_url: str
    mount_point: str
    read_only: bool
    options: tuple[str, ...] = ()
    client: str = ""
    helper: str = ""
    cache_dir: str = ""
    cache_size: int = 0
    verify_path: str = ""
    credentials: tuple[str, ...] = ()
    keep_alive: bool = True

    def as_dict(self) -> dict[str, t.Any]:
        """The center as modules return it."""
        values = dataclasses.asdict(self)
        return {
            **values,
            "options": [*self.options],
            "credentials": [*self.credentials],
            "schema_version": SCHEMA_VERSION,
        }


class Unit(t.NamedTuple):
    """A unit of ours on disk: its path, its text, and the record in it."""

    path: str
    text: str
    center: Center

    @property
    def name(self) -> str:
        """Its name to systemd."""
        return os.path.basename(self.path)


class Damaged(t.NamedTuple):
    """A unit of ours whose record cannot be understood: its path, what its center is called as far as that can be
    seen, and why."""

    path: str
    name: str
    problem: ModelfleetError


def record(center: Center) -> str:
    """The section of a unit that holds the record of a center; what is not set has no line."""
    values = [
        ("SchemaVersion", str(SCHEMA_VERSION)),
        ("Name", center.name),
        ("Uuid", center.uuid),
        ("StorageUrl", center.storage_url),
        ("MountPoint", center.mount_point),
        ("ReadOnly", _yes_or_no(center.read_only)),
        ("Options", ",".join(center.options)),
        ("Client", center.client),
        ("Helper", center.helper),
        ("CacheDirectory", center.cache_dir),
        ("CacheSize", str(center.cache_size or "")),
        ("VerifyPath", center.verify_path),
        ("Credentials", ",".join(center.credentials)),
        ("KeepAlive", _yes_or_no(center.keep_alive)),
    ]
    return "".join([f"{SECTION}\n", *(f"{name}={value}\n" for name, value in values if value)])


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def parse(path: str, text: str) -> t.Optional[Center]:
    """The record in the text of a unit; None when the unit is not ours.

    Raises:
        ModelfleetError: C(center_unreadable) for a record that a newer release wrote or that is damaged.
    """
    if f"\n{SECTION}\n" not in text:
        return None
    values = _values(text)
    try:
        version = int(values["SchemaVersion"])
        center = Center(
            name=values["Name"],
            uuid=values["Uuid"],
            storage_url=values["StorageUrl"],
            mount_point=values["MountPoint"],
            read_only=values["ReadOnly"] == "yes",
            options=_listed(values.get("Options", "")),
            client=values.get("Client", ""),
            helper=values.get("Helper", ""),
            cache_dir=values.get("CacheDirectory", ""),
            cache_size=int(values.get("CacheSize", "0")),
            verify_path=values.get("VerifyPath", ""),
            credentials=_listed(values.get("Credentials", "")),
            keep_alive=values.get("KeepAlive", "no") == "yes",
        )
    except (KeyError, ValueError) as problem:
        raise unreadable(path, f"its record is damaged ({problem})") from None
    if version > SCHEMA_VERSION:
        raise unreadable(path, f"it was written by a newer release (schema {version})")
    return center


def unreadable(path: str, why: str) -> ModelfleetError:
    """The error for a unit of ours whose record cannot be understood."""
    return ModelfleetError("center_unreadable", f"unit {path}: {why}", path=path)


def _values(text: str) -> dict[str, str]:
    section = text.split(f"\n{SECTION}\n", 1)[1]
    return dict(line.split("=", 1) for line in section.splitlines() if "=" in line)


def _listed(value: str) -> tuple[str, ...]:
    return tuple(value.split(",")) if value else ()


def units(directory: str = _systemd.UNIT_DIRECTORY) -> list[Unit]:
    """The units of all model centers of this host. Touches no storage.

    One unit that cannot be understood must not stand in the way of the others. To whoever wants its mount point it is
    somebody else's.
    """
    return [found for found in _found(directory) if isinstance(found, Unit)]


def damaged(directory: str = _systemd.UNIT_DIRECTORY) -> list[Damaged]:
    """The units of model centers of this host whose records cannot be understood."""
    return [found for found in _found(directory) if isinstance(found, Damaged)]


def _found(directory: str) -> t.Iterator[t.Union[Unit, Damaged]]:
    place = glob.escape(directory)
    for path in sorted(path for pattern in _PATTERNS for path in glob.glob(os.path.join(place, pattern))):
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
        except OSError:
            continue
        try:
            center = parse(path, text)
        except ModelfleetError as problem:
            yield Damaged(path, _values(text).get("Name", os.path.basename(path)), problem)
            continue
        if center is not None:
            yield Unit(path, text, center)
