# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Back ends: how a storage URL becomes a mount. One file each; adding one is adding a file, and its name here.

(Its name must stand here, because Ansible sends to a host only what it finds imported by name.)

This module util is private to the collection.
"""

from __future__ import annotations

import typing as t

from .. import _input
from .._centers import Center, Unit, unreadable
from .._errors import ModelfleetError
from . import _backend, _url
from ._backend import BackEnd, Definition
from ._block import Block
from ._ceph import Ceph
from ._davs import Davs
from ._existing import Existing
from ._file import File
from ._generic import Generic
from ._gluster import Gluster
from ._image import Image
from ._juicefs import JuiceFs
from ._nfs import Nfs
from ._s3 import S3
from ._sftp import Sftp
from ._smb import Smb

_ALL = (Block, Ceph, Davs, Existing, File, Generic, Gluster, Image, JuiceFs, Nfs, S3, Sftp, Smb)
BACK_ENDS: dict[str, BackEnd] = {scheme: kind() for kind in _ALL for scheme in kind.schemes}


def parts() -> list[str]:
    """The module utils that all this consists of, for programs that are made of them: their names in module_utils."""
    files = {type(back_end).__module__.rpartition(".")[2] for back_end in BACK_ENDS.values()}
    return ["_storage", *(f"_storage.{name}" for name in sorted({"_backend", "_rclone", "_url", *files}))]


def check(url: str) -> str:
    """A storage URL in its normal form.

    Raises:
        ModelfleetError: C(invalid_input) for a URL that cannot be used.
    """
    return _back_end(url).check(_url.parse(url)).text


def check_center(center: Center) -> None:
    """Refuse a center whose options do not go together; its URL is in its normal form.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    back_end, url = _back_end(center.storage_url), _url.parse(center.storage_url)
    if center.client and center.client not in back_end.clients:
        known = ", ".join(back_end.clients) or "none"
        raise _input.invalid("client", f"{url.scheme}:// can be mounted by {known}")
    if center.cache_dir and not back_end.caches:
        raise _input.invalid("cache_dir", f"{url.scheme}:// has no cache on a disk")
    if center.cache_size and not center.cache_dir:
        raise _input.invalid("cache_size", "it needs cache_dir")
    if back_end.proves_nothing and not center.verify_path:
        raise _input.invalid("verify_path", f"{url.scheme}:// needs it, because its clients mount what does not exist")
    if center.options and not back_end.takes_options:
        raise _input.invalid("options", f"{url.scheme}:// takes none")
    _backend.check_options(center.options)
    back_end.refuse(url, center)


def definition(center: Center) -> Definition:
    """How systemd mounts a center."""
    return _back_end(center.storage_url).definition(_url.parse(center.storage_url), center)


def require_readable(unit: Unit) -> None:
    """Refuse a center whose storage this release does not know, or whose record cannot be true.

    Raises:
        ModelfleetError: C(center_unreadable).
    """
    try:
        definition(unit.center)
        secret_paths(unit.center)
    except ModelfleetError as problem:
        raise unreadable(unit.path, f"this release does not understand it: {problem.what}") from None


def path(url: str) -> str:
    """The path of a storage URL in its normal form."""
    return _url.parse(url).path


def directory(url: str) -> str:
    """The directory of this host that a storage URL in its normal form shows; empty when that is not known before."""
    parsed = _url.parse(url)
    return parsed.path if parsed.scheme in ("file", "existing") else ""


def credentials(url: str) -> tuple[str, ...]:
    """The names of the secrets that the storage of a URL can use."""
    return _back_end(url).credentials


def check_secrets(url: str, given: t.Mapping[str, t.Optional[str]]) -> dict[str, str]:
    """Secrets that the storage of a URL can use.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    return _backend.check_secrets(_back_end(url), given)


def secrets(center: Center, given: t.Mapping[str, str]) -> dict[str, str]:
    """The files that bring secrets, and what else is not for everybody, to the client: their paths and texts.

    Raises:
        ModelfleetError: C(invalid_input) for secrets that do not go together.
    """
    back_end = _back_end(center.storage_url)
    if not back_end.credentials:
        return {}
    files = back_end.secrets(_url.parse(center.storage_url), center, given) if given or needs_file(center) else {}
    return {_backend.secret_path(center, name): text for name, text in files.items()}


def require_secrets(center: Center) -> None:
    """Refuse a center without secrets that it cannot do without.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    lacks = _back_end(center.storage_url).lacks(center)
    if lacks:
        raise _input.invalid("credentials", lacks)


def secret_paths(center: Center) -> list[str]:
    """Where the files must be that the client of a center was given."""
    return sorted(secrets(center, dict.fromkeys(center.credentials, "-")))


def needs_file(center: Center) -> bool:
    """Whether the client of a center needs a file from us, with secrets or without."""
    return any(option.startswith("--config=") for option in definition(center).command)


def secrets_directory(name: str) -> str:
    """Where the files with secrets of a center lie."""
    return _backend.directory(name)


def environment_file(center: Center) -> str:
    """The file from which a client has its environment."""
    return _backend.secret_path(center, "environment")


def _back_end(url: str) -> BackEnd:
    scheme = _url.scheme(url)
    if scheme not in BACK_ENDS:
        known = ", ".join(f"{name}://" for name in sorted(BACK_ENDS))
        # The URL itself is not shown: it may hold a password.
        raise _input.invalid("storage_url", f"its scheme is not one of {known}")
    return BACK_ENDS[scheme]
