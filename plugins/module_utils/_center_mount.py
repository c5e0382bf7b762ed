# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model center on its host: what is, what is due, and doing it.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import typing as t

from . import _center_files, _center_state, _center_unit, _centers, _keeper_file, _opener, _storage, _systemd
from ._errors import ModelfleetError

MOUNTED = "mounted"
UNMOUNTED = "unmounted"
ABSENT = "absent"

FAIL, WARN, REMOUNT_IT = "fail", "warn", "remount"

# Steps, in the words that results show.
MAKE_MOUNT_POINT = "make_mount_point"
WRITE_SECRETS = "write_credentials"
WRITE_KEEPER = "write_keeper"
WRITE_UNIT = "write_unit"
RELOAD = "reload_systemd"
ENABLE = "enable_unit"
MOUNT = "mount"
REMOUNT = "remount"
WATCH = "start_keeper"
UNWATCH = "stop_keeper"
UNMOUNT = "unmount"
DISABLE = "disable_unit"
REMOVE_UNIT = "remove_unit"
REMOVE_SECRETS = "remove_credentials"
REMOVE_KEEPER = "remove_keeper"
REMOVE_MOUNT_POINT = "remove_mount_point"

# What VMs that use the center would feel.
DISTURBING = frozenset((REMOUNT, UNMOUNT))

_PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclasses.dataclass(frozen=True)
class View:
    """What is of a model center on a host.

    Attributes:
        ours: its unit on disk, None for none.
        unit: what systemd knows of the unit of that name.
        seen: what is at the mount point.
        directory: whether the mount point exists.
        keeper: whether the program and the units that look after centers are there as they should be.
        watched: whether the timer of this center runs.
        secrets: whether the files for its client are as they should be.
        pending: whether an earlier run wrote a unit and did not come to mounting.
        others: whether other centers need the keeper.
        has_secrets: whether there are files for its client.
    """

    ours: t.Optional[_centers.Unit]
    unit: _systemd.Unit
    seen: _center_state.Seen
    directory: bool
    keeper: bool = True
    watched: bool = True
    secrets: bool = True
    pending: bool = False
    others: bool = True
    has_secrets: bool = False

    @property
    def mounted(self) -> bool:
        """Whether anything is seen at the mount point."""
        return self.seen.mount is not None


class Step(t.NamedTuple):
    """One effect on a unit."""

    action: str
    unit: str
    center: _centers.Center


def find(name: str, units: t.Iterable[_centers.Unit], other_than: str = "") -> t.Optional[_centers.Unit]:
    """The unit of the center of a name, other than the one with a file name."""
    return next((unit for unit in units if unit.center.name == name and unit.name != other_than), None)


def observe(
    center: _centers.Center,
    wanted: bool,
    units: t.Sequence[_centers.Unit],
    deadline: float,
    secrets: t.Optional[t.Mapping[str, str]] = None,
    take_over: bool = False,
) -> View:
    """Look at a center where its mount point is.

    Args:
        wanted: whether it shall be mounted, so that its storage must be looked at.
        deadline: seconds for the storage to answer.
        secrets: the files that its client shall have, None to leave them as they are.
        take_over: whether it may take the place of somebody else's mount or unit.

    Raises:
        ModelfleetError: C(center_conflict), C(client_missing), C(cache_on_root), C(storage_missing),
            C(storage_timeout), C(storage_error).
    """
    unit = _systemd.show(_unit_name(center, wanted, units))
    ours = next((found for found in units if found.name == unit.name), None)
    if not wanted and ours is not None and ours.center.name != center.name:
        ours = None
    if not center.storage_url:
        # Nobody knows it, so nothing of it is to be found.
        return View(None, unit, _center_state.Seen(_center_state.NOT_MOUNTED), False)
    if wanted:
        _refuse_twins(center, ours, units)
        _require(center)
        seen = _look(center, unit.name, deadline)
        if not take_over:
            _refuse_conflict(center, ours, unit, seen)
    else:
        seen = _center_state.at(center)
    return View(
        ours,
        unit,
        seen,
        seen.mount is not None or os.path.isdir(center.mount_point),
        keeper=_keeper_file.installed(),
        watched=_systemd.show(_center_unit.timer(center)).running,
        secrets=secrets is None or _center_files.same(center.name, secrets),
        pending=_center_files.is_pending(center.name),
        others=any(other.center.keep_alive for other in units if other.center.name != center.name),
        has_secrets=_center_files.any_secrets(center.name),
    )


