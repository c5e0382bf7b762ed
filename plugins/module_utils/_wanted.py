# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Wanted mounts: the arguments of a task, trimmed, checked and completed. Touches nothing.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import _identity, _input, _mount_lines, _records
from ._centers import Center
from ._errors import ModelfleetError

AGENT = "agent"

# Whether the guest mounts a model by itself when it boots.
AUTO = "auto"
SYSTEMD = "systemd"
NOT_PERSISTENT = "none"

# What goes when it is not listed.
PURGE_NONE = "none"
PURGE_VM = "vm"
PURGE_HOST = "host"

DEFAULT_OWNER = "default"


@dataclasses.dataclass(frozen=True)
class Wanted:
    """One mount as somebody asked for it. Empty texts were not given.

    `where` names the entry in messages: C(mounts[3]), or nothing for a single mount. Without `vm` an entry with
    C(state=absent) means every VM of the host.
    """

    where: str
    vm: str
    model: str
    model_version: str
    model_uuid: str
    model_center: str
    model_path: str
    mount_path: str
    tag: str
    guest: str
    persistence: str
    account_uuid: str
    owner: str
    transport: str = AUTO

    @property
    def in_view(self) -> bool:
        return self.transport == _records.VIEW

    @property
    def device_path(self) -> str:
        """Where the guest mounts the device that brings the model."""
        return _identity.VIEW_PATH if self.in_view else self.mount_path

    @property
    def linked(self) -> bool:
        """Whether a link in the guest leads to the model, whose mount path lies elsewhere than below the view."""
        return self.in_view and _identity.seen_at(self.mount_path) != self.mount_path

    def matches(self, record: _records.Record) -> bool:
        """Whether a record is one of those that an entry with C(state=absent) means."""
        return (
            self.mount_path in ("", record.mount_path)
            and self.model in ("", record.model_name)
            and self.model_version in ("", record.model_version)
            and self.model_center in ("", record.model_center_name)
            and self.owner in ("", record.owner)
        )

    def means_all(self) -> bool:
        """Whether an entry with C(state=absent) means all that there is in its VM."""
        narrowing = (self.mount_path, self.model, self.model_version, self.model_center, self.owner)
        return bool(self.vm) and not any(narrowing)

    def uuid(self, vm: str) -> str:
        """The UUID of the mount in a VM."""
        return _identity.mount_uuid(vm, self.mount_path)

    def device_alias(self, vm: str) -> str:
        """The alias of its device in a VM."""
        return _identity.alias(_identity.view_uuid(vm) if self.in_view else self.uuid(vm))

    def device_aliases(self, vm: str) -> tuple[str, ...]:
        """The aliases of the devices that may bring it, by one transport or the other."""
        return _records.aliases(vm, self.uuid(vm), self.mount_path, self.in_view)

    def device_tag(self, vm: str) -> str:
        """The tag of its device in a VM."""
        return _identity.VIEW_TAG if self.in_view else self.tag or _identity.tag(self.uuid(vm), self.model)

    def record(self, vm: str, center: Center, persistence: str = "") -> _records.Record:
        """The record that this mount shall have in a VM; times and generation are still open.

        Args:
            persistence: what C(auto) means in this VM; nothing as long as that is not known.
        """
        mount = self.uuid(vm)
        return _records.Record(
            uuid=mount,
            vm_instance_uuid=vm,
            model_uuid=self.model_uuid or _identity.model_uuid(center.uuid, self.model_path, self.model_version),
            model_name=self.model,
            model_version=self.model_version,
            model_center_uuid=center.uuid,
            model_center_name=center.name,
            model_path=self.model_path,
            mount_path=self.mount_path,
            tag=self.device_tag(vm),
            alias=self.device_alias(vm),
            transport=_records.VIEW if self.in_view else _records.DEVICE,
            guest=self.guest,
            persistence=persistence if self.persistence == AUTO else self.persistence,
            read_only=True,
            account_uuid=self.account_uuid,
            owner=self.owner,
            generation=0,
            create_date="",
            last_op_date="",
            intent=_records.SETTLED,
        )


def from_params(params: dict[str, t.Any], present: bool) -> list[Wanted]:
    """The mounts that a task asks for.

    Args:
        params: the module's parameters, already trimmed; either C(mounts) or the options of one mount.
        present: whether they shall be there, which needs more to be given than to be gone.

    Raises:
        ModelfleetError: C(invalid_input), C(duplicate_mount).
    """
    entries = params.get("mounts")
    if entries is None:
        wanted = [from_entry("", params, params, present)]
    else:
        wanted = [from_entry(f"mounts[{index}]", entry, params, present) for index, entry in enumerate(entries)]
    if present:
        refuse_collisions(wanted)
    return wanted


