# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What docs/zstack.md says is ours is there: modules, options, return values, statuses and error codes."""

from __future__ import annotations

import dataclasses
import pathlib
import re

import pytest
import yaml

from ansible_collections.modelfleet.kvm.plugins.module_utils import _errors, _layers, _records, _report
from ansible_collections.modelfleet.kvm.plugins.modules import (
    kvm_host_prepare,
    model_center_info,
    model_center_mount,
    vm_model_mount,
    vm_model_mount_info,
)

PAGE = pathlib.Path(_errors.__file__).parents[2] / "docs" / "zstack.md"
MODULES = {
    module.__name__.rsplit(".", 1)[-1]: module
    for module in (kvm_host_prepare, model_center_info, model_center_mount, vm_model_mount, vm_model_mount_info)
}
OURS = "modelfleet.kvm"
# What of theirs must be explained: the fields of VmModelMountInventory, and the commands of the agent.
INVENTORY = """
    uuid vmInstanceUuid modelUuid modelName mountPath sourcePath cacheUuid status accountUuid createDate lastOpDate
""".split()
COMMANDS = ["/virtiofs/attach", "/virtiofs/detach", "/modelcenter/mount", "/modelcenter/list"]


def tables():
    """The tables of the page, each a list of rows: texts by the names of columns."""
    found = []
    for block in re.findall(r"(?:^\|.*\|\n)+", PAGE.read_text(encoding="utf-8"), re.MULTILINE):
        head, _line, *rows = ([cell.strip() for cell in line.split("|")[1:-1]] for line in block.splitlines())
        assert all(len(row) == len(head) for row in rows), head
        found.append([dict(zip(head, row)) for row in rows])
    return found


def names(cell):
    return re.findall(r"`([^`]+)`", cell)


class Specified(Exception):
    """Carries the arguments of an AnsibleModule."""


def options(module, monkeypatch):
    """The options of a module, with their choices."""

    def refuse(argument_spec, **_how):
        raise Specified(argument_spec)

    monkeypatch.setattr(module, "AnsibleModule", refuse)
    with pytest.raises(Specified) as specified:
        module.main()
    return {name: spec.get("choices", []) for name, spec in specified.value.args[0].items()}


def returned(values):
    """The names of return values, at any depth."""
    return set(values).union(*(returned(value.get("contains", {})) for value in values.values()))


@pytest.fixture
def ours(monkeypatch):
    """All that a name of ours may be."""
    known = {*MODULES, *_report.STATUSES, *_errors.CATALOGUE}
    for module in MODULES.values():
        for option, choices in options(module, monkeypatch).items():
            known |= {option, *(f"{option}: {choice}" for choice in choices)}
        known |= returned(yaml.safe_load(module.RETURN))
    known |= {f"record.{field.name}" for field in dataclasses.fields(_records.Record) if field.name != "unknown"}
    known |= {"record.schema_version", *(f"layers.{layer}" for layer in _layers.Layers._fields)}
    center = yaml.safe_load(model_center_mount.RETURN)["center"]["contains"]
    return known | {f"center.{field}" for field in center}


def test_what_is_ours_exists(ours):
    said = {name for table in tables() for row in table for name in names(row[OURS])}
    assert len(said) > 50
    assert sorted(said - ours) == []


def test_every_status_is_explained():
    said = {name for table in tables() for row in table for name in names(row[OURS])}
    assert set(_report.STATUSES) <= said


def test_every_field_and_command_of_theirs_is_explained():
    theirs = {name for table in tables() for row in table for name in names(next(iter(row.values())))}
    assert [name for name in (*INVENTORY, *COMMANDS) if name not in theirs] == []


def test_twelve_codes_have_an_equal():
    (errors,) = [table for table in tables() if "ZStack's code for" in table[0]]
    assert len(errors) == 12
    assert [row for row in errors if not set(names(row[OURS])) & set(_errors.CATALOGUE)] == []
