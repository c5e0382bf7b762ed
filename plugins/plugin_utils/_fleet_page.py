# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet as one HTML file that needs no other and no network. Pure, and for the controller only.

The data stand in the page as JSON, by columns since that is a fifth of the size, and a script of ours shows what is
looked for. It is the only one that the page's policy lets run, whatever a name contains.

This plugin util is private to the collection.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import pathlib
import re
import typing as t

from . import _fleet

_FILES = pathlib.Path(__file__).parent / "fleet_page"
_STYLES = ("page.css", "print.css")
# Parts of one script, each of which may use those before it.
_SCRIPTS = (
    "dom.js",
    "fleet.js",
    "filters.js",
    "glance.js",
    "attention.js",
    "centers.js",
    "matrix.js",
    "vms.js",
    "main.js",
)
_PLACE = re.compile(r"\{\{ (\w+) \}\}")


def to_html(fleet: _fleet.Fleet) -> str:
    """The page."""
    style = "".join(map(_read, _STYLES))
    script = '"use strict";\n' + "".join(map(_read, _SCRIPTS))
    parts = {
        "policy": _policy(style, script),
        "title": _escaped(fleet.title),
        "made": _escaped(fleet.made),
        "glance": _escaped(", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in fleet.summary().items())),
        "style": style,
        "data": _embedded(_data(fleet)),
        "script": script,
    }
    # In one pass, so that nothing in a part is taken for a place.
    return _PLACE.sub(lambda found: parts[found[1]], _read("page.html"))


def _policy(style: str, script: str) -> str:
    """Nothing is loaded from anywhere, and nothing runs or styles the page but what is in it by our own hand."""
    return (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src data:;"
        " base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data(fleet: _fleet.Fleet) -> dict[str, t.Any]:
    tables = {name: _columns(rows) for name, rows in fleet.tables().items()}
    return {"title": fleet.title, "made": fleet.made, "summary": fleet.summary(), "tables": tables}


def _columns(rows: t.Sequence[t.Any]) -> dict[str, t.Any]:
    return {field: _column([getattr(row, field) for row in rows]) for field in rows[0]._fields} if rows else {}


def _column(values: list[t.Any]) -> t.Any:
    """The values of a column, or where most are alike, each of them once and the number of each."""
    numbers: dict[t.Any, int] = {}
    places = [numbers.setdefault(value, len(numbers)) for value in values]
    return {"of": list(numbers), "at": places} if 2 * len(numbers) < len(values) else values


def _embedded(data: t.Any) -> str:
    """JSON that no parser of HTML can take for anything but text. Tuples are lists in it, named ones too."""
    text = json.dumps(data, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _escaped(text: str) -> str:
    return html.escape(text).encode("utf-8", "xmlcharrefreplace").decode("utf-8")


def _read(name: str) -> str:
    return (_FILES / name).read_text(encoding="utf-8")
