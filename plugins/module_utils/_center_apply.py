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

from . import _center_files, _center_rivals, _center_unit, _keeper_file, _systemd
from . import _center_mount as plans
from ._center_effects import file_system, make_directory, mount, unmount, verify
from ._center_undo import Before
from ._center_undo import path as unit_path
from ._errors import ModelfleetError

# A run that is killed after one of these must be known to have had mounting before it.
_BEFORE_MOUNTING = frozenset((plans.WRITE_SECRETS, plans.WRITE_UNIT, plans.REMOUNT, plans.UNMOUNT))


def apply(
    steps: list[plans.Step],
    view: plans.View,
    previous: t.Optional[plans.View],
    secrets: t.Mapping[str, str],
    timeout: float,
) -> None:
    """Carry out a plan; when it fails, what was begun of it is put back as it was.

    Args:
        secrets: the files for the client, by path.
        timeout: seconds for each step.

    Raises:
        ModelfleetError: C(center_mount_failed) and what the storage or systemd said.
    """
    before = Before(view, previous, steps, timeout)
    for index, step in enumerate(steps):
        if step.action in _BEFORE_MOUNTING and any(later.action in plans.MOUNTING for later in steps[index:]):
            _center_files.set_pending(step.center.name)
        try:
            _do(step, view, secrets, timeout)
        except ModelfleetError:
            before.put_back(steps[: index + 1])
            raise
    for step in steps:
        _center_files.clear_pending(step.center.name)


def _do(step: plans.Step, view: plans.View, secrets: t.Mapping[str, str], timeout: float) -> None:
    center, path = step.center, unit_path(step.unit)
    if step.action == plans.MAKE_MOUNT_POINT:
        make_directory(center.mount_point, 0o755, timeout)
    elif step.action == plans.WRITE_SECRETS:
        file_system(_center_files.write_secrets, center.name, secrets)
    elif step.action == plans.PROTECT_SECRETS:
        file_system(_center_files.protect_secrets, center.name)
    elif step.action == plans.WRITE_KEEPER:
        file_system(_keeper_file.install)
    elif step.action == plans.TAKE_OVER:
        file_system(_center_rivals.write, center.mount_point, view.yields)
        _center_rivals.stop_automounts(view.rivals, timeout)
    elif step.action == plans.GIVE_BACK:
        file_system(_center_rivals.write, center.mount_point, {})
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
