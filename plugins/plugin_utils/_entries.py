# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Entries of C(vm_models) and C(model_mounts), refused before a module refuses all for one of them. Pure.

This plugin util is private to the collection, and for the controller only.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ..module_utils import _arguments, _input, _wanted


def check(option: str, entries: Mapping[int, t.Any], present: bool) -> None:
    """Refuse entries of one VM that vm_model_mount cannot use, or would take for more than they say.

    Args:
        option: the variable that has them.
        entries: by their places in it, each with its C(vm).

    Raises:
        ModelfleetError: C(invalid_input), C(duplicate_mount), each with the place of the entry.
    """
    wanted = []
    for index, entry in entries.items():
        where = f"{option}[{index}]"
        if not isinstance(entry, dict):
            raise _input.invalid(where, "it must be a dictionary")
        result = ArgumentSpecValidator(_arguments.mount()).validate(entry)
        if result.error_messages:
            raise _input.invalid(where, "; ".join(result.error_messages))
        mount = _wanted.from_entry(where, _input.trimmed(result.validated_parameters), {}, present)
        if not mount.model and not mount.mount_path:
            # An empty model would mean all models of the VM.
            raise _input.invalid(f"{where}.model", "it is missing or empty, and there is no mount_path")
        wanted.append(mount)
    if present:
        _wanted.refuse_collisions(wanted)
