# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is shown of the centers of a host."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _center_info,
    _center_state,
    _center_unit,
    _center_users,
    _centers,
    _storage,
    _systemd,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

ON = _systemd.Unit("mnt-depot.mount", "loaded", "active", "enabled", "/etc/systemd/system/mnt-depot.mount", False)
TIMER = ON._replace(name="modelfleet-keeper@depot.timer", active_state="inactive")
SEEN = _center_state.Seen(_center_state.HEALTHY, b.MOUNTED, 1)
USER = _center_users.User(b.VM, "render-4", (b.record(),))


class Host:
    """A host with units of model centers in a directory, all of them mounted."""

    def __init__(self, root, monkeypatch):
        self.root = root
        self.write(b.CENTER)
        units, damaged = _centers.units, _centers.damaged
        monkeypatch.setattr(_centers, "units", lambda: units(str(root)))
        monkeypatch.setattr(_centers, "damaged", lambda: damaged(str(root)))
        monkeypatch.setattr(_center_users, "find", lambda *_arguments: [USER])
        monkeypatch.setattr(_systemd, "show", lambda unit: TIMER if unit == TIMER.name else ON._replace(name=unit))
        monkeypatch.setattr(_center_state, "look", lambda *_arguments: SEEN)
        monkeypatch.setattr(_center_state, "processes", lambda _unit: [7])

    def write(self, center, *changes):
        text = _center_unit.render(dataclasses.replace(center, storage_url="file:///data/depot"))
        for before, after in changes:
            text = text.replace(before, after)
        (self.root / f"mnt-{center.name}.mount").write_text(text, encoding="utf-8")


@pytest.fixture
def host(tmp_path, monkeypatch):
    return Host(tmp_path, monkeypatch)


def test_what_is_of_a_center_is_shown(host):
    (found,) = _center_info.info(["depot"], 5)
    assert found["center"]["name"] == "depot"
    assert (found["state"], found["daemon"], found["keeper"]) == ("healthy", [7], False)
    assert found["drift"] == ["nobody looks after it"]
    assert [user["vm"] for user in found["users"]] == ["render-4"]
    with pytest.raises(ModelfleetError) as caught:
        _center_info.info(["other"], 5)
    assert caught.value.code == "center_unknown"


def test_credentials_that_are_gone_or_that_others_can_read_are_told_of(host, monkeypatch, tmp_path):
    monkeypatch.setattr(_storage._backend, "directory", lambda name: str(tmp_path / "secrets" / name))
    center = dataclasses.replace(b.CENTER, storage_url="smb://svc@nas/depot", credentials=("password",))
    (host.root / "mnt-depot.mount").write_text(_center_unit.render(center), encoding="utf-8")
    drift = ["credentials missing", "nobody looks after it"]
    assert _center_info.info(None, 5)[0]["drift"] == drift
    login = tmp_path / "secrets" / "depot" / "login"
    login.parent.mkdir(parents=True, mode=0o700)
    login.write_text("password=hunter2")
    login.chmod(0o644)
    assert _center_info.info(None, 5)[0]["drift"] == ["credentials not for root alone", *drift[1:]]
    login.chmod(0o600)
    assert _center_info.info(None, 5)[0]["drift"] == drift[1:]


def test_a_libvirt_that_is_down_hides_only_the_users(host, monkeypatch):
    def down(*_arguments):
        raise ModelfleetError("libvirt_unavailable", "down")

    monkeypatch.setattr(_center_users, "find", down)
    (found,) = _center_info.info(None, 5)
    assert (found["users"], found["error"]["error_code"]) == (None, "libvirt_unavailable")


OTHER = dataclasses.replace(b.CENTER, name="annex", mount_point="/mnt/annex")


@pytest.mark.parametrize(
    "change",
    [
        ("file:///data/depot", "of-another-release://depot"),
        ("file:///data/depot", "file://user:hunter2@nas/depot"),
        ("SchemaVersion=1", "SchemaVersion=2"),
        ("SchemaVersion=1", "SchemaVersion=one"),
        (f"Uuid={OTHER.uuid}\n", ""),
    ],
)
def test_a_center_that_cannot_be_read_is_told_of_and_hides_no_other(change, host):
    host.write(OTHER, change)
    found = {item["center"]["name"]: item for item in _center_info.info(None, 5)}
    assert found["depot"]["state"] == "healthy"
    unreadable = found["annex"]
    assert set(unreadable) == set(found["depot"])
    assert (unreadable["state"], unreadable["error"]["error_code"]) == ("unreadable", "center_unreadable")
    assert unreadable["unit"] == {"name": "mnt-annex.mount", "active": "active", "enabled": True}
    assert "hunter2" not in unreadable["error"]["msg"]
    assert [item["state"] for item in _center_info.info(["annex"], 5)] == ["unreadable"]
    assert [item["state"] for item in _center_info.info(["depot"], 5)] == ["healthy"]


def test_a_record_without_a_name_is_called_by_its_unit(host):
    host.write(OTHER, ("Name=annex\n", ""))
    assert [item["center"]["name"] for item in _center_info.info(None, 5)] == ["depot", "mnt-annex.mount"]
