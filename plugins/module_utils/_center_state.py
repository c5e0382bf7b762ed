# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is at the mount point of a model center: nothing, the right thing, or one of the ways in which it is wrong.

A client's word, C(ismount), C(stat) or a unit's C(active) prove nothing. The mount table says what is mounted, and
C(_probe) whether it answers.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import time
import typing as t

from . import _center_seen, _mountinfo, _probe, _storage, _systemd
from ._centers import Center
from ._errors import ModelfleetError
from ._storage._backend import Definition

HEALTHY = "healthy"
NOT_MOUNTED = "not mounted"
WRONG_SOURCE = "wrong source"
WRONG_OPTIONS = "wrong options"
STACKED = "stacked"
SHADOWED = "shadowed"
DEAD = "dead"
UNREACHABLE = "unreachable"
HUNG = "hung"
ERROR = "error"
WRONG_CONTENT = "wrong content"

# What a new mount heals.
REPAIRABLE = frozenset((WRONG_SOURCE, WRONG_OPTIONS, STACKED, DEAD))
# What only the storage itself can heal.
UNHEALTHY = frozenset((UNREACHABLE, HUNG, ERROR, WRONG_CONTENT))

_COMES_AND_GOES = "it is mounted and goes away, again and again"


@dataclasses.dataclass(frozen=True)
class Seen:
    """What is at a mount point.

    Attributes:
        state: one of the words above.
        mount: what is seen there, None for nothing.
        depth: how many mounts are there over one another.
        answers: what it answered, None when it was not asked.
        why: what is wrong, for people.
    """

    state: str
    mount: t.Optional[_mountinfo.Mount] = None
    depth: int = 0
    answers: t.Optional[_probe.Answers] = None
    why: str = ""

    @property
    def healthy(self) -> bool:
        return self.state == HEALTHY


def look(center: Center, unit: str, deadline: float, verify: bool = True) -> Seen:
    """Look at the mount point of a center.

    Args:
        unit: the name of the unit that mounts it.
        deadline: seconds for its storage to answer.
        verify: whether what shall be there is looked for.
    """
    end = time.monotonic() + deadline
    while True:
        seen = _look(center, unit, end - time.monotonic(), verify)
        left = _mountinfo.at(center.mount_point)
        if seen.answers is None or left[-1:] == [seen.mount]:
            return seen
        # It went while it was asked, so that what answered may have been what lies below it.
        if left and time.monotonic() > end:
            return dataclasses.replace(seen, state=DEAD, mount=left[-1], depth=len(left), why=_COMES_AND_GOES)


def _look(center: Center, unit: str, deadline: float, verify: bool) -> Seen:
    definition = _storage.definition(center)
    mounts = _mountinfo.read()
    stack = _mountinfo.stack(mounts, center.mount_point)
    if not stack:
        return Seen(NOT_MOUNTED)
    mount = stack[-1]
    seen = Seen(HEALTHY, mount, len(stack))
    wrong = _wrong_in_table(center, definition, mounts, stack)
    if wrong:
        return dataclasses.replace(seen, state=wrong[0], why=wrong[1])
    place = f"{center.name}-{mount.device}"
    what = center.verify_path if verify else ""
    answers = _probe.ask(place, center.mount_point, what, deadline, direct=definition.direct)
    state, why = judge(answers, lambda: daemon_lives(unit, mount))
    directory = definition.shows.directory
    if state == HEALTHY and directory and not _center_seen.same_directory(center, directory, deadline):
        state, why = WRONG_SOURCE, "another directory is seen there"
    return dataclasses.replace(seen, state=state, answers=answers, why=why)


