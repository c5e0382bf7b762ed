# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME]): S3, by rclone or by s3fs (C(client=s3fs)).

Packages: rclone, s3fs (RHEL: rclone and s3fs-fuse, from EPEL). The secrets C(access_key), C(secret_key) and
C(session_token) go into rclone's configuration or s3fs's password file; without them the client asks the instance
metadata service. An S3 client mounts a bucket that does not exist, or cannot be read, without complaint, so a
verify_path is required. Recognised by the type and by the source, which both clients show as they are told.

s3fs is slower and cannot resume broken transfers; it is here because many hosts have it. Its options:
C(retries=2,connect_timeout=10,readwrite_timeout=30) bound its wait, C(stat_cache_expire=3600) is for what never
changes.

This module util is private to the collection.
"""

from __future__ import annotations

import re
import typing as t

from .. import _input
from .._centers import Center
from . import _rclone, _url
from ._backend import SAFE, BackEnd, Definition, Need, Shows, access, merged, own_cache, secret_path

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]\Z")
_ENDPOINT = re.compile(r"https?://[A-Za-z0-9.\[\]:-]{1,255}/?\Z")
_REGION = re.compile(r"[a-z0-9-]{1,40}\Z")
_S3FS = (
    "allow_other retries=2 connect_timeout=10 readwrite_timeout=30 stat_cache_expire=3600 enable_noobj_cache"
    " multireq_max=20"
).split()


class S3(BackEnd):
    """S3 and what speaks it."""

    schemes = ("s3",)
    clients = ("rclone", "s3fs")
    credentials = ("access_key", "secret_key", "session_token")
    caches = True
    proves_nothing = True

    def check(self, url: _url.Url) -> _url.Url:
        url = url.without_user().only("endpoint", "region").remote(port=False)
        if not _BUCKET.match(url.authority):
            raise _url.bad("its bucket is not the name of one")
        if url.get("endpoint") and not _ENDPOINT.match(url.get("endpoint")):
            raise _url.bad("endpoint must be http(s)://HOST[:PORT]")
        if url.get("region") and not _REGION.match(url.get("region")):
            raise _url.bad("region is not the name of one")
        return url

    def definition(self, url: _url.Url, center: Center) -> Definition:
        source = f"s3://{url.authority}{url.path.rstrip('/')}"
        if self.client(center) == "rclone":
            return _rclone.definition(center, source[len("s3://") :], source)
        program = center.helper or "s3fs"
        prefix = f":{url.path}" if url.path != "/" else ""
        options = [access(center), *SAFE, f"fsname={source}", *_S3FS]
        if url.get("endpoint"):
            # With an endpoint of one's own the bucket is hardly ever a name in DNS.
            options += [f"url={url.get('endpoint')}", "use_path_request_style"]
        options += [f"endpoint={url.get('region')}"] if url.get("region") else []
        with_keys = "access_key" in center.credentials
        options.append(f"passwd_file={secret_path(center, 'keys')}" if with_keys else "iam_role=auto")
        cache = own_cache(center)
        # It tells buckets apart by their names, whatever the endpoint is, and empties the directory when it begins.
        options += [f"use_cache={cache}", "del_cache"] if cache else []
        command = (
            program,
            url.authority + prefix,
            center.mount_point,
            "-f",
            "-o",
            ",".join(merged(options, center.options)),
        )
        needs = (Need(program, "s3fs", "s3fs-fuse"),)
        # Of a client that is told its source the type may be a bare one.
        return Definition(Shows(("fuse.s3fs", "fuse"), source), command=command, needs=needs, cache=cache)

    def refuse(self, url: _url.Url, center: Center) -> None:
        if center.cache_size and self.client(center) == "s3fs":
            raise _input.invalid("cache_size", "the cache of s3fs cannot be bounded; use client=rclone")

    def secrets(self, url: _url.Url, center: Center, given: t.Mapping[str, str]) -> dict[str, str]:
        if given and not ("access_key" in given and "secret_key" in given):
            raise _input.invalid("credentials", "access_key and secret_key are needed together")
        if self.client(center) == "s3fs":
            if "session_token" in given:
                raise _input.invalid("credentials", "s3fs cannot use a session_token; use client=rclone")
            return {"keys": f"{given['access_key']}:{given['secret_key']}\n"} if given else {}
        return _rclone.config(
            {
                "type": "s3",
                "provider": "Other" if url.get("endpoint") else "AWS",
                "endpoint": url.get("endpoint"),
                "region": url.get("region"),
                "env_auth": "" if given else "true",
                "access_key_id": given.get("access_key", ""),
                "secret_access_key": given.get("secret_key", ""),
                "session_token": given.get("session_token", ""),
            }
        )
