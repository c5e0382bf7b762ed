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
      - Names or UUIDs of the VMs to show. All VMs of the host when not given.
    type: list
    elements: str
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
    drift:
      description: Whether any layer is not what the record wants.
      type: bool
    error:
      description: Why a layer could not be looked at, null when all could.
      type: dict
errors:
  description: VMs that could not be read, each with C(vm), C(error_code), C(msg) and C(details).
  type: list
  elements: dict
  returned: success
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _arguments,
    _domain,
    _info,
    _input,
    _process,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError


def run(params: dict[str, t.Any]) -> dict[str, t.Any]:
    params = _input.trimmed(params)
    names = [_input.vm_name(f"vms[{index}]", name or "") for index, name in enumerate(params["vms"] or [])]
    _process.require_root()
    host = _domain.Host(params["uri"] or _domain.SYSTEM)
    vms = [host.vm(name) for name in names] if params["vms"] is not None else host.vms()
    return {"changed": False, **_info.mounts(host, vms, _input.seconds("timeout", params["timeout"]))}


def main() -> None:
    module = AnsibleModule(
        argument_spec={**_arguments.common(), "vms": {"type": "list", "elements": "str"}},
        supports_check_mode=True,
    )
    try:
        result = run(module.params)
    except ModelfleetError as problem:
        module.fail_json(**problem.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
