#!/usr/bin/python

# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_center_info
short_description: Show the model centers of a KVM host, and whether they answer
version_added: 0.1.0
description:
  - Returns the model centers that are defined on a KVM host, what is mounted for each, whether its storage answers and
    how fast, and which VMs use it.
  - Never changes anything, and never hangs. What does not answer by the deadline is told as such.
author:
  - The modelfleet.kvm contributors (@modelfleet)
extends_documentation_fragment:
  - modelfleet.kvm._attributes.info
  - modelfleet.kvm._attributes.action_group
requirements:
  - systemd on the KVM host
options:
  names:
    description:
      - Names of model centers. All of them when not given.
    type: list
    elements: str
  timeout:
    description:
      - Seconds that the storage of one model center may take to answer.
    type: int
    default: 10
seealso:
  - module: modelfleet.kvm.model_center_mount
"""

EXAMPLES = r"""
- name: Look at all model centers of this host
  modelfleet.kvm.model_center_info:
  register: centers

- name: Show those that are not as they should be
  ansible.builtin.debug:
    msg: "{{ centers.model_centers | rejectattr('state', 'equalto', 'healthy') }}"
"""

RETURN = r"""
model_centers:
  description: One entry per model center, in the order of their units.
  type: list
  elements: dict
  returned: success
  contains:
    center:
      description: The record, as RV(modelfleet.kvm.model_center_mount#module:center). It has no secrets, only their
        names. Of a record that cannot be read there may be no more than its C(name).
      type: dict
    unit:
      description: The systemd unit with its C(name), C(active) state, and whether it is C(enabled).
      type: dict
    state:
      description:
        - C(healthy), C(not mounted), C(wrong source), C(wrong options), C(stacked) (several mounts over one another),
          C(shadowed) (hidden by a mount further up), C(dead) (its client has ended), C(unreachable) (its client lives
          without its servers), C(hung) (no answer by the deadline), C(error), C(wrong content) (verify_path is not
          there), or C(unreadable) (its record cannot be read, so that nothing is asked of it).
      type: str
    why:
      description: What is wrong, for people.
      type: str
    checks:
      description: What the storage was asked, each with C(operation), C(errno) and C(seconds).
      type: list
      elements: dict
    stuck:
      description: Where a process waits that asked the storage and cannot be ended, empty for none.
      type: str
    mount:
      description: C(fstype), C(source), C(options), C(read_only) and C(depth) as the mount table shows them, null for
        nothing.
      type: dict
    daemon:
      description: Processes of the client, none for clients in the kernel.
      type: list
      elements: int
    capacity:
      description: C(total_bytes) and C(available_bytes), null when they are not known.
      type: dict
    keeper:
      description: Whether the timer that looks after it runs.
      type: bool
    users:
      description: VMs that use it, each with C(vm), C(vm_instance_uuid), C(models) and C(stale); null when libvirt
        could not be asked, or the record cannot be read.
      type: list
      elements: dict
    stale_users:
      description: Names of VMs that hold something of an earlier mount. M(modelfleet.kvm.vm_model_mount) gives them the
        present one.
      type: list
      elements: str
    drift:
      description: In what it differs from its record, in words.
      type: list
      elements: str
    error:
      description: Why libvirt could not be asked or the record cannot be read, null when neither is so.
      type: dict
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.modelfleet.kvm.plugins.module_utils import _center_info, _input, _process
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError


def run(params: dict[str, t.Any]) -> dict[str, t.Any]:
    params = _input.trimmed(params)
    timeout = _input.seconds("timeout", params["timeout"])
    names = params["names"]
    if names is not None:
        names = [_input.name(f"names[{index}]", name or "") for index, name in enumerate(names)]
    _process.require_root()
    return {"changed": False, "model_centers": _center_info.info(names, timeout)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={"names": {"type": "list", "elements": "str"}, "timeout": {"type": "int", "default": 10}},
        supports_check_mode=True,
    )
    try:
        result = run(module.params)
    except ModelfleetError as problem:
        module.fail_json(**problem.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
