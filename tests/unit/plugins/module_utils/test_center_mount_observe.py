# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model center on its host: what is seen of it, and what stands in its way."""

from __future__ import annotations

import dataclasses
import errno

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _center_mount,
    _centers,
    _mountinfo,
    _opener,
    _systemd,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

CENTER = b.CENTER
MOUNT = b.ROOT._replace(mount_point=CENTER.mount_point, options=b.READ_ONLY)
OURS = _centers.Unit("/etc/systemd/system/mnt-depot.mount", "text", CENTER)
OTHER = _centers.Unit("/etc/systemd/system/mnt-depot.mount", "text", dataclasses.replace(CENTER, name="other"))


class Host:
    """What the host answers: its mounts, the directories behind them, and systemd."""

    def __init__(self, monkeypatch):
        self.mounts = [b.ROOT, MOUNT]
        self.directories = {"/data/depot": (1, 5), "/mnt/depot": (1, 5)}
        self.error = errno.ENOENT
        self.fragment = OURS.path
        monkeypatch.setattr(_mountinfo, "read", lambda: self.mounts)
        monkeypatch.setattr(_opener, "look", self.look)
        monkeypatch.setattr(_systemd, "mount_unit_name", lambda path: path.strip("/").replace("/", "-") + ".mount")
        monkeypatch.setattr(_systemd, "show", self.show)

    def look(self, root, paths, deadline, clone=False):
        assert paths == ["."]
        identity = self.directories.get(root)
        return [_opener.Found(identity, 0 if identity else self.error)]

    def show(self, unit):
        return _systemd.Unit(unit, "loaded", "active", "enabled", self.fragment, False)


@pytest.fixture
def host(monkeypatch):
    return Host(monkeypatch)


def observe(center=CENTER, wanted=True, units=(OURS,)):
    return _center_mount.observe(center, wanted, list(units), 5)


def refusal(*arguments, **options):
    with pytest.raises(ModelfleetError) as caught:
        observe(*arguments, **options)
    return caught.value.code


def test_a_center_that_is_mounted_is_right(host):
    view = observe()
    assert (view.ours, view.mount, view.right, view.directory) == (OURS, MOUNT, True, True)
    assert view.unit.name == "mnt-depot.mount"


@pytest.mark.parametrize(
    ("center", "mounts", "seen"),
    [
        (CENTER, [b.ROOT], (1, 5)),
        (CENTER, [b.ROOT, MOUNT], (1, 6)),
        (CENTER, [b.ROOT, MOUNT], None),
        (CENTER, [b.ROOT, MOUNT._replace(options=b.READ_WRITE)], (1, 5)),
        (CENTER, [b.ROOT, MOUNT._replace(options=frozenset({"ro", "nodev"}))], (1, 5)),
        (CENTER, [b.ROOT, MOUNT._replace(options=frozenset({"ro", "nosuid"}))], (1, 5)),
        (dataclasses.replace(CENTER, read_only=False), [b.ROOT, MOUNT], (1, 5)),
    ],
    ids=["nothing mounted", "another directory", "dead", "writable", "setuid", "devices", "not writable"],
)
def test_what_is_mounted_is_compared_with_what_was_wanted(center, mounts, seen, host):
    host.mounts = mounts
    host.directories["/mnt/depot"] = seen
    assert observe(center).right is False


def test_a_writable_center_may_be_wanted(host):
    host.mounts = [b.ROOT, MOUNT._replace(options=b.READ_WRITE)]
    assert observe(dataclasses.replace(CENTER, read_only=False)).right


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errno.ENOENT, "storage_missing"),
        (errno.ENOTDIR, "storage_missing"),
        (errno.ETIMEDOUT, "storage_timeout"),
        (errno.EIO, "storage_error"),
    ],
)
def test_storage_that_cannot_be_had_has_its_reason(error, code, host):
    del host.directories["/data/depot"]
    host.error = error
    assert refusal() == code


def test_what_goes_needs_no_look_at_its_storage(host):
    host.directories = {}
    view = observe(wanted=False)
    assert (view.ours, view.right) == (OURS, False)


def test_a_center_does_not_take_the_place_of_another(host):
    assert refusal(units=[OTHER]) == "center_conflict"


def test_a_center_does_not_take_the_place_of_a_unit_of_somebody_else(host):
    host.mounts = [b.ROOT]
    assert refusal(units=[]) == "center_conflict"


def test_a_center_does_not_take_the_place_of_a_mount_of_somebody_else(host):
    host.fragment = ""
    assert refusal(units=[]) == "center_conflict"
    host.mounts = [b.ROOT]
    assert observe(units=[]).ours is None


def test_two_centers_cannot_have_one_uuid(host):
    elsewhere = dataclasses.replace(CENTER, name="other", mount_point="/mnt/elsewhere")
    assert refusal(units=[OURS, OTHER._replace(center=elsewhere)][::-1]) == "center_conflict"


def test_a_center_that_goes_does_not_mistake_another_for_itself(host):
    assert observe(wanted=False, units=[OTHER]).ours is None


def test_a_mount_point_may_be_there_without_a_mount(host, tmp_path):
    host.mounts, host.fragment = [b.ROOT], ""
    missing = dataclasses.replace(CENTER, mount_point=str(tmp_path / "missing"))
    assert observe(missing, units=[]).directory is False
    assert observe(dataclasses.replace(missing, mount_point=str(tmp_path)), units=[]).directory is True
