# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shares whose clients are in the kernel, served by a host of kind C(kernel12) to its second kernel."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from fleet import MODELS

from modelfleet_lab import Host
from modelfleet_lab.kernel import HOST_ADDRESS
from storage import ceph_server
from storage.servers import VERIFY, listens, run_as

# With characters that lists of options, units and shells take for something.
PASSWORD = "n4s, 50%d $HOME#"
# Where the servers find the models: in a file system with file handles, which overlays have not.
EXPORT = "/export/models"


@dataclasses.dataclass(frozen=True)
class Share:
    """A share, and how it is mounted.

    Attributes:
        arguments: of model_center_mount.
        serve: makes it be there.
        again: starts its server again.
        server: the unit of its server, or a pattern for several.
        shown: type and source as the mount table shows them.
        option: an option that the mount table shows.
        wrong: what is wrong, by its name: the arguments that make it so, and the code that tells it.
    """

    name: str
    arguments: dict[str, Any]
    serve: Callable[[Host], None]
    again: Callable[[Host], None]
    server: str
    shown: tuple[str, str]
    option: str
    wrong: dict[str, tuple[dict[str, Any], str]]

    def __str__(self) -> str:
        return self.name

    @property
    def secret(self) -> str:
        """What must be seen nowhere, empty for nothing."""
        return "".join(self.arguments.get("credentials", {}).values())


def publish(host: Host) -> None:
    """Put the models where the servers find them."""
    host.run(["mkdir", "-p", "/export", "/data"])
    host.run(["mount", "-t", "tmpfs", "-o", "size=64m", "export", "/export"])
    host.run(["cp", "-r", MODELS, EXPORT])


def serve_nfs(host: Host) -> None:
    host.write(
        "/data/ganesha.conf",
        f"""\
NFS_CORE_PARAM {{ Protocols = 4; Bind_addr = {HOST_ADDRESS}; Enable_NLM = false; Enable_RQUOTA = false; }}
NFSv4 {{ Graceless = true; }}
EXPORT {{
    Export_Id = 7; Path = {EXPORT}; Pseudo = /published/models;
    Access_Type = RO; Squash = Root_Squash; SecType = sys; FSAL {{ Name = VFS; }}
}}
""",
    )
    start_nfs(host)


def start_nfs(host: Host) -> None:
    options = ["-f", "/data/ganesha.conf", "-L", "/data/ganesha.log", "-p", "/data/ganesha.pid"]
    run_as(host, "lab-nfs", "/usr/bin/ganesha.nfsd", "-F", *options, after=listens(2049))


def serve_smb(host: Host) -> None:
    host.write(
        "/data/smb.conf",
        f"""\
[global]
workgroup = LAB
interfaces = {HOST_ADDRESS}/30
bind interfaces only = yes
smb ports = 445
disable netbios = yes
server min protocol = SMB3_11
load printers = no
[models]
path = {EXPORT}
read only = yes
valid users = svc
""",
    )
    host.run(["useradd", "--system", "svc"])
    host.run(["smbpasswd", "-c", "/data/smb.conf", "-s", "-a", "svc"], input=f"{PASSWORD}\n{PASSWORD}\n")
    start_smb(host)


def start_smb(host: Host) -> None:
    run_as(host, "lab-smb", "/usr/sbin/smbd", "-F", "--no-process-group", "-s", "/data/smb.conf", after=listens(445))


def serve_ceph(host: Host) -> None:
    ceph_server.serve(host, HOST_ADDRESS)


def start_ceph(host: Host) -> None:
    for unit in (ceph_server.MONITOR, ceph_server.MANAGER, ceph_server.DISK, ceph_server.METADATA):
        ceph_server.start(host, unit)


_VERIFY = {"verify_path": VERIFY}
_NFS, _SMB = f"nfs://{HOST_ADDRESS}/published/models", f"smb://LAB;svc@{HOST_ADDRESS}/models"
_CEPH = f"ceph://{ceph_server.CLIENT}@{HOST_ADDRESS}/{ceph_server.FILE_SYSTEM}"

SHARES = (
    Share(
        "nfs",
        {"storage_url": _NFS, **_VERIFY},
        serve_nfs,
        start_nfs,
        "lab-nfs",
        ("nfs4", f"{HOST_ADDRESS}:/published/models"),
        "rsize=65536",
        {
            "export": ({"storage_url": f"nfs://{HOST_ADDRESS}/published/none"}, "center_mount_failed"),
            "port": ({"storage_url": _NFS.replace("/published", ":2050/published")}, "center_mount_failed"),
            "content": ({"verify_path": "none"}, "storage_wrong"),
        },
    ),
    Share(
        "smb",
        {"storage_url": _SMB, "credentials": {"password": PASSWORD}, **_VERIFY},
        serve_smb,
        start_smb,
        "lab-smb",
        ("cifs", f"//{HOST_ADDRESS}/models"),
        "actimeo=30",
        {
            "share": ({"storage_url": f"smb://LAB;svc@{HOST_ADDRESS}/none"}, "center_mount_failed"),
            "password": ({"credentials": {"password": f"{PASSWORD}!"}}, "center_mount_failed"),
            "user": ({"storage_url": f"smb://LAB;none@{HOST_ADDRESS}/models"}, "center_mount_failed"),
            "port": ({"storage_url": f"smb://LAB;svc@{HOST_ADDRESS}:446/models"}, "center_mount_failed"),
            "content": ({"verify_path": "none"}, "storage_wrong"),
        },
    ),
    Share(
        "ceph",
        {"storage_url": _CEPH, "credentials": {"cephx_key": ceph_server.KEY}, **_VERIFY},
        serve_ceph,
        start_ceph,
        "lab-ceph-*",
        ("ceph", f"{HOST_ADDRESS}:/"),
        "rasize=16777216",
        {
            "file system": ({"storage_url": _CEPH.replace("/models", "/none")}, "center_mount_failed"),
            "directory": ({"storage_url": f"{_CEPH}/none"}, "center_mount_failed"),
            "key": ({"credentials": {"cephx_key": ceph_server.new_key()}}, "center_mount_failed"),
            "port": (
                {"storage_url": _CEPH.replace("/models", ":6790/models"), "options": ["mount_timeout=5"]},
                "center_mount_failed",
            ),
            "content": ({"verify_path": "none"}, "storage_wrong"),
        },
    ),
)