def _unit_name(center: _centers.Center, wanted: bool, units: t.Sequence[_centers.Unit]) -> str:
    if wanted:
        return _center_unit.name(center)
    known = find(center.name, [unit for unit in units if unit.center == center])
    return known.name if known else _systemd.mount_unit_name(center.mount_point)


def _refuse_twins(center: _centers.Center, ours: t.Optional[_centers.Unit], units: t.Sequence[_centers.Unit]) -> None:
    taken = [
        unit.center for unit in (*([ours] if ours else []), *units) if unit.center.mount_point == center.mount_point
    ]
    other = next((found for found in taken if found.name != center.name), None)
    if other is not None:
        raise _conflict(center, f"model center '{other.name}' is mounted there")
    twin = next((unit.center for unit in units if unit.center.uuid == center.uuid), None)
    if twin is not None and twin.name != center.name:
        raise ModelfleetError("center_conflict", f"model center '{twin.name}' already has the UUID {center.uuid}")


def _refuse_conflict(
    center: _centers.Center, ours: t.Optional[_centers.Unit], unit: _systemd.Unit, seen: _center_state.Seen
) -> None:
    if ours is not None or _storage.definition(center).adopted:
        return
    known = _centers.units()
    if any(found.center.name == center.name and found.center.mount_point == center.mount_point for found in known):
        # It is ours, mounted by a unit of another kind.
        return
    mount_unit = _systemd.mount_unit_name(center.mount_point)
    defined = unit.fragment_path or _systemd.show(mount_unit).fragment_path
    if defined:
        raise _conflict(center, f"{defined} mounts something there")
    if seen.mount is not None:
        raise _conflict(center, f"{seen.mount.fstype} from {seen.mount.source} is mounted there")


def _conflict(center: _centers.Center, taken: str) -> ModelfleetError:
    return ModelfleetError(
        "center_conflict",
        f"model center '{center.name}' cannot use {center.mount_point}: {taken}",
        mount_point=center.mount_point,
    )


def _require(center: _centers.Center) -> None:
    for need in _storage.definition(center).needs:
        if shutil.which(need.program, path=_PROGRAMS) is None:
            raise ModelfleetError(
                "client_missing",
                f"model center '{center.name}' needs the program {need.program} on this host (package {need.debian} on"
                f" Debian and Ubuntu, {need.red_hat} on RHEL and its relatives)",
                program=need.program,
                debian=need.debian,
                red_hat=need.red_hat,
            )
    if center.cache_dir and _center_files.on_root(center.cache_dir):
        raise ModelfleetError(
            "cache_on_root",
            f"model center '{center.name}': {center.cache_dir} is on the root file system, which the cache would fill",
            cache_dir=center.cache_dir,
        )


def _look(center: _centers.Center, unit: str, deadline: float) -> _center_state.Seen:
    directory = _storage.definition(center).shows.directory
    if directory:
        source = _opener.look(directory, ["."], deadline)[0]
        if source.identity is None:
            raise _source_error(center, directory, source.error)
    return _center_state.look(center, unit, deadline)


def _source_error(center: _centers.Center, directory: str, error: int) -> ModelfleetError:
    code = {errno.ETIMEDOUT: "storage_timeout", errno.ENOENT: "storage_missing", errno.ENOTDIR: "storage_missing"}
    return ModelfleetError(
        code.get(error, "storage_error"),
        f"model center '{center.name}': {directory}: {os.strerror(error)}",
        center=center.name,
        path=directory,
    )


def refuse_unhealthy(center: _centers.Center, view: View, on_unhealthy: str) -> str:
    """Refuse what mounting again would not heal.

    Returns:
        A warning, empty when all is well.

    Raises:
        ModelfleetError: C(center_shadowed), C(center_conflict), C(center_not_mounted), C(storage_unreachable),
            C(storage_timeout), C(storage_error), C(storage_wrong).
    """
    seen = view.seen
    what = f"model center '{center.name}' at {center.mount_point}: {seen.why}"
    details = {"state": seen.state, "checks": _center_state.checks(seen)}
    if seen.state == _center_state.SHADOWED:
        raise ModelfleetError("center_shadowed", what, **details)
    if _storage.definition(center).adopted:
        if seen.state == _center_state.NOT_MOUNTED:
            raise ModelfleetError("center_not_mounted", f"nothing is mounted at {center.mount_point}", **details)
        if seen.state in _center_state.REPAIRABLE:
            raise ModelfleetError("center_conflict", what, **details)
    if (
        seen.state not in _center_state.UNHEALTHY
        or on_unhealthy == REMOUNT_IT
        or view.ours is None
        # What is wrong may be the secret, which the storage does not take any more.
        or not view.secrets
        or view.pending
        or _new_way(center, view)
    ):
        return ""
    failure = _center_state.failure(seen, what)
    if on_unhealthy == WARN:
        return f"{what} ({failure.code})"
    raise failure


