#!/usr/bin/python

# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: vm_model_mount
short_description: Mount AI models into running VMs over virtiofs
version_added: 0.1.0
description:
  - Makes models of a model center visible in VMs, read-only, at a path, without a restart and without copying them.
  - A model is bound on the KVM host, born read-only, in the view of the VM. The view is one virtiofs device for all its
    models, in the live and persistent XML, and is mounted in the guest through the QEMU guest agent. O(transport) says
    when a model has a device of its own instead. A record is kept in the domain's metadata.
  - Every layer is looked at before anything is done, and only what is not right is touched.
  - When a step fails, the steps done before it in that VM are undone.
author:
  - The modelfleet.kvm contributors (@modelfleet)
extends_documentation_fragment:
  - modelfleet.kvm._attributes
  - modelfleet.kvm._attributes.action_group
  - modelfleet.kvm._options
  - modelfleet.kvm._options.mount
options:
  state:
    description:
      - V(present) makes the mounts be there and right. O(vm), O(model) and O(model_center) must be given.
      - V(absent) unmounts them in the guest, detaches their devices and forgets their records. Every mount that agrees
        with all that is given goes. O(vm) and O(mount_path), or O(vm) and O(model), mean that mount. O(vm) alone means
        all mounts of the VM. O(model) without O(vm) means the model in every VM of the host, as when a model is
        deleted. An option that is left out means all; one that is empty is refused where it would. A model that is in
        use in the guest is refused.
    type: str
    choices: [present, absent]
    default: present
  purge:
    description:
      - What goes because O(mounts) does not list it. Only mounts of O(owner) go. Needs O(mounts) and O(state=present).
      - With V(vm) the list is the whole truth for the VMs that it names, and for O(vms).
      - With V(host) it is the whole truth for all VMs of the host.
    type: str
    choices: [none, vm, host]
    default: none
  vms:
    description:
      - Names or UUIDs of VMs for which O(mounts) is the whole truth although it may list nothing for them.
        Needs O(purge=vm).
    type: list
    elements: str
  allow_empty:
    description:
      - Allow O(mounts) to be empty with O(purge), which takes away everything. It is refused otherwise, because
        an empty list is more often a mistake in an inventory.
    type: bool
    default: false
  force:
    description:
      - Take a model away although processes in the guest use it, or although the guest agent does not answer. What uses
        it gets errors from then on, and reads on in a view, see O(revoke).
    type: bool
    default: false
  revoke:
    description:
      - How surely a model that is taken out of a view, or replaced there by another, is taken from whoever uses it. A
        model with a device of its own goes with its device, as does the last model of a view.
      - With V(lazy) the model goes from the host's mounts. After O(force) a process that has something of it open reads
        on until the device of the view is unplugged.
      - With V(strict) the host serves nothing more of the model to the VM when the task succeeds. No virtiofsd of the
        view has it in its mount table or its open files. A model that is in use is refused without O(force). With
        O(force) the device of the view is plugged again where it is the only way, which also interrupts whoever uses
        the other models of the view. RV(mounts[].replugged) tells.
      - What the guest has copied, or still has in its memory, it keeps either way.
    type: str
    choices: [lazy, strict]
    default: lazy
  read_ahead_kb:
    description:
      - How far the guest reads ahead in a model whose file is read from its beginning to its end, or is mapped, in KiB.
        Linux reads 128 KiB ahead by itself, which makes virtiofs slow. V(0) leaves that as it is.
      - It is set through the guest agent whenever a task mounts the model, or the view that it is in. Whether it is set
        is not looked at when there is nothing to mount. A guest that mounts by itself when it boots is back at its own
        value.
      - Where the guest does not let it be set, that is a warning.
    type: int
    default: 4096
  verify:
    description:
      - How much of a model is looked at before it is mounted, or bound again. A model that is not whole is refused
        before anything is changed, with the file named. What is mounted already is not looked at.
      - With V(structure) files in the safetensors format must be as long as their own headers say, and all files that
        an index (C(*.safetensors.index.json)) names must be there. It reads headers only. Models in other formats pass.
      - With V(manifest) all files must also be as M(modelfleet.kvm.model_verify) found them on this host, by their
        size, time and inode. A model that was not verified there is refused.
    type: str
    choices: [none, structure, manifest]
    default: structure
  return:
    description:
      - Whether RV(mounts) has V(all) mounts, or only those that were V(changed) or failed. RV(summary) counts all of
        them either way.
    type: str
    choices: [changed, all]
    default: all
  planned_centers:
    description:
      - Model centers that an earlier task of the same play mounts or changes. Used in check mode only, where that task
        has not done so, so that this one can still say what it would do. The prediction is then marked V(conditional).
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the model center.
        type: str
        required: true
      uuid:
        description: UUID of the model center, when it is given one.
        type: str
      storage_url:
        description: Where its models are. With it, the models are looked at where they come from.
        type: str
