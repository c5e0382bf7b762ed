# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model center on its host: steps carried out, and put back when mounting fails, on files and a log of systemctl."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _center_mount, _centers, _mountinfo, _systemd
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

UNIT = "mnt-depot.mount"


class Host:
    """A directory of units, a mount point, and a systemctl that can be made to fail."""

    def __init__(self, root, monkeypatch):
        self.units = root / "units"
        self.units.mkdir()
        self.mount_point = root / "depot"
        self.center = dataclasses.replace(b.CENTER, mount_point=str(self.mount_point))
        self.calls = []
        self.fails = set()
        self.right = True
        monkeypatch.setattr(_systemd, "UNIT_DIRECTORY", str(self.units))
        monkeypatch.setattr(_systemd, "call", self.call)
        monkeypatch.setattr(_mountinfo, "read", list)
        monkeypatch.setattr(_center_mount, "_is_right", lambda *_arguments: self.calls.append("look") or self.right)

    def call(self, verb, unit=None, timeout=120, code="systemd_error"):
        self.calls.append(verb)
        if verb in self.fails:
            raise ModelfleetError(code, f"systemctl {verb} failed")

    def view(self, text=None, mounted=False):
        """What is there: a unit of ours with a text, or none."""
        ours = None
        if text is not None:
            (self.units / UNIT).write_text(text, encoding="utf-8")
            self.mount_point.mkdir()
            ours = _centers.Unit(str(self.units / UNIT), text, self.center)
        state = ("active", "enabled") if mounted else ("inactive", "")
        unit = _systemd.Unit(UNIT, "loaded", *state, "", False)
        mount = b.ROOT._replace(mount_point=str(self.mount_point)) if mounted else None
        return _center_mount.View(ours, unit, mount, False, self.mount_point.is_dir())

    def apply(self, state, view):
        _center_mount.apply(_center_mount.plan(state, self.center, view, None), view, 30)

    def text(self):
        path = self.units / UNIT
        return path.read_text(encoding="utf-8") if path.exists() else None


@pytest.fixture
def host(tmp_path, monkeypatch):
    return Host(tmp_path, monkeypatch)


def failure(host, view):
    with pytest.raises(ModelfleetError) as caught:
        host.apply("mounted", view)
    return caught.value.code


def test_a_center_is_mounted_and_enabled(host):
    host.apply("mounted", host.view())
    assert host.calls == ["daemon-reload", "enable", "start", "look"]
    assert host.text() == _centers.render(host.center)
    assert (host.units / UNIT).stat().st_mode & 0o777 == 0o644
    assert [path.name for path in host.units.iterdir()] == [UNIT]
    assert host.mount_point.is_dir()


def test_a_center_goes_with_its_unit_and_its_mount_point(host):
    host.apply("absent", host.view(_centers.render(host.center), mounted=True))
    assert host.calls == ["stop", "disable", "daemon-reload"]
    assert host.text() is None and not host.mount_point.exists()


def test_what_lay_in_the_mount_point_stays(host):
    view = host.view(_centers.render(host.center), mounted=True)
    (host.mount_point / "kept").touch()
    host.apply("absent", view)
    assert (host.mount_point / "kept").exists()


@pytest.mark.parametrize(
    "broken", [{"start"}, {"enable"}, {"daemon-reload"}, {"start", "stop"}, {"daemon-reload", "disable"}]
)
def test_a_fresh_center_that_cannot_be_mounted_leaves_nothing(broken, host):
    host.fails = broken
    assert failure(host, host.view()) in ("center_mount_failed", "systemd_error")
    assert host.text() is None
    assert not host.mount_point.exists()


def test_a_changed_center_that_cannot_be_mounted_is_as_it_was(host):
    view = host.view("[Mount]\nWhat=/before\n", mounted=True)
    host.fails = {"restart"}
    assert failure(host, view) == "center_mount_failed"
    assert host.text() == "[Mount]\nWhat=/before\n"
    assert host.calls[-2:] == ["daemon-reload", "restart"]
    assert host.mount_point.is_dir()


def test_a_mount_that_shows_something_else_is_a_failure(host):
    host.right = False
    assert failure(host, host.view()) == "center_mount_failed"
    assert host.text() is None


def test_a_unit_that_was_right_is_not_put_back(host):
    text = _centers.render(host.center)
    host.fails = {"start"}
    assert failure(host, host.view(text)) == "center_mount_failed"
    assert host.text() == text
    assert host.calls[-1] == "start"


def test_a_file_system_error_has_a_code(host):
    view = host.view()
    host.units.rmdir()
    assert failure(host, view) == "center_mount_failed"
    assert host.calls.count("start") == 0
