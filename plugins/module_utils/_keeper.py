# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What systemd runs for a model center: C(wait) until its client has mounted it, and C(check) once a minute.

It brings back what is dead, what could not be mounted when the host booted, and what was only stopped to be mounted
again by somebody who was killed. What was stopped in order stays stopped; what hangs, or has lost its servers, heals
when they come back, and is only reported.

This module util is private to the collection.
"""

from __future__ import annotations

import os
import sys

from . import _center_effects, _center_files, _center_state, _centers, _locks, _systemd
from ._errors import ModelfleetError

_WAIT, _PROBE, _MOUNT = 85.0, 20.0, 100.0


def main(argv: list[str]) -> int:
    """Run as C(KEEPER wait|check CENTER). Returns 0 when the center is mounted and answers."""
    command, name = argv[1], argv[2]
    unit = next((found for found in _centers.units() if found.center.name == name), None)
    if unit is None:
        _say(f"there is no model center '{name}'")
        return 1
    if command == "wait":
        process = int(os.environ.get("MAINPID", "0"))
        mounted = _center_effects.wait(unit.center, process, _WAIT)
        _say("mounted" if mounted else "its client ended, or did not mount it in time")
        return 0 if mounted else 1
    try:
        with _locks.held([_locks.center(name)], 1.0):
            return check(unit)
    except ModelfleetError as problem:
        if problem.code == "lock_timeout":
            # A run is at work, which looks at it as well.
            return 0
        _say(problem.msg)
        return 1


def check(unit: _centers.Unit) -> int:
    """Look at a center, and bring it back when that is called for."""
    state = _systemd.show(unit.name)
    seen = _center_state.look(unit.center, unit.name, _PROBE)
    due = needs(state, seen, _center_files.is_pending(unit.center.name))
    if not due:
        if seen.state not in (_center_state.HEALTHY, _center_state.NOT_MOUNTED):
            _say(f"{seen.state}: {seen.why}")
        return 0 if seen.healthy or not state.active else 1
    _say(f"{seen.state}{': ' if seen.why else ''}{seen.why}; mounting it again")
    if state.active_state == "failed":
        _systemd.call("reset-failed", unit.name)
    # Between the stop and the start it looks as if it had been stopped in order.
    _center_files.set_pending(unit.center.name)
    if state.needs_reload:
        # Of a run that was killed. Then what is mounted is what is written.
        _systemd.call("daemon-reload")
    _center_effects.mount(unit.center, unit.name, _MOUNT, again=seen.mount is not None or state.active)
    # Not after it is verified: a mount that only does not answer yet would be made again when it does.
    _center_files.clear_pending(unit.center.name)
    _center_effects.verify(unit.center, unit.name, _PROBE)
    _say("mounted")
    return 0


def needs(unit: _systemd.Unit, seen: _center_state.Seen, pending: bool = False) -> bool:
    """Whether a center is to be mounted again.

    Args:
        pending: whether somebody was about to mount it, and did not come to that.
    """
    stopped = unit.active_state == "inactive"
    if unit.active_state not in ("active", "failed") and not (stopped and unit.enabled and pending):
        # Stopped in order, or on its way; systemd starts a service again by itself.
        return False
    return seen.state in (_center_state.NOT_MOUNTED, _center_state.DEAD)


def _say(text: str) -> None:
    """Tell the journal."""
    sys.stdout.write(f"{text}\n")
