#!/usr/bin/python

# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_model_prepare
short_description: Make VMs able to take models
version_added: 0.1.0
description:
  - Gives the persistent XML of VMs what hot-plugging of models needs. That is shared memory, room on PCIe root ports,
    the channel of the QEMU guest agent, and on libvirt before 9.2 a NUMA cell.
  - What is enough already is left alone, and so is all else in the XML. Huge pages, NUMA cells and sources of memory
    stay; only what says that memory is private is changed.
  - The NUMA cell keeps libvirt before 9.2 from refusing to plug into VMs that ran while libvirt itself was restarted.
  - None of this reaches a VM that runs. It needs a stop and a start, which a reboot of the guest is not. The module
    says when a restart is due, and does it when it is told to.
  - A VM's failure does not stop the others.
author:
  - The modelfleet.kvm contributors (@modelfleet)
extends_documentation_fragment:
  - modelfleet.kvm._attributes
  - modelfleet.kvm._attributes.action_group
  - modelfleet.kvm._options
options:
  vms:
    description:
      - Names or UUIDs of the VMs to prepare.
    type: list
    elements: str
    required: true
  ports:
    description:
      - Number of models that each VM shall have room for, from 0 to 28. PCIe root ports that are free and those that
        have a model count. All models in the view of a VM count as one, as they share its device.
      - Only the machine types C(q35) and C(virt) need root ports. Other machine types plug without, and are given none.
    type: int
    default: 8
  agent:
    description:
      - Whether each VM shall have the channel of the QEMU guest agent. A channel that is there is never removed.
    type: bool
    default: true
  restart:
    description:
      - V(never) leaves VMs running, and RV(vms[].restart_required) says which have to be stopped and started.
      - V(when_due) asks the guests of these VMs to shut down, waits O(timeout) seconds at most until each is off, and
        starts it again. What was mounted in the guest is mounted again by the next run of
        M(modelfleet.kvm.vm_model_mount).
      - A VM is never ended by force, and one that is off is never started.
    type: str
    choices: [never, when_due]
    default: never
seealso:
  - module: modelfleet.kvm.kvm_host_prepare
  - module: modelfleet.kvm.vm_model_mount
"""

EXAMPLES = r"""
- name: Prepare two VMs, and see which of them have to be restarted
  modelfleet.kvm.vm_model_prepare:
    vms: [inference-7, inference-8]
  register: prepared

- name: Show them
  ansible.builtin.debug:
    msg: "{{ prepared.vms | selectattr('restart_required') | map(attribute='vm') }}"

- name: Make room for 20 models in a VM, and restart it now if that is needed
  modelfleet.kvm.vm_model_prepare:
    vms: [inference-7]
    ports: 20
    restart: when_due
    timeout: 300
"""

RETURN = r"""
vms:
  description: What became of each VM, in the order in which they were named.
  type: list
  elements: dict
  returned: always, unless the options themselves were refused
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
    changed:
      description: Whether the VM was changed, or in check mode would be.
      type: bool
    actions:
      description: The steps done, or in check mode due, in their order.
      type: list
      elements: str
      sample: [share_memory, add_numa_cell, add_agent_channel, add_root_ports, shut_down, start]
    enough:
      description:
        - What was found to be enough, before anything was changed. C(persistent) is the XML that the VM starts with,
          C(running) the one that it runs with, or that it was saved with (C(virsh managedsave)). The latter is null
          when the VM is off.
        - Each has C(shared_memory), C(ports), C(agent_channel) and C(numa_cell), which are null where they are not
          needed.
      type: dict
      sample:
        persistent: {shared_memory: true, ports: true, agent_channel: true, numa_cell: null}
        running: {shared_memory: true, ports: false, agent_channel: true, numa_cell: null}
    ports:
      description:
        - Number of models that there was room for, before anything was changed. It is null for machine types without
          root ports.
      type: dict
      sample: {persistent: 8, running: 1}
    restart_required:
      description: Whether the VM runs without something that its persistent XML has, or in check mode would have.
      type: bool
    restart_reasons:
      description: What the VM runs without, in the words of RV(vms[].enough).
      type: list
      elements: str
      sample: [shared_memory, ports]
    error:
      description: RV(error_code), RV(msg) and RV(details) of this VM's failure, null when it did not fail.
      type: dict
error_code:
  description: Symbolic code of the first failure.
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

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _arguments,
    _domain,
    _input,
    _process,
    _report,
    _vm_prepare,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError


def run(params: dict[str, t.Any], check_mode: bool) -> list[_vm_prepare.Outcome]:
    params = _input.trimmed(params)
    request = _vm_prepare.Request(
        vms=[_input.vm_name(f"vms[{index}]", name or "") for index, name in enumerate(params["vms"])],
        ports=_input.ports("ports", params["ports"]),
        agent=params["agent"],
        restart=params["restart"] == "when_due",
        check_mode=check_mode,
        deadline=_input.seconds("timeout", params["timeout"]),
    )
    _process.require_root()
    if not request.vms:
        return []
    return _vm_prepare.prepare(_domain.Host(params["uri"] or _domain.SYSTEM, request.deadline), request)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_arguments.common(),
            "vms": {"type": "list", "elements": "str", "required": True},
            "ports": {"type": "int", "default": 8},
            "agent": {"type": "bool", "default": True},
            "restart": {"type": "str", "choices": ["never", "when_due"], "default": "never"},
        },
        supports_check_mode=True,
    )
    try:
        outcomes = run(module.params, module.check_mode)
    except ModelfleetError as problem:
        module.fail_json(**problem.as_result())
    result: dict[str, t.Any] = {
        "changed": any(outcome.actions for outcome in outcomes),
        "vms": _vm_prepare.report(outcomes),
    }
    if module._diff:
        result["diff"] = _vm_prepare.diff(outcomes)
    failure = _report.first_of((outcome.error for outcome in outcomes), "vms")
    if failure:
        module.fail_json(**failure, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
