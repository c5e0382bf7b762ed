# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(image:///FILE?fstype=TYPE): a file system in a file, for example squashfs or erofs.

One file holds a whole collection of models, can be signed and copied as one, and cannot be changed under a VM.
Mounted through a loop device; recognised by the file behind that device (C(/sys/block/loopN/loop/backing_file)), since
the mount table shows only C(/dev/loopN). The type follows from the name C(.squashfs), C(.sqfs) or C(.erofs).

This module util is private to the collection.
"""

from __future__ import annotations

import posixpath

from .._centers import Center
from . import _url
from ._backend import SAFE, BackEnd, Definition, Shows, access, merged
from ._file import refuse_system

_BY_NAME = {".squashfs": "squashfs", ".sqfs": "squashfs", ".sqsh": "squashfs", ".erofs": "erofs"}
_ALWAYS_READ_ONLY = ("squashfs", "erofs", "iso9660")
_TYPES = (*_ALWAYS_READ_ONLY, "btrfs", "ext4", "xfs")


class Image(BackEnd):
    """A file system in a file."""

    schemes = ("image",)

    def check(self, url: _url.Url) -> _url.Url:
        """One absolute path and, unless its name says it, the type."""
        url = url.local().only("fstype")
        refuse_system(url.path)
        if _type(url) not in _TYPES:
            raise _url.bad(f"add ?fstype= with one of {', '.join(_TYPES)}")
        return url

    def refuse(self, url: _url.Url, center: Center) -> None:
        if _type(url) in _ALWAYS_READ_ONLY and not center.read_only:
            raise _url.bad(f"{_type(url)} is always read-only, so read_only must be true")

    def definition(self, url: _url.Url, center: Center) -> Definition:
        # Of a read-only file system nobody wants to know when it was read, but the others would write it down.
        options = merged(("loop", access(center), *SAFE, "noatime"), center.options)
        shows = Shows((_type(url),), backing_file=url.path)
        return Definition(shows, url.path, _type(url), options, network=False)


def _type(url: _url.Url) -> str:
    return url.get("fstype") or _BY_NAME.get(posixpath.splitext(url.path)[1].lower(), "")
