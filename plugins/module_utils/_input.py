# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Input: trimmed first, then checked. Nothing that fails here has touched anything.

This module util is private to the collection.
"""

from __future__ import annotations

import re
import typing as t
import unicodedata

from . import _identity
from ._errors import ModelfleetError

# What pasting brings along besides white space: byte order mark, zero-width space and joiners.
_PASTED = "\ufeff\u200b\u200c\u200d\u2060"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z")
_MODEL_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,127}\Z")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}\Z")
# virtiofs: the tag property of QEMU's vhost-user-fs device holds 1 to 36 bytes.
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}\Z")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")

# A file system over one of these, or below one of the second kind, breaks a guest or a host.
_NEVER_AT = frozenset(
    "/ /home /media /mnt /opt /root /run /srv /tmp /usr /usr/local /usr/share /var /var/lib /var/log /var/run".split()
)
_NEVER_BELOW = tuple(
    "/bin /boot /dev /etc /lib /lib32 /lib64 /libx32 /proc /run/systemd /sbin /sys"
    " /usr/bin /usr/lib /usr/lib32 /usr/lib64 /usr/libexec /usr/sbin".split()
)
_NEVER_BELOW_ON_HOST = tuple(
    "/run /usr /var/lib/dpkg /var/lib/libvirt /var/lib/modelfleet /var/lib/rpm /var/lib/systemd /var/log".split()
)

PATH_MAX = 1024
COMPONENT_MAX = 255
# A root port is a place on the VM's first bus, and the guest's firmware sets aside memory for each.
PORTS_MAX = 28
READ_AHEAD_MAX = 65536
JOBS_MAX = 32


def trimmed(value: t.Any) -> t.Any:
    """Strings without the blanks and newlines that pasting adds at their ends, also inside lists and dicts.

    An empty string means unset, as AWX surveys send it, and becomes None.
    """
    if isinstance(value, str):
        begin, end = 0, len(value)
        while begin < end and _is_pasted(value[begin]):
            begin += 1
        while begin < end and _is_pasted(value[end - 1]):
            end -= 1
        return value[begin:end] or None
    if isinstance(value, list):
        return [trimmed(item) for item in value]
    if isinstance(value, dict):
        return {key: trimmed(item) for key, item in value.items()}
    return value


def _is_pasted(character: str) -> bool:
    return character.isspace() or character in _PASTED


def invalid(option: str, problem: str) -> ModelfleetError:
    """The error for a value that cannot be used; the value itself is shown by the caller in `problem`."""
    return ModelfleetError("invalid_input", f"{option}: {problem}", option=option)


def show(value: str) -> str:
    """A value for messages: quoted, escaped, and cut to a readable length."""
    text = ascii(value)
    return text if len(text) <= 120 else f"{text[:117]}..."


def _matches(pattern: re.Pattern[str], option: str, value: str, rule: str) -> str:
    if not pattern.match(value):
        raise invalid(option, f"{show(value)} {rule}")
    return value


def name(option: str, value: str) -> str:
    """A name of ours (model center, owner): 1 to 63 of letters, digits, '.', '_', '-', first a letter or digit."""
    return _matches(
        _NAME, option, value, "must be 1 to 63 letters, digits, '.', '_' or '-', the first a letter or digit"
    )


def model_name(option: str, value: str) -> str:
    """A model's name, with '/' between its parts where it has an organisation (C(org/model))."""
    if len(value) > 255:
        raise invalid(option, f"{show(value)} is longer than 255 characters")
    for part in value.split("/"):
        _matches(
            _MODEL_PART,
            option,
            part,
            "is not a model name: letters, digits, '.', '_', '+' or '-' in each part between slashes",
        )
    return value


def version(option: str, value: str) -> str:
    """A model's version."""
    return _matches(_VERSION, option, value, "must be 1 to 64 letters, digits, '.', '_', '+' or '-'")


def tag(option: str, value: str) -> str:
    """A virtiofs tag: 1 to 36 bytes (QEMU), of which none needs quoting anywhere."""
    return _matches(
        _TAG, option, value, "must be 1 to 36 letters, digits, '.', '_' or '-', the first a letter or digit"
    )


def uuid(option: str, value: str) -> str:
    """A UUID in its canonical form, lower case."""
    return _matches(_UUID, option, value.lower(), "is not a UUID")


def seconds(option: str, value: int) -> float:
    """A deadline: 1 to 3600 seconds."""
    if not 1 <= value <= 3600:
        raise invalid(option, f"{value} is not between 1 and 3600 seconds")
    return float(value)


def ports(option: str, value: int) -> int:
    """A number of PCIe root ports: 0 to 28."""
    if not 0 <= value <= PORTS_MAX:
        raise invalid(option, f"{value} is not between 0 and {PORTS_MAX}")
    return value


def read_ahead(option: str, value: int) -> int:
    """How far a guest reads ahead: 0 to 65536 KiB."""
    if not 0 <= value <= READ_AHEAD_MAX:
        raise invalid(option, f"{value} is not between 0 and {READ_AHEAD_MAX} KiB")
    return value


def jobs(option: str, value: int) -> int:
    """How much is done at once: 1 to 32."""
    if not 1 <= value <= JOBS_MAX:
        raise invalid(option, f"{value} is not between 1 and {JOBS_MAX}")
    return value


