# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model center on its host: the steps that are due, from what is seen of it. Pure.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import _center_rivals, _center_state, _center_unit, _centers, _storage, _systemd
from ._errors import ModelfleetError

MOUNTED = "mounted"
UNMOUNTED = "unmounted"
ABSENT = "absent"

FAIL, WARN, REMOUNT_IT = "fail", "warn", "remount"

# Steps, in the words that results show.
MAKE_MOUNT_POINT = "make_mount_point"
WRITE_SECRETS = "write_credentials"
PROTECT_SECRETS = "protect_credentials"
WRITE_KEEPER = "write_keeper"
TAKE_OVER = "take_over"
GIVE_BACK = "give_back"
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
MOUNTING = frozenset((MOUNT, REMOUNT))
_READ_BY_SYSTEMD = frozenset((WRITE_KEEPER, TAKE_OVER, GIVE_BACK, WRITE_UNIT))


@dataclasses.dataclass(frozen=True)
class View:
    """What is of a model center on a host.

    Attributes:
        ours: its unit on disk, None for none.
        unit: what systemd knows of the unit of that name.
        seen: what is at the mount point.
        directory: whether the mount point exists.
        keeper: whether the program and the units that look after centers are there as they should be.
        has_keeper: whether any of these are there.
        watched: whether the timer of this center runs.
        secrets: whether the files for its client say what they should.
        private: whether these are for root alone.
        pending: whether an earlier run wrote a unit and did not come to mounting.
        others: whether other centers need the keeper.
        has_secrets: whether there are files for its client.
        timer_left: whether the timer of this center runs now, or will after a boot, but not both.
        rivals: units of somebody else's for the mount point.
        drop_ins: what has them yield to a center, by path, as it is.
        yields: the same as it shall be.
    """

    ours: t.Optional[_centers.Unit]
    unit: _systemd.Unit
    seen: _center_state.Seen
    directory: bool
    keeper: bool = True
    has_keeper: bool = True
    watched: bool = True
    secrets: bool = True
    private: bool = True
    pending: bool = False
    others: bool = True
    has_secrets: bool = False
    timer_left: bool = False
    rivals: tuple[_center_rivals.Rival, ...] = ()
    drop_ins: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    yields: t.Mapping[str, str] = dataclasses.field(default_factory=dict)

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


def left(center: _centers.Center, view: View) -> t.Optional[_centers.Unit]:
    """The unit of a center that must leave where it is, although a center of this kind has a unit of that name."""
    ours = view.ours
    if ours is None or ours.center.name != center.name:
        return None
    adopts = _storage.definition(center).adopted and not _storage.definition(ours.center).adopted
    return ours if adopts or ours.center.mount_point != center.mount_point else None


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
    same_place = old.mount_point == center.mount_point
    theirs = _storage.definition(old).adopted
    if previous.unit.name == view.unit.name:
        return _moved(steps, center, view, previous, old)
    leave = _unmounted(previous) if state == UNMOUNTED else _absent(previous)
    # What belongs to the center and not to one of its places stays.
    shared = (UNWATCH, REMOVE_SECRETS, REMOVE_KEEPER) if state == MOUNTED else ()
    of_the_place = (REMOVE_MOUNT_POINT, GIVE_BACK) if same_place else ()
    leave = [action for action in leave if action not in shared and action not in of_the_place]
    away = [Step(action, previous.unit.name, old) for action in leave]
    if state == MOUNTED and same_place:
        # Two cannot be at one place; what is seen there now belongs to the other unit, and goes with it, but for what
        # somebody else has mounted.
        return [*away, *(steps if theirs else _first_mount(steps))]
    # The old place goes last: when the new one cannot be mounted, the old one is still there.
    return [*steps, *away]


def _moved(steps: list[Step], center: _centers.Center, view: View, previous: View, old: _centers.Center) -> list[Step]:
    """One unit goes from place to place: it cannot be at both, so that the old one goes first."""
    unit = view.unit.name
    goes = previous.mounted or previous.unit.active
    if goes and not view.mounted:
        steps = _first_mount(steps)
    if goes and not any(step.action in MOUNTING for step in steps):
        steps.insert(_position(steps), Step(MOUNT, unit, center))
    elsewhere = old.mount_point != center.mount_point
    empty = previous.directory and elsewhere and not _storage.definition(old).adopted
    return [
        *([Step(UNMOUNT, unit, old)] if goes else []),
        *([Step(GIVE_BACK, unit, old)] if previous.drop_ins and elsewhere else []),
        *steps,
        *([Step(REMOVE_MOUNT_POINT, unit, old)] if empty else []),
    ]


def _first_mount(steps: list[Step]) -> list[Step]:
    """The same steps, where nothing is left to be unmounted before."""
    return [step._replace(action=MOUNT) if step.action == REMOUNT else step for step in steps]


def _position(steps: list[Step]) -> int:
    return next((index for index, step in enumerate(steps) if step.action in (WATCH, UNWATCH)), len(steps))


def _new_way(center: _centers.Center, view: View) -> bool:
    """Whether the unit mounts it in another way than is wanted, so that it must be mounted again."""
    return view.ours is None or _center_unit.how(view.ours.text) != _center_unit.how(_center_unit.render(center))


def _mounted(view: View, center: _centers.Center, on_unhealthy: str) -> list[str]:
    adopted = _storage.definition(center).adopted
    actions = [] if view.directory or adopted else [MAKE_MOUNT_POINT]
    if not view.secrets:
        actions.append(WRITE_SECRETS)
    elif not view.private:
        actions.append(PROTECT_SECRETS)
    if _center_unit.needs_keeper(center) and not view.keeper:
        actions.append(WRITE_KEEPER)
    if view.drop_ins != view.yields:
        actions.append(TAKE_OVER if view.yields else GIVE_BACK)
    if view.ours is None or view.ours.text != _center_unit.render(center):
        actions.append(WRITE_UNIT)
    if view.unit.needs_reload or not _READ_BY_SYSTEMD.isdisjoint(actions):
        actions.append(RELOAD)
    if not view.unit.enabled:
        actions.append(ENABLE)
    actions += _mounting(view, center, on_unhealthy, adopted)
    if center.keep_alive and not adopted and not view.watched:
        actions.append(WATCH)
    if (view.watched or view.timer_left) and (adopted or not center.keep_alive):
        actions.append(UNWATCH)
    if _unneeded(view) and not _center_unit.needs_keeper(center):
        actions += [REMOVE_KEEPER, RELOAD]
    return actions


def _unneeded(view: View) -> bool:
    """Whether the keeper goes when this center does not need it."""
    return view.has_keeper and not view.others


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
    actions = [UNWATCH] if view.watched or view.timer_left else []
    if view.mounted or view.unit.active:
        actions.append(UNMOUNT)
    if view.unit.enabled:
        actions.append(DISABLE)
    return actions


def _absent(view: View) -> list[str]:
    secrets = [REMOVE_SECRETS] if view.has_secrets else []
    if view.ours is None:
        # An earlier run, or somebody else, removed only the unit.
        return secrets
    center = view.ours.center
    place = [REMOVE_MOUNT_POINT] if view.directory and not _storage.definition(center).adopted else []
    keeper = [REMOVE_KEEPER] if _unneeded(view) else []
    rivals = [GIVE_BACK] if view.drop_ins else []
    # The unit, which is the record, goes last: a run that is killed before leaves something that is found again.
    return [*_unmounted(view), *secrets, *keeper, *rivals, *place, REMOVE_UNIT, RELOAD]
