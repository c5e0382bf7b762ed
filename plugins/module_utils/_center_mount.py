# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model center on its host: what is, what is due, and doing it.

The client's word, C(ismount) or a unit's C(active) prove nothing; what is mounted is compared with what was wanted.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import typing as t

from . import _centers, _mountinfo, _opener, _storage, _systemd
from ._errors import ModelfleetError

MOUNTED = "mounted"
UNMOUNTED = "unmounted"
ABSENT = "absent"

# Steps, in the words that results show.
MAKE_MOUNT_POINT = "make_mount_point"
WRITE_UNIT = "write_unit"
RELOAD = "reload_systemd"
ENABLE = "enable_unit"
MOUNT = "mount"
REMOUNT = "remount"
UNMOUNT = "unmount"
DISABLE = "disable_unit"
REMOVE_UNIT = "remove_unit"
REMOVE_MOUNT_POINT = "remove_mount_point"


@dataclasses.dataclass(frozen=True)
class View:
    """What is of a model center on a host.

    Attributes:
        ours: its unit on disk, None for none.
        unit: what systemd knows of the unit of that name.
        mount: what is seen at the mount point.
        right: whether that is the wanted storage with the wanted options.
        directory: whether the mount point exists.
    """

    ours: t.Optional[_centers.Unit]
    unit: _systemd.Unit
    mount: t.Optional[_mountinfo.Mount]
    right: bool
    directory: bool


class Step(t.NamedTuple):
    """One effect on a unit."""

    action: str
    unit: str
    center: _centers.Center


def find(name: str, units: t.Iterable[_centers.Unit], other_than: str = "") -> t.Optional[_centers.Unit]:
    """The unit of the center of a name, at another mount point than one."""
    return next((unit for unit in units if unit.center.name == name and unit.center.mount_point != other_than), None)


def observe(center: _centers.Center, wanted: bool, units: t.Sequence[_centers.Unit], deadline: float) -> View:
    """Look at a center where its mount point is.

    Args:
        wanted: whether it shall be mounted, so that its storage must be looked at.
        deadline: seconds for the storage to answer.

    Raises:
        ModelfleetError: C(center_conflict), C(storage_missing), C(storage_timeout).
    """
    unit = _systemd.show(_systemd.mount_unit_name(center.mount_point))
    ours = next((found for found in units if found.center.mount_point == center.mount_point), None)
    if not wanted and ours is not None and ours.center.name != center.name:
        ours = None
    mount = _mountinfo.visible(_mountinfo.read(), center.mount_point)
    if wanted:
        _refuse_conflict(center, ours, unit, mount, units)
    right = wanted and _is_right(center, mount, deadline)
    return View(ours, unit, mount, right, mount is not None or os.path.isdir(center.mount_point))


def _refuse_conflict(
    center: _centers.Center,
    ours: t.Optional[_centers.Unit],
    unit: _systemd.Unit,
    mount: t.Optional[_mountinfo.Mount],
    units: t.Sequence[_centers.Unit],
) -> None:
    taken = None
    if ours is not None and ours.center.name != center.name:
        taken = f"model center '{ours.center.name}' is mounted there"
    elif ours is None and unit.fragment_path:
        taken = f"{unit.fragment_path} mounts something there"
    elif ours is None and mount is not None:
        taken = f"{mount.fstype} from {mount.source} is mounted there"
    if taken:
        raise ModelfleetError(
            "center_conflict",
            f"model center '{center.name}' cannot use {center.mount_point}: {taken}",
            mount_point=center.mount_point,
        )
    other = next((found.center for found in units if found.center.uuid == center.uuid), None)
    if other is not None and other.name != center.name:
        raise ModelfleetError("center_conflict", f"model center '{other.name}' already has the UUID {center.uuid}")


def _is_right(center: _centers.Center, mount: t.Optional[_mountinfo.Mount], deadline: float) -> bool:
    wanted = _storage.definition(center.storage_url, center.read_only)
    if wanted.directory is not None:
        source = _opener.look(wanted.directory, ["."], deadline)[0]
        if source.identity is None:
            raise _source_error(center, wanted.directory, source.error)
        if mount is None or source.identity != _opener.look(center.mount_point, ["."], deadline)[0].identity:
            return False
    if mount is None:
        return False
    access = "ro" if center.read_only else "rw"
    return {access, "nosuid", "nodev"} <= mount.options


def _source_error(center: _centers.Center, directory: str, error: int) -> ModelfleetError:
    code = {errno.ETIMEDOUT: "storage_timeout", errno.ENOENT: "storage_missing", errno.ENOTDIR: "storage_missing"}
    return ModelfleetError(
        code.get(error, "storage_error"),
        f"model center '{center.name}': {directory}: {os.strerror(error)}",
        center=center.name,
        path=directory,
    )


