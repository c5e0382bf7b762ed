# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(file:///DIRECTORY): a local or already mounted directory.

Mounted by a bind. Only the file system that holds the directory is shown, none that is mounted below it. Recognised by
the directory itself, which must be the same at both places.

This module util is private to the collection.
"""

from __future__ import annotations

from .. import _input
from .._centers import Center
from . import _url
from ._backend import SAFE, BackEnd, Definition, Shows, access

# A center there would show the operating system of the host, or our own mounts again.
_NEVER = ("/boot", "/dev", "/etc", "/proc", "/run/modelfleet", "/sys", "/var/lib/modelfleet")


class File(BackEnd):
    """A directory of this host."""

    schemes = ("file",)
    takes_options = False

    def check(self, url: _url.Url) -> _url.Url:
        """No host, one absolute directory, percent-encoded as RFC 8089 wants."""
        refuse_system(url.local().only().path)
        return url.local()

    def definition(self, url: _url.Url, center: Center) -> Definition:
        """A bind of the directory."""
        options = ("bind", access(center), *SAFE)
        return Definition(Shows(directory=url.path), url.path, "none", options, network=False)

    def refuse(self, url: _url.Url, center: Center) -> None:
        if _input.overlaps(center.mount_point, url.path):
            raise _input.invalid("mount_point", "it and the directory that it shows lie in one another")


def refuse_system(path: str) -> None:
    """Refuse a path of the operating system.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    if path == "/" or any(path == root or path.startswith(root + "/") for root in _NEVER):
        raise _url.bad(f"{_input.show(path)} cannot be a model center")
