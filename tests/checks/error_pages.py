# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The pages of error codes in docs/, made from the catalogue that the code raises from, and from its Chinese texts."""

from __future__ import annotations

import importlib.util
import re
import textwrap
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from . import places

CATALOGUE = places.ROOT / "plugins" / "module_utils" / "_errors.py"
CHINESE = places.ROOT / "docs" / "zh" / "errors.toml"


class Entry(NamedTuple):
    """What a code means, in one language."""

    title: str
    cause: str
    remedy: str


class Language(NamedTuple):
    """A page in one language.

    Attributes:
        path: where it is below docs/.
        width: columns at which lines end; 0 for a script without blanks between words, where no line may end.
    """

    path: str
    width: int
    heading: str
    introduction: str
    columns: tuple[str, str]
    labels: tuple[str, str]
    between: str


_ENGLISH = Language(
    path="errors.md",
    width=120,
    heading="Error codes",
    introduction=(
        "Every failure of a module has `error_code`, `msg`, which says what happened where and what to do, and"
        " `details` for programs. Codes are stable and never reused. This page is made from the catalogue in"
        " `plugins/module_utils/_errors.py` by `make docs`. [中文](zh/errors.md)"
    ),
    columns=("code", "meaning"),
    labels=("Cause", "Remedy"),
    between=": ",
)
_CHINESE = Language(
    path="zh/errors.md",
    width=0,
    heading="错误码",
    introduction=(
        "模块失败时，结果中一定有 `error_code`、`msg` 和 `details`：`msg` 用英文说明在哪里发生了什么、应当如何处理，"
        "`details` 供程序使用。错误码保持稳定，不会改作他用。本页由 `make docs` 根据 `docs/zh/errors.toml` 生成，"
        "错误码与 `plugins/module_utils/_errors.py` 中的目录一致。[English](../errors.md)"
    ),
    columns=("错误码", "含义"),
    labels=("原因", "处理方法"),
    between="：",
)


def catalogue() -> dict[str, Entry]:
    """Return what the code says, in its own order."""
    spec = importlib.util.spec_from_file_location("modelfleet_errors", CATALOGUE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {code: Entry(*entry) for code, entry in module.CATALOGUE.items()}


def chinese() -> dict[str, Entry]:
    """Return the Chinese texts, in their own order."""
    return {code: Entry(**texts) for code, texts in tomllib.loads(CHINESE.read_text(encoding="utf-8")).items()}


def pages() -> dict[Path, str]:
    """Return what the pages must be."""
    made = ((_ENGLISH, catalogue()), (_CHINESE, chinese()))
    return {places.ROOT / "docs" / language.path: render(language, entries) for language, entries in made}


def write() -> list[Path]:
    """Write the pages that are not what they must be, and return them."""
    stale = {path: text for path, text in pages().items() if not path.exists() or path.read_text("utf-8") != text}
    for path, text in stale.items():
        path.write_text(text, encoding="utf-8")
    return list(stale)


def render(language: Language, entries: Mapping[str, Entry]) -> str:
    """Return a page: a table of all codes, and a section with an anchor for each, by the alphabet."""
    codes = sorted(entries)
    table = [" | ".join(("", *language.columns, "")).strip(), "|---|---|"]
    table += [f"| [{code}](#{code}) | {_markdown(entries[code].title)} |" for code in codes]
    blocks = [f"# {language.heading}", _filled(language, language.introduction), "\n".join(table)]
    for code in codes:
        entry = entries[code]
        blocks += [f"## {code}", f"{_markdown(entry.title)}{'.' if language.width else '。'}"]
        blocks += [
            "\n".join(
                _filled(language, f"- {label}{language.between}{_markdown(text)}", "  ")
                for label, text in zip(language.labels, entry[1:], strict=True)
            )
        ]
    return "\n\n".join(blocks) + "\n"


def _filled(language: Language, text: str, indent: str = "") -> str:
    if not language.width:
        return text
    return textwrap.fill(text, language.width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*<|])", r"\\\1", text)
