# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who uses a model center: VMs with records of it, and binds of it on this host. No table of ours: libvirt knows.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import os
import typing as t

from . import _connection, _domain, _mountinfo, _observed, _records, _sources
from ._centers import Center
from ._errors import ModelfleetError


@dataclasses.dataclass(frozen=True)
class User:
    """A VM that uses a center.

    Attributes:
        stale: whether what it holds is not what is mounted now: it was bound before the center was mounted again.
    """

    uuid: str
    name: str
    records: tuple[_records.Record, ...] = ()
    stale: bool = False

    def as_dict(self) -> dict[str, t.Any]:
        """The user as modules return it."""
        return {
            "vm": self.name,
            "vm_instance_uuid": self.uuid,
            "models": sorted({record.model_path for record in self.records}),
            "stale": self.stale,
        }


def find(center: Center, mount: t.Optional[_mountinfo.Mount], deadline: float) -> list[User]:
    """The VMs of this host that use a center, by name.

    Args:
        mount: what is seen at its mount point.
        deadline: seconds that libvirt may be silent.

    Raises:
        ModelfleetError: C(libvirt_unavailable), C(libvirt_error).
    """
    mounts = _mountinfo.read()
    binds: dict[str, list[_mountinfo.Mount]] = {}
    for bind in mounts:
        if bind.mount_point.startswith(f"{_sources.VMS_DIRECTORY}/"):
            uuid = os.path.relpath(bind.mount_point, _sources.VMS_DIRECTORY).split("/", 1)[0]
            binds.setdefault(uuid, []).append(bind)
    if not _connection.available():
        # Without its bindings nothing of ours was ever given to a VM.
        return [User(uuid, uuid) for uuid, found in sorted(binds.items()) if any(_is_of(mount, bind) for bind in found)]
    users = []
    for vm in _domain.Host(_domain.SYSTEM, deadline).vms():
        try:
            view = _observed.observe_vm(vm)
        except ModelfleetError as problem:
            if problem.code == "vm_not_found":
                continue
            # Its records cannot be read, so nobody knows what it uses.
            users.append(User(vm.uuid, vm.name))
            continue
        records = tuple(record for record in view.records.values() if record.model_center_uuid == center.uuid)
        held = binds.get(vm.uuid, [])
        if records or any(_is_of(mount, bind) for bind in held):
            users.append(User(vm.uuid, vm.name, records, view.live is not None and _is_stale(mount, records, held)))
    return sorted(users, key=lambda user: user.name)


def _is_of(mount: t.Optional[_mountinfo.Mount], bind: _mountinfo.Mount) -> bool:
    """Whether a bind shows something of what is mounted."""
    if mount is None or bind.device != mount.device:
        return False
    root = mount.root.rstrip("/")
    return bind.root == mount.root or bind.root.startswith(f"{root}/")


def _is_stale(
    mount: t.Optional[_mountinfo.Mount], records: tuple[_records.Record, ...], held: list[_mountinfo.Mount]
) -> bool:
    if not records:
        return False
    # Of a view only the binds in it are of a center; of several centers in one view one is enough to be right.
    return mount is None or not any(_is_of(mount, bind) for bind in held)


def refuse(center: Center, users: list[User], what: str) -> None:
    """Refuse to disturb VMs.

    Raises:
        ModelfleetError: C(center_in_use), which names them.
    """
    if users:
        names = [user.name for user in users]
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        raise ModelfleetError(
            "center_in_use",
            f"model center '{center.name}' is used by {len(names)} VMs ({shown}), so it is not {what}",
            vms=names,
        )
