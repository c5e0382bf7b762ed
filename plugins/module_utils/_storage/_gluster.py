# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(glusterfs://HOST[,BACKUP..]/VOLUME[/DIRECTORY]): GlusterFS, by its FUSE client.

Package: glusterfs-client (Debian), glusterfs-fuse (RHEL). No secrets: TLS has its files in /etc/ssl. Recognised by type
C(fuse.glusterfs) and by the source. The client puts itself in the background and heals itself when a brick comes back:
until then everything answers ENOTCONN, just as when the client is dead, so the two are told apart by its process.

Options and why: C(attribute-timeout=600,entry-timeout=600), because published models never change. The wait for a
frozen brick is set on the server (C(network.ping-timeout), 42 s when not set; 10 is sensible).

This module util is private to the collection.
"""

from __future__ import annotations

from .._centers import Center
from . import _url
from ._backend import SAFE, BackEnd, Definition, Need, Shows, access, merged


class Gluster(BackEnd):
    """GlusterFS."""

    schemes = ("glusterfs",)

    def check(self, url: _url.Url) -> _url.Url:
        return url.without_user().only().remote(several=True, port=False, parts=1)

    def definition(self, url: _url.Url, center: Center) -> Definition:
        what = f"{url.hosts[0]}:{url.path}"
        defaults = [access(center), *SAFE, "attribute-timeout=600", "entry-timeout=600"]
        if url.hosts[1:]:
            # Not url.authority: commas would end the option.
            defaults.append(f"backup-volfile-servers={':'.join(url.hosts[1:])}")
        needs = (Need("mount.glusterfs", "glusterfs-client", "glusterfs-fuse"),)
        shows = Shows(("fuse.glusterfs",), what)
        return Definition(shows, what, "glusterfs", merged(defaults, center.options), needs=needs)
