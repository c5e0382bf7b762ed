# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who in a guest uses a mount: processes, found by what /proc shows of them.

Any process of the guest can make this lie, so it only names who is to be looked at. The programs have to be there in
every guest: find, ls and grep, with nothing that busybox lacks.

This module util is private to the collection.
"""

from __future__ import annotations

import re
import typing as t

from . import _guest_agent

SHOWN = 20
_IN_MESSAGES = 5
_NAME_MAX = 32

Process = dict[str, t.Any]

_PIDS_OF_FILES = re.compile(rb"^/proc/([0-9]{1,10})/(?:maps|mountinfo)$", re.MULTILINE)
_NAMES = re.compile(rb"^/proc/([0-9]{1,10})/comm:(.*)$", re.MULTILINE)


def of_path(agent: _guest_agent.Agent, path: str) -> list[Process]:
    """The processes that have something below a path open, mapped, as root or as working directory."""
    links = ["-path", "/proc/[0-9]*/fd/*", "-o", "-name", "cwd", "-o", "-name", "root", "-o", "-name", "exe"]
    # Only the links themselves are read: nothing here asks the mount, which may be dead.
    listing = agent.run(
        ["find", "/proc", "-maxdepth", "3", "-type", "l", "(", *links, ")", "-exec", "ls", "-l", "{}", "+"]
    )
    below = re.compile(rb" /proc/([0-9]{1,10})/(?:fd/[0-9]+|cwd|root|exe) -> " + re.escape(path.encode()) + rb"(?:/|$)")
    pids = {int(found.group(1)) for found in map(below.search, listing.stdout.split(b"\n")) if found}
    return _named(agent, pids | _containing(agent, "maps", [f" {path}/"]))


def of_other_name_spaces(agent: _guest_agent.Agent, texts: t.Sequence[str]) -> list[Process]:
    """The processes in whose mount tables a text stands: after an unmount, those with name spaces of their own."""
    return _named(agent, _containing(agent, "mountinfo", texts))


def shown(processes: t.Sequence[Process]) -> str:
    """The first few processes, for a message."""
    names = [f"{process['pid']} ({process['name']})" for process in processes[:_IN_MESSAGES]]
    return ", ".join(names) + (", ..." if len(processes) > _IN_MESSAGES else "")


def _containing(agent: _guest_agent.Agent, file: str, texts: t.Sequence[str]) -> set[int]:
    search = [
        "find",
        "/proc",
        "-maxdepth",
        "2",
        "-path",
        f"/proc/[0-9]*/{file}",
        "-exec",
        "grep",
        "-lF",
        *(word for text in texts for word in ("-e", text)),
        "{}",
        "+",
    ]
    return {int(pid) for pid in _PIDS_OF_FILES.findall(agent.run(search).stdout)}


def _named(agent: _guest_agent.Agent, pids: t.Iterable[int]) -> list[Process]:
    chosen = sorted(pids)[:SHOWN]
    if not chosen:
        return []
    names: dict[int, str] = {}
    # The name of a process can have newlines in it: the first line counts.
    output = agent.run(["grep", "-H", "", *(f"/proc/{pid}/comm" for pid in chosen)]).stdout
    for pid, name in _NAMES.findall(output):
        names.setdefault(int(pid), _printable(name))
    return [{"pid": pid, "name": names.get(pid, "")} for pid in chosen]


def _printable(name: bytes) -> str:
    return "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in name[:_NAME_MAX])
