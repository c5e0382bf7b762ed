# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Symbolic links in a guest, by which models of a view are seen at mount paths elsewhere than below it.

A link of ours leads to where the view shows the model of just this path, which nobody else would have it do. What is
not ours is left alone. The programs have to be there in every guest: ls, ln, rm, mkdir and rmdir, with nothing that
busybox lacks.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import posixpath
import re
import typing as t

from . import _guest_agent, _identity
from ._errors import ModelfleetError

# What `ls -ldn` says before the name, in no language: type and mode, links, owner, group, size or device numbers, date.
_LINE = re.compile(r"([a-z-])\S* +[0-9]+ +[0-9]+ +[0-9]+ +(?:[0-9]+, +)?[0-9]+ +\S+ +\S+ +\S+ (.+)")
_DIRECTORY = "d"
_LINK = "l"
# A link that is ours, and nothing that ls knows.
_OURS = "ours"


def look(agent: _guest_agent.Agent, paths: t.Sequence[str]) -> dict[str, bool]:
    """Whether links of ours stand at mount paths.

    Raises:
        ModelfleetError: C(agent_restricted), C(agent_unavailable), C(agent_command_failed).
    """
    found = _kinds(agent, paths)
    return {path: found.get(path) == _OURS for path in paths}


def make(agent: _guest_agent.Agent, paths: t.Sequence[str]) -> list[str]:
    """Make the links of mount paths, in the place of empty directories; all of them or none.

    Returns:
        The paths at which empty directories were.

    Raises:
        ModelfleetError: C(mount_path_unusable) where something else is, C(guest_mount_failed), C(agent_unavailable),
            C(agent_restricted).
    """
    found = _kinds(agent, paths)
    missing = [path for path in paths if found.get(path) != _OURS]
    directories = [path for path in missing if found.get(path) == _DIRECTORY]
    try:
        if directories:
            agent.require(["rmdir", "--", *directories], "mount_path_unusable", "there must be room for a link")
        by_parent: dict[str, list[str]] = {}
        for path in missing:
            by_parent.setdefault(posixpath.dirname(path), []).append(path)
        if by_parent:
            parents = sorted(by_parent)
            agent.require(["mkdir", "-p", "--", *parents], "guest_mount_failed", f"{', '.join(parents)} cannot be made")
        for parent, several in sorted(by_parent.items()):
            # Into a directory, under the same names: what stands there already is an error, and is not gone into.
            command = ["ln", "-s", "--", *map(_identity.seen_at, several), posixpath.join(parent, "")]
            agent.require(command, "mount_path_unusable", f"no link can be made at {', '.join(several)}")
    except ModelfleetError:
        with contextlib.suppress(ModelfleetError):
            remove(agent, missing, directories)
        raise
    return directories


def remove(agent: _guest_agent.Agent, paths: t.Sequence[str], directories: t.Sequence[str] = ()) -> list[str]:
    """Remove the links of mount paths, as far as they are ours; all of them or none.

    Args:
        directories: the paths at which empty directories were before, which are made again.

    Returns:
        The paths at which links of ours were.

    Raises:
        ModelfleetError: C(guest_unmount_failed), C(agent_unavailable), C(agent_restricted).
    """
    found = look(agent, paths)
    ours = [path for path in paths if found[path]]
    try:
        if ours:
            agent.require(["rm", "-f", "--", *ours], "guest_unmount_failed", f"{', '.join(ours)} cannot be removed")
        if directories:
            shown = ", ".join(directories)
            agent.require(["mkdir", "-p", "--", *directories], "guest_unmount_failed", f"{shown} cannot be made again")
    except ModelfleetError:
        with contextlib.suppress(ModelfleetError):
            make(agent, ours)
        raise
    return ours


def _kinds(agent: _guest_agent.Agent, paths: t.Sequence[str]) -> dict[str, str]:
    """What stands at paths: links of ours, and all that is no link, by the letter that ls has for it."""
    # It fails for what is missing, and tells of all others.
    done = agent.run(["ls", "-ldn", "--", *paths])
    # A path may have an arrow in it, so that only the whole text tells whose link it is.
    links = {f"{path} -> {_identity.seen_at(path)}": path for path in paths}
    kinds = {}
    for line in done.stdout.decode("utf-8", "replace").split("\n"):
        found = _LINE.fullmatch(line)
        letter, name = found.groups() if found else ("", "")
        if letter == _LINK and name in links:
            kinds[links[name]] = _OURS
        elif letter not in ("", _LINK):
            kinds[name] = letter
    return kinds
