# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the engine of model_center_mount and model_center_info on a host, several calls one after the other.

Reads a JSON list from standard input, each an object with `params` of model_center_mount and `check`, or with `names`
and `timeout` of model_center_info. Prints a list of what the modules would return, each with `seconds`. Nothing of it
is part of the collection.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

_UTILS = "ansible_collections.modelfleet.kvm.plugins.module_utils"
_center_converge, _center_info, _errors = (
    importlib.import_module(f"{_UTILS}.{name}") for name in ("_center_converge", "_center_info", "_errors")
)

# Of the module's options.
_NONE = "uuid storage_url credentials options client helper cache_dir cache_size verify_path mount_point".split()
_DEFAULTS = {
    **dict.fromkeys(_NONE),
    "read_only": True,
    "keep_alive": True,
    "on_unhealthy": "fail",
    "take_over": False,
    "force": False,
    "state": "mounted",
    "timeout": 30,
}


def run(call: dict[str, Any]) -> dict[str, Any]:
    """Make one call."""
    try:
        if "params" in call:
            result: dict[str, Any] = _center_converge.converge({**_DEFAULTS, **call["params"]}, call["check"])
            return result
        return {"changed": False, "model_centers": _center_info.info(call["names"], call["timeout"])}
    except _errors.ModelfleetError as problem:
        return {"changed": False, **problem.as_result()}


def main() -> None:
    results = []
    for call in json.load(sys.stdin):
        began = time.monotonic()
        results.append({**run(call), "seconds": time.monotonic() - began})
    json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
