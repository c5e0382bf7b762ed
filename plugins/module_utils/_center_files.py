# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of model centers on a host: units, credentials, mount points, and what is remembered until the next boot.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
import typing as t

from . import _mountinfo, _storage
from ._centers import Center

_PENDING = "/run/modelfleet/pending"

# ioctl_iflags(2)
_GET_FLAGS = 0x80086601
_SET_FLAGS = 0x40086602
_IMMUTABLE = 0x10


def write(path: str, text: str, mode: int) -> None:
    """Write a file whole or not at all, never readable by more than it shall be."""
    temporary = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode & 0o600)
    with open(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(temporary, mode)
    os.rename(temporary, path)


def read(path: str) -> t.Optional[str]:
    """The text of a file, None when there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as file:
            return file.read()
    except OSError:
        return None


def secrets(name: str) -> dict[str, str]:
    """The files for the client of a center, by path."""
    directory = _storage.secrets_directory(name)
    try:
        names = sorted(os.listdir(directory))
    except OSError:
        return {}
    found = {os.path.join(directory, item): read(os.path.join(directory, item)) for item in names}
    return {path: text for path, text in found.items() if text is not None}


def missing_secrets(center: Center) -> list[str]:
    """Those of the files that the client of a center was given that are not there any more."""
    return [path for path in _storage.secret_paths(center) if not os.path.isfile(path)]


def any_secrets(name: str) -> bool:
    """Whether there is anything where the files for the client of a center lie."""
    return os.path.isdir(_storage.secrets_directory(name))


def exposed(name: str) -> list[str]:
    """Those of the files for the client of a center, and their directory, that are not for root alone."""
    directory = _storage.secrets_directory(name)
    wanted = {**dict.fromkeys(secrets(name), 0o600), directory: 0o700}
    return [path for path, mode in wanted.items() if os.path.exists(path) and not _is_private(path, mode)]


def _is_private(path: str, mode: int) -> bool:
    status = os.stat(path)
    return stat.S_IMODE(status.st_mode) == mode and status.st_uid == os.geteuid()


def protect_secrets(name: str) -> None:
    """Leave the files for the client of a center to root alone."""
    for path in exposed(name):
        os.chown(path, os.geteuid(), os.getegid())
        os.chmod(path, 0o700 if os.path.isdir(path) else 0o600)


def write_secrets(name: str, wanted: t.Mapping[str, str]) -> None:
    """Make the files for the client of a center what they shall be; none of them, nothing is left."""
    directory = _storage.secrets_directory(name)
    if wanted:
        os.makedirs(directory, 0o700, exist_ok=True)
        os.chmod(directory, 0o700)
    for path, text in wanted.items():
        write(path, text, 0o600)
    for path in secrets(name):
        if path not in wanted:
            os.unlink(path)
    if not wanted:
        with contextlib.suppress(OSError):
            os.rmdir(directory)


def is_pending(name: str) -> bool:
    """Whether a run wrote what a mount is made from, and has not mounted it."""
    return os.path.exists(os.path.join(_PENDING, name))


def set_pending(name: str) -> None:
    """Remember, until the next boot, that a center must be mounted again."""
    with contextlib.suppress(OSError):
        os.makedirs(_PENDING, 0o700, exist_ok=True)
        with open(os.path.join(_PENDING, name), "w", encoding="ascii"):
            pass


def clear_pending(name: str) -> None:
    """Forget it."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(_PENDING, name))


def protect(directory: str) -> None:
    """Keep everybody from writing into an empty mount point, if its file system can do that."""
    with contextlib.suppress(OSError):
        if not _mountinfo.at(directory) and not os.listdir(directory):
            _set_immutable(directory, True)


def unprotect(directory: str) -> None:
    """Let a mount point be written into again."""
    with contextlib.suppress(OSError):
        # What is mounted there may answer nobody.
        if not _mountinfo.at(directory):
            _set_immutable(directory, False)


def remove_mount_point(directory: str) -> None:
    """Remove an empty mount point. Not ours to empty: what was put there before the center was mounted stays."""
    unprotect(directory)
    with contextlib.suppress(OSError):
        # Refused where something is mounted, without a question to that.
        os.rmdir(directory)


def _set_immutable(directory: str, immutable: bool) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        flags = struct.unpack("l", fcntl.ioctl(descriptor, _GET_FLAGS, struct.pack("l", 0)))[0]
        wanted = flags | _IMMUTABLE if immutable else flags & ~_IMMUTABLE
        if wanted != flags:
            fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("l", wanted))
    finally:
        os.close(descriptor)
