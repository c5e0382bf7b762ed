# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storages of every kind that can be had here, each served by the host itself, with the models of the tests in them."""

from __future__ import annotations

import base64
import dataclasses
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fleet import MODELS

from modelfleet_lab import Host

VERIFY = "llama-nano/config.json"
# Data that differ from the documentation's examples. Of each secret there are two, and the server takes both, so that
# the client can go from one to the other. WebDAV's takes one, which is changed with the client's.
ACCESS_KEY, SECRET_KEY = "AKIDEPOT7", "s3cr3t-of-the-depot"
KEYS = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
NEW_KEYS = {"access_key": "AKIDEPOT8", "secret_key": "an0ther-of-the-depot"}
META_PASSWORD, NEW_META_PASSWORD = "m3ta-pa$$w0rd", "n3w-'meta'-pa$$w0rd"
DAV_PASSWORD, NEW_DAV_PASSWORD = "d4v-p4ssword", "n3w-d4v-p4ssword"
S3_URL = "s3://models?endpoint=http://127.0.0.1:9000&region=us-east-1"
# The client of the tests is older than these options.
OLD_JUICEFS = ["open-cache=default", "backup-meta=default"]
SFTP_URL = "sftp://svc@127.0.0.1:2222"


@dataclasses.dataclass(frozen=True)
class Storage:
    """A storage, and how it is mounted.

    Attributes:
        arguments: of model_center_mount.
        serve: makes it be there, also after its server has ended.
        change: arguments that have it mounted otherwise.
        shows: what can be seen then in the mount table, or in the command of its client.
        rotated: other credentials that its server takes.
        rotate: a command by which the server takes these and the old ones no more, where it cannot take both.
        server: the unit of its server, which can be stopped and frozen; empty for none.
        client: what the command of its client has in it; empty for a client in the kernel.
        service: whether its client is run by a service.
        limit: the host on which it works, None for both.
    """

    name: str
    arguments: dict[str, Any]
    serve: Callable[[Host], None]
    change: dict[str, Any]
    shows: str
    rotated: dict[str, str] = dataclasses.field(default_factory=dict)
    rotate: tuple[str, ...] = ()
    server: str = ""
    client: str = ""
    service: bool = False
    limit: str | None = None

    def __str__(self) -> str:
        return self.name


def run_as(host: Host, unit: str, *command: str, after: str = "") -> None:
    """Run a server as a unit of the host, and wait until a command says that it answers."""
    if host.run(["systemctl", "is-active", "--quiet", unit], check=False).returncode != 0:
        # systemd forgets what was killed a moment later, or a minute, where its processes have children; and what has
        # failed only then, when it is told to.
        gone = f"systemctl show --property=LoadState {unit} | grep -q not-found"
        forgotten = f"until {gone}; do systemctl reset-failed {unit} 2>/dev/null; sleep 0.1; done"
        host.run(["timeout", "120", "sh", "-c", forgotten], timeout=130)
        host.run(["systemd-run", "--quiet", f"--unit={unit}", *command])
    if after:
        host.run(["timeout", "30", "sh", "-c", f"until {after}; do sleep 0.1; done"])


def listens(port: int) -> str:
    """A command that succeeds once somebody listens at a port."""
    return f"ss -tlnH sport = :{port} | grep -q ."


def fill(host: Host, mount: list[str]) -> None:
    """Put the models into a storage that must be mounted for that."""
    host.run(["mkdir", "-p", "/mnt/fill"])
    host.run(mount)
    host.run(["cp", "-r", f"{MODELS}/.", "/mnt/fill"])
    host.run(["umount", "/mnt/fill"])


def serve_nothing(host: Host) -> None:
    """A directory is there already."""


def serve_squashfs(host: Host) -> None:
    host.run(["mkdir", "-p", "/data"])
    host.run(["mksquashfs", MODELS, "/data/depot 1.squashfs", "-noappend", "-quiet", "-no-progress"])


def serve_erofs(host: Host) -> None:
    host.run(["mkdir", "-p", "/data"])
    host.run(["mkfs.erofs", "--quiet", "/data/depot.img", MODELS])


def serve_gluster(host: Host) -> None:
    run_as(host, "lab-gluster", "glusterd", "--no-daemon", after="gluster pool list >/dev/null 2>&1")
    gluster = ["gluster", "--mode=script", "volume"]
    if host.run([*gluster, "info", "depot"], check=False).returncode == 0:
        return
    host.run(["mkdir", "-p", "/data/brick"])
    host.run([*gluster, "create", "depot", f"{host.name}:/data/brick", "force"])
    host.run([*gluster, "set", "depot", "network.ping-timeout", "5"])
    host.run([*gluster, "start", "depot"])
    fill(host, ["mount", "-t", "glusterfs", "localhost:/depot", "/mnt/fill"])


