# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model center on its host: which steps are due in which state."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _center_mount,
    _center_state,
    _center_unit,
    _centers,
    _systemd,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

CENTER = b.CENTER
UNIT = "mnt-depot.mount"
PATH = f"/etc/systemd/system/{UNIT}"
MOUNT = b.ROOT._replace(mount_point="/mnt/depot", options=b.READ_ONLY, fstype="xfs")
ON = _systemd.Unit(UNIT, "loaded", "active", "enabled", PATH, False)
OFF = ON._replace(active_state="inactive", unit_file_state="disabled")
UNKNOWN = _systemd.Unit(UNIT, "not-found", "inactive", "", "", False)
NOTHING_THERE = _center_state.Seen(_center_state.NOT_MOUNTED)


def seen(state=_center_state.HEALTHY, **changes):
    return _center_state.Seen(state, MOUNT, 1, **changes)


def unit(center=CENTER, path=PATH):
    return _centers.Unit(path, _center_unit.render(center), center)


NOTHING = _center_mount.View(
    ours=None, unit=UNKNOWN, seen=NOTHING_THERE, directory=False, keeper=False, watched=False, others=False
)
RIGHT = _center_mount.View(ours=unit(), unit=ON, seen=seen(), directory=True)


def view(**changes):
    """A center that is as it should be, but for some things."""
    return dataclasses.replace(RIGHT, **changes)


