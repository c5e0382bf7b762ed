# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A cluster of Ceph on one host: a monitor, a manager, a disk and a metadata server, each a unit of systemd.

It has a file system `models` with the models of the tests, which client `reader` may read and nobody else.
"""

from __future__ import annotations

import base64
import os
import struct
import time

from modelfleet_lab import Host
from storage.servers import VERIFY, Storage, fill, option, run_as

MONITOR, MANAGER, DISK, METADATA = "lab-ceph-mon", "lab-ceph-mgr", "lab-ceph-osd", "lab-ceph-mds"
FILE_SYSTEM, CLIENT = "models", "reader"

_HOME = "/data/ceph"
# Clients must not find it, so it is not where they look.
_CONF = f"{_HOME}/ceph.conf"
_KEYRING, _NEW_KEYRING = f"{_HOME}/keyring", f"{_HOME}/keyring.new"
_CLUSTER, _DISK = "2d7f1c0e-6a5b-4b43-9f0e-0d6c5a1b7e90", "b8c1e0a4-3f5d-4f0c-8a43-7c1d2e9f6a55"
_SECONDS = 120.0


def new_key() -> str:
    """A key as cephx has them: its type, when it was made, and 16 bytes."""
    return base64.b64encode(struct.pack("<hiih", 1, int(time.time()), 0, 16) + os.urandom(16)).decode()


# Of client `reader`, the same on all hosts, and one that takes its place.
KEY, NEW_KEY = new_key(), new_key()

# By entity: what it may do. Those of the reader are what `ceph fs authorize` gives.
_CAPS = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "mgr": "allow *", "osd": "allow *", "mds": "allow *"},
    "mgr.a": {"mon": "allow profile mgr", "osd": "allow *", "mds": "allow *"},
    "osd.0": {"mon": "allow profile osd", "mgr": "allow profile osd", "osd": "allow *"},
    "mds.a": {"mon": "allow profile mds", "mgr": "allow profile mds", "osd": "allow *", "mds": "allow"},
    f"client.{CLIENT}": {
        "mds": f"allow r fsname={FILE_SYSTEM}",
        "mon": f"allow r fsname={FILE_SYSTEM}",
        "osd": f"allow r tag cephfs data={FILE_SYSTEM}",
    },
}


def _conf(address: str) -> str:
    return f"""\
[global]
fsid = {_CLUSTER}
mon host = [v2:{address}:3300,v1:{address}:6789]
public addr = {address}
cluster addr = {address}
keyring = {_KEYRING}
run dir = {_HOME}
log file = {_HOME}/$name.log
admin socket = {_HOME}/$name.asok
osd pool default size = 1
osd pool default min size = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd mclock skip benchmark = true
osd memory target = 939524096
bluestore block create = true
bluestore block size = {2 << 30}
mon data = {_HOME}/mon
mgr data = {_HOME}/mgr
osd data = {_HOME}/osd
mds data = {_HOME}/mds
mgr initial modules =
mon allow pool size one = true
"""


def _keyring(keys: dict[str, str]) -> str:
    lines = []
    for entity, key in keys.items():
        lines += [f"[{entity}]", f"key = {key}"]
        lines += [f'caps {service} = "{what}"' for service, what in _CAPS[entity].items()]
    return "\n".join(lines) + "\n"


def ceph(host: Host, *command: str) -> str:
    """Ask the cluster as its administrator."""
    return host.run(["ceph", "--conf", _CONF, "--connect-timeout=60", *command], timeout=_SECONDS).stdout


def take_old_key(host: Host) -> None:
    """Have the cluster take the first key of client `reader` again."""
    ceph(host, "auth", "import", "--in-file", _KEYRING)


def start(host: Host, unit: str) -> None:
    """Start a daemon of the cluster."""
    program, name = {
        MONITOR: ("ceph-mon", "a"),
        MANAGER: ("ceph-mgr", "a"),
        DISK: ("ceph-osd", "0"),
        METADATA: ("ceph-mds", "a"),
    }[unit]
    run_as(host, unit, program, "-f", f"--conf={_CONF}", f"--id={name}")


def serve(host: Host, address: str = "127.0.0.1") -> None:
    """Make a cluster whose daemons listen at an address of the host, and fill it."""
    host.run(["mkdir", "-p", *(f"{_HOME}/{name}" for name in ("mon", "mgr", "osd", "mds"))])
    host.write(_CONF, _conf(address))
    host.write(_KEYRING, _keyring({**{entity: new_key() for entity in _CAPS}, f"client.{CLIENT}": KEY}), 0o600)
    host.write(_NEW_KEYRING, _keyring({f"client.{CLIENT}": NEW_KEY}), 0o600)
    monitors = ["--addv", "a", f"[v2:{address}:3300,v1:{address}:6789]", f"{_HOME}/monmap"]
    host.run(["monmaptool", "--create", "--clobber", "--fsid", _CLUSTER, *monitors])
    common = [f"--conf={_CONF}", "--mkfs"]
    host.run(["ceph-mon", *common, "--id=a", f"--monmap={_HOME}/monmap", f"--keyring={_KEYRING}"])
    start(host, MONITOR)
    start(host, MANAGER)
    ceph(host, "osd", "new", _DISK)
    host.run(["ceph-osd", *common, "--id=0", f"--osd-uuid={_DISK}"], timeout=_SECONDS)
    start(host, DISK)
    for pool in ("metadata", "data"):
        ceph(host, "osd", "pool", "create", f"{FILE_SYSTEM}_{pool}", "8")
    ceph(host, "fs", "new", FILE_SYSTEM, f"{FILE_SYSTEM}_metadata", f"{FILE_SYSTEM}_data")
    start(host, METADATA)
    # Changes nothing, or what is said of the rights above would not be true.
    ceph(host, "fs", "authorize", FILE_SYSTEM, f"client.{CLIENT}", "/", "r")
    wait = f"until ceph --conf {_CONF} mds stat | grep -q up:active; do sleep 0.2; done"
    host.run(["timeout", f"{_SECONDS:g}", "sh", "-c", wait], timeout=2 * _SECONDS)
    fill(host, ["ceph-fuse", f"--conf={_CONF}", "--id=admin", "/mnt/fill"])


CEPH = Storage(
    "ceph-fuse",
    {
        "storage_url": f"ceph://{CLIENT}@127.0.0.1/{FILE_SYSTEM}",
        "client": "fuse",
        "credentials": {"cephx_key": KEY},
        "verify_path": VERIFY,
    },
    serve,
    *option("client_oc_size=64M"),
    rotated={"cephx_key": NEW_KEY},
    rotate=("ceph", "--conf", _CONF, "auth", "import", "--in-file", _NEW_KEYRING),
    server=METADATA,
    client="ceph-fuse -f",
    service=True,
)