def serve_s3(host: Host) -> None:
    keys = ",".join(f'"{keys["access_key"]},{keys["secret_key"]}"' for keys in (KEYS, NEW_KEYS))
    # Not in its arguments: what is told of the client is looked for everywhere.
    host.write("/data/s3.env", f"RCLONE_AUTH_KEY='{keys}'\n", 0o600)
    serve = ["/usr/local/bin/rclone", "serve", "s3", "/srv", "--addr=127.0.0.1:9000"]
    run_as(host, "lab-s3", "--property=EnvironmentFile=/data/s3.env", *serve, after=listens(9000))


def serve_dav(host: Host) -> None:
    host.run(["mkdir", "-p", "/data"])
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=dav"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "/data/dav.key", "-out", "/data/dav.pem"]
    if host.run(["test", "-e", "/data/dav.pem"], check=False).returncode != 0:
        host.run([*request, *names])
    for name, password in (("dav.users", DAV_PASSWORD), ("dav.users.new", NEW_DAV_PASSWORD)):
        digest = host.run(["openssl", "passwd", "-apr1", "-stdin"], input=f"{password}\n").stdout
        host.write(f"/data/{name}", f"svc:{digest}", 0o600)
    serve = ["serve", "webdav", MODELS, "--addr=127.0.0.1:9443", "--cert=/data/dav.pem", "--key=/data/dav.key"]
    run_as(host, "lab-dav", "/usr/local/bin/rclone", *serve, "--htpasswd=/data/dav.users", after=listens(9443))


def _key() -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "svc", "-f", str(path)], check=True)
        return path.read_text(), path.with_suffix(".pub").read_text()


PRIVATE_KEY, PUBLIC_KEY = _key()
NEW_PRIVATE_KEY, NEW_PUBLIC_KEY = _key()
# What must be seen nowhere: in the forms in which clients have it, of a key any line.
SECRETS = (
    *(keys["secret_key"] for keys in (KEYS, NEW_KEYS)),
    META_PASSWORD,
    NEW_META_PASSWORD,
    DAV_PASSWORD,
    *(base64.b64encode(f"svc:{password}".encode()).decode() for password in (DAV_PASSWORD, NEW_DAV_PASSWORD)),
    *(key.splitlines()[2] for key in (PRIVATE_KEY, NEW_PRIVATE_KEY)),
)


def serve_sftp(host: Host) -> None:
    # Without a password, but not locked, which sshd refuses as well.
    host.run(["useradd", "--create-home", "--password=*", "svc"], check=False)
    host.write("/home/svc/.ssh/authorized_keys", PUBLIC_KEY + NEW_PUBLIC_KEY)
    host.run(["chown", "-R", "svc:svc", "/home/svc/.ssh"])
    _serve_ssh(host, "lab-sftp", "127.0.0.1", 2222)
    host.run(["sh", "-c", "mkdir -p /root/.ssh && ssh-keyscan -p 2222 127.0.0.1 > /root/.ssh/known_hosts 2>/dev/null"])


def serve_sftp_afar(host: Host) -> None:
    """The same for other hosts, where C(serve_sftp) has been before."""
    _serve_ssh(host, "lab-sftp-afar", host.address, 2223)


def _serve_ssh(host: Host, unit: str, address: str, port: int) -> None:
    # Not the one by which the tests reach the host: this one is frozen and killed. PAM would take its sessions away
    # from the unit.
    options = [f"-oPort={port}", f"-oListenAddress={address}", "-oUsePAM=no", "-oPidFile=none"]
    run_as(host, unit, "/usr/sbin/sshd", "-D", *options, after=listens(port))


def serve_juicefs_sqlite(host: Host) -> None:
    host.run(["mkdir", "-p", "/data/jfs"])
    meta = "sqlite3:///data/jfs/meta.db"
    host.run(["juicefs", "format", "--storage=file", "--bucket=/data/jfs/", meta, "depot-a"])
    _fill_juicefs(host, meta)


def serve_juicefs_redis(host: Host) -> None:
    serve_s3(host)
    host.run(["mkdir", "-p", "/srv/jfs-objects"])
    passwords = " ".join(f'">{password}"' for password in (META_PASSWORD, NEW_META_PASSWORD))
    everybody = f"user default on {passwords} ~* &* +@all"
    # It remembers, as a metadata server that was killed does.
    keeps = 'save ""\nappendonly yes\ndir /data/redis'
    host.write("/data/redis.conf", f"port 6399\nbind 127.0.0.1\n{everybody}\n{keeps}\n")
    host.run(["mkdir", "-p", "/data/redis"])
    run_as(host, "lab-redis", "/usr/bin/redis-server", "/data/redis.conf", after=listens(6399))
    meta = "redis://127.0.0.1:6399/1"
    if host.run(["ls", "/srv/jfs-objects/depot-b"], check=False).returncode == 0:
        return
    bucket = ["--storage=s3", "--bucket=http://127.0.0.1:9000/jfs-objects"]
    keys = [f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}"]
    host.run(["env", f"REDIS_PASSWORD={META_PASSWORD}", "juicefs", "format", *bucket, *keys, meta, "depot-b"])
    _fill_juicefs(host, meta, f"REDIS_PASSWORD={META_PASSWORD}")


