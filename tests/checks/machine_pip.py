# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How pip is set up on this machine, carried to places that do not see that setup.

ansible-test clears the environment before it calls pip, and the second control node has a root file system
of its own. Both read the pip.conf of their home directory, so what is in force here is written there.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path


def settings(pip: Path) -> dict[str, dict[str, str]]:
    """Return pip's settings by section, from its files and its environment variables."""
    command = [sys.executable, str(pip), "config", "list"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found: dict[str, dict[str, str]] = {}
    from_environment: dict[str, str] = {}
    for line in listed.splitlines():
        name, _, quoted = line.partition("=")
        section, _, key = name.partition(".")
        target = from_environment if section == ":env:" else found.setdefault(section, {})
        target[key] = ast.literal_eval(quoted)
    # As in pip: the environment comes before any file, whatever the section.
    for values in found.values():
        for key in from_environment:
            values.pop(key, None)
    found.setdefault("global", {}).update(from_environment)
    return found


def write(home: Path, pip: Path, cache: Path) -> None:
    """Write the machine's settings as the pip.conf of a home directory."""
    sections = settings(pip)
    sections["global"].setdefault("cache-dir", str(cache))
    lines: list[str] = []
    for section, values in sections.items():
        lines.append(f"[{section}]")
        lines += [f"{key} = " + "\n    ".join(value.split("\n")) for key, value in values.items()]
    path = home / ".config" / "pip" / "pip.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def local_paths(home: Path) -> list[Path]:
    """Return the files and directories of this machine that a home directory's pip.conf refers to."""
    words = (home / ".config" / "pip" / "pip.conf").read_text(encoding="utf-8").split()
    paths = [Path(word.removeprefix("file://")) for word in words]
    found = [path for path in paths if path.is_absolute() and path.exists()]
    # The pages of a local index link to files beside it.
    return [path.parent if path.name == "simple" else path for path in found]