def mebibytes(option: str, value: int) -> int:
    """A size in MiB, as bytes."""
    if not 0 <= value <= 1 << 30:
        raise invalid(option, f"{value} is not between 0 and {1 << 30} MiB")
    return value << 20


def is_uuid(value: str) -> bool:
    """Whether a text has the canonical form of a UUID, in any case."""
    return bool(_UUID.match(value.lower()))


def vm_name(option: str, value: str) -> str:
    """A domain's name or UUID. libvirt allows nearly anything in a name but slash and newline."""
    no_control_characters(option, value)
    if not value or "/" in value or len(value.encode()) > COMPONENT_MAX:
        raise invalid(option, f"{show(value)} is not a name of a VM")
    return value.lower() if is_uuid(value) else value


def uri(option: str, value: str) -> str:
    """A URI of libvirt, which says itself what is wrong with it as long as it is a text that can be shown."""
    no_control_characters(option, value)
    if len(value.encode()) > PATH_MAX:
        raise invalid(option, f"{show(value)} is longer than {PATH_MAX} bytes")
    return value


def absolute_path(option: str, value: str) -> str:
    """An absolute path, normalised, without '.' and '..'."""
    if not value.startswith("/"):
        raise invalid(option, f"{show(value)} must be an absolute path")
    parts = [part for part in value.split("/") if part]
    _path_parts(option, value, parts)
    if parts and (parts[-1] != parts[-1].strip() or parts[-1].endswith("\\")):
        # systemd drops blanks at the end of a line and takes a backslash there as its continuation.
        raise invalid(option, f"{show(value)}: its last part must not begin or end with a blank or end in a backslash")
    return "/" + "/".join(parts)


def relative_path(option: str, value: str) -> str:
    """A path below a directory, normalised, without '.' and '..'."""
    if value.startswith("/"):
        raise invalid(option, f"{show(value)} must be relative to the model center")
    parts = [part for part in value.split("/") if part]
    if not parts:
        raise invalid(option, f"{show(value)} names the model center itself, which is never given to a VM")
    _path_parts(option, value, parts)
    return "/".join(parts)


def mount_path(option: str, value: str) -> str:
    """A path at which something may be mounted, in a guest or on a host."""
    path = absolute_path(option, value)
    if path in _NEVER_AT or any(path == root or path.startswith(root + "/") for root in _NEVER_BELOW):
        raise invalid(option, f"{show(path)} belongs to the operating system")
    return path


def path_in_view(option: str, value: str) -> str:
    """A path at which a model may be seen that is in the view of a VM: not its mount, nor where it keeps its binds."""
    path = absolute_path(option, value)
    if not can_be_in_view(path):
        root = _identity.VIEW_PATH
        raise invalid(option, f"{show(path)} cannot be in the view: it is {root}, or begins with a dot below that")
    return path


def can_be_in_view(path: str) -> bool:
    """Whether a normalised path may be that of a model of a view: below the mount of that, or elsewhere."""
    return is_below_view(path) or not overlaps(path, _identity.VIEW_PATH)


def is_below_view(path: str) -> bool:
    """Whether a normalised path lies below the mount of a view, and not where that keeps its binds."""
    root = f"{_identity.VIEW_PATH}/"
    return path.startswith(root) and not path.startswith(f"{root}.")


def mount_point(option: str, value: str) -> str:
    """A path on a host at which a model center may be mounted."""
    path = mount_path(option, value)
    inside = any(path == root or path.startswith(root + "/") for root in _NEVER_BELOW_ON_HOST)
    if inside and not re.match(r"/var/lib/modelfleet/centers/[^/]+\Z", path):
        raise invalid(option, f"{show(path)} belongs to the operating system or to modelfleet.kvm itself")
    return path


def parts(path: str) -> list[str]:
    """A normalised path and all that it lies in, from the top, but for the root."""
    names = path.split("/")
    return ["/".join(names[:length]) for length in range(2, len(names) + 1)]


def overlaps(one: str, other: str) -> bool:
    """Whether one of two normalised paths is the other or lies below it."""
    one, other = f"{one.rstrip('/')}/", f"{other.rstrip('/')}/"
    return one.startswith(other) or other.startswith(one)


def _path_parts(option: str, value: str, parts: list[str]) -> None:
    no_control_characters(option, value)
    if len(value.encode()) > PATH_MAX:
        raise invalid(option, f"{show(value)} is longer than {PATH_MAX} bytes")
    for part in parts:
        if part in (".", ".."):
            raise invalid(option, f"{show(value)} must not contain '{part}'")
        if len(part.encode()) > COMPONENT_MAX:
            raise invalid(option, f"{show(value)} has a part of more than {COMPONENT_MAX} bytes")


def no_control_characters(option: str, value: str) -> None:
    """Refuse control characters.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    # Control and surrogate code points, line and paragraph separators: none can stand in XML, a unit
    # file or a mount table and come back the same. Nor can noncharacters: XML has not all of them, and
    # systemd ignores a line of a unit that has one.
    for character in value:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or _is_noncharacter(ord(character)):
            raise invalid(option, f"{show(value)} contains a control character")


def _is_noncharacter(code: int) -> bool:
    return 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
