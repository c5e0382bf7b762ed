#!/usr/bin/python

# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_info
short_description: Show which VMs a KVM host has
version_added: 0.1.0
description:
  - Returns the VMs that are defined on a KVM host or run there, whether they have models or not. The playbooks of this
    collection find out with it where each VM is now.
  - Asks libvirt only, neither guests nor storage. Never changes anything.
author:
  - The modelfleet.kvm contributors (@modelfleet)
extends_documentation_fragment:
  - modelfleet.kvm._attributes.info
  - modelfleet.kvm._attributes.action_group
options:
  uri:
    description:
      - The libvirt connection URI on the KVM host.
    type: str
    default: qemu:///system
  timeout:
    description:
      - Seconds that libvirt may answer nothing at all.
    type: int
    default: 30
requirements:
  - libvirt with its Python bindings (python3-libvirt) on the KVM host
seealso:
  - module: modelfleet.kvm.vm_model_mount_info
"""

EXAMPLES = r"""
- name: See which VMs this host has
  modelfleet.kvm.vm_info:
  register: found

- name: Show those that run
  ansible.builtin.debug:
    msg: "{{ found.vms | selectattr('active') | map(attribute='vm') }}"
"""

RETURN = r"""
vms:
  description: The VMs, ordered by name.
  type: list
  elements: dict
  returned: success
  contains:
    vm:
      description: Name of the VM.
      type: str
    vm_instance_uuid:
      description: UUID of the VM.
      type: str
    vm_state:
      description: State of the VM in libvirt's words.
      type: str
      sample: running
    active:
      description: Whether the VM runs here, paused or not. What a migration left behind is not active.
      type: bool
    persistent:
      description: Whether the VM is defined here, so that it is still there when it has stopped.
      type: bool
host_uuid:
  description: UUID of the host, as its libvirt reports it.
  type: str
  returned: success
error_code:
  description: Symbolic code of the failure.
  type: str
  returned: failure
msg:
  description: What went wrong, where, and what to do.
  type: str
  returned: failure
details:
  description: More about the failure.
  type: dict
  returned: failure
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.modelfleet.kvm.plugins.module_utils import _arguments, _domain, _input, _process
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError


def run(params: dict[str, t.Any]) -> dict[str, t.Any]:
    params = _input.trimmed(params)
    timeout = _input.seconds("timeout", params["timeout"])
    _process.require_root()
    host = _domain.Host(params["uri"] or _domain.SYSTEM, timeout)
    found = [shown for shown in map(_shown, host.vms()) if shown is not None]
    return {
        "changed": False,
        "vms": sorted(found, key=lambda vm: (vm["vm"], vm["vm_instance_uuid"])),
        "host_uuid": host.uuid(),
    }


def _shown(vm: _domain.Vm) -> t.Optional[dict[str, t.Any]]:
    """A VM as the result shows it; nothing for one that has gone since the VMs were listed."""
    try:
        return {
            "vm": vm.name,
            "vm_instance_uuid": vm.uuid,
            "vm_state": vm.state(),
            "active": vm.active(),
            "persistent": vm.persistent(),
        }
    except ModelfleetError as problem:
        if problem.code == "vm_not_found":
            return None
        raise


def main() -> None:
    module = AnsibleModule(argument_spec=_arguments.common(), supports_check_mode=True)
    try:
        result = run(module.params)
    except ModelfleetError as problem:
        module.fail_json(**problem.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
