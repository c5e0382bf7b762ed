"""The image of a host with a second kernel, for file systems that the machine's own kernel does not have.

That kernel is Debian's user-mode-linux, a program: see kernel.py. With it come the clients of NFS, SMB and CephFS, and
servers for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from . import image_hosts, image_storage
from .bootstrap import add_files, debian_tree, digest, in_tree
from .recipe import Recipe

_KIND, _BASE = "kernel12", "debian12"
_PACKAGES = (
    "cifs-utils",
    "kmod",
    "nfs-common",
    "nfs-ganesha",
    "nfs-ganesha-vfs",
    "samba",
    "user-mode-linux",
)
# The tests start servers themselves.
_DISABLED = (
    "nfs-blkmap.service",
    "nfs-client.target",
    "nfs-ganesha-lock.service",
    "nfs-ganesha.service",
    "nmbd.service",
    "rpcbind.service",
    "rpcbind.socket",
    "samba-ad-dc.service",
    "smbd.service",
)


def _build(target: Path, _needed: Mapping[str, Path]) -> None:
    """Make the image."""
    debian_tree(target, image_hosts._CODENAMES[_BASE], _packages())
    add_files(target, "host")
    add_files(target, "kernel")
    in_tree(target, "systemctl", "--quiet", "enable", *image_hosts._ENABLED)
    in_tree(target, "systemctl", "--quiet", "mask", *image_hosts._MASKED, *_DISABLED, *image_storage._CEPH_DISABLED)
    for key in (target / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (target / "etc/machine-id").unlink(missing_ok=True)
    # Its modules, where modprobe looks for those of the running kernel.
    (version,) = (path.name for path in (target / "usr/lib/uml/modules").iterdir())
    (target / "usr/lib/modules").mkdir(exist_ok=True)
    (target / "usr/lib/modules" / version).symlink_to(f"../uml/modules/{version}")
    in_tree(target, "depmod", version)


def _packages() -> list[str]:
    return sorted({*image_hosts._packages(_BASE), *_PACKAGES, *image_storage._CEPH})


def _recipe() -> Recipe:
    made_of = [_packages(), image_storage._CEPH_DISABLED, digest(__file__, "host", "kernel")]
    summary = f"KVM host with a second kernel, {image_hosts._CODENAMES[_BASE]}"
    return Recipe(_KIND, summary, made_of, _build, on_demand=True)


RECIPES = (_recipe(),)
