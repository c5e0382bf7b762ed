# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which KVM host has to do what: the wishes of an inventory, and the VMs that each host has now, decided into work.

Nothing that a run does not see is taken away. VMs may be hidden from it by a limit, by a slice of AWX, by a mistake in
their names, or because a host cannot be asked.

Pure, and for the controller only. This plugin util is private to the collection.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ..module_utils import _input, _wanted
from ..module_utils._errors import ModelfleetError
from . import _listed, _outcomes, _seen, _spoken, _vms

# Of the hosts that a note is about it names so many.
NAMED_HOSTS = 5


def decide(
    wishes: Mapping[str, t.Any], results: Mapping[str, t.Any], hosts: Mapping[str, t.Any], state: str, sync: bool
) -> dict[str, t.Any]:
    """The work of each host.

    A VM that is a host of the inventory is asked for by its own variables alone: what C(vm_models) of a KVM host lists
    for it is left out, whether the run can work on it or not.

    Args:
        wishes: what `_vms.gather` found.
        results: the result of vm_info of each KVM host of the run.
        hosts: variables of these hosts.
        state: whether the mounts shall be C(present) or C(absent).
        sync: whether the inventory is the whole truth.

    Returns:
        C(hosts): by name C(parts), each a task of vm_model_mount, and C(named), the VMs of the run.
        C(problems): by host what failed of its own lists, each in the form of `_outcomes.Failure`.
        C(failures): VMs of the inventory that nobody can work on, each with C(vm), C(error_code), C(msg), C(details).
        C(notes): what somebody should know, in words.
    """
    present = state == "present"
    seen = _seen.Seen(results)
    spoken = _spoken.Spoken(wishes, seen, list(hosts), present)
    failures = list(spoken.failures)
    by_host: dict[str, list[_spoken.Vm]] = {}
    for vm in spoken.vms:
        by_host.setdefault(vm.domain.host, []).append(vm)
    work: dict[str, t.Any] = {}
    problems: dict[str, list[dict[str, str]]] = {}
    notes = _Notes()
    for host, variables in hosts.items():
        work[host] = {"parts": [], "named": []}
        try:
            asked = _listed.read(variables)
        except ModelfleetError as problem:
            problems[host] = [_outcomes.noted("", problem.as_result())]
            continue
        if spoken and host in seen.silent:
            # Which of the VMs that it lists speak for themselves nobody can tell.
            continue
        listed = _listed.sort(host, asked, seen, spoken, present)
        if listed.failures:
            problems[host] = listed.failures
        if listed.left_out:
            names = ", ".join(dict.fromkeys(listed.left_out))
            notes.add(host, f"{_listed.MOUNTS} lists {names}, whose own {_vms.MOUNTS} are what counts")
        mine = by_host.get(host, [])
        own_purge, purge = _purges(host, asked, listed, spoken, sync, notes) if present else (_NONE, _NONE)
        emptied = [vm for vm in mine if not vm.mounts] if own_purge != _NONE else []
        if emptied and not asked.allow_empty:
            failures += map(_emptied, emptied)
            mine, emptied = [vm for vm in mine if vm.mounts], []
        further = [name for name in asked.vms if not spoken.claims(host, name)] if purge == _VM else []
        theirs = _part(state, purge, listed.entries, further)
        own = _part(state, own_purge, [entry for vm in mine for entry in vm.mounts], [vm.domain.uuid for vm in emptied])
        work[host] = {
            "parts": _together(theirs, own, host, seen) if purge == own_purge and mine else [theirs, own],
            "named": list(
                dict.fromkeys([*(entry["vm"] for entry in listed.entries), *(vm.domain.uuid for vm in mine)])
            ),
        }
    return {"hosts": work, "problems": problems, "failures": failures, "notes": notes.lines()}


_NONE, _VM, _HOST = _wanted.PURGE_NONE, _wanted.PURGE_VM, _wanted.PURGE_HOST


def _purges(
    host: str, asked: _listed.Asked, listed: _listed.Listed, spoken: _spoken.Spoken, sync: bool, notes: _Notes
) -> tuple[str, str]:
    """What goes because nobody lists it: from VMs that speak for themselves, and from those that the host lists."""
    purge = _VM if sync and asked.purge == _NONE else asked.purge
    if purge == _NONE:
        return _NONE, _NONE
    if purge == _HOST and spoken:
        notes.add(host, f"{_listed.PURGE}=host is taken as vm, since VMs of the inventory have {_vms.MOUNTS}")
        purge = _VM
    if purge == _HOST and (listed.failures or asked.mounts is None):
        notes.add(host, f"{_listed.PURGE}=host is taken as vm, since {_listed.MOUNTS} cannot be used as a whole")
        purge = _VM
    why = ""
    if listed.nameless:
        why = "an entry does not say for which VM it is"
    elif not spoken.all_seen(host):
        why = f"VMs of the inventory that have {_vms.MOUNTS} were seen nowhere, and may be among them"
    if why and asked.mounts:
        notes.add(host, f"what {_listed.MOUNTS} does not list stays: {why}")
    elif sync and purge == _VM and asked.purge != _HOST and asked.mounts is not None and not spoken:
        notes.add(host, f"VMs that {_listed.MOUNTS} does not name keep what they have, without {_listed.PURGE}=host")
    return _VM, _NONE if why else purge


def _part(state: str, purge: str, mounts: list[dict[str, t.Any]], vms: list[str]) -> dict[str, t.Any]:
    return {"mounts": mounts, "state": state, "purge": purge, "vms": vms}


def _together(theirs: dict[str, t.Any], own: dict[str, t.Any], host: str, seen: _seen.Seen) -> list[dict[str, t.Any]]:
    """Both in one task. VMs have one kind of name there, so that it can be cut into parts."""

    def uuid(name: str) -> str:
        domain = seen.here(host, _input.trimmed(name))
        return domain.uuid if domain else name

    listed = [{**entry, "vm": uuid(entry["vm"])} for entry in theirs["mounts"]]
    vms = list(dict.fromkeys([*map(uuid, theirs["vms"]), *own["vms"]]))
    return [{**theirs, "mounts": listed + own["mounts"], "vms": vms}]


def _emptied(vm: _spoken.Vm) -> dict[str, t.Any]:
    what = f"it is empty, and everything would be taken from the VM; see {_listed.ALLOW_EMPTY}"
    return {"vm": vm.name, **_input.invalid(_vms.MOUNTS, what).as_result()}


class _Notes:
    """What somebody should know, each once, with the hosts that it is about."""

    def __init__(self) -> None:
        self._hosts: dict[str, list[str]] = {}

    def add(self, host: str, text: str) -> None:
        self._hosts.setdefault(text, []).append(host)

    def lines(self) -> list[str]:
        return [f"{self._named(hosts)}: {text}" for text, hosts in self._hosts.items()]

    @staticmethod
    def _named(hosts: list[str]) -> str:
        more = f" and {len(hosts) - NAMED_HOSTS} more" if len(hosts) > NAMED_HOSTS else ""
        return ", ".join(hosts[:NAMED_HOSTS]) + more
