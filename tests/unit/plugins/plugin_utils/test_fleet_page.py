# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet as a page. What it looks like and does is tested in a browser (tests/browser)."""

from __future__ import annotations

import base64
import hashlib
import html.parser
import json
import re

import pytest

from ansible_collections.modelfleet.kvm.plugins.plugin_utils import _fleet_page, _fleet_read
from ansible_collections.modelfleet.kvm.tests.unit import fleets

TITLE = "<b>{{ data }}</b></title>\ud83d"
VARIED = _fleet_read.fleet(*fleets.varied(), "Fleet", "now")
HOSTILE = _fleet_read.fleet(fleets.hostile(), {}, TITLE, TITLE)


class Parsed(html.parser.HTMLParser):
    """A page as a parser of HTML sees it."""

    def __init__(self, text):
        super().__init__()
        self.inside, self.tags, self.texts, self.attributes = "", [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        self.texts.setdefault(self.inside, []).append(data)


def parsed(fleet):
    return Parsed(_fleet_page.to_html(fleet))


def data(page):
    return json.loads(page.texts["script"][0])


def decoded(column):
    return column if isinstance(column, list) else [column["of"][place] for place in column["at"]]


def test_the_page_has_the_data_and_nothing_of_it_elsewhere():
    plain, hostile = parsed(VARIED), parsed(HOSTILE)
    assert hostile.tags == plain.tags
    assert hostile.tags.count("script") == 2
    assert hostile.texts["title"] == [TITLE.replace("\ud83d", "\ufffd")]
    assert decoded(data(hostile)["tables"]["mounts"]["vm"]) == [mount.vm for mount in HOSTILE.mounts]


@pytest.mark.parametrize("fleet", [VARIED, HOSTILE, _fleet_read.fleet({}, {}, "", "")])
def test_columns_have_all_of_every_row(fleet):
    for name, rows in fleet.tables().items():
        columns = data(parsed(fleet))["tables"][name]
        rebuilt = list(zip(*map(decoded, columns.values()))) if rows else []
        assert json.dumps(rebuilt) == json.dumps(rows)


def test_the_embedded_data_cannot_end_its_element():
    text = _fleet_page._embedded({"x": "</script><!--<script>&lt;\u2028"})
    assert re.fullmatch(r"[^<>&\u2028]*", text)
    assert json.loads(text)["x"] == "</script><!--<script>&lt;\u2028"


def test_the_policy_lets_our_script_and_style_through_and_nothing_else():
    page = parsed(HOSTILE)
    policy = next(value for tag, name, value in page.attributes if name == "content" and "default-src" in value)
    assert "default-src 'none'" in policy and "unsafe" not in policy
    for kind, text in (("script", page.texts["script"][1]), ("style", page.texts["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_the_page_asks_for_nothing_and_makes_no_html_of_texts():
    text = _fleet_page.to_html(_fleet_read.fleet({}, {}, "", ""))
    assert re.findall(r"https?:|@import|url\(|\bsrc=", text) == []
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text) == []
    assert re.findall(r"<\w[^>]* (?:on\w+|style)=", text) == []


def test_a_large_fleet_is_a_small_file():
    fleet = _fleet_read.fleet(fleets.large(50, 20), {}, "", "")
    assert len(fleet.mounts) == 3000
    assert len(_fleet_page.to_html(fleet)) < 300 * 3000
