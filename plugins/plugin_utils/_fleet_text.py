# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet as JSON for programs and as CSV for spreadsheets. Pure, and for the controller only.

This plugin util is private to the collection.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import typing as t

from . import _fleet

# A spreadsheet takes a cell that begins so for a formula, which can run programs and send data away. The last four are
# what a Chinese or Japanese one takes for the first four, and a tab or line end before them is passed over.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def to_json(fleet: _fleet.Fleet) -> str:
    """All tables, each a list of objects."""
    document = {
        "schema_version": _fleet.SCHEMA_VERSION,
        "title": fleet.title,
        "made": fleet.made,
        "summary": fleet.summary(),
        **{name: [_as_dict(row) for row in rows] for name, rows in fleet.tables().items()},
    }
    # In ASCII, so that a name that is no text in any encoding can be written too.
    return json.dumps(document, indent=1) + "\n"


def to_csv(fleet: _fleet.Fleet) -> str:
    """A line for each thing that there is, of the kind that its first cell says, with the columns of mounts."""
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, restval="")
    writer.writeheader()
    states = {(vm.host, vm.vm): (vm.vm_uuid, vm.vm_state) for vm in fleet.vms}
    for row in itertools.chain(*fleet.tables().values()):
        cells = {**_flat(row), "kind": _KINDS[type(row)]}
        if isinstance(row, (_fleet.Mount, _fleet.Stray)):
            cells["vm_uuid"], cells["vm_state"] = states[row.host, row.vm]
        writer.writerow({column: _harmless(cell) for column, cell in cells.items()})
    return text.getvalue().encode("utf-8", "backslashreplace").decode("utf-8")


_KINDS: dict[type, str] = {
    _fleet.Host: "host",
    _fleet.Center: "model center",
    _fleet.Vm: "vm",
    _fleet.Mount: "mount",
    _fleet.Stray: "stray",
}


def _as_dict(row: t.Any) -> dict[str, t.Any]:
    data: dict[str, t.Any] = row._asdict()
    if "due" in data:
        data["due"] = [due._asdict() for due in data["due"]]
    if "problem" in data:
        problem = data.pop("problem")
        data["error"] = problem._asdict() if problem else None
    return data


def _flat(row: t.Any) -> dict[str, t.Any]:
    """A row whose cells are all of one line and one value."""
    data: dict[str, t.Any] = row._asdict()
    due = data.pop("due", ())
    if due:
        data["due"] = " ".join(dict.fromkeys(item.what for item in due))
        data["why"] = " ".join(item.why for item in due)
    problem = data.pop("problem", None)
    if problem:
        data.update(problem._asdict())
    if isinstance(row, _fleet.Center):
        data["drift"] = "; ".join(row.drift)
        data["stale_users"] = "; ".join(row.stale_users)
    return data


def _harmless(cell: t.Any) -> str:
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    text = "" if cell is None else str(cell)
    return f"'{text}" if text.startswith(_FORMULA) else text


# What people look for comes first.
_COLUMNS = """
kind host vm model model_version model_center mount_path state vm_state status drift source persistent live guest
due why error_code title message remedy owner account_uuid transport tag alias model_path source_path
vm_uuid model_uuid uuid create_date last_op_date total_bytes available_bytes stale_users
""".split()
