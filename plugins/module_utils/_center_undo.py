# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a model center was before a plan, and back to it when the plan fails.

Only what was begun is put back: a center that nobody touched goes on, whatever else failed.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from . import _center_files, _center_rivals, _center_unit, _keeper_file, _storage, _systemd
from . import _center_mount as plans
from ._center_effects import mount, unmount
from ._errors import ModelfleetError

# What a mount is made of.
_MAKES = frozenset((plans.WRITE_UNIT, plans.WRITE_SECRETS, plans.REMOVE_UNIT, plans.REMOVE_SECRETS))
_TOUCHES = plans.MOUNTING | {plans.UNMOUNT}
_YIELDING = frozenset((plans.TAKE_OVER, plans.GIVE_BACK))


class Before:
    """How units and files were before a plan."""

    def __init__(
        self, view: plans.View, previous: t.Optional[plans.View], steps: t.Sequence[plans.Step], timeout: float
    ) -> None:
        # When one unit goes from place to place, it was at the old one.
        self._views = {item.unit.name: item for item in (view, previous) if item is not None}
        self._files = {unit: _center_files.read(path(unit)) for unit in self._views}
        self._drop_ins = {place: _center_rivals.present(place) for place in {step.center.mount_point for step in steps}}
        self._view = view
        self._secrets = {name: _center_files.secrets(name) for name in {step.center.name for step in steps}}
        self._timeout = timeout

    def put_back(self, begun: t.Sequence[plans.Step]) -> None:
        """Back to how it was, as far as it goes: the failure that led here is the one to report."""
        done = {unit: [step for step in begun if step.unit == unit] for unit in self._views}
        made = [unit for unit, steps in done.items() if _any(steps, _MAKES)]
        for unit in made:
            self._take_away(unit, done[unit])
        for step in begun:
            if step.action in (plans.WRITE_SECRETS, plans.REMOVE_SECRETS):
                _try(_center_files.write_secrets, step.center.name, self._secrets[step.center.name])
            elif step.action == plans.REMOVE_KEEPER:
                _try(_keeper_file.install)
            elif step.action in _YIELDING:
                _try(_center_rivals.write, step.center.mount_point, self._drop_ins[step.center.mount_point])
        if made or _any(begun, _YIELDING | {plans.REMOVE_KEEPER}):
            _try(_systemd.call, "daemon-reload", None, self._timeout)
        mended = [self._mount_again(unit, steps, unit in made) for unit, steps in done.items()]
        if self._view.ours is None and _any(begun, _TOUCHES | {plans.TAKE_OVER}):
            self._rivals_again()
        if all(mended):
            for name in self._secrets:
                _center_files.clear_pending(name)
        for step in begun:
            if step.action == plans.UNWATCH:
                self._watch_again(step)
            elif step.action == plans.MOUNT and self._files.get(step.unit) is None:
                # A directory that was there before stays, as it was.
                _center_files.unprotect(step.center.mount_point)
            elif step.action == plans.MAKE_MOUNT_POINT and made:
                _try(_center_files.remove_mount_point, step.center.mount_point)

    def _take_away(self, unit: str, steps: list[plans.Step]) -> None:
        """Away with what the plan made of a unit, and its text as it was."""
        view, text = self._views[unit], self._files[unit]
        for step in steps:
            if step.action in plans.MOUNTING and view.ours and view.ours.center.mount_point != step.center.mount_point:
                _try(unmount, step.center, unit, self._timeout)
        # Where it is mounted again, it is unmounted before; but not what was only looked at.
        looked_at = view.ours is not None and _storage.definition(view.ours.center).adopted
        if _any(steps, _TOUCHES) and (text is None or not view.mounted or looked_at):
            _try(_systemd.call, "stop", unit, self._timeout)
            _try(_systemd.call, "reset-failed", unit, self._timeout)
        if _any(steps, {plans.ENABLE}):
            _try(_systemd.call, "disable", unit, self._timeout)
        if text is None:
            _try(os.unlink, path(unit))
        elif _any(steps, {plans.WRITE_UNIT, plans.REMOVE_UNIT}):
            _try(_center_files.write, path(unit), text, 0o644)

    def _mount_again(self, unit: str, steps: list[plans.Step], made: bool) -> bool:
        """Mounted as before, where the plan had begun to change that; returns whether no mount is due any more."""
        view = self._views[unit]
        if view.unit.enabled and _any(steps, {plans.DISABLE}):
            _try(_systemd.call, "enable", unit, self._timeout)
        if self._files[unit] is None:
            return True
        if _any(steps, _TOUCHES) and (made or _any(steps, {plans.UNMOUNT})):
            return self._as_it_was(unit, view)
        if _any(steps, {plans.REMOUNT}):
            # Nothing was wrong with its unit. One that was stopped and not started would stay down for ever.
            _try(self._start_some_time, unit)
        # Of an earlier run that was killed nothing is mended yet.
        return not view.pending

    def _as_it_was(self, unit: str, view: plans.View) -> bool:
        if view.mounted and view.unit.active:
            if view.ours is None:
                return _try(_systemd.call, "restart", unit, self._timeout)
            # Not a plain restart, which would wait for a server that does not answer.
            return _try(mount, view.ours.center, unit, self._timeout, True)
        if view.ours is not None and view.unit.active_state in ("active", "activating", "failed"):
            # It waits for its storage. After a stop it would count as stopped in order, and nobody would mount it.
            return _try(self._start_some_time, unit)
        return True

    def _start_some_time(self, unit: str) -> None:
        _systemd.call("start", unit, self._timeout, options=("--no-block",))

    def _rivals_again(self) -> None:
        """What somebody else had mounted at a place that was not ours, as far as systemd knows how."""
        for rival in self._view.rivals:
            if rival.active:
                _try(_systemd.call, "start", rival.name, self._timeout)

    def _watch_again(self, step: plans.Step) -> None:
        if any(view.watched for view in self._views.values()):
            timer = _center_unit.timer(step.center)
            _try(lambda: _systemd.call("enable", timer, self._timeout, options=("--now",)))


def path(unit: str) -> str:
    """Where the text of a unit of ours is."""
    return os.path.join(_systemd.UNIT_DIRECTORY, unit)


def _any(steps: t.Iterable[plans.Step], actions: t.AbstractSet[str]) -> bool:
    return any(step.action in actions for step in steps)


def _try(attempt: t.Callable[..., t.Any], *arguments: t.Any) -> bool:
    with contextlib.suppress(ModelfleetError, OSError):
        attempt(*arguments)
        return True
    return False
