# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every failure has a code of the catalogue, and the catalogue holds no other."""

from __future__ import annotations

import ast
import pathlib

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _errors

PLUGINS = pathlib.Path(_errors.__file__).parents[1]
# What takes a code as its first argument, or as another by this name.
RAISERS = {"ModelfleetError": 0, "_failure": 0, "failure": 0, "require": 1, "Problem": 0, "_problem": 0}


def trees():
    for path in sorted(PLUGINS.rglob("*.py")):
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def results(node):
    """The texts that an expression can turn out to be: the values of a table, the sides of a condition."""
    if isinstance(node, ast.IfExp):
        return results(node.body) | results(node.orelse)
    if isinstance(node, ast.Dict):
        return set().union(*(results(value) for value in node.values))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "get":
        return results(node.func.value) | set().union(*(results(default) for default in node.args[1:]))
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def codes(tree):
    """The codes that a file can raise."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", None) or getattr(node.func, "attr", None)
            index = RAISERS.get(name)
            if index is not None and len(node.args) > index:
                found |= results(node.args[index])
            found |= set().union(*(results(word.value) for word in node.keywords if word.arg == "code"))
        elif isinstance(node, ast.Assign) and [getattr(target, "id", "") for target in node.targets] == ["code"]:
            found |= results(node.value)
        elif isinstance(node, ast.FunctionDef):
            names = [argument.arg for argument in node.args.args]
            for name, default in zip(reversed(names), reversed(node.args.defaults)):
                found |= results(default) if name == "code" else set()
    return found


RAISED = {str(path.relative_to(PLUGINS)): codes(tree) for path, tree in trees()}


def test_every_code_that_is_raised_is_in_the_catalogue():
    unknown = {path: found - set(_errors.CATALOGUE) for path, found in RAISED.items()}
    assert {path: found for path, found in unknown.items() if found} == {}


def test_every_code_of_the_catalogue_is_raised_somewhere():
    assert set(_errors.CATALOGUE) - set().union(*RAISED.values()) == set()


def test_the_search_finds_what_it_should():
    assert "host_not_prepared" in RAISED["module_utils/_refusals.py"]
    assert {"agent_unavailable", "agent_command_failed"} <= RAISED["module_utils/_agents.py"]
    assert {"storage_timeout", "storage_error"} <= RAISED["module_utils/_observed.py"]


def test_every_entry_says_what_why_and_what_to_do():
    for code, entry in _errors.CATALOGUE.items():
        assert all(text.strip() == text and len(text) > 10 for text in entry), code
        assert not entry.title.endswith(".") and entry.cause.endswith(".") and entry.remedy.endswith("."), code
        assert code.replace("_", "").isalpha() and code == code.lower(), code


def test_titles_tell_codes_apart():
    titles = [entry.title for entry in _errors.CATALOGUE.values()]
    assert len(set(titles)) == len(titles)


def test_codes_stand_in_the_catalogue_once_and_in_order():
    tree = ast.parse(pathlib.Path(_errors.__file__).read_text(encoding="utf-8"))
    names = {getattr(node.target, "id", ""): node.value for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)}
    keys = [key.value for key in names["CATALOGUE"].keys]
    assert keys == sorted(_errors.CATALOGUE)


def test_an_error_says_what_happened_and_what_to_do():
    problem = _errors.ModelfleetError("mount_busy", "VM render-4: /srv/ai is in use", vm="render-4")
    assert problem.msg.startswith("VM render-4: /srv/ai is in use. ")
    assert problem.msg.endswith(_errors.CATALOGUE["mount_busy"].remedy)
    assert str(problem) == problem.msg
    assert problem.as_result() == {"error_code": "mount_busy", "msg": problem.msg, "details": {"vm": "render-4"}}


def test_a_code_that_is_not_in_the_catalogue_cannot_be_raised():
    with pytest.raises(KeyError):
        raise _errors.ModelfleetError("no_such_code", "x")
