# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hook as a file: what is in it, and that it runs by itself."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import zipfile

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _hook_file, _host_prepare
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError


def archive(data):
    return zipfile.ZipFile(io.BytesIO(data))


def run(path, *arguments, data=b""):
    """Run the hook as libvirt does, but with the Python of the tests."""
    command = [sys.executable, "-I", str(path), *arguments]
    return subprocess.run(command, input=data, capture_output=True, timeout=30, check=False)


@pytest.fixture
def installed(tmp_path):
    path = tmp_path / "qemu.d" / "modelfleet"
    _hook_file.write(_host_prepare.hook(), str(path))
    return path


def test_the_same_code_gives_the_same_bytes():
    sources = {"_one": "x = 1\n", "_two": "y = 2\n"}
    assert _hook_file.content(sources.get, ["_one", "_two"]) == _hook_file.content(sources.get, ["_two", "_one"])
    assert _host_prepare.hook() == _host_prepare.hook()


def test_the_parts_stand_where_python_finds_them():
    sources = {"_one": "x = 1\n", "_box": "box = 1\n", "_box._in": "y = 2\n"}
    with archive(_hook_file.content(sources.get, sources)) as file:
        contents = {name: file.read(name).decode() for name in file.namelist()}
    assert contents["modelfleet_hook/_one.py"] == "x = 1\n"
    assert contents["modelfleet_hook/_box/__init__.py"] == "box = 1\n"
    assert contents["modelfleet_hook/_box/_in.py"] == "y = 2\n"
    assert contents["modelfleet_hook/__init__.py"] == ""
    assert "__main__.py" in contents


def test_the_hook_has_all_that_it_imports_and_nothing_else():
    with archive(_host_prepare.hook()) as file:
        names = [name for name in file.namelist() if name.endswith(".py")]
        parts = {part(name): ast.parse(file.read(name)) for name in names if part(name)}
    needed, queue = set(), ["_hook"]
    while queue:
        name = queue.pop()
        if name not in needed:
            needed.add(name)
            queue.extend(imports(name, parts))
    assert needed == set(parts)


def part(name):
    """The name of a module util from its place in the archive, with dots."""
    inner = name.removeprefix("modelfleet_hook/").removesuffix(".py").removesuffix("/__init__")
    return "" if name.startswith("__main__") or inner == "__init__" else inner.replace("/", ".")


def imports(name, parts):
    """The module utils that a module util imports."""
    is_package = any(other.startswith(f"{name}.") for other in parts)
    for node in ast.walk(parts[name]):
        if isinstance(node, ast.ImportFrom) and node.level:
            steps = name.split(".") if is_package else name.split(".")[:-1]
            base = steps[: len(steps) - node.level + 1]
            if node.module:
                yield ".".join([*base, node.module])
            else:
                yield from (".".join([*base, alias.name]) for alias in node.names)


def test_nothing_in_the_hook_needs_ansible_or_libvirt():
    with archive(_host_prepare.hook()) as file:
        for name in file.namelist():
            for node in ast.walk(ast.parse(file.read(name))):
                found = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                found += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                assert not [
                    module for module in found if module.split(".")[0] in ("ansible", "ansible_collections", "libvirt")
                ], name


@pytest.mark.parametrize(
    ("arguments", "data"),
    [
        ("vm stopped end -", b""),
        ("vm prepare begin -", b"<domain><name>vm</name></domain>"),
        ("vm prepare begin -", b"\xff<not xml"),
        ("vm release end -", b""),
        ("", b""),
    ],
)
def test_the_hook_never_fails_a_vm(arguments, data, installed):
    done = run(installed, *arguments.split(), data=data)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_the_hook_is_executable_and_says_what_it_is(installed):
    assert installed.stat().st_mode & 0o777 == 0o755
    lines = installed.read_bytes().split(b"\n")
    assert lines[0] == b"#!/usr/bin/python3 -I"
    assert b"modelfleet.kvm hook" in lines[1]


def test_only_the_hook_is_left_in_libvirt_s_directory(installed):
    # libvirt runs every executable file in it.
    assert os.listdir(installed.parent) == ["modelfleet"]
    assert sorted(os.listdir(installed.parent.parent)) == ["qemu.d"]


def test_an_installed_hook_is_recognised(installed):
    assert _hook_file.installed(str(installed))


def replaced(path, old, new):
    path.write_bytes(path.read_bytes().replace(old, new, 1))


NOT_INSTALLED = {
    "missing": lambda path: path.unlink(),
    "not executable": lambda path: path.chmod(0o644),
    "older": lambda path: replaced(path, b"hook %d:" % _hook_file.VERSION, b"hook %d:" % (_hook_file.VERSION - 1)),
    "somebody else's": lambda path: path.write_bytes(b"#!/bin/sh\nexit 0\n"),
    "empty": lambda path: path.write_bytes(b""),
    "version further down": lambda path: replaced(path, b"\n# modelfleet", b"\n\n# modelfleet"),
}


@pytest.mark.parametrize("why", NOT_INSTALLED)
def test_what_is_not_this_hook_is_not_installed(why, installed):
    NOT_INSTALLED[why](installed)
    # Root may execute nothing either that nobody may.
    assert not _hook_file.installed(str(installed))


def test_a_hook_of_a_newer_release_will_do(installed):
    replaced(installed, b"hook %d:" % _hook_file.VERSION, b"hook %d:" % (_hook_file.VERSION + 41))
    assert _hook_file.installed(str(installed))


def test_a_hook_is_replaced_as_a_whole(installed):
    _hook_file.write(b"#!/bin/sh\n", str(installed))
    assert installed.read_bytes() == b"#!/bin/sh\n"
    assert os.listdir(installed.parent) == ["modelfleet"]


def test_a_hook_that_cannot_be_written_is_an_error_with_a_code(tmp_path):
    (tmp_path / "qemu.d").write_text("a file")
    with pytest.raises(ModelfleetError) as caught:
        _hook_file.write(b"x", str(tmp_path / "qemu.d" / "modelfleet"))
    assert caught.value.code == "host_unsupported"


def test_a_hook_that_cannot_even_be_imported_lets_the_vm_start(tmp_path):
    path = tmp_path / "hook"
    path.write_bytes(_hook_file.content(lambda name: "this is no Python\n", ["_hook"]))
    done = subprocess.run([sys.executable, "-I", str(path), "vm", "prepare", "begin", "-"], input=b"", check=False)
    assert done.returncode == 0
