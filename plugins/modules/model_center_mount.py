#!/usr/bin/python

# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_center_mount
short_description: Mount a model center on a KVM host
version_added: 0.1.0
description:
  - Mounts the storage that holds AI models below its mount point, persistently, through a native systemd mount unit.
  - The record of the model center is kept in the unit itself, so that the two cannot disagree.
  - What is mounted is compared with what was asked for; that a unit is active proves nothing.
author:
  - The modelfleet.kvm contributors (@modelfleet)
extends_documentation_fragment:
  - modelfleet.kvm._attributes
  - modelfleet.kvm._attributes.action_group
requirements:
  - systemd on the KVM host
options:
  name:
    description:
      - Name of the model center, by which M(modelfleet.kvm.vm_model_mount) refers to it.
    type: str
    required: true
  uuid:
    description:
      - UUID of the model center. Derived from O(name) when it was never given, the same on every host.
    type: str
  storage_url:
    description:
      - Where the models are. Required with O(state=mounted).
      - C(file:///DIRECTORY) is a local or already mounted directory. Blanks and other special characters are written as
        in any URL, for example C(%20). File systems that are mounted below the directory are not shown.
    type: str
  mount_point:
    description:
      - Absolute path at which the model center is mounted on the host.
      - It is C(/var/lib/modelfleet/centers/) and O(name) when not given. When it changes, the model center moves.
    type: str
  read_only:
    description:
      - Mount the model center read-only. VMs never see more than a read-only view of a model in any case.
    type: bool
    default: true
  state:
    description:
      - V(mounted) mounts it, now and at every boot.
      - V(unmounted) unmounts it, also at boot, and keeps its definition.
      - V(absent) unmounts it and removes its definition. The storage itself is not touched.
    type: str
    choices: [mounted, unmounted, absent]
    default: mounted
  timeout:
    description:
      - Seconds that any single wait may take, for a lock, for systemd or for the storage.
    type: int
    default: 30
seealso:
  - module: modelfleet.kvm.vm_model_mount
"""

EXAMPLES = r"""
- name: Mount a model center from a local directory
  modelfleet.kvm.model_center_mount:
    name: zoo
    storage_url: file:///srv/models

- name: Take it away again
  modelfleet.kvm.model_center_mount:
    name: zoo
    state: absent
"""

RETURN = r"""
center:
  description: The model center as it is defined on the host, null when it is not.
  type: dict
  returned: success
  contains:
    name:
      description: Its name.
      type: str
    uuid:
      description: Its UUID.
      type: str
    storage_url:
      description: Its storage URL in the normal form.
      type: str
    mount_point:
      description: Where it is mounted.
      type: str
    read_only:
      description: Whether it is mounted read-only.
      type: bool
    schema_version:
      description: Version of the record's schema.
      type: int
unit:
  description: Name of the systemd unit.
  type: str
  returned: success
actions:
  description: The steps done, or in check mode due, in their order.
  type: list
  elements: str
  returned: success
  sample: [make_mount_point, write_unit, reload_systemd, enable_unit, mount]
error_code:
  description: Symbolic code of the failure.
  type: str
  returned: failure
msg:
  description: What went wrong, where, and what to do.
  type: str
  returned: failure
details:
  description: More about the failure, for example the last lines of the unit's journal.
  type: dict
  returned: failure
"""

import contextlib
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _center_mount,
    _centers,
    _identity,
    _input,
    _locks,
    _mount_lines,
    _process,
    _storage,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError


def wanted(params: dict[str, t.Any], known: t.Optional[_centers.Center]) -> _centers.Center:
    """The center that the options describe, or when it shall go, the one that is known by its name."""
    name = _input.name("name", params["name"] or "")
    url = params["storage_url"]
    if params["state"] == _center_mount.MOUNTED and url is None:
        raise _input.invalid("storage_url", "it is required with state=mounted")
    mount_point = _input.mount_point("mount_point", params["mount_point"] or f"/var/lib/modelfleet/centers/{name}")
    if not _mount_lines.can_be_unit(mount_point):
        raise _input.invalid("mount_point", "it is too long for the name of a mount unit")
    center = _centers.Center(
        name=name,
        uuid=_uuid(params["uuid"], name, known),
        storage_url=_storage.check(url) if url else "",
        mount_point=mount_point,
        read_only=params["read_only"],
    )
    # What goes away goes from where it is, whatever the options say.
    return center if params["state"] == _center_mount.MOUNTED or known is None else known


def _uuid(given: t.Optional[str], name: str, known: t.Optional[_centers.Center]) -> str:
    # A UUID that was given once stays: the records of VMs name the center by it.
    if given:
        return _input.uuid("uuid", given)
    return known.uuid if known else _identity.center_uuid(name)


def run(params: dict[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    params = _input.trimmed(params)
    state, timeout = params["state"], _input.seconds("timeout", params["timeout"])
    with contextlib.ExitStack() as stack:
        wanted(params, None)
        _process.require_root()
        if not check_mode:
            stack.enter_context(_locks.held([_locks.center(params["name"])], timeout))
        units = _centers.units()
        known = _center_mount.find(params["name"], units)
        center = wanted(params, known.center if known else None)
        view = _center_mount.observe(center, state == _center_mount.MOUNTED, units, timeout)
        moved = _center_mount.find(center.name, units, other_than=center.mount_point)
        previous = _center_mount.observe(moved.center, False, units, timeout) if moved else None
        steps = _center_mount.plan(state, center, view, previous)
        if not check_mode:
            _center_mount.apply(steps, view, timeout)
    defined = state == _center_mount.MOUNTED or (state == _center_mount.UNMOUNTED and known is not None)
    before = known.text if known else ""
    after = _centers.render(center) if state == _center_mount.MOUNTED else before if defined else ""
    return {
        "changed": bool(steps),
        "actions": [step.action for step in steps],
        "unit": view.unit.name,
        "center": center.as_dict() if defined else None,
        "diff": {
            "before": before + _mounted_line(center, view.mount is not None),
            "after": after + _mounted_line(center, state == _center_mount.MOUNTED),
        },
    }


def _mounted_line(center: _centers.Center, mounted: bool) -> str:
    return f"\n{center.mount_point} is mounted\n" if mounted else ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "uuid": {"type": "str"},
            "storage_url": {"type": "str"},
            "mount_point": {"type": "str"},
            "read_only": {"type": "bool", "default": True},
            "state": {
                "type": "str",
                "choices": [_center_mount.MOUNTED, _center_mount.UNMOUNTED, _center_mount.ABSENT],
                "default": _center_mount.MOUNTED,
            },
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except ModelfleetError as problem:
        module.fail_json(**problem.as_result())
    if not module._diff:
        del result["diff"]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
