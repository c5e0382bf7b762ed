# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""VMs that say themselves which models they want: where each is now, or why nobody can work on it. Pure.

This plugin util is private to the collection, and for the controller only.
"""

from __future__ import annotations

import json
import typing as t
from collections.abc import Mapping

from ..module_utils import _input
from ..module_utils._errors import ModelfleetError
from . import _entries, _seen, _vms


class Vm(t.NamedTuple):
    """A VM of the inventory on the host that has it."""

    name: str
    domain: _seen.Domain
    mounts: list[dict[str, t.Any]]


class Spoken:
    """All VMs of the inventory that speak for themselves.

    Attributes:
        vms: those that the run works on.
        failures: those of the run that nobody can work on, each with C(vm), C(error_code), C(msg) and C(details).
    """

    def __init__(self, wishes: Mapping[str, t.Any], seen: _seen.Seen, hosts: t.Collection[str], present: bool) -> None:
        """Find them.

        Args:
            wishes: what `_vms.gather` found.
            hosts: the KVM hosts of the run.
            present: whether their mounts shall be there or be gone.
        """
        self.vms: list[Vm] = []
        self.failures: list[dict[str, t.Any]] = []
        self._seen = seen
        self._uuids: dict[str, str] = {}
        self._names: set[str] = set()
        self._lost: set[str] = set()
        self._unseen: list[list[str]] = []
        self._right: set[str] = set()
        self._any = bool(wishes["vms"])
        for name, wish in wishes["vms"].items():
            try:
                self._find(name, wish, wishes["named"], hosts, present)
            except ModelfleetError as problem:
                if wish["asked"] and (wishes["named"] or problem.code != "host_unreachable"):
                    self.failures.append({"vm": name, **problem.as_result()})

    def __bool__(self) -> bool:
        """Whether there is any, in this run or not."""
        return self._any

    def claims(self, host: str, name: str) -> bool:
        """Whether a VM, as a host calls it or lists it, may be one that speaks for itself."""
        domain = self._seen.here(host, name)
        if domain is None:
            return _seen.key(name) in self._names | self._lost
        return domain.uuid in self._uuids or not self._lost.isdisjoint((domain.name, domain.uuid))

    def all_seen(self, host: str) -> bool:
        """Whether each of them that a host may have was seen somewhere.

        Otherwise nobody knows that it is not one which a list knows by another name.
        """
        return not any(not homes or host in homes for homes in self._unseen)

    def _find(self, name: str, wish: Mapping[str, t.Any], named: bool, hosts: t.Collection[str], present: bool) -> None:
        vm, homes = wish["vm"], wish["kvm_hosts"]
        if vm is None or not self._seen.knows(vm):
            self._unseen.append(homes)
        names = {_seen.key(known) for known in (name, vm) if known}
        domain = None
        try:
            if vm is not None:
                self._names.add(_seen.key(vm))
                domain = self._seen.place(vm, homes)
        finally:
            if domain is None:
                self._lost |= names
        other = name if domain is None else self._uuids.setdefault(domain.uuid, name)
        if not wish["asked"] or (domain is None and not named):
            return
        if wish["error"]:
            self.failures.append({"vm": name, **wish["error"]})
            return
        if domain is None:
            raise _missed(wish, hosts)
        if other != name:
            what = f"{other} and {name} of the inventory are both VM {domain.name}"
            raise ModelfleetError("vm_ambiguous", what, vm=domain.name, names=[other, name])
        self._check(domain.uuid, wish["mounts"], present)
        self.vms.append(Vm(name, domain, [{**entry, "vm": domain.uuid} for entry in wish["mounts"]]))

    def _check(self, vm: str, mounts: t.Any, present: bool) -> None:
        # Most VMs have the list of their group, which need not be looked at for each of them.
        shared = json.dumps(mounts, sort_keys=True)
        if shared in self._right:
            return
        if not isinstance(mounts, list):
            raise _input.invalid(_vms.MOUNTS, "it must be a list of dictionaries")
        for index, entry in enumerate(mounts):
            if isinstance(entry, dict) and "vm" in entry:
                where = f"{_vms.MOUNTS}[{index}].vm"
                raise _input.invalid(where, "the mounts of a VM are its own; model_vm names it where it must")
        complete = [{**entry, "vm": vm} if isinstance(entry, dict) else entry for entry in mounts]
        _entries.check(_vms.MOUNTS, dict(enumerate(complete)), present)
        self._right.add(shared)


def _missed(wish: Mapping[str, t.Any], hosts: t.Collection[str]) -> ModelfleetError:
    homes = ", ".join(wish["kvm_hosts"])
    where = "any KVM host of this run" if not homes else f"its kvm_host {homes}"
    if homes and not any(home in hosts for home in wish["kvm_hosts"]):
        where = f"a host of this run, which leaves out its kvm_host {homes}"
    return ModelfleetError("vm_not_found", f"VM {wish['vm']} is not on {where}", vm=wish["vm"])
