# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Back ends: how a storage URL becomes a mount. One file each; adding one is adding a file and a line here.

This module util is private to the collection.
"""

from __future__ import annotations

import typing as t

from .. import _input
from . import _file
from ._definition import Definition


class BackEnd(t.Protocol):
    """What the file of a back end offers."""

    SCHEMES: tuple[str, ...]

    def check(self, url: str) -> str:
        """The URL in its normal form.

        Raises:
            ModelfleetError: C(invalid_input) for a URL that cannot be used.
        """

    def definition(self, url: str, read_only: bool) -> Definition:
        """How systemd mounts a URL in its normal form."""


# Modules serve as back ends, so that each is a plain file of functions.
_BACK_ENDS: dict[str, BackEnd] = {scheme: module for module in (_file,) for scheme in module.SCHEMES}


def check(url: str) -> str:
    """A storage URL in its normal form.

    Raises:
        ModelfleetError: C(invalid_input) for a URL that cannot be used.
    """
    return _back_end(url).check(url)


def definition(url: str, read_only: bool) -> Definition:
    """How systemd mounts a storage URL in its normal form."""
    return _back_end(url).definition(url, read_only)


def _back_end(url: str) -> BackEnd:
    scheme = url.split("://", 1)[0].lower() if "://" in url else ""
    if scheme not in _BACK_ENDS:
        known = ", ".join(f"{name}://" for name in sorted(_BACK_ENDS))
        # The URL itself is not shown: it may hold a password.
        raise _input.invalid("storage_url", f"its scheme {_input.show(scheme)} is not one of {known}")
    return _BACK_ENDS[scheme]
