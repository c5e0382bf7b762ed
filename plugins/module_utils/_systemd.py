# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""systemd: units asked and told through systemctl.

This module util is private to the collection.
"""

from __future__ import annotations

import subprocess
import typing as t

from . import _process
from ._errors import ModelfleetError

UNIT_DIRECTORY = "/etc/systemd/system"


class Unit(t.NamedTuple):
    """What systemd knows of a unit (systemctl(1), show)."""

    name: str
    load_state: str
    active_state: str
    unit_file_state: str
    fragment_path: str
    needs_reload: bool

    @property
    def active(self) -> bool:
        return self.active_state in ("active", "reloading", "activating")

    @property
    def enabled(self) -> bool:
        return self.unit_file_state == "enabled"

    @property
    def running(self) -> bool:
        """Whether it is active, and will be after a boot."""
        return self.active and self.enabled


def mount_unit_name(path: str) -> str:
    """The name that the mount unit of a path must have (systemd.mount(5))."""
    return _run(["systemd-escape", "--path", "--suffix=mount", path]).stdout.strip()


def show(unit: str) -> Unit:
    """The state of a unit, known to systemd or not."""
    names = ["LoadState", "ActiveState", "UnitFileState", "FragmentPath", "NeedDaemonReload"]
    output = _run(["systemctl", "show", f"--property={','.join(names)}", "--", unit]).stdout
    values = dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
    load, active, file_state, fragment, reload = (values.get(name, "") for name in names)
    return Unit(unit, load, active, file_state, fragment, reload == "yes")


def control_group(unit: str) -> str:
    """The control group of a unit; empty when it has none."""
    return _run(["systemctl", "show", "--property=ControlGroup", "--value", "--", unit]).stdout.strip()


def main_process(unit: str) -> int:
    """The process of a service, 0 when it has none."""
    return int(_run(["systemctl", "show", "--property=MainPID", "--value", "--", unit]).stdout.strip() or 0)


def active_units(*units: str) -> list[str]:
    """Those of the given units that are active."""
    return [unit for unit in units if show(unit).active]


def call(
    verb: str,
    unit: t.Optional[str] = None,
    timeout: float = 120,
    code: str = "systemd_error",
    options: t.Sequence[str] = (),
) -> None:
    """Run a verb of systemctl.

    Args:
        timeout: seconds after which systemctl is given up.
        code: of the error to raise.

    Raises:
        ModelfleetError: with the last lines of the unit's journal.
    """
    # --no-ask-password: nobody is there to answer.
    command = ["systemctl", "--quiet", "--no-ask-password", *options, verb, *(["--", unit] if unit else [])]
    done = _run(command, check=False, timeout=timeout)
    if done.returncode != 0:
        # Silent where a unit failed; then the journal has the reason.
        said = done.stderr.strip().replace("\n", " ")
        raise ModelfleetError(
            code,
            f"systemctl {verb} {unit or ''} failed{': ' if said else ''}{said}",
            unit=unit,
            stderr=done.stderr.strip(),
            journal=journal(unit) if unit else [],
        )


def journal(unit: str, lines: int = 10) -> list[str]:
    """The last lines that a unit wrote."""
    command = ["journalctl", "--no-pager", "--quiet", f"--lines={lines}", "--output=cat", f"--unit={unit}"]
    return _run(command, check=False).stdout.splitlines()


def _run(command: list[str], check: bool = True, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    done = _process.run(command, timeout)
    if check and done.returncode != 0:
        raise ModelfleetError("systemd_error", f"'{' '.join(command)}' failed: {done.stderr.strip()}")
    return done