def plan(state: str, center: _centers.Center, view: View, previous: t.Optional[View]) -> list[Step]:
    """The steps to a state, the fewest there are.

    Args:
        previous: the same center where it was before, when its mount point moves.
    """
    here = {MOUNTED: _mounted, UNMOUNTED: _unmounted, ABSENT: _absent}[state]
    steps = [Step(action, view.unit.name, center) for action in here(view, center)]
    if previous is not None and previous.ours is not None:
        # The old place goes last: when the new one cannot be mounted, the old one is still there.
        leave = _unmounted if state == UNMOUNTED else _absent
        steps += [Step(action, previous.unit.name, previous.ours.center) for action in leave(previous, center)]
    return steps


def _mounted(view: View, center: _centers.Center) -> list[str]:
    actions = [] if view.directory else [MAKE_MOUNT_POINT]
    rewrite = view.ours is None or view.ours.text != _centers.render(center)
    if rewrite:
        actions.append(WRITE_UNIT)
    if rewrite or view.unit.needs_reload:
        actions.append(RELOAD)
    if not view.unit.enabled:
        actions.append(ENABLE)
    if view.mount is None:
        actions.append(MOUNT)
    elif not view.right or not view.unit.active:
        actions.append(REMOUNT)
    return actions


def _unmounted(view: View, _center: _centers.Center) -> list[str]:
    if view.ours is None:
        return []
    actions = []
    if view.mount is not None or view.unit.active:
        actions.append(UNMOUNT)
    if view.unit.enabled:
        actions.append(DISABLE)
    return actions


def _absent(view: View, center: _centers.Center) -> list[str]:
    if view.ours is None:
        return []
    return [*_unmounted(view, center), REMOVE_UNIT, RELOAD, *([REMOVE_MOUNT_POINT] if view.directory else [])]


def apply(steps: list[Step], view: View, timeout: float) -> None:
    """Carry out a plan; when mounting fails, the unit is put back as it was.

    Raises:
        ModelfleetError: C(center_mount_failed) and what the storage or systemd said.
    """
    rewritten = any(step.action == WRITE_UNIT for step in steps)
    for step in steps:
        try:
            _do(step, timeout)
            if step.action in (MOUNT, REMOUNT):
                _verify(step.center, timeout)
        except ModelfleetError:
            if rewritten and step.unit == view.unit.name:
                _put_back(view, step.center, timeout)
            raise


def _do(step: Step, timeout: float) -> None:
    path = os.path.join(_systemd.UNIT_DIRECTORY, step.unit)
    if step.action == MAKE_MOUNT_POINT:
        _file_system(os.makedirs, step.center.mount_point, 0o755, True)
    elif step.action == WRITE_UNIT:
        _file_system(_write, path, _centers.render(step.center))
    elif step.action == REMOVE_UNIT:
        _file_system(os.unlink, path)
    elif step.action == REMOVE_MOUNT_POINT:
        # Not ours to empty: what was put there before the center was mounted stays.
        with contextlib.suppress(OSError):
            os.rmdir(step.center.mount_point)
    elif step.action == RELOAD:
        _systemd.call("daemon-reload", timeout=timeout)
    else:
        verb = {ENABLE: "enable", DISABLE: "disable", MOUNT: "start", REMOUNT: "restart", UNMOUNT: "stop"}[step.action]
        _systemd.call(verb, step.unit, timeout, code="center_mount_failed")


def _verify(center: _centers.Center, deadline: float) -> None:
    mount = _mountinfo.visible(_mountinfo.read(), center.mount_point)
    if not _is_right(center, mount, deadline):
        raise ModelfleetError(
            "center_mount_failed",
            f"model center '{center.name}': what is mounted at {center.mount_point} is not the wanted storage",
            mount_point=center.mount_point,
        )


def _put_back(view: View, center: _centers.Center, timeout: float) -> None:
    """Back to how it was, as far as it goes: the failure that led here is the one to report."""
    name = view.unit.name
    path = os.path.join(_systemd.UNIT_DIRECTORY, name)
    attempts: list[t.Callable[[], None]] = []
    if view.mount is None:
        attempts.append(lambda: _systemd.call("stop", name, timeout))
    if view.ours is None:
        attempts += [lambda: _systemd.call("disable", name, timeout), lambda: os.unlink(path)]
    else:
        text = view.ours.text
        attempts.append(lambda: _write(path, text))
    attempts.append(lambda: _systemd.call("daemon-reload", timeout=timeout))
    if view.mount is not None:
        attempts.append(lambda: _systemd.call("restart", name, timeout))
    if not view.directory:
        attempts.append(lambda: os.rmdir(center.mount_point))
    for attempt in attempts:
        with contextlib.suppress(ModelfleetError, OSError):
            attempt()


def _write(path: str, text: str) -> None:
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(temporary, 0o644)
    os.rename(temporary, path)


def _file_system(call: t.Callable[..., t.Any], *arguments: t.Any) -> None:
    try:
        call(*arguments)
    except OSError as problem:
        raise ModelfleetError("center_mount_failed", f"{problem.filename}: {problem.strerror}") from None
