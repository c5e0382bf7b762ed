# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variables as people, inventories and surveys give them, read as what they mean. Pure, and for the controller only.

A survey and C(-e name=value) give texts, and an empty text for a question without an answer: that is as not given.

This plugin util is private to the collection.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ansible.module_utils.parsing.convert_bool import boolean

from ..module_utils import _input


def plain(value: t.Any) -> t.Any:
    """A value of Ansible as one of Python, with all that is lazy in it rendered."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    # A date of YAML is a text here, and what is undefined in Ansible says so when it is made one.
    return value if value is None or isinstance(value, (str, bool, int, float)) else str(value)


def read(variables: Mapping[str, t.Any], name: str) -> t.Any:
    """A variable, with its templates rendered; None when it is not given.

    Raises:
        ModelfleetError: C(invalid_input) when it cannot be rendered.
    """
    try:
        value = plain(variables.get(name))
    except Exception as problem:  # whatever a template raises
        raise _input.invalid(name, f"it cannot be rendered: {problem}") from problem
    return None if unset(value) else value


def unset(value: t.Any) -> bool:
    """Whether a value is as not given: null, or a text of blanks."""
    return value is None or (isinstance(value, str) and _input.trimmed(value) is None)


def given(value: t.Any, fallback: t.Any) -> t.Any:
    """A value, or another one when it is as not given. Other than C(default(..., true)) it keeps false and 0."""
    return fallback if unset(value) else value


def truth(name: str, value: t.Any) -> bool:
    """Yes or no, in all the words that Ansible takes for them; no when it is not given.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    if unset(value):
        return False
    try:
        return bool(boolean(value))
    except TypeError:
        raise _input.invalid(name, f"{_input.show(str(value))} is neither yes nor no") from None


def whole(name: str, value: t.Any, default: int) -> int:
    """A whole number.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    try:
        return default if unset(value) else int(value)
    except (TypeError, ValueError):
        raise _input.invalid(name, f"{_input.show(str(value))} is not a whole number") from None


def texts(name: str, value: t.Any) -> list[str]:
    """A list of texts, also as one text with commas. What is empty in it is left out.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    found = value.split(",") if isinstance(value, str) else [] if value is None else value
    if not isinstance(found, list) or not all(isinstance(item, (str, int)) for item in found):
        raise _input.invalid(name, "it must be a list of texts")
    return [text for text in (_input.trimmed(str(item)) for item in found) if text]


def choice(name: str, value: t.Any, choices: t.Sequence[str]) -> str:
    """One of some words; the first when it is not given.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    found = choices[0] if unset(value) else _input.trimmed(str(value))
    if found not in choices:
        raise _input.invalid(name, f"{_input.show(str(value))} is none of {', '.join(choices)}")
    return str(found)
