# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(block:///dev/disk/by-uuid/UUID?fstype=TYPE): a file system on a disk, a logical volume or a LUN.

Never mounted writable by two hosts: unlike the others this storage knows of one host only. Recognised by the number of
the device, whatever name of it the mount table shows.

This module util is private to the collection.
"""

from __future__ import annotations

from .._centers import Center
from . import _url
from ._backend import SAFE, BackEnd, Definition, Shows, access, merged

_TYPES = ("btrfs", "erofs", "ext4", "squashfs", "xfs")


class Block(BackEnd):
    """A file system on a block device."""

    schemes = ("block",)

    def check(self, url: _url.Url) -> _url.Url:
        """A device below C(/dev), and a type."""
        url = url.local().only("fstype")
        if not url.path.startswith("/dev/"):
            raise _url.bad("it must be a device below /dev")
        if url.get("fstype") not in _TYPES:
            raise _url.bad(f"add ?fstype= with one of {', '.join(_TYPES)}")
        return url

    def definition(self, url: _url.Url, center: Center) -> Definition:
        options = merged((access(center), *SAFE, "noatime"), center.options)
        fstype = url.get("fstype")
        return Definition(Shows((fstype,), device=url.path), url.path, fstype, options, network=False)
