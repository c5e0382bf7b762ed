# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model center on its host: which steps are due in which state."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _center_mount, _centers, _systemd
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

CENTER = b.CENTER
UNIT = "mnt-depot.mount"
PATH = f"/etc/systemd/system/{UNIT}"
MOUNT = b.ROOT._replace(mount_point="/mnt/depot", options=b.READ_ONLY, fstype="xfs")
ON = _systemd.Unit(UNIT, "loaded", "active", "enabled", PATH, False)
OFF = ON._replace(active_state="inactive", unit_file_state="disabled")
UNKNOWN = _systemd.Unit(UNIT, "not-found", "inactive", "", "", False)


def unit(center=CENTER):
    return _centers.Unit(PATH, _centers.render(center), center)


NOTHING = _center_mount.View(ours=None, unit=UNKNOWN, mount=None, right=False, directory=False)
RIGHT = _center_mount.View(ours=unit(), unit=ON, mount=MOUNT, right=True, directory=True)


def view(**changes):
    """A center that is as it should be, but for some things."""
    return dataclasses.replace(RIGHT, **changes)


# What is of a center.
SITUATIONS = {
    "nothing": NOTHING,
    "only the directory": dataclasses.replace(NOTHING, directory=True),
    "right": RIGHT,
    "right, writable": view(ours=unit(dataclasses.replace(CENTER, read_only=False)), right=False),
    "wrong storage": view(right=False),
    "unit edited": view(ours=unit()._replace(text=_centers.render(CENTER) + "\n# by hand\n")),
    "unit not reloaded": view(unit=ON._replace(needs_reload=True)),
    "not enabled": view(unit=ON._replace(unit_file_state="disabled")),
    "unmounted": view(unit=OFF, mount=None, right=False),
    "unmounted by hand": view(unit=ON._replace(active_state="inactive"), mount=None, right=False),
    "mounted by hand": view(unit=ON._replace(active_state="inactive")),
    "start failed": view(unit=ON._replace(active_state="failed"), mount=None, right=False),
    "starting, nothing there": view(unit=ON._replace(active_state="activating"), mount=None, right=False),
    "unit left, directory gone": view(unit=OFF, mount=None, right=False, directory=False),
}
# What is due for each state, in the order mounted, unmounted, absent.
ALL = ["make_mount_point", "write_unit", "reload_systemd", "enable_unit", "mount"]
REMOVE = ["remove_unit", "reload_systemd", "remove_mount_point"]
OFF_AND_REMOVE = ["unmount", "disable_unit", *REMOVE]
DUE = {
    "nothing": (ALL, [], []),
    "only the directory": (ALL[1:], [], []),
    "right": ([], ["unmount", "disable_unit"], OFF_AND_REMOVE),
    "right, writable": (["write_unit", "reload_systemd", "remount"], ["unmount", "disable_unit"], OFF_AND_REMOVE),
    "wrong storage": (["remount"], ["unmount", "disable_unit"], OFF_AND_REMOVE),
    "unit edited": (["write_unit", "reload_systemd"], ["unmount", "disable_unit"], OFF_AND_REMOVE),
    "unit not reloaded": (["reload_systemd"], ["unmount", "disable_unit"], OFF_AND_REMOVE),
    "not enabled": (["enable_unit"], ["unmount"], ["unmount", *REMOVE]),
    "unmounted": (["enable_unit", "mount"], [], REMOVE),
    "unmounted by hand": (["mount"], ["disable_unit"], ["disable_unit", *REMOVE]),
    "mounted by hand": (["remount"], ["unmount", "disable_unit"], OFF_AND_REMOVE),
    "start failed": (["mount"], ["disable_unit"], ["disable_unit", *REMOVE]),
    "starting, nothing there": (["mount"], ["unmount", "disable_unit"], OFF_AND_REMOVE),
    "unit left, directory gone": (["make_mount_point", "enable_unit", "mount"], [], REMOVE[:2]),
}
STATES = [_center_mount.MOUNTED, _center_mount.UNMOUNTED, _center_mount.ABSENT]


def actions(steps):
    return [step.action for step in steps]


@pytest.mark.parametrize("situation", SITUATIONS)
def test_the_steps_to_each_state(situation):
    found = [actions(_center_mount.plan(state, CENTER, SITUATIONS[situation], None)) for state in STATES]
    assert found == list(DUE[situation])


def test_every_step_is_for_the_unit_of_the_center():
    for situation in SITUATIONS.values():
        for state in STATES:
            for step in _center_mount.plan(state, CENTER, situation, None):
                assert (step.unit, step.center) == (UNIT, CENTER)


FOREIGN = {
    "a unit of somebody else": dataclasses.replace(NOTHING, unit=ON, mount=MOUNT, directory=True),
    "a mount of somebody else": dataclasses.replace(NOTHING, mount=MOUNT, directory=True),
    "an enabled unit of somebody else": dataclasses.replace(NOTHING, unit=ON._replace(active_state="inactive")),
}


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("state", [_center_mount.UNMOUNTED, _center_mount.ABSENT])
def test_what_is_not_ours_is_never_touched(state, foreign):
    assert _center_mount.plan(state, CENTER, FOREIGN[foreign], None) == []


MOVED = dataclasses.replace(CENTER, mount_point="/mnt/elsewhere")
ELSEWHERE = dataclasses.replace(NOTHING, unit=UNKNOWN._replace(name="mnt-elsewhere.mount"))


def test_a_center_that_moves_goes_from_its_old_place_last():
    steps = _center_mount.plan(_center_mount.MOUNTED, MOVED, ELSEWHERE, RIGHT)
    assert actions(steps) == ALL + OFF_AND_REMOVE
    new, old = steps[: len(ALL)], steps[len(ALL) :]
    assert {(step.unit, step.center) for step in old} == {(UNIT, CENTER)}
    assert {(step.unit, step.center) for step in new} == {("mnt-elsewhere.mount", MOVED)}


@pytest.mark.parametrize("state", [_center_mount.UNMOUNTED, _center_mount.ABSENT])
def test_a_center_goes_from_where_it_is_whatever_mount_point_is_given(state):
    steps = _center_mount.plan(state, MOVED, ELSEWHERE, RIGHT)
    # Only absent forgets what the center is.
    assert actions(steps) == (OFF_AND_REMOVE if state == _center_mount.ABSENT else ["unmount", "disable_unit"])
    assert {(step.unit, step.center) for step in steps} == {(UNIT, CENTER)}


def test_a_center_that_is_already_away_from_its_old_place_only_comes():
    gone = dataclasses.replace(NOTHING, unit=UNKNOWN)
    assert actions(_center_mount.plan(_center_mount.MOUNTED, MOVED, ELSEWHERE, gone)) == ALL


def test_a_center_is_found_by_its_name():
    units = [unit(dataclasses.replace(CENTER, name="a")), unit()]
    assert _center_mount.find("depot", units) is units[1]
    assert _center_mount.find("other", units) is None
    assert _center_mount.find("depot", units, other_than=CENTER.mount_point) is None
