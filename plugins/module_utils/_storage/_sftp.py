# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(sftp://USER@HOST[:PORT]/DIRECTORY): SFTP, by sshfs.

Package: sshfs (Debian), fuse-sshfs (RHEL, from EPEL). The secrets C(private_key) and C(known_hosts) go into files;
without them root's own are used. Host keys are always checked. Passwords cannot be used. Recognised by type
C(fuse.sshfs) and by the source, which sshfs shows as it is told (C(fsname=)).

Options and why: C(reconnect) and C(ServerAlive...): without them the mount is gone one second after the server is;
C(kernel_cache) and the cache timeouts of an hour, because published models never change.

This module util is private to the collection.
"""

from __future__ import annotations

import typing as t

from .._centers import Center
from . import _url
from ._backend import SAFE, BackEnd, Definition, Need, Shows, access, merged, secret_path
from ._nfs import split_port

_OPTIONS = (
    "reconnect ServerAliveInterval=5 ServerAliveCountMax=3 StrictHostKeyChecking=yes BatchMode=yes"
    " ConnectTimeout=15 allow_other default_permissions kernel_cache dcache_timeout=3600"
).split()


class Sftp(BackEnd):
    """SFTP."""

    schemes = ("sftp",)
    credentials = ("private_key", "known_hosts")

    def check(self, url: _url.Url) -> _url.Url:
        url = url.only().remote()
        if not url.user:
            raise _url.bad("sftp:// needs a user")
        return url

    def definition(self, url: _url.Url, center: Center) -> Definition:
        program = center.helper or "sshfs"
        host, port = split_port(url.hosts[0])
        source = f"{url.user}@{host}:{url.path}"
        defaults = [access(center), *SAFE, f"fsname={source}", *_OPTIONS]
        if "private_key" in center.credentials:
            defaults += [f"IdentityFile={secret_path(center, 'key')}", "IdentitiesOnly=yes"]
        if "known_hosts" in center.credentials:
            defaults.append(f"UserKnownHostsFile={secret_path(center, 'hosts')}")
        if port:
            defaults.append(f"port={port}")
        command = (program, "-f", source, center.mount_point, "-o", ",".join(merged(defaults, center.options)))
        needs = (Need(program, "sshfs", "fuse-sshfs"), Need("ssh", "openssh-client", "openssh-clients"))
        return Definition(Shows(("fuse.sshfs",), source), command=command, needs=needs)

    def secrets(self, url: _url.Url, center: Center, given: t.Mapping[str, str]) -> dict[str, str]:
        names = {"private_key": "key", "known_hosts": "hosts"}
        # ssh refuses a key whose last line has no end.
        return {names[name]: value.rstrip("\n") + "\n" for name, value in given.items()}
