# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(ceph://[CLIENT@]MON[:PORT][,MON..]/FILESYSTEM[/DIRECTORY]): CephFS, by the kernel or by ceph-fuse (C(client=fuse)).

Package: ceph-common, or ceph-fuse. The secret C(cephx_key) goes into a file of its own, which mount.ceph reads
(C(secretfile=)) and ceph-fuse as a keyring; without it the client looks in /etc/ceph. The old form of the device
string (C(MON,MON:/DIRECTORY)) is used, since Debian 12's helper (16.2) cannot parse the new one. The kernel shows it as
source; ceph-fuse shows nothing but its name, so there only the type is recognised.

Options and why: C(recover_session=clean) lets the kernel client come back after the cluster has thrown it out;
C(mount_timeout=30) bounds a mount without monitors; C(rasize=67108864) reads ahead as large models are read.

This module util is private to the collection.
"""

from __future__ import annotations

import typing as t

from .._centers import Center
from . import _url
from ._backend import SAFE, BackEnd, Definition, Need, Shows, access, merged, secret_path


class Ceph(BackEnd):
    """CephFS."""

    schemes = ("ceph",)
    clients = ("kernel", "fuse")
    credentials = ("cephx_key",)

    def check(self, url: _url.Url) -> _url.Url:
        return url.only().remote(several=True, parts=1)

    def definition(self, url: _url.Url, center: Center) -> Definition:
        name, file_system = url.user or "admin", url.parts[0]
        path = "/" + "/".join(url.parts[1:])
        if self.client(center) == "fuse":
            return self._fuse(url, center, name, file_system, path)
        what = f"{url.authority}:{path}"
        options = [access(center), *SAFE, "noatime", f"name={name}", f"fs={file_system}"]
        if "cephx_key" in center.credentials:
            options.append(f"secretfile={secret_path(center, 'secret')}")
        options += ["recover_session=clean", "mount_timeout=30", "rasize=67108864"]
        needs = (Need("mount.ceph", "ceph-common", "ceph-common"),)
        # Names of monitors become addresses in the mount table.
        shows = Shows(("ceph",), f"*:{path}")
        return Definition(shows, what, "ceph", merged(options, center.options), needs=needs)

    def _fuse(self, url: _url.Url, center: Center, name: str, file_system: str, path: str) -> Definition:
        program = center.helper or "ceph-fuse"
        command = [
            program,
            "-f",
            "-m",
            url.authority,
            f"--id={name}",
            f"--client_fs={file_system}",
            f"--client_mountpoint={path}",
        ]
        if "cephx_key" in center.credentials:
            command.append(f"--keyring={secret_path(center, 'keyring')}")
        options = merged((access(center), *SAFE), center.options)
        command += ["-o", ",".join(options), center.mount_point]
        needs = (Need(program, "ceph-fuse", "ceph-fuse"),)
        return Definition(Shows(("fuse.ceph-fuse",), "ceph-fuse"), command=tuple(command), needs=needs)

    def secrets(self, url: _url.Url, center: Center, given: t.Mapping[str, str]) -> dict[str, str]:
        key = given["cephx_key"]
        if self.client(center) == "fuse":
            return {"keyring": f"[client.{url.user or 'admin'}]\n\tkey = {key}\n"}
        return {"secret": f"{key}\n"}