def _wrong_in_table(
    center: Center, definition: Definition, mounts: list[_mountinfo.Mount], stack: list[_mountinfo.Mount]
) -> t.Optional[tuple[str, str]]:
    mount = stack[-1]
    above = _mountinfo.shadow(mounts, mount)
    if above is not None:
        return SHADOWED, _center_seen.hides(above)
    if not _center_seen.recognised(definition.shows, mount):
        lower = any(_center_seen.recognised(definition.shows, other) for other in stack[:-1])
        return STACKED if lower else WRONG_SOURCE, _center_seen.instead(mount)
    # A bind of a directory in which something is mounted has two mounts at one place where propagation put them.
    if len(stack) > 1 and not definition.adopted:
        return STACKED, f"{len(stack)} mounts lie over one another"
    if not _center_seen.access_right(center, definition, mount):
        hint = "; mount it read-only, or say read_only=false" if definition.adopted else ""
        return WRONG_OPTIONS, f"its options are {','.join(sorted(mount.options))}{hint}"
    return None


def judge(answers: _probe.Answers, lives: t.Callable[[], bool]) -> tuple[str, str]:
    """The state that answers speak of, and why.

    Args:
        lives: whether the client of the storage is there.
    """
    error, failed = answers.error, answers.failed
    if not error:
        return HEALTHY, ""
    why = f"{failed}: {os.strerror(error)}"
    if error == errno.ETIMEDOUT:
        return HUNG, f"{failed} was not answered{'; ' if answers.stuck else ''}{answers.stuck}"
    if any(check.error == errno.ESHUTDOWN for check in answers.checks):
        # ceph-fuse says so of all but the root, of which it says that it is not there.
        return DEAD, "its client was thrown out by its servers"
    if error in (errno.ENOTCONN, errno.ECONNABORTED):
        # The client is dead, or it lives and has lost its servers, and heals itself when they come back.
        return (UNREACHABLE, why) if lives() else (DEAD, why)
    if error == errno.ESTALE and failed in (_probe.STAT, _probe.STATVFS):
        # Of a file it means that it was replaced, and all else is there.
        return DEAD, why
    if error in (errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNREFUSED, errno.ECONNRESET):
        return UNREACHABLE, why
    if failed == _probe.VERIFY and error in (errno.ENOENT, errno.ENOTDIR):
        return WRONG_CONTENT, "verify_path is not there"
    if failed == _probe.VERIFY and error == errno.EXDEV:
        return WRONG_CONTENT, "verify_path is a link that leads out of the storage"
    return ERROR, why


def failure(seen: Seen, what: str, **details: t.Any) -> ModelfleetError:
    """The error for a mount that cannot be used."""
    code = {
        UNREACHABLE: "storage_unreachable",
        HUNG: "storage_timeout",
        ERROR: "storage_error",
        WRONG_CONTENT: "storage_wrong",
    }.get(seen.state, "center_mount_failed")
    return ModelfleetError(code, what, state=seen.state, checks=checks(seen), **details)


def at(center: Center) -> Seen:
    """What the mount table has at a mount point, without a question to any storage."""
    stack = _mountinfo.at(center.mount_point)
    return Seen(HEALTHY, stack[-1], len(stack)) if stack else Seen(NOT_MOUNTED)


def checks(seen: Seen) -> list[dict[str, t.Any]]:
    """What was asked of a mount, as modules return it."""
    if seen.answers is None:
        return []
    return [
        {
            "operation": check.operation,
            "errno": errno.errorcode.get(check.error, ""),
            "seconds": round(check.seconds, 3),
        }
        for check in seen.answers.checks
    ]


def daemon_lives(unit: str, mount: _mountinfo.Mount) -> bool:
    """Whether the client of a mount is there: any process of its unit; kernel clients always are."""
    if not mount.fstype.startswith("fuse"):
        return True
    return bool(processes(unit))


def processes(unit: str) -> list[int]:
    """The processes of a unit that have not ended."""
    group = _systemd.control_group(unit)
    if not group:
        return []
    found: set[int] = set()
    # The second is where systemd keeps its groups beside controllers of the first version.
    for root in ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified"):
        with contextlib.suppress(OSError), open(f"{root}{group}/cgroup.procs", encoding="ascii") as file:
            found.update(int(line) for line in file.read().split())
    return sorted(pid for pid in found if pid and runs(pid))


def runs(pid: int) -> bool:
    """Whether a process has not ended; one that nobody has waited for yet has."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False
