# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What somebody else has defined for the mount point of a model center: it yields, and is back when the center goes."""

from __future__ import annotations

import dataclasses
import os

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _center_mount,
    _center_rivals,
    _center_state,
    _centers,
    _systemd,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._center_rivals import Rival
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit.center_host import Host, failure

BUCKET = dataclasses.replace(b.CENTER, storage_url="s3://depot-a/", verify_path="x")
SERVICE = "modelfleet-center-depot.service"
MOUNT, AUTOMOUNT = "mnt-depot.mount", "mnt-depot.automount"


class Places:
    """Where systemd finds units: those of the administrator, and those made of fstab."""

    def __init__(self, root, monkeypatch):
        self.etc, self.generated = root / "etc", root / "generator"
        self.active = {MOUNT}
        for place in (self.etc, self.generated):
            place.mkdir()
        monkeypatch.setattr(_systemd, "UNIT_DIRECTORY", str(self.etc))
        monkeypatch.setattr(_center_rivals, "_PLACES", (str(self.generated),))
        monkeypatch.setattr(_systemd, "show", self.show)

    def show(self, unit):
        return _systemd.Unit(unit, "loaded", "active" if unit in self.active else "inactive", "", "", False)


@pytest.fixture
def places(tmp_path, monkeypatch):
    return Places(tmp_path, monkeypatch)


def test_nobody_else_wants_the_place(places):
    (places.etc / "mnt-other.mount").touch()
    assert _center_rivals.find("/mnt/depot", []) == []


def test_what_is_made_of_a_line_of_fstab_wants_the_place(places):
    for name in (MOUNT, AUTOMOUNT):
        (places.generated / name).touch()
    assert _center_rivals.find("/mnt/depot", []) == [Rival(AUTOMOUNT, False), Rival(MOUNT, True)]
    # Our own unit hides it, and does not take it away.
    (places.etc / MOUNT).touch()
    assert _center_rivals.find("/mnt/depot", [MOUNT]) == [Rival(AUTOMOUNT, False), Rival(MOUNT, True)]


def test_our_own_unit_is_no_rival_and_somebody_elses_is(places):
    (places.etc / MOUNT).touch()
    assert _center_rivals.find("/mnt/depot", [MOUNT]) == []
    assert _center_rivals.find("/mnt/depot", []) == [Rival(MOUNT, True)]


def test_what_is_masked_wants_nothing(places):
    (places.etc / MOUNT).symlink_to(os.devnull)
    assert _center_rivals.find("/mnt/depot", []) == []


def test_they_yield_as_long_as_the_unit_of_the_center_is_there(places):
    rivals = [Rival(AUTOMOUNT, False), Rival(MOUNT, True)]
    drop_ins = _center_rivals.wanted(BUCKET, SERVICE, rivals)
    assert set(drop_ins) == {str(places.etc / f"{name}.d" / "modelfleet-center.conf") for name in (MOUNT, AUTOMOUNT)}
    assert {text.splitlines()[-1] for text in drop_ins.values()} == {
        f"ConditionPathExists=!{places.etc}/modelfleet-center-depot.service"
    }
    # A mount unit cannot yield to itself.
    assert list(_center_rivals.wanted(b.CENTER, MOUNT, rivals)) == [
        f"{places.etc}/{AUTOMOUNT}.d/modelfleet-center.conf"
    ]


def test_what_has_them_yield_is_written_and_leaves_nothing(places):
    (places.etc / f"{MOUNT}.d").mkdir()
    (places.etc / f"{MOUNT}.d" / "theirs.conf").touch()
    drop_ins = _center_rivals.wanted(BUCKET, SERVICE, [Rival(AUTOMOUNT, False), Rival(MOUNT, True)])
    _center_rivals.write("/mnt/depot", drop_ins)
    assert _center_rivals.present("/mnt/depot") == drop_ins
    _center_rivals.write("/mnt/depot", {})
    assert _center_rivals.present("/mnt/depot") == {}
    assert [str(path.relative_to(places.etc)) for path in places.etc.rglob("*")] == [
        f"{MOUNT}.d",
        f"{MOUNT}.d/theirs.conf",
    ]