seealso:
  - module: modelfleet.kvm.model_center_mount
  - module: modelfleet.kvm.model_verify
  - module: modelfleet.kvm.vm_model_mount_info
  - module: modelfleet.kvm.kvm_host_prepare
"""

EXAMPLES = r"""
- name: Give a VM a model at /models/qwen3-32b
  modelfleet.kvm.vm_model_mount:
    vm: inference-7
    model: qwen3-32b
    model_center: zoo

- name: Take a model away
  modelfleet.kvm.vm_model_mount:
    vm: inference-7
    model: qwen3-32b
    state: absent

- name: Converge all models of this host in one task
  modelfleet.kvm.vm_model_mount:
    mounts:
      - vm: inference-7
        model: qwen3-32b
        model_center: zoo
        mount_path: /srv/models/chat
      - vm: 3c5c6b8a-1c3b-4a52-9d0e-6d3b5ee0a4c1
        model: bge-m3
        model_version: v1.5
        model_center: zoo
        model_path: embeddings/bge-m3/v1.5

- name: Let the inventory be the whole truth for the VMs that it names
  modelfleet.kvm.vm_model_mount:
    mounts: "{{ vm_models }}"
    purge: vm
    return: changed

- name: Attach a model to a VM whose image mounts it by its tag
  modelfleet.kvm.vm_model_mount:
    vm: inference-8
    model: qwen3-32b
    model_center: zoo
    guest: none
    tag: chat

- name: Take a model from a VM so that not even a hostile guest can read on, whatever that interrupts
  modelfleet.kvm.vm_model_mount:
    vm: inference-7
    model: qwen3-32b
    state: absent
    force: true
    revoke: strict

- name: Unmount a model that was deleted from every VM of this host
  modelfleet.kvm.vm_model_mount:
    model: qwen3-32b
    state: absent

- name: Unmount everything from a VM, whether it is in use or not
  modelfleet.kvm.vm_model_mount:
    vm: inference-7
    state: absent
    force: true
"""

RETURN = r"""
mounts:
  description:
    - What became of each mount, in the order of the entries. What nobody listed, because it was purged or left over by
      a run that was interrupted, comes last.
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
    model:
      description: Name of the model.
      type: str
    mount_path:
      description: Path in the guest.
      type: str
    tag:
      description: The virtiofs tag of the device.
      type: str
    transport:
      description: How the model reaches the VM, V(device) or V(view). With O(transport=auto) what that came to.
      type: str
    origin:
      description:
        - V(listed) by the task, V(purged) because it is not listed, V(interrupted) when an earlier run was ended in
          the middle of it and this one carried on, or V(stray) for a device of ours that no record of the VM is for.
      type: str
    changed:
      description: Whether this mount was changed, or in check mode would be.
      type: bool
    actions:
      description: The steps done, or in check mode due, in their order.
      type: list
      elements: str
      sample: [record, bind_source, attach, verify_read_only, mount_in_guest, settle_record]
    prediction:
      description: V(exact), or V(conditional) in check mode when an earlier task must have done its part.
      type: str
    conditions:
      description: What a conditional prediction depends on.
      type: list
      elements: str
    replugged:
      description:
        - Whether the device of the view had to be plugged again for O(revoke=strict). Null where nothing is revoked,
          and in check mode, as nobody can know before.
      type: bool
    due:
      description: What somebody must do before all is as it was asked for, in words. Empty when nothing is due.
      type: list
      elements: str
    restart_required:
      description: Whether only stopping the VM and starting it again helps, see RV(mounts[].error).
      type: bool
    mount_lines:
      description:
        - For O(guest=none), how the guest can mount the model. V(command) for a shell, and the lines for V(fstab),
          V(systemd) and V(cloud_init). For a model of a view that is seen elsewhere than below C(/models) also V(link),
          a command that makes the link which the guest needs, and V(tmpfiles), a line for tmpfiles.d. Null otherwise.
      type: dict
    record:
      description: The record of the mount, null when there is none any more. Times are UTC.
      type: dict
    error:
      description: RV(error_code), RV(msg) and RV(details) of this mount's failure, null when it did not fail.
      type: dict
summary:
  description: How many mounts are C(ok), C(changed), C(failed), have something C(due), and in C(total).
  type: dict
  returned: always, unless the options themselves were refused
