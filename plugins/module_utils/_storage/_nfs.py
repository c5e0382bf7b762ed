# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(nfs://HOST[:PORT]/EXPORT[?vers=4.2]): NFS, by the client in the kernel.

Package: nfs-common (Debian), nfs-utils (RHEL). No secrets: C(sec=sys) trusts the host, Kerberos has its keytab.
Recognised by type C(nfs4) or C(nfs) and by the source, which the mount table shows as it was given.

Options and why:
- C(hard): a server that is away for a while delays reads instead of failing them; C(soft) can hand over wrong data
  (nfs(5)). Processes that wait can be killed.
- C(nconnect=8), C(rsize=1048576): one connection does not fill a fast network.
- C(nocto,actimeo=600): published models never change, so the server need not be asked about them at every open.
- C(retry=0): mount(8) would try for two minutes by itself; systemd and the timer try again anyway.

This module util is private to the collection.
"""

from __future__ import annotations

import re

from .._centers import Center
from . import _url
from ._backend import SAFE, BackEnd, Definition, Need, Shows, access, merged

_OPTIONS = "proto=tcp hard nconnect=8 rsize=1048576 timeo=600 retrans=2 noresvport nocto actimeo=600 retry=0".split()


class Nfs(BackEnd):
    """NFS."""

    schemes = ("nfs",)

    def check(self, url: _url.Url) -> _url.Url:
        url = url.without_user().only("vers").remote()
        if not re.match(r"(3|4|4\.[0-2])\Z", url.get("vers", "4.2")):
            raise _url.bad("vers must be 3, 4, 4.0, 4.1 or 4.2")
        return url

    def definition(self, url: _url.Url, center: Center) -> Definition:
        host, port = split_port(url.hosts[0])
        what = f"{host}:{url.path}"
        defaults = (access(center), *SAFE, "noatime", f"vers={url.get('vers', '4.2')}", *_OPTIONS)
        options = merged((*defaults, *([f"port={port}"] if port else [])), center.options)
        needs = (Need("mount.nfs", "nfs-common", "nfs-utils"),)
        return Definition(Shows(("nfs", "nfs4"), what), what, "nfs", options, needs=needs)


def split_port(host: str) -> tuple[str, str]:
    """A host and its port, empty for none."""
    found = re.match(r"(.+?)(?::([0-9]+))?\Z", host) if not host.endswith("]") else None
    return (found.group(1), found.group(2) or "") if found else (host, "")
