# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The program that looks after model centers, and the units that run it, as files.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import os

from . import _center_files, _center_unit, _hook_file, _keeper, _storage, _systemd

# What the program is made of: C(_keeper) and all that it imports.
_PARTS = """
    _center_effects _center_files _center_seen _center_state _centers _child _errors _identity _input _keeper _locks
    _mountapi _mountinfo _opener _probe _process _systemd _unmounter
""".split()


@functools.cache
def program() -> bytes:
    """The program of this release, an archive that Python runs."""
    names = [*_PARTS, *_storage.parts()]
    return _hook_file.archive(source, names, "#!/usr/bin/python3 -I\n", _keeper.__name__.rpartition(".")[2])


def source(name: str) -> str:
    """The source text of a module util, by its name relative to this package."""
    module = importlib.import_module(f".{name}", __package__)
    try:
        return inspect.getsource(module)
    except OSError:
        # An empty file has no source to inspect.
        return ""


def installed() -> bool:
    """Whether all of it is there as this release wants it."""
    try:
        with open(_center_unit.KEEPER, "rb") as file:
            if file.read() != program():
                return False
    except OSError:
        return False
    return all(_center_files.read(_path(name)) == text for name, text in _center_unit.keeper_units().items())


def left() -> bool:
    """Whether anything of it is there."""
    return any(map(os.path.exists, _paths()))


def install() -> None:
    """Write all of it."""
    os.makedirs(os.path.dirname(_center_unit.KEEPER), 0o755, exist_ok=True)
    temporary = f"{_center_unit.KEEPER}.new"
    with open(temporary, "wb") as file:
        file.write(program())
        file.flush()
        os.fsync(file.fileno())
    os.chmod(temporary, 0o755)
    os.rename(temporary, _center_unit.KEEPER)
    for name, text in _center_unit.keeper_units().items():
        _center_files.write(_path(name), text, 0o644)


def remove() -> None:
    """Remove all of it."""
    for path in _paths():
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    with contextlib.suppress(OSError):
        os.rmdir(os.path.dirname(_center_unit.KEEPER))


def _paths() -> list[str]:
    return [*map(_path, _center_unit.keeper_units()), _center_unit.KEEPER]


def _path(name: str) -> str:
    return os.path.join(_systemd.UNIT_DIRECTORY, name)
