# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json

import pytest

from ansible_collections.modelfleet.kvm.plugins.plugin_utils import _fleet_read, _fleet_text
from ansible_collections.modelfleet.kvm.tests.unit import fleets

VARIED = _fleet_read.fleet(*fleets.varied(), "Fleet", "now")
HOSTILE = _fleet_read.fleet(fleets.hostile(), {}, "Fleet", "now")


def as_json(fleet):
    return json.loads(_fleet_text.to_json(fleet))


def as_csv(fleet):
    # As a file is read, so that the lines within cells are those of the cells.
    return list(csv.DictReader(io.StringIO(_fleet_text.to_csv(fleet), newline="")))


def test_json_has_all_rows():
    document = as_json(VARIED)
    assert document["summary"] == VARIED.summary()
    assert (document["schema_version"], document["title"], document["made"]) == (1, "Fleet", "now")
    for name, rows in VARIED.tables().items():
        assert len(document[name]) == len(rows) > 0


def test_json_says_what_is_due_and_what_failed():
    by_vm = {(mount["vm"], mount["model"]): mount for mount in as_json(VARIED)["mounts"]}
    assert by_vm["chat-1", "mistral-small"]["error"] is None
    assert by_vm["chat-3", "mistral-small"]["error"]["error_code"] == "agent_unavailable"
    assert by_vm["draw-1", "flux-schnell"]["due"] == [
        {"what": "Start the VM; its guest mounts the model when it boots.", "why": "The VM is shut off."}
    ]


def test_json_keeps_every_name_as_it_is():
    assert {mount["vm"] for mount in as_json(HOSTILE)["mounts"]} == set(fleets.HOSTILE)


def test_csv_has_a_line_for_each_thing():
    kinds = [row["kind"] for row in as_csv(VARIED)]
    counts = {kind: kinds.count(kind) for kind in kinds}
    assert counts == {"host": 5, "model center": 4, "vm": 10, "mount": 13, "stray": 1}


def test_csv_has_what_json_has():
    mounts = [row for row in as_csv(VARIED) if row["kind"] == "mount"]
    for row, mount in zip(mounts, as_json(VARIED)["mounts"]):
        same = [field for field in mount if field not in ("drift", "due", "error")]
        assert {field: row[field] for field in same} == {field: mount[field] for field in same}
        assert row["drift"] == ("yes" if mount["drift"] else "no")
        assert row["why"] == " ".join(due["why"] for due in mount["due"])
        assert row["remedy"] == (mount["error"] or {"remedy": ""})["remedy"]
    assert {row["vm_state"] for row in mounts} == {"running", "shutoff"}


def test_csv_of_nothing_has_its_columns():
    assert _fleet_text.to_csv(_fleet_read.fleet({}, {}, "", "")).startswith("kind,host,vm,model,")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠x"])
def test_no_cell_is_a_formula(name):
    made = _fleet_read.fleet({name: fleets.result(fleets.mount(name, name, name, owner=name))}, {}, "", "")
    cells = [cell for row in as_csv(made) for cell in row.values()]
    assert f"'{name}" in cells
    assert not [cell for cell in cells if cell.startswith(_fleet_text._FORMULA)]


def test_csv_of_hostile_names_can_be_written_and_read_again():
    text = _fleet_text.to_csv(HOSTILE)
    text.encode("utf-8")
    rows = [row for row in as_csv(HOSTILE) if row["kind"] == "mount"]
    known = {"half \ud83d a pair": "half \\ud83d a pair", "=1+1": "'=1+1"}
    assert {row["vm"] for row in rows} == {known.get(name, name) for name in fleets.HOSTILE}
