# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands in a guest on the way to the paths where models shall be mounted: looked at with one command for all.

This module util is private to the collection.
"""

from __future__ import annotations

import re
import stat
import typing as t

from . import _guest_agent, _guest_links, _input

# What systemd itself looks at to know whether it runs a system (sd_booted(3)).
_SYSTEMD = "/run/systemd/system"
# What every guest has, so that there is always something to be found.
_FILE = "/proc/self/mountinfo"
_LINE = re.compile(r"([0-9a-f]{1,8}) (.+)")


class Places(t.NamedTuple):
    """What was seen.

    Attributes:
        systemd: whether systemd runs the guest.
        directories: the paths asked for that are directories already.
        in_the_way: by mount path what is in its way, a path and what that is; nothing where all are directories, or
            are missing and can be made. A link of ours is in nobody's way.
        links: those paths at which links of ours stand.
        filled: those of `ends` at which directories stand that are not empty.
    """

    systemd: bool
    directories: frozenset[str]
    in_the_way: dict[str, tuple[str, str]]
    links: frozenset[str] = frozenset()
    filled: frozenset[str] = frozenset()


def look(
    agent: _guest_agent.Agent, paths: t.Sequence[str], empty: t.Sequence[str] = (), ends: t.Sequence[str] = ()
) -> Places:
    """Look at the places of mount paths, following no link.

    Args:
        empty: paths below which nothing but directories may be: what is mounted there would hide all else.
        ends: paths at which links are to be made.

    Raises:
        ModelfleetError: C(agent_restricted), C(agent_unavailable), C(agent_command_failed).
    """
    asked = sorted({_SYSTEMD, *(part for path in paths for part in _input.parts(path))})
    # It fails for what is missing, and tells of all others. The mode is in no language, a file's type in words is.
    command = ["stat", "-c", "%f %n", *asked]
    if empty:
        # Which costs a guest less than another command; a model lies no deeper than that.
        below = ["-xdev", "-maxdepth", "3", "!", "-type", "d"]
        command = ["find", _FILE, *empty, *below, "-exec", *command, "{}", "+"]
    done = agent.run(command)
    modes = dict(filter(None, map(_mode, done.stdout.decode("utf-8", "replace").split("\n"))))
    linked = [path for path in paths if stat.S_ISLNK(modes.get(path, 0))]
    links = _guest_links.look(agent, linked) if linked else {}
    in_the_way = {}
    for path in paths:
        parts = [part for part in _input.parts(path) if part != path or not links.get(path)]
        found = [(part, modes[part]) for part in parts if part in modes and not stat.S_ISDIR(modes[part])]
        if found:
            part, mode = found[0]
            in_the_way[path] = (part, "a symbolic link" if stat.S_ISLNK(mode) else "not a directory")
    for path in empty:
        files = (other for other, mode in modes.items() if other.startswith(f"{path}/") and not stat.S_ISDIR(mode))
        if path not in in_the_way and any(files):
            in_the_way[path] = (path, "not empty")
    directories = frozenset(path for path in paths if stat.S_ISDIR(modes.get(path, 0)))
    return Places(
        stat.S_ISDIR(modes.get(_SYSTEMD, 0)),
        directories,
        in_the_way,
        frozenset(path for path in linked if links[path]),
        _filled(agent, sorted(directories.intersection(ends))),
    )


def _filled(agent: _guest_agent.Agent, directories: t.Sequence[str]) -> frozenset[str]:
    if not directories:
        return frozenset()
    done = agent.run(["find", *directories, "-mindepth", "1", "-maxdepth", "1"])
    held = done.stdout.decode("utf-8", "replace").split("\n")
    return frozenset(path for path in directories if any(line.startswith(f"{path}/") for line in held))


def _mode(line: str) -> t.Optional[tuple[str, int]]:
    found = _LINE.match(line)
    return (found.group(2), int(found.group(1), 16)) if found else None
