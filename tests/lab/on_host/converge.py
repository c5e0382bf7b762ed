# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run vm_model_mount's engine on a host, and kill the process or freeze libvirt after its n-th effect, if told to.

Reads a JSON object from standard input: `params` of the module, `kill_after` and `freeze_after` (a number, or null).
Prints what the module would return. Nothing of it is part of the collection.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

_UTILS = "ansible_collections.modelfleet.kvm.plugins.module_utils"
_converge, _domain, _guest, _plan, _report, _sources, _views, _wanted = (
    importlib.import_module(f"{_UTILS}.{name}")
    for name in ("_converge", "_domain", "_guest", "_plan", "_report", "_sources", "_views", "_wanted")
)

# All that changes anything, outside the process.
EFFECTS = {
    _domain.Vm: ("attach", "detach_live", "detach_persistent", "write_records"),
    _sources: ("bind", "unbind"),
    _views: ("bind", "close_view", "hide", "open_view", "show", "unbind"),
    _guest.Guest: ("mount", "unmount", "link", "unlink", "write_unit", "remove_unit"),
}


def kill() -> None:
    """End this process as SIGKILL does."""
    # Over SSH a signal is no status of its own.
    print("killed", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def freeze() -> None:
    """Stop libvirt from answering."""
    with open("/run/libvirtd.pid", encoding="ascii") as file:
        os.kill(int(file.read()), signal.SIGSTOP)


def after(effects: int, what: Callable[[], None]) -> None:
    """Have something happen right after so many effects."""
    left = [effects]

    def wrapped(effect: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(effect)
        def called(*arguments: Any, **options: Any) -> Any:
            result = effect(*arguments, **options)
            # What had nothing to do, or could not be done, says so.
            left[0] -= result is not False
            if not left[0]:
                what()
            return result

        return called

    for place, names in EFFECTS.items():
        for name in names:
            setattr(place, name, wrapped(getattr(place, name)))


def run(params: dict[str, Any]) -> list[Any]:
    """Converge as the module does with the same options; returns what became of each mount."""
    present = params.get("state", "present") == "present"
    request = _converge.Request(
        wanted=_wanted.from_params(params, present),
        terms=_plan.Terms(present, force=params.get("force", False), strict=params.get("revoke") == "strict"),
        purge="none",
        vms=[],
        planned={},
        deadline=params.get("timeout", 30),
        read_ahead_kb=params.get("read_ahead_kb", 0),
    )
    outcomes: list[Any] = _converge.converge(_domain.Host("qemu:///system", request.deadline), request)
    return outcomes


def main() -> None:
    given = json.load(sys.stdin)
    if given["kill_after"]:
        after(given["kill_after"], kill)
    if given["freeze_after"]:
        after(given["freeze_after"], freeze)
    outcomes = run(given["params"])
    json.dump({"mounts": _report.mounts(outcomes), "failure": _report.failure(outcomes)}, sys.stdout)


if __name__ == "__main__":
    main()
