# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wanted of a model center, from the options of a task.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import _centers, _identity, _input, _mount_lines, _storage
from ._center_mount import MOUNTED


@dataclasses.dataclass(frozen=True)
class Wish:
    """A center as it shall be, or when it shall go, as it is known.

    Attributes:
        secrets: the files that its client shall have, by path; None to leave them as they are.
    """

    center: _centers.Center
    secrets: t.Optional[dict[str, str]]


def wanted(params: dict[str, t.Any], known: t.Optional[_centers.Center]) -> Wish:
    """The center that the options describe, or when it shall go, the one that is known by its name.

    Args:
        params: of the module, trimmed.
        known: the center of this name on this host; None for none, or when only the options are checked.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    name = _input.name("name", params["name"] or "")
    mounting = params["state"] == MOUNTED
    if mounting and params["storage_url"] is None:
        raise _input.invalid("storage_url", "it is required with state=mounted")
    url = _storage.check(params["storage_url"]) if params["storage_url"] else ""
    given = _storage.check_secrets(url, params["credentials"]) if url and params["credentials"] is not None else None
    center = _centers.Center(
        name=name,
        uuid=_uuid(params["uuid"], name, known),
        storage_url=url,
        mount_point=_mount_point(params["mount_point"], name, url),
        read_only=params["read_only"],
        options=tuple(option or "" for option in params["options"] or ()),
        client=params["client"] or "",
        helper=_helper(params["helper"]),
        cache_dir=_input.absolute_path("cache_dir", params["cache_dir"]) if params["cache_dir"] else "",
        cache_size=params["cache_size"] or 0,
        verify_path=_input.relative_path("verify_path", params["verify_path"]) if params["verify_path"] else "",
        credentials=_names(given, known, url),
        keep_alive=params["keep_alive"],
    )
    if center.cache_size < 0:
        raise _input.invalid("cache_size", "it must not be negative")
    if url:
        _storage.check_center(center)
    # What goes away goes from where it is, whatever the options say.
    if not mounting:
        return Wish(known or center, None)
    return Wish(center, _files(center, known, given))


def _uuid(given: t.Optional[str], name: str, known: t.Optional[_centers.Center]) -> str:
    # A UUID that was given once stays: the records of VMs name the center by it.
    if given:
        return _input.uuid("uuid", given)
    return known.uuid if known else _identity.center_uuid(name)


def _mount_point(given: t.Optional[str], name: str, url: str) -> str:
    # What somebody else mounts is where it is.
    there = _storage.path(url) if url.startswith("existing:") else f"/var/lib/modelfleet/centers/{name}"
    path = _input.mount_point("mount_point", given or there)
    if not _mount_lines.can_be_unit(path):
        raise _input.invalid("mount_point", "it is too long for the name of a mount unit")
    return path


def _helper(given: t.Optional[str]) -> str:
    if not given:
        return ""
    return _input.absolute_path("helper", given) if "/" in given else _input.name("helper", given)


def _names(given: t.Optional[dict[str, str]], known: t.Optional[_centers.Center], url: str) -> tuple[str, ...]:
    """The secrets that the client has: those given, or those of an earlier run that are of use to it."""
    if given is not None:
        return tuple(sorted(given))
    return tuple(name for name in known.credentials if name in _storage.credentials(url)) if known and url else ()


def _files(
    center: _centers.Center, known: t.Optional[_centers.Center], given: t.Optional[dict[str, str]]
) -> t.Optional[dict[str, str]]:
    if given is not None or not center.credentials:
        return _storage.secrets(center, given or {})
    if known is not None and (known.storage_url, known.client) != (center.storage_url, center.client):
        # The files are made of both.
        raise _input.invalid("credentials", "they are needed again, because storage_url or client has changed")
    return None
