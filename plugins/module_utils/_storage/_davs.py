# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(davs://[USER@]HOST[:PORT][/DIRECTORY]): WebDAV over TLS, by rclone.

Not davfs2, which fetches a whole file before its first byte can be read. Package: rclone. The secrets C(password) and
C(bearer_token) go into rclone's configuration, the first as a header, since what rclone calls a password there is a
form of it that is another one each time it is made. What is mounted proves nothing, as with S3, so a verify_path is
required.

This module util is private to the collection.
"""

from __future__ import annotations

import base64
import typing as t

from .._centers import Center
from . import _rclone, _url
from ._backend import BackEnd, Definition


class Davs(BackEnd):
    """WebDAV."""

    schemes = ("davs",)
    credentials = ("password", "bearer_token")
    caches = True
    proves_nothing = True

    def check(self, url: _url.Url) -> _url.Url:
        return url.only().remote()

    def definition(self, url: _url.Url, center: Center) -> Definition:
        return _rclone.definition(center, "", f"davs://{url.authority}{url.path.rstrip('/')}")

    def secrets(self, url: _url.Url, center: Center, given: t.Mapping[str, str]) -> dict[str, str]:
        address = f"https://{url.authority}{url.path}"
        values = {"type": "webdav", "url": address, "vendor": "other", "bearer_token": given.get("bearer_token", "")}
        if "password" in given:
            login = base64.b64encode(f"{url.user}:{given['password']}".encode()).decode()
            values["headers"] = f'"Authorization","Basic {login}"'
        return _rclone.config(values)