error_code:
  description: Symbolic code of the first failure.
  type: str
  returned: failure
msg:
  description: What went wrong, where, and what to do.
  type: str
  returned: failure
details:
  description: More about the failure. What was undone, what the guest or libvirt said.
  type: dict
  returned: failure
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _arguments,
    _centers,
    _checker,
    _converge,
    _domain,
    _input,
    _plan,
    _process,
    _records,
    _report,
    _storage,
    _wanted,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError


def planned_centers(entries: list[dict[str, t.Any]]) -> dict[str, _centers.Center]:
    """The centers that an earlier task would make, as far as a prediction needs them."""
    planned = {}
    for index, entry in enumerate(entries):
        name = _input.name(f"planned_centers[{index}].name", entry["name"] or "")
        uuid = _input.uuid(f"planned_centers[{index}].uuid", entry["uuid"]) if entry["uuid"] else ""
        url = _storage.check(entry["storage_url"]) if entry["storage_url"] else ""
        planned[name] = _centers.Center(name, uuid, url, "", True)
    return planned


def terms(params: dict[str, t.Any], check_mode: bool) -> _plan.Terms:
    """What holds for all mounts of the task."""
    purge = params["purge"] != _wanted.PURGE_NONE
    if purge and (params["mounts"] is None or params["state"] != "present"):
        raise _input.invalid("purge", "it needs mounts and state=present")
    if purge and not params["mounts"] and not params["allow_empty"]:
        raise _input.invalid("mounts", "the list is empty, and purge would take everything away; see allow_empty")
    if params["vms"] and params["purge"] != _wanted.PURGE_VM:
        raise _input.invalid("vms", "it needs purge=vm")
    return _plan.Terms(
        present=params["state"] == "present",
        check_mode=check_mode,
        force=params["force"],
        strict=params["revoke"] == _records.STRICT,
        purge=purge,
        owner=_input.name("owner", params["owner"] or _wanted.DEFAULT_OWNER),
    )


def run(params: dict[str, t.Any], check_mode: bool) -> list[_converge.Outcome]:
    if params["state"] != "present":
        _wanted.refuse_blanks(params)
    params = _input.trimmed(params)
    names = enumerate(params["vms"] or [])
    request = _converge.Request(
        wanted=_wanted.from_params(params, present=params["state"] == "present"),
        terms=terms(params, check_mode),
        purge=params["purge"],
        vms=[_input.vm_name(f"vms[{index}]", name or "") for index, name in names],
        planned=planned_centers(params["planned_centers"]) if check_mode else {},
        deadline=_input.seconds("timeout", params["timeout"]),
        read_ahead_kb=_input.read_ahead("read_ahead_kb", params["read_ahead_kb"]),
        verify=params["verify"],
    )
    _process.require_root()
    if not request.wanted and not request.terms.purge:
        return []
    return _converge.converge(_domain.Host(params["uri"] or _domain.SYSTEM, request.deadline), request)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_arguments.common(),
            **_arguments.mount(),
            "mounts": {"type": "list", "elements": "dict", "options": _arguments.mount()},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "purge": {"type": "str", "choices": ["none", "vm", "host"], "default": "none"},
            "vms": {"type": "list", "elements": "str"},
            "allow_empty": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
            "revoke": {"type": "str", "choices": [_records.LAZY, _records.STRICT], "default": _records.LAZY},
            "read_ahead_kb": {"type": "int", "default": 4096},
            "verify": {
                "type": "str",
                "choices": [_checker.NONE, _checker.STRUCTURE, _checker.MANIFEST],
                "default": _checker.STRUCTURE,
            },
            "return": {"type": "str", "choices": ["changed", "all"], "default": "all"},
            "planned_centers": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "uuid": {"type": "str"},
                    "storage_url": {"type": "str"},
                },
            },
        },
        mutually_exclusive=[("mounts", option) for option in _arguments.mount() if option != "owner"],
        supports_check_mode=True,
    )
    try:
        outcomes = run(module.params, module.check_mode)
    except ModelfleetError as problem:
        module.fail_json(**problem.as_result())
    result: dict[str, t.Any] = {
        "changed": any(outcome.changed for outcome in outcomes),
        "mounts": _report.mounts(outcomes, only_changed=module.params["return"] == "changed"),
        "summary": _report.summary(outcomes),
    }
    if module._diff:
        result["diff"] = _report.diff(outcomes)
    for warning in _report.warnings(outcomes):
        module.warn(warning)
    failure = _report.failure(outcomes)
    if failure:
        module.fail_json(**failure, **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
