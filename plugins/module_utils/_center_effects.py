# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model center mounted, unmounted, and verified: what the modules and the keeper do alike.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import time
import typing as t

from . import _center_files, _center_seen, _center_state, _centers, _mountinfo, _opener, _storage, _systemd, _unmounter
from ._errors import ModelfleetError

# Seconds for a lazy unmount, which has done all there is to do at once.
_LAZY = 3.0


def mount(center: _centers.Center, unit: str, timeout: float, again: bool = False) -> None:
    """Mount a center, over nothing else.

    Args:
        again: whether what is there goes first.

    Raises:
        ModelfleetError: C(center_mount_failed).
    """
    definition = _storage.definition(center)
    if again and not definition.adopted:
        unmount(center, unit, timeout)
    if not definition.adopted:
        # systemd would make it, too; but what is written into it while nothing is mounted would never be seen again.
        make_directory(center.mount_point, 0o755, timeout)
        _center_files.protect(center.mount_point)
    if definition.cache:
        make_directory(definition.cache, 0o700, timeout)
    try:
        _systemd.call("start", unit, timeout, code="center_mount_failed")
    except ModelfleetError as problem:
        if problem.code != "program_timeout":
            raise
        raise ModelfleetError(
            "storage_timeout",
            f"model center '{center.name}' was not mounted in {timeout:.0f} s",
            center=center.name,
            journal=_systemd.journal(unit),
        ) from None


def unmount(center: _centers.Center, unit: str, timeout: float) -> None:
    """Unmount a center, and whatever lies over it; lazily where its storage does not answer.

    Raises:
        ModelfleetError: C(center_mount_failed) when it is in use by a process.
    """
    if _storage.definition(center).adopted:
        _systemd.call("stop", unit, timeout, code="center_mount_failed")
        return
    seen = _center_state.look(center, unit, min(timeout, 5.0), verify=False)
    answers = seen.state not in (_center_state.DEAD, _center_state.HUNG, _center_state.UNREACHABLE)
    if not answers:
        # Before systemd, which would wait for the storage. Whoever still has something of it open keeps what it has.
        _pop(center, timeout, lazy=True)
    _systemd.call("stop", unit, timeout, code="center_mount_failed")
    _pop(center, timeout, lazy=not answers)


def _pop(center: _centers.Center, timeout: float, lazy: bool) -> None:
    left = len(_mountinfo.at(center.mount_point))
    while left:
        error = _unmounter.unmount(center.mount_point, min(timeout, _LAZY) if lazy else timeout, lazy)
        left, before = len(_mountinfo.at(center.mount_point)), left
        # What is gone from the table is gone, whoever still waits for its server.
        if left >= before:
            problem = os.strerror(error or errno.EBUSY)
            raise ModelfleetError("center_mount_failed", f"{center.mount_point} cannot be unmounted: {problem}")


def verify(center: _centers.Center, unit: str, deadline: float) -> None:
    """Refuse a mount that is not what was wanted.

    Raises:
        ModelfleetError: C(center_mount_failed), C(storage_unreachable), C(storage_timeout), C(storage_error),
            C(storage_wrong).
    """
    seen = _center_state.look(center, unit, deadline)
    if seen.healthy and _storage.definition(center).command and not _center_state.processes(unit):
        # Its last word was a good one.
        seen = dataclasses.replace(seen, state=_center_state.DEAD, why="its client has ended")
    if not seen.healthy:
        raise _center_state.failure(
            seen,
            f"model center '{center.name}': what is mounted at {center.mount_point} is not the wanted storage, or does"
            f" not answer: {seen.why or seen.state}",
            mount_point=center.mount_point,
            journal=_systemd.journal(unit),
        )


def wait(center: _centers.Center, process: int, deadline: float) -> bool:
    """Wait until a client has mounted a center; False when it ended before, or did not by the deadline."""
    definition = _storage.definition(center)
    end = time.monotonic() + deadline
    while time.monotonic() < end:
        stack = _mountinfo.at(center.mount_point)
        if stack and _center_seen.recognised(definition.shows, stack[-1]):
            return True
        if process and not _center_state.runs(process):
            return False
        time.sleep(0.1)
    return False


def make_directory(path: str, mode: int, deadline: float) -> None:
    """Have a directory be there, wherever that is.

    Raises:
        ModelfleetError: C(center_mount_failed), C(storage_timeout).
    """
    found = _opener.look(path, ["."], deadline)[0]
    if found.error == errno.ETIMEDOUT:
        raise ModelfleetError("storage_timeout", f"{path} does not answer in {deadline:.0f} s", path=path)
    if found.identity is None:
        file_system(os.makedirs, path, mode, True)


def file_system(call: t.Callable[..., t.Any], *arguments: t.Any) -> None:
    """Call something that touches files, whose failures are failures to mount."""
    try:
        call(*arguments)
    except OSError as problem:
        raise ModelfleetError("center_mount_failed", f"{problem.filename}: {problem.strerror}") from None
