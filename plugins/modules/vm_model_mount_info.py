#!/usr/bin/python

# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_model_mount_info
short_description: Show the models of VMs, and what is really there
version_added: 0.1.0
description:
  - Returns the records of the models that are mounted in the VMs of a KVM host, and for each what every layer shows.
    These are the source on the host, the device in the persistent and in the live XML, and the mount in the guest.
  - Never changes anything.
author:
  - The modelfleet.kvm contributors (@modelfleet)
extends_documentation_fragment:
  - modelfleet.kvm._attributes.info
  - modelfleet.kvm._attributes.action_group
  - modelfleet.kvm._options
options:
  vms:
    description:
      - Names or UUIDs of VMs. It is an error (C(vm_not_found)) when there is no such VM.
      - Values with wildcards are matched with the names of the host's VMs, and may match none.
    type: list
    elements: str
  models:
    description:
      - Names or UUIDs of models.
    type: list
    elements: str
  model_centers:
    description:
      - Names or UUIDs of model centers.
    type: list
    elements: str
  accounts:
    description:
      - UUIDs of accounts.
    type: list
    elements: str
  owners:
    description:
      - Names of owners.
    type: list
    elements: str
  mount_paths:
    description:
      - Paths in the guest. A wildcard matches C(/) like any other character.
    type: list
    elements: str
  tags:
    description:
      - Virtiofs tags.
    type: list
    elements: str
  statuses:
    description:
      - C(Mounting), C(Mounted), C(MountFailed), C(Unmounting) or C(Attached). A value that can match none of them is
        refused.
    type: list
    elements: str
  guest_processes:
    description:
      - Look for the processes of guests that use the models, see RV(mounts[].guest_processes). It asks guests for more,
        so it takes longer.
    type: bool
    default: false
notes:
  - The options that filter each take any number of values, of which a mount must match one. With several options
    it must match all of them.
  - Each value may have the wildcards C(*), C(?) and C([...]) of a shell. Upper and lower case differ. UUIDs are given
    in full, in upper or lower case.
  - Empty values are left out. An option that holds no others is as not given, which is how AWX sends
    a survey's question without an answer. An empty list matches nothing.
  - Guests and storage are asked only for mounts that match by all but O(statuses), so a filter saves time.
seealso:
  - module: modelfleet.kvm.vm_model_mount
"""

EXAMPLES = r"""
- name: Look at all models of this host
  modelfleet.kvm.vm_model_mount_info:
  register: models

- name: Show mounts that are not as they should be
  ansible.builtin.debug:
    msg: "{{ models.mounts | selectattr('drift') }}"

- name: Look at what failed in some VMs
  modelfleet.kvm.vm_model_mount_info:
    vms: ["inference-*", trainer-1]
    statuses: [MountFailed]

- name: Look at the models of an organisation that two teams mounted
  modelfleet.kvm.vm_model_mount_info:
    models: ["qwen/*"]
    owners: [search, chat]
"""

RETURN = r"""
mounts:
  description: One entry per record, ordered by VM and path.
  type: list
  elements: dict
  returned: success
  contains:
    vm:
      description: Name of the VM.
      type: str
    vm_state:
      description: State of the VM in libvirt's words.
      type: str
    record:
      description: The record as it was written. Times are UTC.
      type: dict
    status:
      description:
        - C(Mounting), C(Mounted), C(MountFailed), C(Unmounting), or C(Attached) where the guest's part is not ours or
          waits for the VM to run.
      type: str
    source_path:
      description: Where the model is bound on the host, while the VM runs.
      type: str
    host_uuid:
      description: UUID of the host, as its libvirt reports it.
      type: str
    layers:
      description:
        - C(source), C(persistent), C(live) and C(guest), each C(right), C(missing), C(wrong), C(foreign), C(unknown) or
          C(not due).
      type: dict
    leaving:
      description:
        - The same layers of what is left of the other transport, as a run that changed it was cut short, or
          somebody edited the VM. Null when nothing is left. The next run that names the mount takes it away.
      type: dict
    guest_processes:
      description:
        - Processes of the guest that have something of the model open, mapped, or as their directory, each with C(pid)
          and C(name), 20 at most. Any process of the guest can hide from this.
        - Null unless O(guest_processes) is set, and where the guest does not answer or mounts the model by itself.
      type: list
      elements: dict
    drift:
      description: Whether any layer is not what the record wants, or something of another transport is left.
      type: bool
    error:
      description: Why a layer could not be looked at, null when all could.
      type: dict
strays:
  description:
    - Devices with an alias of this collection that no record of their VM is for, each with C(vm), C(vm_instance_uuid),
      C(tag), C(alias) and C(source_path). A clone has them, or a VM that was defined from another VM's XML. A run with
      O(modelfleet.kvm.vm_model_mount#module:purge), or one that takes everything away, removes them.
  type: list
  elements: dict
  returned: success
errors:
  description:
    - VMs that could not be read, each with C(vm), C(error_code), C(msg) and C(details). Of the filters only O(vms)
      applies to them.
  type: list
  elements: dict
  returned: success
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _arguments,
    _domain,
    _filters,
    _info,
    _input,
    _process,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError


def run(params: dict[str, t.Any]) -> dict[str, t.Any]:
    params = _input.trimmed(params)
    filters, deadline = _filters.from_params(params), _input.seconds("timeout", params["timeout"])
    _process.require_root()
    host = _domain.Host(params["uri"] or _domain.SYSTEM, deadline)
    vms = _vms(host, filters.vms)
    return {"changed": False, **_info.mounts(host, vms, filters, deadline, params["guest_processes"])}


def _vms(host: _domain.Host, values: _filters.Values) -> list[_domain.Vm]:
    if values is None:
        return host.vms()
    named = [host.vm(value.text) for value in values if not value.wild]
    wild = [value for value in values if value.wild]
    return named + [vm for vm in host.vms() if any(value.matches(vm.name) for value in wild)]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_arguments.common(),
            **{option: {"type": "list", "elements": "str"} for option in _filters.OPTIONS},
            "guest_processes": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params)
    except ModelfleetError as problem:
        module.fail_json(**problem.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
