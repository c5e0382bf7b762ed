# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storages of every kind that can be had here, each served by the host itself, with the models of the tests in them."""

from __future__ import annotations

import dataclasses
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fleet import MODELS

from modelfleet_lab import Host

VERIFY = "llama-nano/config.json"
# What must be seen nowhere. Data that differ from the documentation's examples.
ACCESS_KEY, SECRET_KEY = "AKIDEPOT7", "s3cr3t-of-the-depot"
META_PASSWORD, DAV_PASSWORD = "m3ta-pa$$w0rd", "d4v-p4ssword"
SECRETS = (SECRET_KEY, META_PASSWORD, DAV_PASSWORD)
KEYS = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
S3_URL = "s3://models?endpoint=http://127.0.0.1:9000&region=us-east-1"
# The client of the tests is older than these options.
OLD_JUICEFS = ["open-cache=default", "backup-meta=default", "buffer-size=32"]


@dataclasses.dataclass(frozen=True)
class Storage:
    """A storage, and how it is mounted.

    Attributes:
        arguments: of model_center_mount.
        serve: makes it be there.
        server: the unit of its server, which can be stopped and frozen; empty for none.
        client: what the command of its client has in it; empty for a client in the kernel.
        service: whether its client is run by a service.
        limit: the host on which it works, None for both.
    """

    name: str
    arguments: dict[str, Any]
    serve: Callable[[Host], None]
    server: str = ""
    client: str = ""
    service: bool = False
    limit: str | None = None

    def __str__(self) -> str:
        return self.name


def run_as(host: Host, unit: str, *command: str, after: str = "") -> None:
    """Run a server as a unit of the host, and wait until a command says that it answers."""
    if host.run(["systemctl", "is-active", "--quiet", unit], check=False).returncode != 0:
        host.run(["systemctl", "reset-failed", unit], check=False)
        host.run(["systemd-run", "--quiet", f"--unit={unit}", "--property=Restart=no", *command])
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
    host.run(["mkdir", "-p", "/data/brick"])
    host.run([*gluster, "create", "depot", f"{host.name}:/data/brick", "force"])
    host.run([*gluster, "set", "depot", "network.ping-timeout", "5"])
    host.run([*gluster, "start", "depot"])
    fill(host, ["mount", "-t", "glusterfs", "localhost:/depot", "/mnt/fill"])


def serve_s3(host: Host) -> None:
    command = ["rclone", "serve", "s3", "/srv", "--addr=127.0.0.1:9000", f"--auth-key={ACCESS_KEY},{SECRET_KEY}"]
    run_as(host, "lab-s3", "/usr/local/bin/rclone", *command[1:], after=listens(9000))


def serve_dav(host: Host) -> None:
    host.run(["mkdir", "-p", "/data"])
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=dav"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "/data/dav.key", "-out", "/data/dav.pem"]
    host.run([*request, *names])
    listen = ["--addr=127.0.0.1:9443", "--cert=/data/dav.pem", "--key=/data/dav.key"]
    who = ["--user=svc", f"--pass={DAV_PASSWORD}"]
    run_as(host, "lab-dav", "/usr/local/bin/rclone", "serve", "webdav", MODELS, *listen, *who, after=listens(9443))


def _key() -> tuple[str, str]:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "svc", "-f", str(path)], check=True)
        return path.read_text(), path.with_suffix(".pub").read_text()


PRIVATE_KEY, PUBLIC_KEY = _key()


def serve_sftp(host: Host) -> None:
    # Without a password, but not locked, which sshd refuses as well.
    host.run(["useradd", "--create-home", "--password=*", "svc"])
    host.write("/home/svc/.ssh/authorized_keys", PUBLIC_KEY)
    host.run(["chown", "-R", "svc:svc", "/home/svc/.ssh"])
    host.run(["sh", "-c", "mkdir -p /root/.ssh && ssh-keyscan 127.0.0.1 >> /root/.ssh/known_hosts 2>/dev/null"])


def serve_juicefs_sqlite(host: Host) -> None:
    host.run(["mkdir", "-p", "/data/jfs"])
    meta = "sqlite3:///data/jfs/meta.db"
    host.run(["juicefs", "format", "--storage=file", "--bucket=/data/jfs/", meta, "depot-a"])
    _fill_juicefs(host, meta)


def serve_juicefs_redis(host: Host) -> None:
    serve_s3(host)
    host.run(["mkdir", "-p", "/srv/jfs-objects"])
    host.write("/data/redis.conf", f'port 6399\nbind 127.0.0.1\nrequirepass "{META_PASSWORD}"\nsave ""\ndir /tmp\n')
    run_as(host, "lab-redis", "/usr/bin/redis-server", "/data/redis.conf", after=listens(6399))
    meta = "redis://127.0.0.1:6399/1"
    bucket = ["--storage=s3", "--bucket=http://127.0.0.1:9000/jfs-objects"]
    keys = [f"--access-key={ACCESS_KEY}", f"--secret-key={SECRET_KEY}"]
    host.run(["env", f"REDIS_PASSWORD={META_PASSWORD}", "juicefs", "format", *bucket, *keys, meta, "depot-b"])
    _fill_juicefs(host, meta, f"REDIS_PASSWORD={META_PASSWORD}")


def _fill_juicefs(host: Host, meta: str, *environment: str) -> None:
    flags = ["--no-usage-report", "--no-syslog", "--cache-dir=/cache/fill", "--metrics=127.0.0.1:9568"]
    fill(host, ["env", *environment, "juicefs", "mount", "-d", *flags, meta, "/mnt/fill"])


def _storages() -> list[Storage]:
    verify = {"verify_path": VERIFY}
    jfs = {"options": [*OLD_JUICEFS, "metrics=127.0.0.1:9571"], **verify}
    return [
        Storage("bind", {"storage_url": f"file://{MODELS}"}, serve_nothing),
        Storage("squashfs", {"storage_url": "image:///data/depot 1.squashfs"}, serve_squashfs),
        Storage("erofs", {"storage_url": "image:///data/depot.img?fstype=erofs", **verify}, serve_erofs),
        Storage(
            "gluster",
            {"storage_url": "glusterfs://localhost/depot", **verify},
            serve_gluster,
            client="localhost:/depot|--volfile-server=localhost",
        ),
        Storage(
            "rclone",
            {"storage_url": S3_URL, "credentials": KEYS, "cache_dir": "/cache/s3", "cache_size": 64, **verify},
            serve_s3,
            server="lab-s3",
            client="rclone mount",
            service=True,
        ),
        Storage(
            "s3fs",
            {"storage_url": S3_URL, "credentials": KEYS, "client": "s3fs", **verify},
            serve_s3,
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
            server="lab-dav",
            client="rclone mount",
            service=True,
        ),
        Storage(
            "sftp",
            {"storage_url": f"sftp://svc@127.0.0.1{MODELS}", "credentials": {"private_key": PRIVATE_KEY}, **verify},
            serve_sftp,
            client="sshfs -f",
            service=True,
        ),
        Storage(
            "juicefs-sqlite",
            {"storage_url": "juicefs+sqlite3:///data/jfs/meta.db?volume=depot-a", "cache_dir": "/cache/a", **jfs},
            serve_juicefs_sqlite,
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
            server="lab-redis",
            client="juicefs mount",
            service=True,
        ),
    ]


STORAGES = {storage.name: storage for storage in _storages()}
