# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What VMs that are hosts of the inventory say of themselves. Pure, and for the controller only.

This plugin util is private to the collection.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ..module_utils import _arguments, _input, _wanted
from ..module_utils._errors import ModelfleetError

# Variables of a VM that is a host of the inventory.
MOUNTS = "model_mounts"
VM = "model_vm"
KVM_HOST = "kvm_host"


def gather(
    variables: Mapping[str, t.Any], limited: t.Collection[str], kvm_hosts: t.Collection[str]
) -> dict[str, t.Any]:
    """The VMs of the inventory that say which models they want.

    Args:
        variables: of every host of the inventory, by its name.
        limited: the hosts that the run is limited to, all of them without a limit.
        kvm_hosts: all KVM hosts of the inventory. What else carries C(model_mounts) is a VM.

    Returns:
        C(vms): by name in the inventory C(vm), C(kvm_hosts), C(mounts) and C(error); the last is a problem of the VM's
        own variables, null for none. C(named): whether the run names these VMs, so that one that is not found is
        missed. A limit that leaves out every VM means whatever runs on the KVM hosts that it names.

    Raises:
        ModelfleetError: C(no_kvm_hosts).
    """
    if not set(kvm_hosts) & set(limited):
        raise ModelfleetError("no_kvm_hosts", "none of the hosts of this run is a KVM host")
    kvm = set(kvm_hosts)
    everyone = [name for name in variables if name not in kvm and MOUNTS in variables[name]]
    named = [name for name in everyone if name in limited]
    return {"vms": {name: _vm(name, variables[name]) for name in named or everyone}, "named": bool(named)}


def _vm(name: str, variables: Mapping[str, t.Any]) -> dict[str, t.Any]:
    found: dict[str, t.Any] = {"vm": name, "kvm_hosts": [], "mounts": [], "error": None}
    try:
        found["vm"] = _input.vm_name(VM, str(_read(variables, VM) or name))
        homes = _read(variables, KVM_HOST) or []
        found["kvm_hosts"] = [str(home) for home in ([homes] if isinstance(homes, str) else homes)]
        found["mounts"] = _read(variables, MOUNTS) or []
    except ModelfleetError as problem:
        found["error"] = problem.as_result()
    return found


def _read(variables: Mapping[str, t.Any], name: str) -> t.Any:
    """A variable without the blanks around it. Templates are rendered here, so that one that cannot be is this VM's."""
    try:
        return _input.trimmed(plain(variables.get(name)))
    except Exception as problem:  # whatever a template raises
        raise _input.invalid(name, f"it cannot be rendered: {problem}") from problem


def check(vm: str, mounts: t.Any, present: bool) -> None:
    """Refuse C(model_mounts) that vm_model_mount cannot use.

    One VM's mistake must not have the module refuse the whole list, so all that it would refuse is found here.

    Args:
        vm: what the module shall call the VM.

    Raises:
        ModelfleetError: C(invalid_input), C(duplicate_mount).
    """
    if not isinstance(mounts, list) or not all(isinstance(entry, dict) for entry in mounts):
        raise _input.invalid(MOUNTS, "it must be a list of dictionaries")
    if any("vm" in entry for entry in mounts):
        raise _input.invalid(f"{MOUNTS}.vm", "the mounts of a VM are its own; model_vm names it where it must")
    entries = [{"vm": vm, **entry} for entry in mounts]
    spec = {"mounts": {"type": "list", "elements": "dict", "options": _arguments.mount()}}
    result = ArgumentSpecValidator(spec).validate({"mounts": entries})
    if result.error_messages:
        raise _input.invalid(MOUNTS, "; ".join(result.error_messages))
    if not present:
        _wanted.refuse_blanks({"mounts": entries})
    _wanted.from_params(_input.trimmed(result.validated_parameters), present)


def plain(value: t.Any) -> t.Any:
    """A value of Ansible as one of Python, with all that is lazy in it rendered."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    # A date of YAML is a text here, and what is undefined in Ansible says so when it is made one.
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)