GONE = {"seen": NOTHING_THERE}
LOOSE = {"unit": OFF, "watched": False, **GONE}
# What is of a center.
SITUATIONS = {
    "nothing": NOTHING,
    "only the directory": dataclasses.replace(NOTHING, directory=True),
    "nothing, with another center": dataclasses.replace(NOTHING, keeper=True, others=True),
    "right": RIGHT,
    "right, writable": view(ours=unit(dataclasses.replace(CENTER, read_only=False))),
    "other options": view(ours=unit()._replace(text=_center_unit.render(CENTER).replace("nodev", "nodev,noexec"))),
    "wrong source": view(seen=seen(_center_state.WRONG_SOURCE)),
    "wrong options": view(seen=seen(_center_state.WRONG_OPTIONS)),
    "stacked": view(seen=seen(_center_state.STACKED)),
    "dead": view(seen=seen(_center_state.DEAD)),
    "hung": view(seen=seen(_center_state.HUNG)),
    "new credentials": view(secrets=False, has_secrets=True),
    "credentials that others can read": view(private=False, has_secrets=True),
    "new credentials, in place of some that others can read": view(secrets=False, private=False, has_secrets=True),
    "credentials of a run that was killed": view(pending=True, has_secrets=True),
    "unit edited": view(ours=unit()._replace(text=_center_unit.render(CENTER) + "\n# by hand\n")),
    "unit not reloaded": view(unit=ON._replace(needs_reload=True)),
    "not enabled": view(unit=ON._replace(unit_file_state="disabled")),
    "unmounted": view(**LOOSE),
    "unmounted by hand": view(unit=ON._replace(active_state="inactive"), **GONE),
    "mounted by hand": view(unit=ON._replace(active_state="inactive")),
    "start failed": view(unit=ON._replace(active_state="failed"), **GONE),
    "starting, nothing there": view(unit=ON._replace(active_state="activating"), **GONE),
    "unit left, directory gone": view(directory=False, **LOOSE),
    "nobody looks after it": view(watched=False),
    "an old keeper": view(keeper=False),
    "the last one": view(others=False),
    "a keeper stopped by hand": view(watched=False, timer_left=True),
    "credentials that a killed run left": dataclasses.replace(NOTHING, has_secrets=True),
}
# What is due for each state, in the order mounted, unmounted, absent.
ALL = ["make_mount_point", "write_keeper", "write_unit", "reload_systemd", "enable_unit", "mount", "start_keeper"]
REMOVE = ["remove_mount_point", "remove_unit", "reload_systemd"]
OFF_STEPS = ["stop_keeper", "unmount", "disable_unit"]
OFF_AND_REMOVE = [*OFF_STEPS, *REMOVE]
WITH_SECRETS = [*OFF_STEPS, "remove_credentials", *REMOVE]
LEAVE = (OFF_STEPS, OFF_AND_REMOVE)
DUE = {
    "nothing": (ALL, [], []),
    "only the directory": (ALL[1:], [], []),
    "nothing, with another center": ([step for step in ALL if step != "write_keeper"], [], []),
    "right": ([], *LEAVE),
    "right, writable": (["write_unit", "reload_systemd", "remount"], *LEAVE),
    "other options": (["write_unit", "reload_systemd", "remount"], *LEAVE),
    "wrong source": (["remount"], *LEAVE),
    "wrong options": (["remount"], *LEAVE),
    "stacked": (["remount"], *LEAVE),
    "dead": (["remount"], *LEAVE),
    "hung": ([], *LEAVE),
    "new credentials": (["write_credentials", "remount"], OFF_STEPS, WITH_SECRETS),
    "credentials that others can read": (["protect_credentials"], OFF_STEPS, WITH_SECRETS),
    "new credentials, in place of some that others can read": (
        ["write_credentials", "remount"],
        OFF_STEPS,
        WITH_SECRETS,
    ),
    "credentials of a run that was killed": (["remount"], OFF_STEPS, WITH_SECRETS),
    "unit edited": (["write_unit", "reload_systemd"], *LEAVE),
    "unit not reloaded": (["reload_systemd"], *LEAVE),
    "not enabled": (["enable_unit"], OFF_STEPS[:2], [*OFF_STEPS[:2], *REMOVE]),
    "unmounted": (["enable_unit", "mount", "start_keeper"], [], REMOVE),
    "unmounted by hand": (["mount"], OFF_STEPS[::2], [*OFF_STEPS[::2], *REMOVE]),
    "mounted by hand": (["remount"], *LEAVE),
    "start failed": (["mount"], OFF_STEPS[::2], [*OFF_STEPS[::2], *REMOVE]),
    "starting, nothing there": (["mount"], *LEAVE),
    "unit left, directory gone": (["make_mount_point", "enable_unit", "mount", "start_keeper"], [], REMOVE[1:]),
    "nobody looks after it": (["start_keeper"], OFF_STEPS[1:], [*OFF_STEPS[1:], *REMOVE]),
    "an old keeper": (["write_keeper", "reload_systemd"], *LEAVE),
    "a keeper stopped by hand": (["start_keeper"], *LEAVE),
    "credentials that a killed run left": (ALL, [], ["remove_credentials"]),
    "the last one": ([], OFF_STEPS, [*OFF_STEPS, "remove_keeper", *REMOVE]),
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


def test_a_storage_that_hangs_is_mounted_again_when_asked_for():
    steps = _center_mount.plan(_center_mount.MOUNTED, CENTER, SITUATIONS["hung"], None, _center_mount.REMOUNT_IT)
    assert actions(steps) == ["remount"]


def test_a_center_that_nobody_shall_look_after():
    alone = dataclasses.replace(CENTER, keep_alive=False)
    steps = _center_mount.plan(_center_mount.MOUNTED, alone, view(keeper=False), None)
    assert actions(steps) == ["write_unit", "reload_systemd", "stop_keeper"]


@pytest.mark.parametrize(("others", "has_keeper"), [(True, True), (False, False)])
def test_the_keeper_goes_with_the_last_center_that_nobody_needs_to_look_after(others, has_keeper):
    alone = dataclasses.replace(CENTER, keep_alive=False)
    last = view(ours=unit(alone), watched=False, others=False)
    assert actions(_center_mount.plan("mounted", alone, last, None)) == ["remove_keeper", "reload_systemd"]
    steps = actions(_center_mount.plan("mounted", alone, view(others=False), None))
    assert steps == ["write_unit", "reload_systemd", "stop_keeper", "remove_keeper", "reload_systemd"]
    kept = dataclasses.replace(last, others=others, has_keeper=has_keeper)
    assert actions(_center_mount.plan("mounted", alone, kept, None)) == []
    assert "remove_keeper" not in actions(_center_mount.plan("absent", alone, kept, None))


BUCKET = dataclasses.replace(CENTER, storage_url="s3://depot-a/", verify_path="x")
SERVICE = "modelfleet-center-depot.service"
SERVICE_ON = ON._replace(name=SERVICE)


FOR_ITSELF = dataclasses.replace(CENTER, storage_url="sftp://models@filer/depot", keep_alive=False)


def test_a_client_that_does_not_say_when_it_has_mounted_needs_the_program():
    fresh = dataclasses.replace(NOTHING, unit=UNKNOWN._replace(name=SERVICE))
    steps = actions(_center_mount.plan(_center_mount.MOUNTED, FOR_ITSELF, fresh, None))
    assert "write_keeper" in steps and "start_keeper" not in steps
    there = view(ours=unit(FOR_ITSELF, SERVICE), unit=SERVICE_ON, watched=False, others=False)
    assert "remove_keeper" in actions(_center_mount.plan(_center_mount.ABSENT, FOR_ITSELF, there, None))


def test_a_service_that_runs_without_a_mount_is_started_again():
    running = view(ours=unit(BUCKET, SERVICE), unit=SERVICE_ON, **GONE)
    assert actions(_center_mount.plan(_center_mount.MOUNTED, BUCKET, running, None)) == ["remount"]


def test_another_kind_of_unit_comes_when_the_old_one_has_left_the_place():
    coming = dataclasses.replace(
        NOTHING, unit=UNKNOWN._replace(name=SERVICE), seen=seen(), directory=True, keeper=True, watched=True
    )
    steps = _center_mount.plan(_center_mount.MOUNTED, BUCKET, coming, RIGHT)
    assert [(step.action, step.unit) for step in steps] == [
        ("unmount", UNIT),
        ("disable_unit", UNIT),
        ("remove_unit", UNIT),
        ("reload_systemd", UNIT),
        ("write_unit", SERVICE),
        ("reload_systemd", SERVICE),
        ("enable_unit", SERVICE),
        ("mount", SERVICE),
    ]


ADOPTED = dataclasses.replace(CENTER, storage_url="existing:///mnt/depot")


def test_what_somebody_else_mounts_is_never_mounted_or_unmounted():
    coming = dataclasses.replace(NOTHING, unit=UNKNOWN._replace(name=SERVICE), seen=seen(), directory=True)
    steps = actions(_center_mount.plan(_center_mount.MOUNTED, ADOPTED, coming, None))
    # Mounting its unit does nothing but order VMs after it.
    assert steps == ["write_keeper", "write_unit", "reload_systemd", "enable_unit", "mount"]
    there = view(ours=unit(ADOPTED, SERVICE), unit=SERVICE_ON, watched=False)
    assert actions(_center_mount.plan(_center_mount.MOUNTED, ADOPTED, there, None)) == []
    assert "remove_mount_point" not in actions(_center_mount.plan(_center_mount.ABSENT, ADOPTED, there, None))


def moved(url, **changes):
    """A service that goes elsewhere: the new center, what is seen there, and what is where it was."""
    new = dataclasses.replace(BUCKET, storage_url=url, **changes)
    old = view(ours=unit(BUCKET, SERVICE), unit=SERVICE_ON)
    return new, dataclasses.replace(old, directory=False, **GONE), old


def pairs(steps):
    return [(step.action, step.center.mount_point) for step in steps]


def test_a_service_that_moves_leaves_its_old_place_first():
    new, there, old = moved("s3://depot-a/", mount_point="/mnt/elsewhere")
    assert _center_mount.left(new, there) == old.ours
    steps = _center_mount.plan(_center_mount.MOUNTED, new, there, old)
    assert pairs(steps) == [
        ("unmount", "/mnt/depot"),
        ("make_mount_point", "/mnt/elsewhere"),
        ("write_unit", "/mnt/elsewhere"),
        ("reload_systemd", "/mnt/elsewhere"),
        ("mount", "/mnt/elsewhere"),
        ("remove_mount_point", "/mnt/depot"),
    ]
    assert {step.unit for step in steps} == {SERVICE}
    # A run that was killed had taken it away.
    gone = dataclasses.replace(old, unit=SERVICE_ON._replace(active_state="inactive"), **GONE)
    there = dataclasses.replace(there, unit=gone.unit)
    assert pairs(_center_mount.plan(_center_mount.MOUNTED, new, there, gone)) == pairs(steps)[1:]


def test_what_somebody_else_has_mounted_at_the_new_place_goes_when_it_is_taken_over():
    new, there, old = moved("s3://depot-a/", mount_point="/mnt/elsewhere")
    there = dataclasses.replace(there, directory=True, seen=seen(_center_state.WRONG_SOURCE))
    steps = actions(_center_mount.plan(_center_mount.MOUNTED, new, there, old))
    assert steps == ["unmount", "write_unit", "reload_systemd", "remount", "remove_mount_point"]


@pytest.mark.parametrize("place", ["/mnt/depot", "/mnt/elsewhere"])
def test_a_service_that_becomes_what_somebody_else_mounts_ends(place):
    new, there, old = moved(f"existing://{place}", mount_point=place)
    there = dataclasses.replace(there, directory=True, seen=seen())
    assert _center_mount.left(new, there) == old.ours
    steps = pairs(_center_mount.plan(_center_mount.MOUNTED, new, there, old))
    removed = [("remove_mount_point", "/mnt/depot")] if place != "/mnt/depot" else []
    assert steps[0] == ("unmount", "/mnt/depot")
    assert steps[1:] == [
        *[(action, place) for action in ("write_unit", "reload_systemd", "mount", "stop_keeper")],
        *removed,
    ]


def test_what_stays_where_it_is_leaves_nothing():
    assert _center_mount.left(CENTER, RIGHT) is None
    assert _center_mount.left(CENTER, NOTHING) is None
    adopted = view(ours=unit(ADOPTED, SERVICE), unit=SERVICE_ON)
    assert _center_mount.left(dataclasses.replace(ADOPTED, read_only=False), adopted) is None
    assert _center_mount.left(BUCKET, adopted) is None
    assert _center_mount.left(dataclasses.replace(BUCKET, mount_point="/mnt/elsewhere"), adopted) == adopted.ours


def test_what_somebody_else_mounts_goes_when_it_is_taken_over():
    adopted = view(ours=unit(ADOPTED, SERVICE), unit=SERVICE_ON, watched=False)
    there = dataclasses.replace(NOTHING, seen=seen(_center_state.WRONG_SOURCE), directory=True, keeper=True)
    steps = actions(_center_mount.plan(_center_mount.MOUNTED, CENTER, there, adopted))
    # Stopping the unit that only looks at it does not unmount it.
    assert steps[:4] == ["unmount", "disable_unit", "remove_unit", "reload_systemd"]
    assert steps[4:] == ["write_unit", "reload_systemd", "enable_unit", "remount", "start_keeper"]


CODES = {
    _center_state.HEALTHY: None,
    _center_state.DEAD: None,
    _center_state.WRONG_SOURCE: None,
    _center_state.SHADOWED: "center_shadowed",
    _center_state.UNREACHABLE: "storage_unreachable",
    _center_state.HUNG: "storage_timeout",
    _center_state.ERROR: "storage_error",
    _center_state.WRONG_CONTENT: "storage_wrong",
}


def refusal(center, found, on_unhealthy=_center_mount.FAIL):
    try:
        return _center_mount.refuse_unhealthy(center, found, on_unhealthy)
    except ModelfleetError as problem:
        return problem


@pytest.mark.parametrize("state", CODES)
def test_what_mounting_again_does_not_heal_has_its_code(state):
    found = refusal(CENTER, view(seen=seen(state, why="stat: broken")))
    assert (found.code if found else None) == CODES[state]


@pytest.mark.parametrize("state", sorted(_center_state.UNHEALTHY))
def test_it_may_be_a_warning_or_be_mounted_again(state):
    broken = view(seen=seen(state, why="stat: broken"))
    assert CODES[state] in refusal(CENTER, broken, _center_mount.WARN)
    assert refusal(CENTER, broken, _center_mount.REMOUNT_IT) == ""
    # What is wrong may be the secret, which somebody has changed on the server.
    for changes in ({"secrets": False}, {"pending": True}):
        found = dataclasses.replace(broken, **changes)
        assert refusal(CENTER, found) == ""
        assert "remount" in actions(_center_mount.plan(_center_mount.MOUNTED, CENTER, found, None))


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (_center_state.NOT_MOUNTED, "center_not_mounted"),
        (_center_state.WRONG_SOURCE, "center_conflict"),
        (_center_state.WRONG_OPTIONS, "center_conflict"),
        (_center_state.DEAD, "center_conflict"),
    ],
)
def test_what_somebody_else_mounts_is_only_looked_at(state, code):
    assert refusal(ADOPTED, view(ours=unit(ADOPTED, SERVICE), seen=seen(state))).code == code


