#!/usr/bin/python

# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_prefetch
short_description: Read a model into memory before VMs need it
version_added: 0.1.0
description:
  - Reads what a KVM host does not have in memory of a model, so that VMs which load it do not wait for the storage. All
    VMs of the host share what is in its memory.
  - Linux takes that memory back when somebody needs it. Nothing is locked.
  - It is refused, before anything is read, when the model does not fit into what may be used.
author:
  - The modelfleet.kvm contributors (@modelfleet)
extends_documentation_fragment:
  - modelfleet.kvm._attributes.action_group
  - modelfleet.kvm._options.published
attributes:
  check_mode:
    description: Reads nothing, and says how much a run would read.
    support: full
  diff_mode:
    description: What is in memory is no text that could be compared.
    support: none
  idempotent:
    description:
      - A second run reads nothing with O(into=memory), as long as Linux has taken nothing back. With O(into=client) it
        reads all again, since no client tells what it keeps.
    support: partial
options:
  into:
    description:
      - V(memory) reads what is not in the memory of the host.
      - V(client) reads all of the model for a client of the storage that keeps what it has read, as with C(cache_dir)
        of M(modelfleet.kvm.model_center_mount), and takes no memory for it.
    type: str
    choices: [memory, client]
    default: memory
  reserve_mb:
    description:
      - How many MiB of the memory that the host has available (C(MemAvailable)) are left alone, for what comes
        afterwards. VMs that are started, for example.
    type: int
    default: 4096
  evict_mb:
    description:
      - How many MiB of other files may be pushed out of memory to make room. Without it, as much as O(reserve_mb)
        leaves.
    type: int
seealso:
  - module: modelfleet.kvm.model_verify
  - module: modelfleet.kvm.vm_model_mount
"""

EXAMPLES = r"""
- name: Have a model in memory before its VMs start
  modelfleet.kvm.model_prefetch:
    model: qwen3-32b
    model_center: zoo
    reserve_mb: 1024

- name: Do so only if it fits into memory that is used for nothing
  modelfleet.kvm.model_prefetch:
    model: qwen3-32b
    model_center: zoo
    reserve_mb: 1024
    evict_mb: 0

- name: Fill the cache that the client of the storage keeps on a disk
  modelfleet.kvm.model_prefetch:
    model: qwen3-32b
    model_center: zoo
    into: client
"""

RETURN = r"""
bytes:
  description: How many bytes the model has.
  type: int
  returned: success
resident_bytes_before:
  description: How many of them were in memory.
  type: int
  returned: success
resident_bytes:
  description: How many of them are in memory now.
  type: int
  returned: success
bytes_read:
  description: How many bytes were read, or in check mode would be.
  type: int
  returned: success
seconds:
  description: How long that took.
  type: float
  returned: success
bytes_per_second:
  description: How fast they were read. 0 when none were.
  type: int
  returned: success
error_code:
  description: Symbolic code of the failure.
  type: str
  returned: failure
msg:
  description: What is wrong, where, and what to do.
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
    _input,
    _model_prefetch,
    _opener,
    _process,
    _progress,
    _published,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError


def run(params: dict[str, t.Any], check_mode: bool, log: _progress.Log) -> dict[str, t.Any]:
    params = _input.trimmed(params)
    evict = params["evict_mb"]
    terms = _model_prefetch.Terms(
        into=params["into"],
        reserve=_input.mebibytes("reserve_mb", params["reserve_mb"]),
        evict=None if evict is None else _input.mebibytes("evict_mb", evict),
        jobs=_input.jobs("jobs", params["jobs"]),
        deadline=_input.seconds("timeout", params["timeout"]),
        check_mode=check_mode,
    )
    _process.require_root()
    with _opener.Openers() as openers:
        model = _published.from_params(params, terms.deadline, openers)
    done = _model_prefetch.prefetch(model, terms, log)
    return {
        "changed": done.bytes_read > 0,
        "bytes": done.size,
        "resident_bytes_before": done.resident,
        "resident_bytes": done.resident_after,
        **_progress.speed(done.bytes_read, done.seconds),
    }


def warnings(result: dict[str, t.Any], into: str, check_mode: bool) -> list[str]:
    """What somebody should know although nothing failed."""
    if into != _model_prefetch.MEMORY or check_mode or result["resident_bytes"] == result["bytes"]:
        return []
    return [f"of {result['bytes']} bytes that were read the host has kept {result['resident_bytes']} in memory"]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_arguments.published(),
            "into": {
                "type": "str",
                "choices": [_model_prefetch.MEMORY, _model_prefetch.CLIENT],
                "default": _model_prefetch.MEMORY,
            },
            "reserve_mb": {"type": "int", "default": 4096},
            "evict_mb": {"type": "int"},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode, module.log)
    except ModelfleetError as problem:
        module.fail_json(**problem.as_result())
    for warning in warnings(result, module.params["into"], module.check_mode):
        module.warn(warning)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
