# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""rclone as the client of several back ends: its command, and its secrets in a file of its own.

Recognised by type C(fuse.rclone) and by the source, which rclone shows as it is told (C(--devname)). It tells systemd
when it is ready, and ends when it cannot be.

Options and why: C(dir-cache-time=1h) and C(attr-timeout=1h), because published models never change; C(contimeout),
C(timeout) and C(low-level-retries), because the defaults answer a dead server after many minutes;
C(vfs-read-chunk-streams=4) with C(vfs-read-chunk-size=64M) reads a large file over several connections (C(rclone)
1.70 or later; leave it out for older ones with C(vfs-read-chunk-streams=default)). Without a cache_dir nothing is kept
on a disk; with one, what was read once is.

This module util is private to the collection.
"""

from __future__ import annotations

import typing as t

from .._centers import Center
from ._backend import Definition, Need, Shows, flags, merged, own_cache, secret_path

REMOTE = "center"
_OPTIONS = (
    "allow-other dir-cache-time=1h attr-timeout=1h contimeout=10s timeout=30s low-level-retries=3 buffer-size=64M"
    " vfs-read-chunk-size=64M"
).split()


def definition(center: Center, path: str, source: str) -> Definition:
    """How rclone mounts a path of the remote that C(config) describes."""
    program = center.helper or "rclone"
    options = [f"config={secret_path(center, 'config')}", f"devname={source}", *_OPTIONS]
    options += ["read-only"] if center.read_only else []
    cache = own_cache(center)
    if cache:
        # In it rclone tells centers apart by the name of the remote, which is the same for all.
        options += ["vfs-cache-mode=full", f"cache-dir={cache}"]
        options += [f"vfs-cache-max-size={center.cache_size}M"] if center.cache_size else []
    else:
        options += ["vfs-cache-mode=off"]
    command = (program, "mount", f"{REMOTE}:{path}", center.mount_point, *flags(merged(options, center.options)))
    needs = (Need(program, "rclone", "rclone"), Need("fusermount3", "fuse3", "fuse3"))
    return Definition(Shows(("fuse.rclone",), source), command=command, notifies=True, needs=needs, cache=cache)


def config(values: t.Mapping[str, str]) -> dict[str, str]:
    """The file that describes the remote. rclone needs it with or without secrets in it."""
    lines = [f"[{REMOTE}]", *(f"{key} = {value}" for key, value in values.items() if value)]
    return {"config": "".join(f"{line}\n" for line in lines)}
