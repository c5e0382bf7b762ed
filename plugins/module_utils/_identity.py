# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is who: UUIDs, tags and aliases, derived and never random, so that every host and run agrees.

This module util is private to the collection.
"""

from __future__ import annotations

import functools
import re
import uuid

# uuid5 of the DNS name space and "modelfleet.kvm"; written out because it may never change.
NAMESPACE = uuid.UUID("3e69d56c-e7cc-5b01-9d64-0b5f5cd52e9c")

ALIAS_PREFIX = "ua-modelfleet-"
# The view of a VM: the tag of its device, and where its guest mounts it. The same in every VM: images can know them.
VIEW_TAG = "modelfleet"
VIEW_PATH = "/models"
# Below it stand the models whose mount paths lie elsewhere, each at its whole mount path.
_ELSEWHERE = ".at"
_ALIAS = re.compile(re.escape(ALIAS_PREFIX) + r"[0-9a-f]{16}\Z")
_TAG_BYTES = 36


def center_uuid(name: str) -> str:
    """The UUID of a model center that was given none."""
    return str(uuid.uuid5(NAMESPACE, f"center\n{name}"))


def model_uuid(center: str, path: str, version: str) -> str:
    """The UUID of a model that was given none; `path` is relative to the model center."""
    return str(uuid.uuid5(NAMESPACE, f"model\n{center}\n{path}\n{version}"))


@functools.lru_cache(maxsize=4096)
def mount_uuid(vm: str, mount_path: str) -> str:
    """The UUID of the mount at a path of a VM: there is at most one."""
    return str(uuid.uuid5(NAMESPACE, f"mount\n{vm}\n{mount_path}"))


@functools.lru_cache(maxsize=1024)
def view_uuid(vm: str) -> str:
    """The UUID of the view of a VM: there is at most one."""
    return str(uuid.uuid5(NAMESPACE, f"view\n{vm}"))


def seen_at(mount_path: str) -> str:
    """Where a guest sees a model of its view; where the mount path lies elsewhere, a link at that leads there."""
    return mount_path if mount_path.startswith(f"{VIEW_PATH}/") else f"{VIEW_PATH}/{_ELSEWHERE}{mount_path}"


def token(mount: str) -> str:
    """The 16 hexadecimal digits that name a mount where space is short: directory, alias, tag."""
    return uuid.UUID(mount).hex[-16:]


def alias(mount: str) -> str:
    """The device alias of a mount.

    libvirt demands the prefix C(ua-) for aliases of users (3.9) and puts the alias into the path of
    a socket, whose length is limited; this one has 30 bytes.
    """
    return ALIAS_PREFIX + token(mount)


def is_alias(text: str) -> bool:
    """Whether a text is the alias of some mount."""
    return bool(_ALIAS.match(text))


def tag(mount: str, model: str) -> str:
    """The tag of a mount that was given none: readable, stable, at most 36 bytes, unique by its token."""
    readable = re.sub(r"[^a-z0-9]+", "-", model.rsplit("/", 1)[-1].lower()).strip("-")
    room = _TAG_BYTES - 17
    return f"{readable[:room].rstrip('-') or 'model'}-{token(mount)}"