FSTAB = _systemd.Unit(MOUNT, "loaded", "active", "generated", f"/run/systemd/generator/{MOUNT}", False)
ON = _systemd.Unit(SERVICE, "loaded", "active", "enabled", f"/etc/systemd/system/{SERVICE}", False)
NEW = ON._replace(active_state="inactive", unit_file_state="")
THEIRS = _center_state.Seen(_center_state.WRONG_SOURCE, b.MOUNTED, 1)
RIVALS = (Rival(MOUNT, True),)
YIELDS = {"/etc/x.conf": "text"}
FRESH = _center_mount.View(None, NEW, THEIRS, True, watched=False, rivals=RIVALS, yields=YIELDS)
OURS = _centers.Unit(ON.fragment_path, "text", BUCKET)
TAKEN = dataclasses.replace(FRESH, ours=OURS, unit=ON, watched=True, drop_ins=YIELDS)


def actions(state, center, view, previous=None):
    return [step.action for step in _center_mount.plan(state, center, view, previous)]


def test_they_yield_before_the_place_is_taken_and_have_it_back_when_the_center_goes():
    steps = ["take_over", "write_unit", "reload_systemd", "enable_unit", "remount", "start_keeper"]
    assert actions("mounted", BUCKET, FRESH) == steps
    assert "take_over" not in actions("mounted", BUCKET, TAKEN)
    assert actions("unmounted", BUCKET, TAKEN) == ["stop_keeper", "unmount", "disable_unit"]
    gone = ["give_back", "remove_mount_point", "remove_unit", "reload_systemd"]
    assert actions("absent", BUCKET, TAKEN)[-4:] == gone


def test_they_have_it_back_when_the_center_moves_or_only_looks_at_them():
    moved = dataclasses.replace(BUCKET, mount_point="/mnt/new")
    there = dataclasses.replace(TAKEN, seen=_center_state.Seen("not mounted"), drop_ins={}, yields={}, rivals=())
    steps = _center_mount.plan("mounted", moved, there, TAKEN)
    assert [step.action for step in steps[:2]] == ["unmount", "give_back"]
    assert steps[1].center == BUCKET and steps[0].center == BUCKET
    adopted = dataclasses.replace(BUCKET, storage_url="existing:///mnt/depot")
    looks = dataclasses.replace(TAKEN, rivals=(), yields={})
    assert actions("mounted", adopted, looks, TAKEN)[:4] == ["unmount", "give_back", "write_unit", "reload_systemd"]


def test_they_go_on_yielding_when_another_kind_of_unit_comes():
    mount = dataclasses.replace(FRESH, unit=FSTAB, drop_ins=YIELDS, yields={"/etc/y.conf": "text"})
    steps = actions("mounted", b.CENTER, mount, TAKEN)
    assert steps.count("take_over") == 1 and "give_back" not in steps
    # A mount unit needs to have nobody yield but automount units.
    steps = actions("mounted", b.CENTER, dataclasses.replace(mount, yields={}), TAKEN)
    assert steps.index("give_back") < steps.index("write_unit")


@pytest.fixture
def host(tmp_path, monkeypatch):
    return Host(tmp_path, monkeypatch)


@pytest.mark.parametrize("ours", [False, True])
def test_what_was_mounted_before_a_center_that_fails_is_mounted_again(ours, host, monkeypatch):
    monkeypatch.setattr(_systemd, "call", lambda verb, unit=None, *_rest, **_options: log(host, verb, unit))
    place = host.units / f"{MOUNT}.d" / "modelfleet-center.conf"
    rivals = (Rival(AUTOMOUNT, True), Rival(MOUNT, True), Rival("mnt-x.mount", False))
    view = host.view("[Mount]\nWhat=/before\n" if ours else None)
    monkeypatch.setattr(_center_rivals, "_names", lambda _mount_point: (AUTOMOUNT, MOUNT))
    view = dataclasses.replace(view, rivals=rivals, yields={str(place): "text"})
    host.state = _center_state.WRONG_CONTENT
    assert failure(host, view) == "storage_wrong"
    assert not place.parent.exists()
    assert f"stop {AUTOMOUNT}" in host.calls
    again = [f"start {AUTOMOUNT}", f"start {MOUNT}"]
    assert (host.calls[-2:] == again) is not ours


def log(host, verb, unit):
    host.calls.append(f"{verb} {unit or ''}")


def test_an_automount_that_does_not_stop_is_a_failure(monkeypatch):
    def call(verb, unit, _timeout, code):
        raise ModelfleetError(code, f"systemctl {verb} {unit} failed")

    monkeypatch.setattr(_systemd, "call", call)
    _center_rivals.stop_automounts([Rival(MOUNT, True), Rival(AUTOMOUNT, False)], 5)
    with pytest.raises(ModelfleetError) as caught:
        _center_rivals.stop_automounts([Rival(AUTOMOUNT, True)], 5)
    assert caught.value.code == "center_mount_failed"
