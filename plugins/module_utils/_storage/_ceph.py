# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(ceph://[CLIENT@]MON[:PORT][,MON..]/FILESYSTEM[/DIRECTORY]): CephFS, by the kernel or by ceph-fuse (C(client=fuse)).

Package: ceph-common, or ceph-fuse. The secret C(cephx_key) goes into a file of its own, which mount.ceph reads
(C(secretfile=)) and ceph-fuse as a keyring; without it the client looks in /etc/ceph. The old form of the device
string (C(MON,MON:/DIRECTORY)) is used, since Debian 12's helper (16.2) cannot parse the new one. The kernel shows it as
source; ceph-fuse shows nothing but its name, so there only the type is recognised, and C(verify_path) is required. It
also tells a client that was thrown out by the cluster, whose root is just not there: its files say ESHUTDOWN.

Options and why: C(recover_session=clean) lets the kernel client come back after the cluster has thrown it out;
C(mount_timeout=30) bounds a mount without monitors; C(rasize=67108864) reads ahead as large models are read.
Options of ceph-fuse are those of Ceph's configuration, which it takes as flags; C(client_mount_timeout=30) bounds its
mount as well, which would wait for five minutes.

This module util is private to the collection.
"""

from __future__ import annotations

import typing as t

from .. import _input
from .._centers import Center
from . import _url
from ._backend import SAFE, BackEnd, Definition, Need, Shows, access, flags, merged, secret_path

# What options of ceph-fuse can be about. The others say who it is, where it finds and writes files, and what it runs.
_SUBJECTS = ("client_", "fuse_", "ms_", "objecter_", "rados_")
_FROM_URL = ("client_fs", "client_mds_namespace", "client_mountpoint")


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
        command += flags(merged(("client_mount_timeout=30",), center.options))
        command += ["-o", ",".join((access(center), *SAFE)), center.mount_point]
        needs = (Need(program, "ceph-fuse", "ceph-fuse"),)
        return Definition(Shows(("fuse.ceph-fuse",), "ceph-fuse"), command=tuple(command), needs=needs, direct=True)

    def refuse(self, url: _url.Url, center: Center) -> None:
        if self.client(center) != "fuse":
            return
        if not center.verify_path:
            raise _input.invalid("verify_path", "ceph-fuse needs it, because it shows nowhere what it has mounted")
        for index, option in enumerate(center.options):
            name = option.partition("=")[0].replace("-", "_")
            if not name.startswith(_SUBJECTS) or name in _FROM_URL:
                subjects = ", ".join(f"{subject}..." for subject in _SUBJECTS)
                raise _input.invalid(f"options[{index}]", f"ceph-fuse takes {subjects} of Ceph's configuration")

    def secrets(self, url: _url.Url, center: Center, given: t.Mapping[str, str]) -> dict[str, str]:
        key = given["cephx_key"]
        if self.client(center) == "fuse":
            return {"keyring": f"[client.{url.user or 'admin'}]\n\tkey = {key}\n"}
        return {"secret": f"{key}\n"}
