#!/usr/bin/python

# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_verify
short_description: Verify that a published model is whole and unchanged
version_added: 0.1.0
description:
  - Compares the files of a model, as a KVM host sees them in a model center, with a manifest of their paths, sizes and
    SHA-256 digests. A file that is missing, torn, different, or there beyond the manifest fails the task, which names
    it.
  - The manifest is given, or made by the first run for a version of a model. It is kept on the host, never in the model
    center. Later runs read only the files whose size, time or inode is not what it was then.
  - Files are seen as a VM sees them. A link that leads out of the model's directory leads nowhere.
  - With O(compare=structure) it is what M(modelfleet.kvm.vm_model_mount) does by itself before it mounts a model.
author:
  - The modelfleet.kvm contributors (@modelfleet)
extends_documentation_fragment:
  - modelfleet.kvm._attributes
  - modelfleet.kvm._attributes.action_group
  - modelfleet.kvm._options.published
options:
  compare:
    description:
      - How much is compared, each with all before it.
      - With V(structure) files in the safetensors format must be as long as their own headers say, and all files that
        an index (C(*.safetensors.index.json)) names must be there. It reads headers only, and needs no manifest.
      - With V(size) the files and their sizes must be those of the manifest, which must be there.
      - With V(sha256) their digests must be those of the manifest, which is made when there is none.
    type: str
    choices: [structure, size, sha256]
    default: sha256
  manifest:
    description:
      - What the files of the model shall be, for example as RV(manifest) of another host, or from whoever published the
        model. It must list all files. It takes the place of the manifest that the host keeps once it is found to be
        true.
      - Without it, the manifest that the host keeps is what the files shall be.
    type: list
    elements: dict
    suboptions:
      path:
        description: Path of a file below the model.
        type: str
        required: true
      size:
        description: Its size in bytes. Not compared when not given.
        type: int
      sha256:
        description: Its SHA-256 in hexadecimal digits. Not compared when not given.
        type: str
  renew:
    description:
      - Make the manifest anew from what is there, also where that differs from the manifest that the host keeps.
      - Mutually exclusive with O(manifest).
    type: bool
    default: false
  reread:
    description:
      - Read all files, past what is in the host's memory of them, also those that look as they did when their digests
        were made. It finds what has decayed on the storage itself.
    type: bool
    default: false
seealso:
  - module: modelfleet.kvm.model_prefetch
  - module: modelfleet.kvm.vm_model_mount
"""

EXAMPLES = r"""
- name: Verify a model, and make its manifest the first time
  modelfleet.kvm.model_verify:
    model: qwen3-32b
    model_center: zoo
  register: verified

- name: See quickly that no file is missing or of another size
  modelfleet.kvm.model_verify:
    model: qwen3-32b
    model_center: zoo
    compare: size

- name: See that a host has the same model as the one that verified it first
  modelfleet.kvm.model_verify:
    model: qwen3-32b
    model_center: zoo
    manifest: "{{ verified.manifest }}"

- name: Read all of a model again, for example once a month
  modelfleet.kvm.model_verify:
    model: qwen3-32b
    model_center: zoo
    reread: true
"""

RETURN = r"""
digest:
  description:
    - One SHA-256 for all files, equal on all hosts that have the same model. It is that of the manifest as
      C(sha256sum) writes it, in the order of the names. Empty without a manifest.
  type: str
  returned: success
manifest:
  description: All files with C(path), C(size) and C(sha256), in the order of their paths. Empty without a manifest.
  type: list
  elements: dict
  returned: success
manifest_file:
  description: Where the host keeps the manifest.
  type: str
  returned: success
files:
  description: How many files the manifest lists.
  type: int
  returned: success
bytes:
  description: How many bytes they have.
  type: int
  returned: success
bytes_read:
  description: How many bytes were read to make digests.
  type: int
  returned: success
seconds:
  description: How long reading them took.
  type: float
  returned: success
bytes_per_second:
  description: How fast they were read. 0 when none were.
  type: int
  returned: success
actions:
  description: The steps done, or in check mode due.
  type: list
  elements: str
  returned: success
  sample: [write_manifest]
error_code:
  description: Symbolic code of the failure.
  type: str
  returned: failure
msg:
  description: What is wrong, where, and what to do.
  type: str
  returned: failure
details:
  description: More about the failure. C(files) names the files it is about, at most twenty, and C(count) says how many.
  type: dict
  returned: failure
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _arguments,
    _input,
    _manifest,
    _model_verify,
    _opener,
    _process,
    _progress,
    _published,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError


def run(params: dict[str, t.Any], check_mode: bool, diff_mode: bool, log: _progress.Log) -> dict[str, t.Any]:
    params = _input.trimmed(params)
    entries = params["manifest"]
    terms = _model_verify.Terms(
        level=params["compare"],
        given=None if entries is None else _model_verify.given("manifest", entries),
        renew=params["renew"],
        reread=params["reread"],
        jobs=_input.jobs("jobs", params["jobs"]),
        deadline=_input.seconds("timeout", params["timeout"]),
        check_mode=check_mode,
    )
    if terms.given and terms.renew:
        raise _input.invalid("renew", "it makes a manifest, and one is given")
    _process.require_root()
    with _opener.Openers() as openers:
        model = _published.from_params(params, terms.deadline, openers)
        verified = _model_verify.verify(model, terms, openers, log)
    result = {
        "changed": verified.changed,
        "actions": [_model_verify.WRITE] if verified.changed else [],
        "manifest_file": _manifest.path(model.uuid),
        **report(verified),
    }
    if diff_mode:
        result["diff"] = {"before": text(verified.kept), "after": text(verified.manifest)}
    return result


def report(verified: _model_verify.Verified) -> dict[str, t.Any]:
    """What was verified, and at which speed."""
    files = verified.manifest
    digests = {path: file.sha256 for path, file in files.items()}
    return {
        "digest": _manifest.digest(digests) if files else "",
        "manifest": [
            {"path": _published.printable(path), "size": files[path].seen.size, "sha256": digests[path]}
            for path in sorted(files)
        ],
        "files": len(files),
        "bytes": sum(file.seen.size for file in files.values()),
        **_progress.speed(verified.bytes_read, verified.seconds),
    }


def text(manifest: _manifest.Manifest) -> str:
    """A manifest for a diff."""
    return _published.printable(_manifest.text({path: file.sha256 for path, file in manifest.items()}))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_arguments.published(),
            "compare": {
                "type": "str",
                "choices": [_model_verify.STRUCTURE, _model_verify.SIZE, _model_verify.SHA256],
                "default": _model_verify.SHA256,
            },
            "manifest": {
                "type": "list",
                "elements": "dict",
                "options": {
                    "path": {"type": "str", "required": True},
                    "size": {"type": "int"},
                    "sha256": {"type": "str"},
                },
            },
            "renew": {"type": "bool", "default": False},
            "reread": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode, module._diff, module.log)
    except ModelfleetError as problem:
        module.fail_json(**problem.as_result())
    module.exit_json(**result)


if __name__ == "__main__":
    main()