def refuse_blanks(params: dict[str, t.Any]) -> None:
    """Refuse blanks that would turn one mount that shall go into all of them; not trimmed yet, they can still be told.

    An empty text means unset elsewhere, because AWX sends it for a question without an answer. Here whoever means
    everything must leave the option out.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    entries = params.get("mounts")
    for index, entry in enumerate([params] if entries is None else entries):
        where = "" if entries is None else f"mounts[{index}]."
        given = {name: entry.get(name) is not None for name in ("vm", "model", "mount_path")}
        filled = {name: _input.trimmed(entry.get(name)) is not None for name in given}
        meant = ["vm"] if filled["model"] or filled["mount_path"] else ["model", "mount_path"]
        for name in meant:
            if given[name] and not filled[name]:
                raise _input.invalid(f"{where}{name}", "it is empty; leave it out to mean all that there are")


def from_record(record: _records.Record) -> Wanted:
    """The wish that a record remembers."""
    return Wanted(
        where="",
        vm=record.vm_instance_uuid,
        model=record.model_name,
        model_version=record.model_version,
        model_uuid=record.model_uuid,
        model_center=record.model_center_name,
        model_path=record.model_path,
        mount_path=record.mount_path,
        tag="" if record.in_view else record.tag,
        guest=record.guest,
        persistence=record.persistence or AUTO,
        account_uuid=record.account_uuid,
        owner=record.owner,
        transport=record.transport,
    )


def nothing(vm: str) -> Wanted:
    """What is wanted of a VM for which nothing is listed."""
    return Wanted("", vm, *[""] * (len(dataclasses.fields(Wanted)) - 3))


def from_entry(where: str, entry: dict[str, t.Any], params: dict[str, t.Any], present: bool) -> Wanted:
    """The mount that one entry asks for.

    Args:
        where: what messages call the entry; nothing for a single mount.
        params: what holds for all entries.

    Raises:
        ModelfleetError: C(invalid_input).
    """

    def option(name: str) -> str:
        return f"{where}.{name}" if where else name

    def checked(name: str, check: t.Callable[[str, str], str], default: str = "") -> str:
        value = entry.get(name)
        return default if value is None else check(option(name), value)

    for name in ("vm", "model", "model_center") if present else ():
        if entry.get(name) is None:
            raise _input.invalid(option(name), "it is required with state=present")
    vm = checked("vm", _input.vm_name)
    model = checked("model", _input.model_name)
    if not vm and not model:
        raise _input.invalid(option("vm"), "with state=absent, vm or model must be given")
    owner = entry.get("owner") if entry.get("owner") is not None else params.get("owner")
    mount_path = checked("mount_path", _input.mount_path)
    if present and not mount_path:
        mount_path = _input.mount_path(option("mount_path"), f"/models/{model}")
    return Wanted(
        where=where,
        vm=vm,
        model=model,
        model_version=checked("model_version", _input.version),
        model_uuid=checked("model_uuid", _input.uuid),
        model_center=checked("model_center", _input.name),
        model_path=checked("model_path", _input.relative_path, default=model),
        mount_path=mount_path,
        tag=checked("tag", _input.tag),
        guest=entry.get("guest") or AGENT,
        persistence=_persistence(option, entry, mount_path),
        account_uuid=checked("account_uuid", _input.uuid),
        owner=_input.name(option("owner"), owner) if owner is not None else DEFAULT_OWNER if present else "",
        transport=_transport(option, entry, mount_path),
    )


def _transport(option: t.Callable[[str], str], entry: dict[str, t.Any], mount_path: str) -> str:
    transport = entry.get("transport") or AUTO
    if transport == _records.VIEW:
        if entry.get("tag") is not None:
            raise _input.invalid(option("tag"), f"the view of a VM has the tag '{_identity.VIEW_TAG}' (transport=view)")
        if mount_path:
            _input.path_in_view(option("mount_path"), mount_path)
    return str(transport)


def _persistence(option: t.Callable[[str], str], entry: dict[str, t.Any], mount_path: str) -> str:
    wanted = entry.get("persistence") or AUTO
    own_unit = wanted == SYSTEMD and mount_path and entry.get("transport") != _records.VIEW
    if own_unit and not _mount_lines.can_be_unit(mount_path):
        raise _input.invalid(option("mount_path"), "it is too long for the name of a mount unit (persistence=systemd)")
    if (entry.get("guest") or AGENT) == AGENT:
        return str(wanted)
    if wanted == SYSTEMD:
        raise _input.invalid(option("persistence"), "a guest that mounts by itself (guest=none) writes its own unit")
    return NOT_PERSISTENT


def refuse_collisions(wanted: list[Wanted]) -> None:
    """Refuse entries that claim the same place of a VM.

    Raises:
        ModelfleetError: C(duplicate_mount) with both entries.
    """
    seen: dict[tuple[str, ...], Wanted] = {}
    for mount in wanted:
        claims = [
            ("mount_path", mount.vm, mount.mount_path),
            ("model", mount.vm, mount.model_center, mount.model, mount.model_version),
            ("model_path", mount.vm, mount.model_center, mount.model_path, mount.model_version),
        ]
        if mount.model_uuid:
            claims.append(("model_uuid", mount.vm, mount.model_uuid, mount.model_version))
        if mount.tag:
            claims.append(("tag", mount.vm, mount.tag))
        for claim in claims:
            first = seen.setdefault(claim, mount)
            if first is not mount:
                raise _collision(first, mount, claim[0], f"the same {claim[0]}")
    by_path = sorted(wanted, key=lambda mount: (mount.vm, mount.mount_path.split("/")))
    for first, mount in zip(by_path, by_path[1:]):
        # In this order a path comes right before the first of those that lie below it.
        if first.vm == mount.vm and _input.overlaps(first.mount_path, mount.mount_path):
            first, mount = sorted((first, mount), key=wanted.index)
            raise _collision(first, mount, "mount_path", "one mount_path below the other")


def _collision(first: Wanted, second: Wanted, kind: str, what: str) -> ModelfleetError:
    return ModelfleetError(
        "duplicate_mount",
        f"{first.where} and {second.where} both name VM {second.vm} with {what}",
        entries=[first.where, second.where],
        vm=second.vm,
        kind=kind,
    )
