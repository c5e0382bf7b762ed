# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plan for a model center, carried out; and put back as it was when that fails.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from . import _center_files, _center_unit, _keeper_file, _systemd
from . import _center_mount as plans
from ._center_effects import file_system, mount, unmount, verify
from ._errors import ModelfleetError


def apply(
    steps: list[plans.Step],
    view: plans.View,
    previous: t.Optional[plans.View],
    secrets: t.Mapping[str, str],
    timeout: float,
) -> None:
    """Carry out a plan; when it fails, units and credentials are put back as they were.

    Args:
        secrets: the files for the client, by path.
        timeout: seconds for each step.

    Raises:
        ModelfleetError: C(center_mount_failed) and what the storage or systemd said.
    """
    before = _Before([item for item in (previous, view) if item is not None], steps)
    begun: set[str] = set()
    mounts = any(step.action in (plans.MOUNT, plans.REMOUNT) for step in steps)
    for step in steps:
        begun.add(step.unit)
        if mounts and step.action in (plans.WRITE_SECRETS, plans.WRITE_UNIT):
            _center_files.set_pending(step.center.name)
        try:
            _do(step, secrets, timeout)
        except ModelfleetError:
            if {plans.WRITE_UNIT, plans.WRITE_SECRETS, plans.REMOVE_UNIT} & {step.action for step in steps}:
                before.put_back(begun, timeout)
            raise


def _do(step: plans.Step, secrets: t.Mapping[str, str], timeout: float) -> None:
    center, path = step.center, _path(step.unit)
    if step.action == plans.MAKE_MOUNT_POINT:
        file_system(os.makedirs, center.mount_point, 0o755, True)
    elif step.action == plans.WRITE_SECRETS:
        file_system(_center_files.write_secrets, center.name, secrets)
    elif step.action == plans.WRITE_KEEPER:
        file_system(_keeper_file.install)
    elif step.action == plans.WRITE_UNIT:
        file_system(_center_files.write, path, _center_unit.render(center), 0o644)
    elif step.action == plans.REMOVE_UNIT:
        # systemd would remember that it failed, although it is gone.
        with contextlib.suppress(ModelfleetError):
            _systemd.call("reset-failed", step.unit, timeout)
        file_system(os.unlink, path)
    elif step.action == plans.REMOVE_SECRETS:
        file_system(_center_files.write_secrets, center.name, {})
    elif step.action == plans.REMOVE_KEEPER:
        file_system(_keeper_file.remove)
    elif step.action == plans.REMOVE_MOUNT_POINT:
        _center_files.remove_mount_point(center.mount_point)
    elif step.action == plans.RELOAD:
        _systemd.call("daemon-reload", timeout=timeout)
    elif step.action in (plans.WATCH, plans.UNWATCH):
        timer = _center_unit.timer(center)
        verb = "enable" if step.action == plans.WATCH else "disable"
        _systemd.call(verb, timer, timeout, options=("--now",))
    elif step.action in (plans.MOUNT, plans.REMOUNT):
        mount(center, step.unit, timeout, again=step.action == plans.REMOUNT)
        verify(center, step.unit, timeout)
        _center_files.clear_pending(center.name)
    elif step.action == plans.UNMOUNT:
        unmount(center, step.unit, timeout)
    else:
        verb = {plans.ENABLE: "enable", plans.DISABLE: "disable"}[step.action]
        _systemd.call(verb, step.unit, timeout, code="center_mount_failed")


class _Before:
    """How units and files were before a plan."""

    def __init__(self, views: list[plans.View], steps: list[plans.Step]) -> None:
        self._views = views
        self._files = {view.unit.name: _center_files.read(_path(view.unit.name)) for view in views}
        self._centers = {step.unit: step.center for step in steps}
        self._secrets = {center.name: _center_files.secrets(center.name) for center in self._centers.values()}

    def put_back(self, begun: set[str], timeout: float) -> None:
        """Back to how it was, as far as it goes: the failure that led here is the one to report."""
        views = [view for view in self._views if view.unit.name in begun]
        for view in views:
            if self._files[view.unit.name] is None or not view.mounted:
                self._try(_systemd.call, "stop", view.unit.name, timeout)
                self._try(_systemd.call, "reset-failed", view.unit.name, timeout)
        for view in views:
            text = self._files[view.unit.name]
            if text is None:
                self._try(_systemd.call, "disable", view.unit.name, timeout)
                self._try(os.unlink, _path(view.unit.name))
            else:
                self._try(_center_files.write, _path(view.unit.name), text, 0o644)
        for name, files in self._secrets.items():
            self._try(_center_files.write_secrets, name, files)
            self._try(_center_files.clear_pending, name)
        self._try(_systemd.call, "daemon-reload", None, timeout)
        for view in views:
            if view.unit.enabled:
                self._try(_systemd.call, "enable", view.unit.name, timeout)
            if view.mounted and self._files[view.unit.name] is not None and view.unit.active:
                self._try(_systemd.call, "restart", view.unit.name, timeout)
            if not view.directory and view.unit.name in self._centers:
                self._try(_center_files.remove_mount_point, self._centers[view.unit.name].mount_point)

    @staticmethod
    def _try(attempt: t.Callable[..., t.Any], *arguments: t.Any) -> None:
        with contextlib.suppress(ModelfleetError, OSError):
            attempt(*arguments)


def _path(unit: str) -> str:
    return os.path.join(_systemd.UNIT_DIRECTORY, unit)
