# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What VMs that are hosts of the inventory say of themselves. Pure, and for the controller only.

This plugin util is private to the collection.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ..module_utils import _input
from ..module_utils._errors import ModelfleetError
from . import _values

# Variables of a VM that is a host of the inventory.
MOUNTS = "model_mounts"
VM = "model_vm"
KVM_HOST = "kvm_host"

# What a play notes on all hosts that it is for.
REACHED = "modelfleet_reached"


def gather(
    variables: Mapping[str, t.Any], limited: t.Collection[str], kvm_hosts: t.Collection[str]
) -> dict[str, t.Any]:
    """The VMs of the inventory that say which models they want.

    Args:
        variables: of every host of the inventory, by its name.
        limited: the hosts that the run is limited to, all of them without a limit.
        kvm_hosts: all KVM hosts of the inventory. What else carries C(model_mounts) is a VM.

    Returns:
        C(vms): all of them, by name in the inventory C(vm), C(kvm_hosts), C(mounts), C(asked) and C(error). C(vm) is
        null when nobody can know it. C(asked): whether the run is about this VM. C(error): a problem of its own
        variables, null for none. C(named): whether the run names VMs, so that one that is not found is missed. A limit
        that leaves out every VM means whatever runs on the KVM hosts that it names.

    Raises:
        ModelfleetError: C(no_kvm_hosts), C(invalid_input) when the plays are for other hosts than C(kvm_hosts).
    """
    mine = set(kvm_hosts) & set(limited)
    reached = next((set(variables[name][REACHED]) for name in mine if REACHED in variables[name]), set())
    if not mine:
        raise ModelfleetError("no_kvm_hosts", "none of the hosts of this run is a KVM host")
    if mine != reached:
        raise _input.invalid("modelfleet_hosts", "it says which hosts plays are for, so it can only be given with -e")
    kvm = set(kvm_hosts)
    everyone = [name for name in variables if name not in kvm and MOUNTS in variables[name]]
    within = set(limited)
    named = any(name in within for name in everyone)
    return {
        "vms": {name: _vm(name, variables[name], not named or name in within) for name in everyone},
        "named": named,
    }


def _vm(name: str, variables: Mapping[str, t.Any], asked: bool) -> dict[str, t.Any]:
    found: dict[str, t.Any] = {"vm": None, "kvm_hosts": [], "mounts": [], "asked": asked, "error": None}
    try:
        vm = _values.read(variables, VM)
        found["vm"] = _input.vm_name(VM, name if vm is None else _input.trimmed(str(vm)))
        found["kvm_hosts"] = _values.texts(KVM_HOST, _values.read(variables, KVM_HOST))
        if asked:
            found["mounts"] = _input.trimmed(_values.read(variables, MOUNTS) or [])
    except ModelfleetError as problem:
        found["error"] = problem.as_result()
    return found
