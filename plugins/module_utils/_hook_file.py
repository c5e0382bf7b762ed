# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hook as a file: one executable archive with the code of C(_hook) and all that it imports.

The archive is not compressed, so that whoever wonders what is in it can read it.

This module util is private to the collection.
"""

from __future__ import annotations

import io
import os
import re
import typing as t
import zipfile

from ._errors import ModelfleetError

PATH = "/etc/libvirt/hooks/qemu.d/modelfleet"

# Raised whenever vm_model_mount needs a newer hook than is installed.
VERSION = 3
_SHEBANG = "#!/usr/bin/python3 -I"
_NOTE = "# modelfleet.kvm hook {version}: binds models before VMs start. An archive: python3 -m zipfile -l lists it."
_VERSION = re.compile(rb"^#!.*\n# modelfleet\.kvm hook (\d+):")
_PACKAGE = "modelfleet_hook"
# Whatever happens, also a Python that cannot read the rest: the VM starts.
_MAIN = f"""\
import sys

try:
    from {_PACKAGE}._hook import main

    main(sys.argv)
except Exception as problem:
    print(f"modelfleet: {{problem!r}}", file=sys.stderr)
sys.exit(0)
"""
_PLAIN_MAIN = """\
import sys

from {package}.{module} import main

sys.exit(main(sys.argv))
"""
# Any fixed time: the same code must give the same bytes.
_TIME = (2026, 1, 1, 0, 0, 0)


def installed(path: str = PATH) -> bool:
    """Whether a hook is installed that is new enough for this release."""
    try:
        with open(path, "rb") as file:
            found = _VERSION.match(file.read(400))
    except OSError:
        return False
    return found is not None and int(found.group(1)) >= VERSION and os.access(path, os.X_OK)


def content(load: t.Callable[[str], str], names: t.Iterable[str]) -> bytes:
    """The bytes of the hook.

    Args:
        load: gives the source text of a module util by its name relative to module_utils, with dots.
        names: the module utils that the hook consists of.
    """
    return _packed(load, names, f"{_SHEBANG}\n{_NOTE.format(version=VERSION)}\n", _MAIN)


def archive(load: t.Callable[[str], str], names: t.Iterable[str], head: str, module: str) -> bytes:
    """The bytes of a program like the hook, which runs C(main) of a module util.

    Args:
        head: what stands in front of the archive.
    """
    return _packed(load, names, head, _PLAIN_MAIN.format(package=_PACKAGE, module=module))


def _packed(load: t.Callable[[str], str], names: t.Iterable[str], head: str, main: str) -> bytes:
    names = list(names)
    data = io.BytesIO()
    data.write(head.encode())
    with zipfile.ZipFile(data, "a", zipfile.ZIP_STORED) as file:
        _add(file, "__main__.py", main)
        _add(file, f"{_PACKAGE}/__init__.py", "")
        for name in sorted(names):
            source = load(name)
            place = f"{name}/__init__.py" if f"{name}." in " ".join(names) else f"{name.replace('.', '/')}.py"
            _add(file, f"{_PACKAGE}/{place}", source)
    return data.getvalue()


def _add(file: zipfile.ZipFile, name: str, text: str) -> None:
    file.writestr(zipfile.ZipInfo(name, _TIME), text)


def write(data: bytes, path: str = PATH) -> None:
    """Put the hook in its place, whole or not at all.

    Raises:
        ModelfleetError: C(host_unsupported) when libvirt's directory cannot be written.
    """
    try:
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        # Written beside the directory, because libvirt runs every executable file in it.
        temporary = f"{os.path.dirname(path)}.new"
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o755)
        os.rename(temporary, path)
    except OSError as problem:
        raise ModelfleetError("host_unsupported", f"{path} cannot be written: {problem}") from None
