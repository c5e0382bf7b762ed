# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""VMs of several KVM hosts as hosts of an inventory: which host has a VM, and what each is called. Pure.

Whoever may define a VM may give it any name, also one that means a host, a group or a pattern to Ansible.

This plugin util is private to the collection.
"""

from __future__ import annotations

import collections
import re
import typing as t

from ..module_utils import _input

Vm = dict[str, t.Any]

_FIELD = re.compile(r"\{(\w*)\}")
_FIELDS = ("name", "uuid", "host")
# Letters and digits of any script. What a template adds may have an @, which no VM's name brings along.
_STRANGE = re.compile(r"[^\w.-]|^[.-]")
_LITERAL = re.compile(r"[\w.@-]*\Z")
_RUNNING = ("running", "blocked")
_OFF = "shutoff"


def placed(answers: t.Mapping[str, t.Sequence[Vm]]) -> tuple[list[Vm], list[str]]:
    """Every VM once, with its C(kvm_host), and C(also_on), the other hosts that have it; and warnings.

    A VM is known by its UUID. Of several hosts the one where it runs has it, for what is shut off elsewhere was left
    there by a migration. Where that does not tell, each of them has it.

    Args:
        answers: the VMs of each host.
    """
    by_uuid: dict[str, list[Vm]] = {}
    for host, vms in answers.items():
        for vm in vms:
            by_uuid.setdefault(vm["uuid"], []).append({**vm, "kvm_host": host})
    found: list[Vm] = []
    warnings = []
    for vms in by_uuid.values():
        best = max(map(_life, vms))
        here = [vm for vm in vms if _life(vm) == best]
        if len(here) > 1:
            where = ", ".join(vm["kvm_host"] for vm in here)
            warnings.append(f"VM {_input.show(here[0]['name'])} {_TWICE[best]} on {where}")
        found += [{**vm, "also_on": [other["kvm_host"] for other in vms if other is not vm]} for vm in here]
    return found, warnings


_TWICE = ("is shut off", "is neither running nor shut off", "runs")


def _life(vm: Vm) -> int:
    return 2 if vm["state"] in _RUNNING else 0 if vm["state"] == _OFF else 1


def check_template(template: str) -> None:
    """Refuse a template that cannot give every VM a name.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    fields = _FIELD.findall(template)
    if not set(fields) <= set(_FIELDS) or not {"name", "uuid"} & set(fields):
        raise _input.invalid(
            "name_template", "it must have {name} or {uuid}, may have {host}, and nothing else in braces"
        )
    if not _LITERAL.match(_FIELD.sub("", template)):
        raise _input.invalid("name_template", "besides fields it may have letters, digits, '.', '_', '-' and '@' only")


def named(vms: t.Iterable[Vm], template: str, taken: t.Container[str]) -> dict[str, Vm]:
    """The VMs by their names in the inventory.

    A VM whose name would be that of something else, or has characters that Ansible gives a meaning to, gets C(@) and
    its host after it, which no other VM's name can have; and where that is not enough its UUID.

    Args:
        template: a text with C({name}), C({uuid}) and C({host}).
        taken: names of hosts and groups that no VM may have.
    """
    every = [(vm, _filled(template, vm)) for vm in vms]
    # What a strange name becomes is nobody's name, so that it takes no other VM's away.
    times = collections.Counter(name for vm, name in every if _is_exact(template, vm))
    longer = collections.Counter(_with_host(name, vm) for vm, name in every)
    found = {}
    for vm, name in every:
        if not _is_exact(template, vm) or times[name] > 1 or name in taken:
            name = _with_host(name, vm)
            if longer[name] > 1 or name in taken:
                name = f"{name}@{vm['uuid']}"
        found[name] = vm
    return found


def _is_exact(template: str, vm: Vm) -> bool:
    return "{name}" not in template or not _STRANGE.search(vm["name"])


def _with_host(name: str, vm: Vm) -> str:
    return f"{name}@{vm['kvm_host']}"


def _filled(template: str, vm: Vm) -> str:
    fields = {"name": _STRANGE.sub("_", vm["name"]), "uuid": vm["uuid"], "host": vm["kvm_host"]}
    return _FIELD.sub(lambda field: fields[field.group(1)], template)


def printable(text: str) -> str:
    """A message in one line: names, and what ssh and servers say, may have anything in them."""
    return " ".join("".join(character if character.isprintable() else " " for character in text).split())
