# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(file:///DIRECTORY): a local or already mounted directory.

Mounted by a bind. Only the file system that holds the directory is shown, none that is mounted below it.

This module util is private to the collection.
"""

from __future__ import annotations

import urllib.parse

from .. import _input
from ._definition import Definition

SCHEMES: tuple[str, ...] = ("file",)

# A center there would show the operating system of the host, or our own mounts again.
_NEVER = ("/boot", "/dev", "/etc", "/proc", "/run/modelfleet", "/sys", "/var/lib/modelfleet")


def check(url: str) -> str:
    """The URL in its normal form: no host, one absolute directory, percent-encoded as RFC 8089 wants.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    # Before parsing, because urlsplit drops newlines and tabs without a word.
    _input.no_control_characters("storage_url", url)
    try:
        parts = urllib.parse.urlsplit(url)
        path = urllib.parse.unquote(parts.path, errors="strict")
    except ValueError as problem:
        raise _input.invalid("storage_url", f"it cannot be parsed ({problem})") from None
    if parts.netloc not in ("", "localhost"):
        raise _input.invalid("storage_url", "file:// takes no host: write file:///DIRECTORY")
    if parts.query or parts.fragment:
        raise _input.invalid("storage_url", "write '?' as %3F and '#' as %23 in the path of a file:// URL")
    path = _input.absolute_path("storage_url", path)
    if path == "/" or any(path == root or path.startswith(root + "/") for root in _NEVER):
        raise _input.invalid("storage_url", f"{_input.show(path)} cannot be a model center")
    return "file://" + urllib.parse.quote(path)


def definition(url: str, read_only: bool) -> Definition:
    """A bind of the directory."""
    path = urllib.parse.unquote(urllib.parse.urlsplit(url).path)
    return Definition(path, "none", ("bind", "ro" if read_only else "rw", "nosuid", "nodev"), path)
