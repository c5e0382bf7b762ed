# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which KVM host has to do what: the wishes of an inventory, and the VMs that each host has now, decided into work.

Pure, and for the controller only. This plugin util is private to the collection.
"""

from __future__ import annotations

import json
import typing as t
from collections.abc import Mapping

from ..module_utils import _input, _wanted
from ..module_utils._errors import ModelfleetError
from . import _vms

# What a host carries in the inventory.
HOST_MOUNTS = "vm_models"
HOST_PURGE = "vm_models_purge"
HOST_PURGED_VMS = "vm_models_vms"
ALLOW_EMPTY = "vm_models_allow_empty"


class Domain(t.NamedTuple):
    """A VM as one host has it."""

    host: str
    name: str
    uuid: str
    active: bool


class Seen:
    """What the hosts of the run have.

    Attributes:
        silent: hosts that could not be asked.
    """

    def __init__(self, results: Mapping[str, t.Any]) -> None:
        """From the result of vm_info of every host of the run; one that could not be asked has no C(vms) in it."""
        self.silent: list[str] = []
        self._known: dict[str, list[Domain]] = {}
        self._here: dict[str, dict[str, str]] = {}
        for host, result in results.items():
            if not isinstance(result, Mapping) or "vms" not in result or _failed(result):
                self.silent.append(host)
                continue
            here = self._here.setdefault(host, {})
            for vm in result["vms"]:
                domain = Domain(host, vm["vm"], vm["vm_instance_uuid"], bool(vm["active"]))
                for key in dict.fromkeys((domain.name, domain.uuid)):
                    self._known.setdefault(key, []).append(domain)
                    here[key] = domain.uuid

    def uuid(self, host: str, name: str) -> t.Optional[str]:
        """The UUID of a VM that a host has by this name or UUID."""
        return self._here.get(host, {}).get(_key(name))

    def place(self, name: str, only: t.Collection[str]) -> t.Optional[Domain]:
        """Where a VM is; None when no host has it.

        Args:
            only: hosts that may have it; all of them when empty.

        Raises:
            ModelfleetError: C(vm_runs_twice), C(vm_ambiguous), C(host_unreachable).
        """
        found = [domain for domain in self._known.get(_key(name), []) if not only or domain.host in only]
        silent = [host for host in self.silent if not only or host in only]
        running = [domain for domain in found if domain.active]
        if len({domain.uuid for domain in found}) > 1:
            raise _puzzle(name, code="vm_ambiguous", what="different VMs have this name", found=found)
        if len(running) > 1:
            raise _puzzle(name, code="vm_runs_twice", what="it runs", found=running)
        if running:
            # What is shut off elsewhere is what a migration left behind.
            return running[0]
        if silent:
            what = f"is shut off on {found[0].host} and may run" if found else "may be"
            raise ModelfleetError(
                "host_unreachable",
                f"VM {name} {what} on {', '.join(silent)}, which cannot be asked",
                vm=name,
                hosts=silent,
            )
        if len(found) > 1:
            raise _puzzle(name, code="vm_ambiguous", what="it is shut off", found=found)
        return found[0] if found else None


def _failed(result: Mapping[str, t.Any]) -> bool:
    return any(result.get(name) for name in ("failed", "unreachable", "error_code"))


def _key(name: str) -> str:
    return name.lower() if _input.is_uuid(name) else name


def _puzzle(name: str, code: str, what: str, found: list[Domain]) -> ModelfleetError:
    hosts = [domain.host for domain in found]
    return ModelfleetError(code, f"VM {name}: {what} on {', '.join(hosts)}", vm=name, hosts=hosts)


def decide(
    wishes: Mapping[str, t.Any], results: Mapping[str, t.Any], hosts: Mapping[str, t.Any], present: bool, sync: bool
) -> dict[str, t.Any]:
    """The work of each host.

    A VM that is a host of the inventory is asked for by its own variables alone: what C(vm_models) of a KVM host lists
    for it is left out, also where only the leftover of a migration is listed.

    Args:
        wishes: what `_vms.gather` found.
        results: the result of vm_info of each KVM host of the run.
        hosts: variables of these hosts.
        present: whether the mounts shall be there or be gone.
        sync: whether the inventory is the whole truth.

    Returns:
        C(hosts): by name C(mounts), C(purge) and C(vms) for vm_model_mount, and C(named), the VMs of the run.
        C(failures): VMs that nobody can work on, each with C(vm), C(error_code), C(msg) and C(details).
        C(notes): what somebody should know, in words.
    """
    seen = Seen(results)
    placed, failures = _placed(wishes, seen, list(hosts), present)
    notes: list[str] = []
    work = {}
    claimed = {vm.domain.uuid for vm in placed}
    by_host: dict[str, list[_Placed]] = {}
    for vm in placed:
        by_host.setdefault(vm.domain.host, []).append(vm)
    for host, variables in hosts.items():
        mine = by_host.get(host, [])
        mounts = _listed(host, variables, seen, claimed, notes)
        if mine:
            # One kind of name for all VMs, so that two entries for one VM are seen to be that.
            mounts = [_by_uuid(entry, host, seen) for entry in mounts]
        purge = _purge(host, variables, bool(wishes["vms"]), present, sync, notes)
        emptied = [] if purge != _wanted.PURGE_VM else [vm.domain.uuid for vm in mine if not vm.mounts]
        if emptied and not _vms.plain(variables.get(ALLOW_EMPTY, False)):
            failures += [_emptied(vm) for vm in mine if not vm.mounts]
            mine = [vm for vm in mine if vm.mounts]
            emptied = []
        named = [entry["vm"] for entry in mounts if isinstance(entry, dict) and isinstance(entry.get("vm"), str)]
        named += [vm.domain.uuid for vm in mine]
        further = _vms.plain(variables.get(HOST_PURGED_VMS)) or [] if purge == _wanted.PURGE_VM else []
        work[host] = {
            "mounts": mounts + [entry for vm in mine for entry in vm.mounts],
            "purge": purge,
            "vms": [*further, *emptied],
            "named": list(dict.fromkeys(named)),
        }
    return {"hosts": work, "failures": failures, "notes": notes}


class _Placed(t.NamedTuple):
    name: str
    domain: Domain
    mounts: list[dict[str, t.Any]]


def _placed(
    wishes: Mapping[str, t.Any], seen: Seen, hosts: list[str], present: bool
) -> tuple[list[_Placed], list[dict[str, t.Any]]]:
    """VMs of the inventory on their hosts, and those that nobody can work on."""
    placed: dict[str, _Placed] = {}
    failures = []
    right: set[str] = set()
    for name, vm in wishes["vms"].items():
        try:
            domain = seen.place(vm["vm"], vm["kvm_hosts"])
            if domain is None and not wishes["named"]:
                continue
            if vm["error"]:
                failures.append({"vm": name, **vm["error"]})
                continue
            if domain is None:
                raise _missed(vm, hosts)
            if domain.uuid in placed:
                other = placed[domain.uuid].name
                what = f"{other} and {name} of the inventory are both VM {domain.name}"
                raise ModelfleetError("vm_ambiguous", what, vm=domain.name, names=[other, name])
            # Most VMs have the list of their group, which need not be looked at for each of them.
            shared = json.dumps(vm["mounts"], sort_keys=True)
            if shared not in right:
                _vms.check(domain.uuid, vm["mounts"], present)
                right.add(shared)
            placed[domain.uuid] = _Placed(name, domain, [{"vm": domain.uuid, **entry} for entry in vm["mounts"]])
        except ModelfleetError as problem:
            if wishes["named"] or problem.code != "host_unreachable":
                failures.append({"vm": name, **problem.as_result()})
    return list(placed.values()), failures


def _missed(vm: Mapping[str, t.Any], hosts: t.Collection[str]) -> ModelfleetError:
    homes = ", ".join(vm["kvm_hosts"])
    where = "any KVM host of this run" if not homes else f"its kvm_host {homes}"
    if homes and not any(home in hosts for home in vm["kvm_hosts"]):
        where = f"a host of this run, which leaves out its kvm_host {homes}"
    return ModelfleetError("vm_not_found", f"VM {vm['vm']} is not on {where}", vm=vm["vm"])


def _listed(
    host: str, variables: Mapping[str, t.Any], seen: Seen, claimed: t.Collection[str], notes: list[str]
) -> list[dict[str, t.Any]]:
    """What a host lists, without the VMs that speak for themselves."""
    kept = []
    left_out = []
    for entry in _vms.plain(variables.get(HOST_MOUNTS)) or []:
        name = _input.trimmed(entry.get("vm")) if isinstance(entry, dict) else None
        if isinstance(name, str) and seen.uuid(host, name) in claimed:
            left_out.append(name)
        else:
            kept.append(entry)
    if left_out:
        names = ", ".join(dict.fromkeys(left_out))
        notes.append(f"{host}: vm_models lists {names}, whose own model_mounts are what counts")
    return kept


def _by_uuid(entry: t.Any, host: str, seen: Seen) -> t.Any:
    name = _input.trimmed(entry.get("vm")) if isinstance(entry, dict) else None
    uuid = seen.uuid(host, name) if isinstance(name, str) else None
    return {**entry, "vm": uuid} if uuid else entry


def _purge(host: str, variables: Mapping[str, t.Any], by_vm: bool, present: bool, sync: bool, notes: list[str]) -> str:
    """What goes because nobody lists it. Where VMs speak for themselves, a run may see only a part of them."""
    if not present:
        return _wanted.PURGE_NONE
    purge = str(_vms.plain(variables.get(HOST_PURGE)) or _wanted.PURGE_NONE)
    if sync:
        purge = _wanted.PURGE_HOST if HOST_MOUNTS in variables else _wanted.PURGE_VM
    if purge == _wanted.PURGE_HOST and by_vm:
        if not sync:
            notes.append(f"{host}: vm_models_purge=host is taken as vm, since VMs of the inventory have model_mounts")
        return _wanted.PURGE_VM
    return purge


def _emptied(vm: _Placed) -> dict[str, t.Any]:
    problem = _input.invalid(_vms.MOUNTS, f"it is empty, and everything would be taken from the VM; see {ALLOW_EMPTY}")
    return {"vm": vm.name, **problem.as_result()}
