# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How a guest mounts a model, written down: for a shell, fstab(5), systemd.mount(5) and cloud-init. Pure.

This module util is private to the collection.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
import typing as t

from . import _input
from ._errors import ModelfleetError

OPTIONS = ("ro", "nosuid", "nodev")
FSTYPE = "virtiofs"

_UNIT_NAME_MAX = 255
_FSTAB_ESCAPED = {" ": "\\040", "\t": "\\011", "\n": "\\012", "\\": "\\134"}
_OCTAL = re.compile(r"\\([0-7]{3})")
_MARK = "# modelfleet.kvm mount "
_MARKED = re.compile(r"# modelfleet\.kvm mount ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12});")


def mount_lines(tag: str, path: str, link: t.Optional[tuple[str, str]] = None) -> dict[str, str]:
    """The lines for a guest whose mounts are made by somebody else.

    Args:
        link: a path at which a symbolic link has to stand as well, and where that leads.

    Returns:
        C(command) for a shell, C(fstab), C(systemd), whose first line is a comment with the name of the file, and
        C(cloud_init). C(systemd) is empty when the path is too long for the name of a unit. C(link) is a command that
        makes the link, and C(tmpfiles) the line for tmpfiles.d(5); both are empty where none is needed.
    """
    try:
        systemd = f"# /etc/systemd/system/{unit_name(path)}\n{unit(tag, path)}"
    except ModelfleetError:
        systemd = ""
    # nofail: without it a guest whose device is missing does not boot.
    fields = _fields(tag, path, *OPTIONS, "nofail")
    quoted = shlex.quote(path)
    return {
        "command": f"mkdir -p {quoted} && mount -t {FSTYPE} -o {','.join(OPTIONS)} {tag} {quoted}",
        "fstab": " ".join(fields),
        "systemd": systemd,
        # cloud-init writes the fields into fstab as they are. JSON is YAML.
        "cloud_init": f"mounts:\n  - {json.dumps(fields)}\n",
        "link": _link_command(*link) if link else "",
        "tmpfiles": f"L {_tmpfiles_path(link[0])} - - - - {_tmpfiles_argument(link[1])}" if link else "",
    }


def _link_command(path: str, target: str) -> str:
    parent = shlex.quote(posixpath.dirname(path))
    return f"mkdir -p {parent} && ln -s {shlex.quote(target)} {shlex.quote(path)}"


def _tmpfiles_path(path: str) -> str:
    # Only what is in quotes is read alike by all versions: systemd 252 knows no \x20 in this field.
    quoted = _specifiers(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{quoted}"'


def _tmpfiles_argument(path: str) -> str:
    # It goes to the end of the line as it is, but is unescaped.
    return "".join(f"\\x{ord(char):02x}" if char == "\\" or char.isspace() else char for char in _specifiers(path))


def fstab(tag: str, path: str) -> str:
    """The line of an fstab by which a model is mounted now, not at boot."""
    return " ".join(_fields(tag, path, *OPTIONS))


def _fields(tag: str, path: str, *options: str) -> tuple[str, ...]:
    return (tag, _fstab(path), FSTYPE, ",".join(options), "0", "0")


def unit_name(path: str) -> str:
    """The name that systemd demands of the mount unit of a path (systemd.unit(5), string escaping).

    Raises:
        ModelfleetError: C(invalid_input) when it is longer than a unit's name can be.
    """
    plain = b"/".join(part for part in path.encode().split(b"/") if part)
    name = "".join(_unit_character(byte, first=not index) for index, byte in enumerate(plain)) or "-"
    if len(name) + len(".mount") > _UNIT_NAME_MAX:
        raise ModelfleetError(
            "invalid_input",
            f"mount_path {_input.show(path)} is too long for a mount unit: its name would have more than"
            f" {_UNIT_NAME_MAX} characters",
            option="mount_path",
        )
    return f"{name}.mount"


def can_be_unit(path: str) -> bool:
    """Whether a unit can have the name that systemd demands for a path."""
    try:
        return bool(unit_name(path))
    except ModelfleetError:
        return False


def unit(tag: str, path: str, uuid: t.Optional[str] = None) -> str:
    """The text of the mount unit of a model.

    Args:
        uuid: of the mount, for a unit that this collection writes.
    """
    mark = f"{_MARK}{uuid}; changes made here are overwritten.\n\n" if uuid else "\n"
    # Without the default dependencies no target waits for it, so that a model whose device is missing, or whose daemon
    # does not answer, does not delay the boot.
    return f"""\
{mark}[Unit]
Description=Model at {_specifiers(path)}
DefaultDependencies=no
After=local-fs.target
Conflicts=umount.target
Before=umount.target

[Mount]
What={tag}
Where={_specifiers(path)}
Type={FSTYPE}
Options={",".join(OPTIONS)}
TimeoutSec=30

[Install]
WantedBy=multi-user.target
"""


def mount_of_unit(text: str) -> t.Optional[str]:
    """The UUID of the mount whose unit this is; None for a unit that this collection did not write."""
    found = _MARKED.match(text)
    return found.group(1) if found else None


def stands_in_fstab(fstab: str, path: str) -> bool:
    """Whether an fstab has a line for a path."""
    # Not split(): a path may have blanks that are none to fstab.
    lines = [re.split("[ \t]+", line.strip(" \t")) for line in fstab.split("\n")]
    lines = [fields for fields in lines if not fields[0].startswith("#")]
    places = [_OCTAL.sub(lambda found: chr(int(found.group(1), 8)), fields[1]) for fields in lines if len(fields) > 1]
    return any(place.rstrip("/") == path for place in places)


def _fstab(path: str) -> str:
    return "".join(_FSTAB_ESCAPED.get(character, character) for character in path)


def _specifiers(value: str) -> str:
    # systemd.unit(5): a percent sign starts a specifier.
    return value.replace("%", "%%")


def _unit_character(byte: int, first: bool) -> str:
    character = chr(byte)
    if character == "/":
        return "-"
    plain = byte < 128 and (character.isalnum() or character in ":_" or (character == "." and not first))
    return character if plain else f"\\x{byte:02x}"
