# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""virtiofsd: found as libvirt finds it, and asked for the truth by looking at its mount table.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import json
import os
import re
import time
import types
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


class Daemon(t.NamedTuple):
    """The virtiofsd of a source, by its own mount table.

    Attributes:
        shows: what it serves read-only.
        since: when it was started (seconds since the epoch).
        below: what it serves read-only of what was mounted below that, by mount point.
        follows: whether it sees what the host mounts there from now on.
    """

    shows: frozenset[tuple[str, str]]
    since: float
    below: t.Mapping[str, tuple[str, str]] = types.MappingProxyType({})
    follows: bool = False


def serving(pids: t.Optional[t.Iterable[str]] = None) -> dict[str, Daemon]:
    """The running daemons by the source path that they were given.

    A daemon has a mount table of its own in which the served directory is the root. Only what it shows
    there is true: a bind that was made read-only too late is read-write in it.

    Args:
        pids: the processes to look at; all of the host when not given.
    """
    found: dict[str, Daemon] = {}
    tables: set[str] = set()
    for pid in filter(str.isdigit, os.listdir("/proc")) if pids is None else pids:
        source = _source(pid)
        # Its two processes have one mount table, which may be long.
        table = _mount_name_space(pid) if source else ""
        if source and table not in tables:
            tables.add(table)
            other = found.get(source, Daemon(frozenset(), 0.0))
            daemon = _daemon(_mountinfo.read(pid), _started(pid))
            newer = daemon if daemon.since >= other.since else other
            found[source] = newer._replace(shows=other.shows | daemon.shows)
    return found


def _daemon(mounts: list[_mountinfo.Mount], since: float) -> Daemon:
    root = _mountinfo.visible(mounts, "/")
    if root is None:
        return Daemon(frozenset(), since)
    shows = {root.shows} if "ro" in root.options else set()
    # Of several over one another the last is seen.
    seen = {mount.mount_point: mount for mount in mounts if mount != root}
    below = {path: mount.shows for path, mount in seen.items() if "ro" in mount.options}
    return Daemon(frozenset(shows), since, below, "master:" in root.propagation)


def _mount_name_space(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""


class Awaited(t.NamedTuple):
    """A device whose daemon must show something.

    Attributes:
        below: what it must show as well of what is mounted below its source: mount points, on the host and in the
            table of the daemon.
    """

    source: str
    alias: str
    below: t.Sequence[tuple[str, str]] = ()


def wait_until_read_only(devices: t.Iterable[Awaited], vm: str, deadline: float) -> None:
    """Wait until the daemons of devices show their sources read-only in their own mount tables.

    A daemon needs a moment after the attach to set up its sandbox.

    Raises:
        ModelfleetError: C(not_read_only) when one does not, or is dead, at the deadline.
    """
    # The table of a host with many VMs is long, so that it is read once for all.
    mounts = {mount.mount_point: mount for mount in _mountinfo.read()}
    end = time.monotonic() + deadline
    for device in devices:
        while not _shows_all(serving(_pids(device.alias)).get(device.source), mounts, device):
            if time.monotonic() > end:
                raise ModelfleetError(
                    "not_read_only",
                    f"VM {vm}: the virtiofsd of {device.source} is not running, or does not show it read-only",
                    vm=vm,
                    source=device.source,
                )
            time.sleep(0.02)


def _shows_all(daemon: t.Optional[Daemon], mounts: t.Mapping[str, _mountinfo.Mount], device: Awaited) -> bool:
    return (
        daemon is not None
        and shows(mounts.get(device.source), daemon)
        and all(path in mounts and mounts[path].shows == daemon.below.get(seen) for path, seen in device.below)
    )


def shows(bind: t.Optional[_mountinfo.Mount], daemon: t.Optional[Daemon]) -> bool:
    """Whether a daemon serves, read-only, what is bound at its source."""
    return bind is not None and daemon is not None and bind.shows in daemon.shows


def _started(pid: str) -> float:
    """When a process was started (proc(5): stat, the 22nd field), 0 for one that is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            ticks = int(file.read().rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return 0.0
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + ticks / os.sysconf("SC_CLK_TCK")


def processes(source: str) -> list[str]:
    """The processes of all daemons that were given a source, by their numbers."""
    return [pid for pid in os.listdir("/proc") if pid.isdigit() and _source(pid) == source]


def _pids(alias: str) -> t.Optional[list[str]]:
    """The daemon of a device and its children, by libvirt's PID file (seen with 9.0 and 11.3); None for unknown."""
    for path in glob.glob(f"/run/libvirt/qemu/*-{alias}-fs.pid"):
        with contextlib.suppress(OSError, ValueError):
            with open(path, encoding="ascii") as file:
                pid = int(file.read())
            with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                return [str(pid), *file.read().split()]
    return None


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
