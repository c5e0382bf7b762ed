# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a KVM host of the inventory lists for its VMs. Pure, and for the controller only.

This plugin util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import typing as t
from collections.abc import Mapping

from ..module_utils import _input, _wanted
from ..module_utils._errors import ModelfleetError
from . import _entries, _outcomes, _seen, _spoken, _values

# What a host carries in the inventory.
MOUNTS = "vm_models"
PURGE = "vm_models_purge"
PURGED_VMS = "vm_models_vms"
ALLOW_EMPTY = "vm_models_allow_empty"

PURGES = (_wanted.PURGE_NONE, _wanted.PURGE_VM, _wanted.PURGE_HOST)


@dataclasses.dataclass(frozen=True)
class Asked:
    """The variables of a host.

    Attributes:
        mounts: null when the host lists nothing, which is not the same as an empty list.
    """

    mounts: t.Optional[list[t.Any]]
    purge: str
    vms: list[str]
    allow_empty: bool


@dataclasses.dataclass
class Listed:
    """What is to be done for the VMs that a host lists.

    Attributes:
        left_out: VMs that speak for themselves.
        failures: VMs with entries that cannot be used. Nothing is done for them.
        nameless: whether one of these entries does not even say for which VM it is.
    """

    entries: list[dict[str, t.Any]] = dataclasses.field(default_factory=list)
    left_out: list[str] = dataclasses.field(default_factory=list)
    failures: list[dict[str, str]] = dataclasses.field(default_factory=list)
    nameless: bool = False


def read(variables: Mapping[str, t.Any]) -> Asked:
    """Read the variables of a host.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    mounts = _values.read(variables, MOUNTS)
    if mounts is not None and not isinstance(mounts, list):
        raise _input.invalid(MOUNTS, "it must be a list of dictionaries")
    return Asked(
        mounts,
        _values.choice(PURGE, _values.read(variables, PURGE), PURGES),
        _values.texts(PURGED_VMS, _values.read(variables, PURGED_VMS)),
        _values.truth(ALLOW_EMPTY, _values.read(variables, ALLOW_EMPTY)),
    )


def sort(host: str, asked: Asked, seen: _seen.Seen, spoken: _spoken.Spoken, present: bool) -> Listed:
    """Tell the entries that can be worked on from the others, VM by VM."""
    found = Listed()
    by_vm: dict[str, dict[int, t.Any]] = {}
    for index, entry in enumerate(asked.mounts or []):
        name = _input.trimmed(entry.get("vm")) if isinstance(entry, dict) else None
        if not isinstance(name, str):
            found.nameless = True
            wrong = _input.invalid(f"{MOUNTS}[{index}].vm", "it is required, the name or UUID of a VM")
            found.failures.append(_outcomes.noted("", wrong.as_result()))
        elif spoken.claims(host, name):
            found.left_out.append(name)
        else:
            domain = seen.here(host, name)
            by_vm.setdefault(domain.uuid if domain else _seen.key(name), {})[index] = entry
    for entries in by_vm.values():
        try:
            _entries.check(MOUNTS, entries, present)
            found.entries += entries.values()
        except ModelfleetError as problem:
            name = _input.trimmed(next(iter(entries.values()))["vm"])
            found.failures.append(_outcomes.noted(name, problem.as_result()))
    return found
