# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(smb://[[DOMAIN;]USER@]HOST[:PORT]/SHARE[/DIRECTORY]): SMB, by the client in the kernel.

Package: cifs-utils. The secret C(password) goes with user and domain into a file (C(credentials=)); whoever means a
guest, whom some servers show anything, says so (C(options=[guest])). Recognised by type
C(cifs) and by the source; read-only shows at the mount and not at the file system.

Options and why: C(cache=loose,actimeo=600), because published models never change; C(echo_interval=10) notices a dead
server in 20 s instead of two minutes; C(vers=3.1.1) refuses the older, weaker dialects.

This module util is private to the collection.
"""

from __future__ import annotations

import typing as t

from .._centers import Center
from . import _url
from ._backend import SAFE, BackEnd, Definition, Need, Shows, access, merged, secret_path
from ._nfs import split_port

_OPTIONS = "vers=3.1.1 cache=loose actimeo=600 echo_interval=10 rsize=4194304".split()


class Smb(BackEnd):
    """SMB, which is called CIFS by Linux."""

    schemes = ("smb",)
    credentials = ("password",)

    def check(self, url: _url.Url) -> _url.Url:
        return url.only().remote(parts=1)

    def definition(self, url: _url.Url, center: Center) -> Definition:
        host, port = split_port(url.hosts[0])
        what = f"//{host}{url.path}"
        login = [f"credentials={secret_path(center, 'login')}"] if "password" in center.credentials else []
        defaults = (access(center), *SAFE, "noatime", *login, *([f"port={port}"] if port else []), *_OPTIONS)
        needs = (Need("mount.cifs", "cifs-utils", "cifs-utils"),)
        return Definition(Shows(("cifs", "smb3"), what), what, "cifs", merged(defaults, center.options), needs=needs)

    def lacks(self, center: Center) -> str:
        guest = "guest" in center.options
        if guest and "password" in center.credentials:
            return "a guest has no password"
        return "" if guest or "password" in center.credentials else "smb:// needs password, or guest among its options"

    def secrets(self, url: _url.Url, center: Center, given: t.Mapping[str, str]) -> dict[str, str]:
        domain, _semicolon, user = url.user.rpartition(";")
        lines = [f"username={user}", f"password={given['password']}", *([f"domain={domain}"] if domain else [])]
        return {"login": "".join(f"{line}\n" for line in lines)}
