# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Model centers: their records in units of systemd."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _center_unit, _centers
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit.builders import CENTER

PATH = "/etc/systemd/system/mnt-depot.mount"


def center(**changes):
    return dataclasses.replace(CENTER, **changes)


def sections(text):
    """The settings of each section of a unit."""
    found = {}
    for line in text.splitlines():
        if line.startswith("["):
            found[line] = here = {}
        elif line and not line.startswith("#"):
            name, value = line.split("=", 1)
            here[name] = value
    return found


@pytest.mark.parametrize(
    "given",
    [
        CENTER,
        center(read_only=False),
        center(mount_point="/mnt/100% full", storage_url="file:///data/100%25%20full"),
        center(mount_point="/mnt/a=b;c#d", storage_url="file:///data/%E6%A8%A1%E5%9E%8B"),
        center(mount_point="/mnt/模型"),
    ],
    ids=["plain", "writable", "percent and blank", "signs", "unicode"],
)
def test_the_record_in_a_unit_is_the_center(given):
    assert _centers.parse(PATH, _center_unit.render(given)) == given


def test_a_unit_mounts_what_its_record_says():
    unit = sections(_center_unit.render(CENTER))
    mount = unit["[Mount]"]
    assert (mount["What"], mount["Where"], mount["Type"]) == ("/data/depot", "/mnt/depot", "none")
    assert set(mount["Options"].split(",")) == {"bind", "ro", "nosuid", "nodev"}
    assert unit["[X-Modelfleet]"] == {
        "SchemaVersion": "1",
        "Name": "depot",
        "Uuid": CENTER.uuid,
        "StorageUrl": "file:///data/depot",
        "MountPoint": "/mnt/depot",
        "ReadOnly": "yes",
        "KeepAlive": "yes",
    }


def test_a_writable_center_says_so_to_systemd():
    options = sections(_center_unit.render(center(read_only=False)))["[Mount]"]["Options"].split(",")
    assert "rw" in options and "ro" not in options


def test_vms_start_after_the_centers():
    before = sections(_center_unit.render(CENTER))["[Unit]"]["Before"].split()
    assert {"libvirtd.service", "virtqemud.service", "libvirt-guests.service"} <= set(before)


def test_percent_signs_are_no_specifiers():
    mount = sections(_center_unit.render(center(mount_point="/mnt/%h", storage_url="file:///data/%25n")))["[Mount]"]
    assert (mount["What"], mount["Where"]) == ("/data/%%n", "/mnt/%%h")


@pytest.mark.parametrize(
    "text",
    ["", "[Unit]\nDescription=x\n", "[Mount]\nWhat=[X-Modelfleet]\nWhere=/x\n", "# [X-Modelfleet]\n[Mount]\nWhat=/x\n"],
)
def test_a_unit_without_our_section_is_not_ours(text):
    assert _centers.parse(PATH, text) is None


def refusal(text):
    with pytest.raises(ModelfleetError) as caught:
        _centers.parse(PATH, text)
    return caught.value.code


def test_a_unit_of_a_newer_release_is_left_alone():
    assert refusal(_center_unit.render(CENTER).replace("SchemaVersion=1", "SchemaVersion=2")) == "center_unreadable"


@pytest.mark.parametrize("name", ["SchemaVersion", "Name", "Uuid", "StorageUrl", "MountPoint", "ReadOnly"])
def test_a_unit_that_lacks_something_is_damaged(name):
    lines = _center_unit.render(CENTER).splitlines(keepends=True)
    assert refusal("".join(line for line in lines if not line.startswith(f"{name}="))) == "center_unreadable"


def test_a_schema_version_that_is_no_number_is_damage():
    assert refusal(_center_unit.render(CENTER).replace("SchemaVersion=1", "SchemaVersion=one")) == "center_unreadable"


def test_the_units_of_a_host_are_ours_in_the_order_of_their_names(tmp_path):
    texts = {
        "mnt-b.mount": _center_unit.render(center(name="b", mount_point="/mnt/b")),
        "mnt-a.mount": _center_unit.render(center(name="a", mount_point="/mnt/a")),
        "mnt-c.service": _center_unit.render(center(name="c")),
        "mnt-d.mount": "[Mount]\nWhat=/x\nWhere=/mnt/d\n",
        "mnt-e.mount.new": _center_unit.render(center(name="e")),
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "mnt-f.mount").write_bytes(b"\xff\xfe")
    newer = _center_unit.render(center(name="i", mount_point="/mnt/i")).replace("SchemaVersion=1", "SchemaVersion=2")
    (tmp_path / "mnt-i.mount").write_text(newer, encoding="utf-8")
    (tmp_path / "mnt-g.mount").mkdir()
    (tmp_path / "mnt-h.mount").symlink_to("/nonexistent/unit")
    units = _centers.units(str(tmp_path))
    assert [unit.center.name for unit in units] == ["a", "b"]
    assert units[0].path == str(tmp_path / "mnt-a.mount")
    assert units[0].text == texts["mnt-a.mount"]
    assert [damaged[:2] for damaged in _centers.damaged(str(tmp_path))] == [(str(tmp_path / "mnt-i.mount"), "i")]


def test_a_host_without_units_has_no_centers(tmp_path):
    assert _centers.units(str(tmp_path / "missing")) == []
    (tmp_path / "[x]").mkdir()
    (tmp_path / "[x]" / "mnt-a.mount").write_text(_center_unit.render(CENTER), encoding="utf-8")
    assert len(_centers.units(str(tmp_path / "[x]"))) == 1


def test_a_result_shows_the_whole_center():
    assert center(read_only=False).as_dict() == {
        "name": "depot",
        "uuid": CENTER.uuid,
        "storage_url": "file:///data/depot",
        "mount_point": "/mnt/depot",
        "read_only": False,
        "options": [],
        "client": "",
        "helper": "",
        "cache_dir": "",
        "cache_size": 0,
        "verify_path": "",
        "credentials": [],
        "keep_alive": True,
        "schema_version": 1,
    }
