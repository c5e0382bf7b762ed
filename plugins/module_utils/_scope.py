# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which VMs a task means, and which of its entries are for which of them.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import _domain, _wanted
from ._errors import ModelfleetError

Entry = tuple[int, _wanted.Wanted]


@dataclasses.dataclass
class Scope:
    """The VMs of a task.

    Attributes:
        vms: by UUID.
        entries: the entries of each VM, with their places in the task's list.
        lost: entries whose VM there is not, by their places.
    """

    vms: dict[str, _domain.Vm] = dataclasses.field(default_factory=dict)
    entries: dict[str, list[Entry]] = dataclasses.field(default_factory=dict)
    lost: dict[int, tuple[_wanted.Wanted, ModelfleetError]] = dataclasses.field(default_factory=dict)

    def add(self, vm: _domain.Vm) -> list[Entry]:
        """Have a VM in the scope, and return its entries."""
        self.vms.setdefault(vm.uuid, vm)
        return self.entries.setdefault(vm.uuid, [])

    def refuse_collisions(self) -> None:
        """Refuse entries that claim the same place of a VM that was named once by its name and once by its UUID.

        Raises:
            ModelfleetError: C(duplicate_mount).
        """
        for mounts in self.entries.values():
            _wanted.refuse_collisions([dataclasses.replace(mount, vm=mounts[0][1].vm) for _index, mount in mounts])


def find(host: _domain.Host, wanted: t.Sequence[_wanted.Wanted], names: t.Iterable[str], whole_host: bool) -> Scope:
    """Look the VMs of a task up.

    Args:
        names: of VMs that are meant although no entry may name them.
        whole_host: whether all VMs are meant.

    Raises:
        ModelfleetError: C(vm_not_found) for a name, C(libvirt_error).
    """
    scope = Scope()
    found: dict[str, t.Union[_domain.Vm, ModelfleetError]] = {}
    everywhere = [(index, mount) for index, mount in enumerate(wanted) if not mount.vm]
    for index, mount in enumerate(wanted):
        if not mount.vm:
            continue
        if mount.vm not in found:
            found[mount.vm] = _look_up(host, mount.vm)
        vm = found[mount.vm]
        if isinstance(vm, ModelfleetError):
            scope.lost[index] = (mount, vm)
        else:
            scope.add(vm).append((index, mount))
    for name in names:
        scope.add(host.vm(name))
    if whole_host or everywhere:
        for vm in sorted(host.vms(), key=lambda item: item.name):
            scope.add(vm).extend(everywhere)
    return scope


def _look_up(host: _domain.Host, name: str) -> t.Union[_domain.Vm, ModelfleetError]:
    try:
        return host.vm(name)
    except ModelfleetError as problem:
        return problem
