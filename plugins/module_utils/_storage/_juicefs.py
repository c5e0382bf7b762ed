# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(juicefs+ENGINE://...): JuiceFS, named by the URL of its metadata.

C(juicefs+redis), C(+rediss), C(+mysql), C(+postgres), C(+tikv), C(+etcd), C(+sqlite3), C(+badger); what follows is
JuiceFS's own metadata URL without its password, in the same form for all engines (MySQL's parentheses are put there).
C(?volume=NAME) names the volume that must be found there, C(&subdir=/DIRECTORY) shows a part of it.

Program: juicefs, which no distribution has; helper names a vendor's. The secret C(meta_password) reaches it by its
environment (META_PASSWORD, and REDIS_PASSWORD for clients before 1.0), so does C(rsa_passphrase) of an encrypted
volume. etcd's password could only stand in the URL, so etcd is used without one, or with certificates. Recognised by
the source, which the client always shows as C(JuiceFS:VOLUME).

It runs in the foreground of a service, because clients before 1.2 have nobody that starts them again; later ones have,
and it does no harm there.

Options and why: C(ro) in C(-o), which is C(--read-only) to clients that have it, and works with those before 1.0 as
well; C(open-cache), C(attr-cache), C(entry-cache) and C(dir-entry-cache) of an hour, because published models never
change; C(backup-meta=0) and C(no-usage-report), because a host that reads has nothing to say; C(buffer-size=1024) for
reading ahead; never C(writeback), which loses data when a host fails. Without a cache_dir 1 GiB of memory is the cache:
the client's own default would fill the disk of the system.

This module util is private to the collection.
"""

from __future__ import annotations

import re
import typing as t
import urllib.parse

from .. import _input
from .._centers import Center
from . import _url
from ._backend import SAFE, BackEnd, Definition, Need, Shows, access, environment, flags, merged

_ENGINES = ("redis", "rediss", "mysql", "postgres", "tikv", "etcd", "sqlite3", "badger")
_LOCAL = ("sqlite3", "badger")
_WITH_PASSWORD = ("redis", "rediss", "mysql", "postgres")
_VOLUME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]\Z")
_OURS = ("volume", "subdir")
# Of the metadata URL; all that can be said there without a secret.
_THEIRS = "sslmode search_path table_prefix route-read ca cert key cacert verify-cn tls_ca_cert_file".split()
_OPTIONS = (
    "no-usage-report no-syslog open-cache=3600 attr-cache=3600 entry-cache=3600 dir-entry-cache=3600 backup-meta=0"
    " buffer-size=1024"
).split()


class JuiceFs(BackEnd):
    """JuiceFS, or what a vendor made of it."""

    schemes = tuple(f"juicefs+{engine}" for engine in _ENGINES)
    credentials = ("meta_password", "rsa_passphrase", "access_key", "secret_key", "session_token")
    caches = True

    def check(self, url: _url.Url) -> _url.Url:
        url = url.only(*_OURS, *_THEIRS)
        url = url.local() if _engine(url) in _LOCAL else url.remote(several=True)
        if url.get("volume") and not _VOLUME.match(url.get("volume")):
            raise _url.bad("volume is not the name of one")
        if url.get("subdir"):
            subdir = _input.absolute_path("storage_url", url.get("subdir"))
            query = {**dict(url.query), "subdir": subdir}
            url = url._replace(query=tuple(sorted(query.items())))
        return url

    def definition(self, url: _url.Url, center: Center) -> Definition:
        program = center.helper or "juicefs"
        defaults = list(_OPTIONS)
        if center.cache_dir:
            defaults += [
                f"cache-dir={center.cache_dir}",
                *([f"cache-size={center.cache_size}"] if center.cache_size else []),
            ]
        else:
            defaults += ["cache-dir=memory", "cache-size=1024"]
        if url.get("subdir"):
            defaults.append(f"subdir={url.get('subdir')}")
        options = flags(merged(defaults, center.options))
        command = (
            program,
            "mount",
            *options,
            "-o",
            ",".join((access(center), *SAFE)),
            _meta_url(url),
            center.mount_point,
        )
        needs = (Need(program, "none; see https://juicefs.com", "none; see https://juicefs.com"),)
        shows = Shows(("fuse.juicefs", *(["fuse."] if center.helper else [])), f"JuiceFS:{url.get('volume', '*')}")
        if center.helper and not url.get("volume"):
            # A vendor's client may call itself otherwise.
            shows = shows._replace(source="")
        local = _engine(url) in _LOCAL
        environs = bool(center.credentials)
        # In its cache volumes have directories of their own.
        cache = center.cache_dir
        return Definition(shows, command=command, needs=needs, network=not local, environment=environs, cache=cache)

    def secrets(self, url: _url.Url, center: Center, given: t.Mapping[str, str]) -> dict[str, str]:
        engine = _engine(url)
        if "meta_password" in given and engine not in _WITH_PASSWORD:
            raise _input.invalid("credentials", f"JuiceFS takes no meta_password for {engine}")
        names = {"rsa_passphrase": ["JFS_RSA_PASSPHRASE"], "meta_password": ["META_PASSWORD"]}
        names.update({name: [name.upper()] for name in ("access_key", "secret_key", "session_token")})
        if engine.startswith("redis"):
            names["meta_password"].append("REDIS_PASSWORD")
        values = {variable: value for name, value in given.items() for variable in names[name]}
        return {"environment": environment(values)} if values else {}


def _engine(url: _url.Url) -> str:
    return url.scheme.partition("+")[2]


def _meta_url(url: _url.Url) -> str:
    query = "&".join(f"{key}={urllib.parse.quote(value, safe='/:')}" for key, value in url.query if key not in _OURS)
    hosts = f"({url.authority})" if _engine(url) == "mysql" else url.authority
    user = f"{url.user}@" if url.user else ""
    path = "" if url.path == "/" else url.path
    return f"{_engine(url)}://{user}{hosts}{path}{'?' if query else ''}{query}"
