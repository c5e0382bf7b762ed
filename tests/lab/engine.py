# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection's own view of a guest, used on a host without a module around it."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

from modelfleet_lab import Host

_UTILS = Path(__file__).parents[2] / "plugins" / "module_utils"
_PLACE = "/opt/modelfleet-engine"
_LINES = """
import json, sys
sys.path.insert(0, sys.argv[1])
from kvm.module_utils import _mount_lines
print(json.dumps(_mount_lines.mount_lines(*json.load(sys.stdin))))
"""
_CALL = """
import json, sys
sys.path.insert(0, sys.argv[1])
from kvm.module_utils import _domain, _errors, _guest
vm, deadline, method, arguments = json.load(sys.stdin)
machine = _domain.Host(_domain.SYSTEM).vm(vm)
try:
    answer = getattr(_guest.Guest(machine.name, machine.agent, deadline), method)(*arguments)
except _errors.ModelfleetError as problem:
    answer = problem.as_result()
print(json.dumps(answer, default=sorted))
"""


class Engine:
    """Calls what the collection has for guests, on a host."""

    def __init__(self, host: Host) -> None:
        """Bring the collection's code to the host, where the modules would bring it."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            archive.add(_UTILS, "kvm/module_utils", filter=lambda item: None if "__pycache__" in item.name else item)
        host.run(["mkdir", "-p", _PLACE])
        host.run(["tar", "-x", "-C", _PLACE], input=packed.getvalue())
        self._host = host

    def lines(self, tag: str, path: str) -> dict[str, str]:
        """The lines with which a guest mounts by itself."""
        return json.loads(self._run(_LINES, [tag, path]))

    def guest(self, vm: str, method: str, *arguments: Any, deadline: float = 30) -> Any:
        """Call a method for a VM; returns its answer, or the error as a module's result has it."""
        return json.loads(self._run(_CALL, [vm, deadline, method, arguments]))

    def _run(self, script: str, request: list[Any]) -> str:
        return self._host.run(["python3", "-c", script, _PLACE], input=json.dumps(request), timeout=300).stdout
