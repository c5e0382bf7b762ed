# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Variables as surveys and people give them."""

from __future__ import annotations

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.plugin_utils import _values


@pytest.mark.parametrize("value", [False, "false", "no", "off", "0", "False", 0, None, "", "  "])
def test_no(value):
    assert _values.truth("x", value) is False


@pytest.mark.parametrize("value", [True, "true", "yes", "on", "1", "True", 1])
def test_yes(value):
    assert _values.truth("x", value) is True


@pytest.mark.parametrize(
    ("read", "value", "found"),
    [
        (lambda value: _values.given(value, 7), "", 7),
        (lambda value: _values.given(value, 7), "\n", 7),
        (lambda value: _values.given(value, 7), None, 7),
        (lambda value: _values.given(value, 7), 0, 0),
        (lambda value: _values.given(value, 7), False, False),
        (lambda value: _values.whole("x", value, 50), "", 50),
        (lambda value: _values.whole("x", value, 50), " 3", 3),
        (lambda value: _values.whole("x", value, 50), 0, 0),
        (lambda value: _values.texts("x", value), " a, b,", ["a", "b"]),
        (lambda value: _values.texts("x", value), ["a ", "", 7], ["a", "7"]),
        (lambda value: _values.texts("x", value), None, []),
        (lambda value: _values.choice("x", value, ["none", "vm"]), "", "none"),
        (lambda value: _values.choice("x", value, ["none", "vm"]), "vm ", "vm"),
    ],
)
def test_what_is_given(read, value, found):
    assert read(value) == found


@pytest.mark.parametrize(
    "read",
    [
        lambda: _values.truth("x", "perhaps"),
        lambda: _values.truth("x", [1]),
        lambda: _values.whole("x", "many", 1),
        lambda: _values.whole("x", [1], 1),
        lambda: _values.texts("x", {"a": 1}),
        lambda: _values.choice("x", "all", ["none"]),
    ],
)
def test_what_cannot_be_used(read):
    with pytest.raises(ModelfleetError) as caught:
        read()
    assert caught.value.code == "invalid_input" and "x: " in caught.value.msg
