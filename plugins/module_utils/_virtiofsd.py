# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""virtiofsd: found as libvirt finds it, and asked for the truth by looking at its mount table.

This module util is private to the collection.
"""

from __future__ import annotations

import functools
import glob
import json
import os
import re
import time
import typing as t

from . import _mountinfo, _process
from ._errors import ModelfleetError

# virtiofsd(1): --readonly since 1.13.0. Older ones, and the C implementation, exit on it.
_READONLY_SINCE = (1, 13)
_DESCRIPTIONS = ("/etc/qemu/vhost-user", "/usr/share/qemu/vhost-user")


def binary() -> str:
    """The virtiofsd that libvirt runs: the first of the vhost-user descriptions of type fs.

    Raises:
        ModelfleetError: C(host_unsupported) when there is none.
    """
    files = {os.path.basename(path): path for root in reversed(_DESCRIPTIONS) for path in glob.glob(f"{root}/*.json")}
    for _name, path in sorted(files.items()):
        try:
            with open(path, encoding="utf-8") as file:
                description = json.load(file)
        except (OSError, ValueError):
            continue
        if isinstance(description, dict) and description.get("type") == "fs" and "binary" in description:
            return str(description["binary"])
    raise ModelfleetError("host_unsupported", "virtiofsd is not installed (no vhost-user description of type fs)")


@functools.lru_cache(maxsize=1)
def can_be_read_only() -> bool:
    """Whether the virtiofsd of this host knows C(--readonly)."""
    done = _process.run([binary(), "--version"], timeout=10)
    found = re.match(r"virtiofsd (\d+)\.(\d+)", done.stdout)
    return found is not None and (int(found.group(1)), int(found.group(2))) >= _READONLY_SINCE


def serving() -> dict[str, frozenset[tuple[str, str]]]:
    """What the running daemons serve read-only, by the source path that they were given.

    A daemon has a mount table of its own in which the served directory is the root. Only what it shows
    there is true: a bind that was made read-only too late is read-write in it.
    """
    found: dict[str, set[tuple[str, str]]] = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        source = _source(pid)
        if source:
            root = _mountinfo.visible(_mountinfo.read(pid), "/")
            shown = found.setdefault(source, set())
            if root is not None and "ro" in root.options:
                shown.add(root.shows)
    return {source: frozenset(shown) for source, shown in found.items()}


def wait_until_read_only(source: str, vm: str, deadline: float) -> None:
    """Wait until the daemon of a source shows it read-only in its own mount table.

    The daemon needs a moment after the attach to set up its sandbox.

    Raises:
        ModelfleetError: C(not_read_only) when it does not, or is dead, at the deadline.
    """
    end = time.monotonic() + deadline
    while True:
        bind = _mountinfo.visible(_mountinfo.read(), source)
        if bind is not None and bind.shows in serving().get(source, frozenset()):
            return
        if time.monotonic() > end:
            raise ModelfleetError(
                "not_read_only",
                f"VM {vm}: the virtiofsd of {source} is not running, or does not show it read-only",
                vm=vm,
                source=source,
            )
        time.sleep(0.02)


def _source(pid: str) -> t.Optional[str]:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = os.fsdecode(file.read()).split("\0")
    except OSError:
        return None
    if os.path.basename(words[0]) != "virtiofsd":
        return None
    for option, value in zip(words, words[1:]):
        if option == "--shared-dir":
            return value
        if option == "-o":
            for part in value.split(","):
                if part.startswith("source="):
                    return part[len("source=") :]
    return None
