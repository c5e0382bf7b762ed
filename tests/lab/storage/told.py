# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything about a host that somebody who is not root can see, or that is in a log."""

from __future__ import annotations

import shlex
from pathlib import Path

from modelfleet_lab import Host

_PROGRAM = (Path(__file__).parents[1] / "on_host" / "watch.py").read_text(encoding="utf-8")
_WRITTEN = "/run/lab-watched"
_UNIT = "lab-watch"
# Of root's files those that others can read.
_FILES = "find /etc /run/systemd /run/modelfleet /usr/local/lib/modelfleet /var/lib/modelfleet"
_FILES += " -xdev -type f -perm /044 -size -64k -newer /run/lab-since -exec cat {} +"


class Watch:
    """What is told of a host from now on."""

    def __init__(self, host: Host) -> None:
        self._host = host
        host.write("/run/lab-watch.py", _PROGRAM)
        host.run(["rm", "-f", _WRITTEN])
        self._since = host.run(["date", "+@%s"]).stdout.strip()
        host.run(["touch", "-d", self._since, "/run/lab-since"])
        # Not to be seen itself, least of all what it runs as.
        host.run(
            [
                "systemd-run",
                "--quiet",
                f"--unit={_UNIT}",
                "--collect",
                "--nice=5",
                "python3",
                "/run/lab-watch.py",
                _WRITTEN,
            ]
        )

    def now(self) -> dict[str, str]:
        """What can be seen now, by the place where it is."""
        commands = {
            "properties of units": "systemctl show '*' && systemctl show 'modelfleet-*'",
            "files": _FILES,
            "mount table": "cat /proc/self/mountinfo && findmnt",
            "fstab": "cat /etc/fstab",
        }
        return {place: self._output(command) for place, command in commands.items()}

    def ended(self) -> dict[str, str]:
        """What could be seen since it began, by the place where it was. Ends it."""
        self._host.run(["systemctl", "stop", _UNIT])
        journal = self._output(f"journalctl --no-pager --output=export --since={shlex.quote(self._since)}")
        return {"processes": self._output(f"cat {_WRITTEN}"), "journal": journal}

    def _output(self, command: str) -> str:
        return self._host.run(["sh", "-c", command], check=False).stdout


def of(words: tuple[str, ...], seen: dict[str, str]) -> dict[str, list[str]]:
    """Which of the words are told, by the place; nothing when none is."""
    found = {place: [word for word in words if word in text] for place, text in seen.items()}
    return {place: told for place, told in found.items() if told}
