#!/usr/bin/python

# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: kvm_host_prepare
short_description: Make a KVM host able to give models to its VMs
version_added: 0.1.0
description:
  - Checks that the host has what is needed, and installs the libvirt hook that brings the models of a VM back before it
    starts, also after a reboot of the host.
  - The hook never keeps a VM from starting. When the storage is down, the VM sees an empty read-only directory.
  - libvirt is reloaded, never restarted, when it has to learn of the hook. Running VMs are not touched.
author:
  - The modelfleet.kvm contributors (@modelfleet)
extends_documentation_fragment:
  - modelfleet.kvm._attributes
  - modelfleet.kvm._attributes.action_group
  - modelfleet.kvm._options
options:
  state:
    description:
      - V(present) prepares the host.
      - V(absent) removes the hook. It is refused while any VM of the host has a model.
    type: str
    choices: [present, absent]
    default: present
seealso:
  - module: modelfleet.kvm.vm_model_mount
"""

EXAMPLES = r"""
- name: Prepare the KVM host
  modelfleet.kvm.kvm_host_prepare:
"""

RETURN = r"""
actions:
  description: The steps done, or in check mode due, in their order.
  type: list
  elements: str
  returned: success
  sample: [make_directories, write_hook, reload_libvirt]
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

import contextlib
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _arguments,
    _domain,
    _host_prepare,
    _input,
    _locks,
    _process,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError


def run(params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    params = _input.trimmed(params)
    present = params["state"] == "present"
    timeout = _input.seconds("timeout", params["timeout"])
    if present:
        _host_prepare.require(params["uri"] or _domain.SYSTEM, timeout)
    _process.require_root()
    with contextlib.ExitStack() as stack:
        if not check_mode:
            stack.enter_context(_locks.held(["host"], timeout))
        steps = _host_prepare.plan(present)
        if steps and not present:
            _host_prepare.refuse_in_use(params["uri"] or _domain.SYSTEM, timeout)
        if not check_mode:
            _host_prepare.apply(steps)
    return {"changed": bool(steps), "actions": steps}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_arguments.common(),
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except ModelfleetError as problem:
        module.fail_json(**problem.as_result())
    if module._diff:
        steps = "".join(f"{step}\n" for step in result["actions"])
        result["diff"] = {"before": "", "after": steps, "before_header": "prepared", "after_header": "due"}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