def plan(
    state: str, center: _centers.Center, view: View, previous: t.Optional[View], on_unhealthy: str = FAIL
) -> list[Step]:
    """The steps to a state, the fewest there are.

    Args:
        previous: the same center as another unit mounts it, when its mount point or the kind of its unit changes.
    """
    here: list[str]
    if state == MOUNTED:
        here = _mounted(view, center, on_unhealthy)
    else:
        here = _unmounted(view) if state == UNMOUNTED else _absent(view)
    steps = [Step(action, view.unit.name, center) for action in here]
    if previous is None or previous.ours is None:
        return steps
    old = previous.ours.center
    leave = _unmounted(previous) if state == UNMOUNTED else _absent(previous)
    # What belongs to the center and not to one of its places stays.
    shared = (UNWATCH, REMOVE_SECRETS, REMOVE_KEEPER) if state == MOUNTED else ()
    same_place = old.mount_point == center.mount_point
    leave = [action for action in leave if action not in shared and not (same_place and action == REMOVE_MOUNT_POINT)]
    away = [Step(action, previous.unit.name, old) for action in leave]
    if state == MOUNTED and same_place:
        # Two cannot be at one place; what is seen there now belongs to the other unit, and goes with it.
        rest = [step for step in steps if step.action != REMOUNT]
        if any(step.action == REMOUNT for step in steps):
            rest.insert(_position(rest), Step(MOUNT, view.unit.name, center))
        return [*away, *rest]
    # The old place goes last: when the new one cannot be mounted, the old one is still there.
    return [*steps, *away]


def _position(steps: list[Step]) -> int:
    return next((index for index, step in enumerate(steps) if step.action == WATCH), len(steps))


def _new_way(center: _centers.Center, view: View) -> bool:
    """Whether the unit mounts it in another way than is wanted, so that it must be mounted again."""
    return view.ours is None or _center_unit.how(view.ours.text) != _center_unit.how(_center_unit.render(center))


def _mounted(view: View, center: _centers.Center, on_unhealthy: str) -> list[str]:
    adopted = _storage.definition(center).adopted
    actions = [] if view.directory or adopted else [MAKE_MOUNT_POINT]
    if not view.secrets:
        actions.append(WRITE_SECRETS)
    if center.keep_alive and not view.keeper:
        actions.append(WRITE_KEEPER)
    rewrite = view.ours is None or view.ours.text != _center_unit.render(center)
    if rewrite:
        actions.append(WRITE_UNIT)
    if rewrite or view.unit.needs_reload or WRITE_KEEPER in actions:
        actions.append(RELOAD)
    if not view.unit.enabled:
        actions.append(ENABLE)
    actions += _mounting(view, center, on_unhealthy, adopted)
    if center.keep_alive and not adopted and not view.watched:
        actions.append(WATCH)
    if view.watched and (adopted or not center.keep_alive):
        actions.append(UNWATCH)
    return actions


def _mounting(view: View, center: _centers.Center, on_unhealthy: str, adopted: bool) -> list[str]:
    service = bool(_storage.definition(center).command)
    if adopted:
        return [] if view.unit.active else [MOUNT]
    if not view.mounted:
        return [REMOUNT] if service and view.unit.active else [MOUNT]
    unhealthy = view.seen.state in _center_state.UNHEALTHY
    again = (
        view.seen.state in _center_state.REPAIRABLE
        or not view.unit.active
        or not view.secrets
        or view.pending
        or _new_way(center, view)
        or (unhealthy and on_unhealthy == REMOUNT_IT)
    )
    return [REMOUNT] if again else []


def _unmounted(view: View) -> list[str]:
    if view.ours is None:
        return []
    actions = [UNWATCH] if view.watched else []
    if view.mounted or view.unit.active:
        actions.append(UNMOUNT)
    if view.unit.enabled:
        actions.append(DISABLE)
    return actions


def _absent(view: View) -> list[str]:
    if view.ours is None:
        return []
    actions = [*_unmounted(view), REMOVE_UNIT]
    if view.has_secrets:
        actions.append(REMOVE_SECRETS)
    if not view.others and view.ours.center.keep_alive:
        actions.append(REMOVE_KEEPER)
    adopted = _storage.definition(view.ours.center).adopted
    return [*actions, RELOAD, *([REMOVE_MOUNT_POINT] if view.directory and not adopted else [])]