def _fill_juicefs(host: Host, meta: str, *environment: str) -> None:
    flags = ["--no-usage-report", "--no-syslog", "--cache-dir=/cache/fill", "--metrics=127.0.0.1:9568"]
    fill(host, ["env", *environment, "juicefs", "mount", "-d", *flags, meta, "/mnt/fill"])


def option(new: str, *others: str) -> tuple[dict[str, Any], str]:
    """One option that is another one than before, as `change` and `shows` of a storage."""
    return {"options": [*others, new]}, new


def _storages() -> list[Storage]:
    verify = {"verify_path": VERIFY}
    jfs_options = [*OLD_JUICEFS, "metrics=127.0.0.1:9571"]
    jfs = {"options": [*jfs_options, "buffer-size=32"], **verify}
    no_exec = option("noexec")
    return [
        Storage("bind", {"storage_url": f"file://{MODELS}"}, serve_nothing, {"read_only": False}, "rw"),
        Storage("squashfs", {"storage_url": "image:///data/depot 1.squashfs"}, serve_squashfs, *no_exec),
        Storage("erofs", {"storage_url": "image:///data/depot.img?fstype=erofs", **verify}, serve_erofs, *no_exec),
        Storage(
            "gluster",
            {"storage_url": "glusterfs://localhost/depot", **verify},
            serve_gluster,
            *option("attribute-timeout=30"),
            server="lab-gluster",
            client="localhost:/depot|--volfile-server=localhost",
        ),
        Storage(
            "rclone",
            {"storage_url": S3_URL, "credentials": KEYS, "cache_dir": "/cache/s3", "cache_size": 64, **verify},
            serve_s3,
            *option("buffer-size=16M"),
            rotated=NEW_KEYS,
            server="lab-s3",
            client="rclone mount",
            service=True,
        ),
        Storage(
            "s3fs",
            {"storage_url": S3_URL, "credentials": KEYS, "client": "s3fs", **verify},
            serve_s3,
            *option("multireq_max=7"),
            rotated=NEW_KEYS,
            server="lab-s3",
            client="s3fs models",
            service=True,
            # s3fs 1.95 does not understand what the server of the tests says of directories.
            limit="alpha",
        ),
        Storage(
            "dav",
            {
                "storage_url": "davs://svc@127.0.0.1:9443/",
                "credentials": {"password": DAV_PASSWORD},
                "options": ["ca-cert=/data/dav.pem"],
                **verify,
            },
            serve_dav,
            *option("buffer-size=16M", "ca-cert=/data/dav.pem"),
            rotated={"password": NEW_DAV_PASSWORD},
            rotate=("mv", "/data/dav.users.new", "/data/dav.users"),
            server="lab-dav",
            client="rclone mount",
            service=True,
        ),
        Storage(
            "sftp",
            {"storage_url": f"{SFTP_URL}{MODELS}", "credentials": {"private_key": PRIVATE_KEY}, **verify},
            serve_sftp,
            *option("dcache_timeout=60"),
            rotated={"private_key": NEW_PRIVATE_KEY},
            server="lab-sftp",
            client="sshfs -f",
            service=True,
        ),
        Storage(
            "juicefs-sqlite",
            {"storage_url": "juicefs+sqlite3:///data/jfs/meta.db?volume=depot-a", "cache_dir": "/cache/a", **jfs},
            serve_juicefs_sqlite,
            *option("buffer-size=64", *jfs_options),
            client="juicefs mount",
            service=True,
        ),
        Storage(
            "juicefs-redis",
            {
                "storage_url": "juicefs+redis://127.0.0.1:6399/1?volume=depot-b",
                "credentials": {"meta_password": META_PASSWORD},
                **jfs,
            },
            serve_juicefs_redis,
            *option("buffer-size=64", *jfs_options),
            rotated={"meta_password": NEW_META_PASSWORD},
            server="lab-redis",
            client="juicefs mount",
            service=True,
        ),
    ]


STORAGES = {storage.name: storage for storage in _storages()}


def serve(hosts: dict[str, Host], served: set[str], *storages: Storage) -> None:
    """Have storages be served on all hosts, those that are not yet."""
    for storage in storages:
        if storage.name not in served:
            with ThreadPoolExecutor(len(hosts)) as pool:
                list(pool.map(storage.serve, hosts.values()))
            served.add(storage.name)
