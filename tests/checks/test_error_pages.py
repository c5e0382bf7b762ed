# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pages of error codes say what the catalogue says, in both languages.

That every code is raised somewhere, and no other, is a unit test's (tests/unit/plugins/module_utils/test_errors.py).
"""

from __future__ import annotations

import re
from pathlib import Path

from checks import error_pages, places

# What is the same in every language: names with a dot, an underscore, an equals sign or two hyphens, and versions.
_LITERAL = re.compile(r"[A-Za-z]+(?:[._=][A-Za-z]+)+|[A-Za-z]+(?:-[A-Za-z*]+){2,}|\d+(?:\.\d+)+")
_HAN = re.compile(r"[\u4e00-\u9fff]")


def test_pages_are_what_make_docs_would_write() -> None:
    stale = [str(path.relative_to(places.ROOT)) for path, text in error_pages.pages().items() if text != _read(path)]
    assert stale == [], "run `make docs`"


def test_both_languages_have_the_same_codes() -> None:
    english, chinese = set(error_pages.catalogue()), set(error_pages.chinese())
    assert sorted(english - chinese) == [], "these have no Chinese texts in docs/zh/errors.toml"
    assert sorted(chinese - english) == [], "these are in docs/zh/errors.toml only"


def test_codes_stand_in_order() -> None:
    for entries in (error_pages.catalogue(), error_pages.chinese()):
        assert list(entries) == sorted(entries)


def test_chinese_texts_are_chinese() -> None:
    for code, entry in error_pages.chinese().items():
        assert all(_HAN.search(text) and text == text.strip() for text in entry), code
        assert not entry.title.endswith("。") and entry.cause.endswith("。") and entry.remedy.endswith("。"), code


def test_chinese_texts_name_what_the_english_ones_name() -> None:
    chinese = error_pages.chinese()
    lacking = {
        code: sorted(name for name in _names(entry) if name not in " ".join(chinese.get(code, ())))
        for code, entry in error_pages.catalogue().items()
    }
    assert {code: names for code, names in lacking.items() if names} == {}


def test_every_code_has_an_anchor() -> None:
    for text in error_pages.pages().values():
        links = re.findall(r"\]\(#(\w+)\)", text)
        assert links == sorted(error_pages.catalogue())
        assert re.findall(r"(?m)^## (\w+)$", text) == links


def test_what_markdown_would_take_for_itself_is_escaped() -> None:
    entry = error_pages.Entry("a|b", "<x> and guest-file-*.", "`y` \\.")
    page = error_pages.render(error_pages._ENGLISH, {"code": entry})
    assert "| [code](#code) | a\\|b |" in page
    assert "- Cause: \\<x> and guest-file-\\*.\n- Remedy: \\`y\\` \\\\.\n" in page


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _names(entry: error_pages.Entry) -> set[str]:
    return set(_LITERAL.findall(" ".join(entry)))
