# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(existing:///MOUNT_POINT): what somebody else mounts there. It is looked at and verified, and never touched.

For storage whose mount comes from fstab, from an agent (WEKA, 3FS) or from the platform. The unit of the center orders
VMs after that mount and holds the record. C(?fstype=TYPE) and C(&source=TEXT) say what must be mounted, and read_only
that nobody may write through it.

This module util is private to the collection.
"""

from __future__ import annotations

from .._centers import Center
from . import _url
from ._backend import BackEnd, Definition, Shows
from ._file import refuse_system


class Existing(BackEnd):
    """A mount of somebody else's."""

    schemes = ("existing",)
    takes_options = False

    def check(self, url: _url.Url) -> _url.Url:
        url = url.local().only("fstype", "source")
        refuse_system(url.path)
        return url

    def refuse(self, url: _url.Url, center: Center) -> None:
        if center.mount_point != url.path:
            raise _url.bad("existing:// is where it is: leave mount_point out")

    def definition(self, url: _url.Url, center: Center) -> Definition:
        fstypes = (url.get("fstype"),) if url.get("fstype") else ()
        return Definition(Shows(fstypes, url.get("source")), network=False, adopted=True)