FOREIGN = {
    "a unit of somebody else": dataclasses.replace(NOTHING, unit=ON, seen=seen(), directory=True),
    "a mount of somebody else": dataclasses.replace(NOTHING, seen=seen(), directory=True),
    "an enabled unit of somebody else": dataclasses.replace(NOTHING, unit=ON._replace(active_state="inactive")),
}


@pytest.mark.parametrize("foreign", FOREIGN)
@pytest.mark.parametrize("state", [_center_mount.UNMOUNTED, _center_mount.ABSENT])
def test_what_is_not_ours_is_never_touched(state, foreign):
    assert _center_mount.plan(state, CENTER, FOREIGN[foreign], None) == []


MOVED = dataclasses.replace(CENTER, mount_point="/mnt/elsewhere")
ELSEWHERE = dataclasses.replace(NOTHING, unit=UNKNOWN._replace(name="mnt-elsewhere.mount"), keeper=True, watched=True)
COME = ["make_mount_point", "write_unit", "reload_systemd", "enable_unit", "mount"]


def test_a_center_that_moves_goes_from_its_old_place_last():
    steps = _center_mount.plan(_center_mount.MOUNTED, MOVED, ELSEWHERE, RIGHT)
    assert actions(steps) == COME + OFF_AND_REMOVE[1:]
    new, old = steps[: len(COME)], steps[len(COME) :]
    assert {(step.unit, step.center) for step in old} == {(UNIT, CENTER)}
    assert {(step.unit, step.center) for step in new} == {("mnt-elsewhere.mount", MOVED)}


@pytest.mark.parametrize("state", [_center_mount.UNMOUNTED, _center_mount.ABSENT])
def test_a_center_goes_from_where_it_is_whatever_mount_point_is_given(state):
    steps = _center_mount.plan(state, MOVED, ELSEWHERE, RIGHT)
    # Only absent forgets what the center is.
    assert actions(steps) == (OFF_AND_REMOVE if state == _center_mount.ABSENT else OFF_STEPS)
    assert {(step.unit, step.center) for step in steps} == {(UNIT, CENTER)}


def test_a_center_that_is_already_away_from_its_old_place_only_comes():
    gone = dataclasses.replace(NOTHING, unit=UNKNOWN)
    assert actions(_center_mount.plan(_center_mount.MOUNTED, MOVED, ELSEWHERE, gone)) == COME


def test_a_center_is_found_by_its_name():
    units = [unit(dataclasses.replace(CENTER, name="a")), unit()]
    assert _center_mount.find("depot", units) is units[1]
    assert _center_mount.find("other", units) is None
    assert _center_mount.find("depot", units, other_than=UNIT) is None
