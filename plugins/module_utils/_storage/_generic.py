# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(generic://TYPE?device=DEVICE[&shown_type=TYPE&shown_source=TEXT]): whatever else mount(8) knows. Experimental.

For Lustre, WEKA, BeeGFS, mountpoint-s3, geesefs and others, with their recipes in docs/storage.md: only the text of the
unit is tested. Options are given in full; nothing is added but access and safety. It is recognised by the type, or the
type of the same name with C(fuse.) before it, and by the source.

This module util is private to the collection.
"""

from __future__ import annotations

import re

from .._centers import Center
from . import _url
from ._backend import SAFE, BackEnd, Definition, Need, Shows, access, merged

_TYPE = re.compile(r"[a-z][a-z0-9._-]{0,31}\Z")
_DEVICE = re.compile(r"[A-Za-z0-9/\[][A-Za-z0-9._:/@,+=\[\]-]{0,1023}\Z")


class Generic(BackEnd):
    """Any type that mount(8) knows."""

    schemes = ("generic",)

    def check(self, url: _url.Url) -> _url.Url:
        url = url.without_user().only("device", "shown_type", "shown_source").remote(port=False)
        if not _TYPE.match(url.authority) or url.path != "/":
            raise _url.bad("write generic://TYPE?device=DEVICE")
        if not _DEVICE.match(url.get("device")):
            raise _url.bad("generic:// needs ?device=")
        return url._replace(path="/")

    def definition(self, url: _url.Url, center: Center) -> Definition:
        fstype, device = url.authority, url.get("device")
        shown = url.get("shown_type")
        shows = Shows((shown,) if shown else (fstype, f"fuse.{fstype}"), url.get("shown_source", device))
        needs = (Need(center.helper, "?", "?"),) if center.helper else ()
        options = merged((access(center), *SAFE), center.options)
        return Definition(shows, device, fstype, options, needs=needs)
