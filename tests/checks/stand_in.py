# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An action that stands in for a module: what it was called with is written down, what it answers is read from a file.

PLAYBOOK_WORLD names a directory with C(answers.json), by host and module a result or a list of results, of which the
last stays; every call becomes a line of C(calls).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

_ANSWERS: dict[str, dict[str, Any]] = {
    "vm_info": {"vms": [], "host_uuid": ""},
    "vm_model_mount_info": {"mounts": [], "strays": [], "errors": []},
    "model_center_info": {"model_centers": []},
    "vm_model_prepare": {"vms": []},
    "vm_model_mount": {"mounts": [], "summary": {"total": 0, "ok": 0, "changed": 0, "failed": 0, "due": 0}},
}


class ActionModule(ActionBase):
    """The module, as the tests say that it is."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Answer what the test has prepared for this host."""
        super().run(tmp, task_vars)
        host = (task_vars or {})["inventory_hostname"]
        module = self._task.action.rpartition(".")[2]
        world = Path(os.environ["PLAYBOOK_WORLD"])
        call = {"host": host, "module": module, "check": self._task.check_mode, "arguments": self._task.args}
        with (world / "calls").open("a") as file:
            file.write(json.dumps(call, default=str) + "\n")
        prepared = json.loads((world / "answers.json").read_text()).get(host, {}).get(module, {})
        if isinstance(prepared, list):
            calls = [json.loads(line) for line in (world / "calls").read_text().splitlines()]
            number = sum((call["host"], call["module"]) == (host, module) for call in calls)
            prepared = prepared[min(number, len(prepared)) - 1]
        usual = {} if prepared.get("failed") or prepared.get("unreachable") else _ANSWERS.get(module, {})
        return {"changed": False, **usual, **prepared}
