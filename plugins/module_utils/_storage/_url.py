# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The grammar of storage URLs, the same for all back ends. Pure.

    url       = scheme "://" [ user "@" ] [ hosts ] path [ "?" key "=" value *( "&" key "=" value ) ]
    hosts     = host [ ":" port ] *( "," host [ ":" port ] )

Nothing of a URL is ever shown in a message: a password may stand anywhere in a malformed one.

This module util is private to the collection.
"""

from __future__ import annotations

import re
import typing as t
import urllib.parse

from .. import _input
from .._errors import ModelfleetError

_SCHEME = re.compile(r"[a-z][a-z0-9+]{0,31}\Z")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?\Z")
# A domain of SMB may stand in front, with a semicolon.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@;$-]{0,127}\Z")
_KEY = re.compile(r"[a-z][a-z0-9_-]{0,31}\Z")
_SECRET = re.compile(r"pass|pw\b|pwd|secret|token|credential|access_?key|api_?key|private|signature")
_SAFE = "/+:@,=._-~"


class Url(t.NamedTuple):
    """A storage URL in its parts, all decoded.

    Attributes:
        hosts: as they were written; empty for none.
        path: absolute and normalised; C(/) for none.
        query: sorted by their keys.
    """

    scheme: str
    user: str
    hosts: tuple[str, ...]
    path: str
    query: tuple[tuple[str, str], ...]

    def get(self, key: str, default: str = "") -> str:
        """The value of a key of the query."""
        return dict(self.query).get(key, default)

    @property
    def authority(self) -> str:
        """The hosts, with a comma between them."""
        return ",".join(self.hosts)

    @property
    def parts(self) -> list[str]:
        """The directories of the path."""
        return [part for part in self.path.split("/") if part]

    @property
    def text(self) -> str:
        """The URL in its normal form, which parses to the same again."""
        user = f"{urllib.parse.quote(self.user, safe='.+_-')}@" if self.user else ""
        query = "&".join(f"{key}={urllib.parse.quote(value, safe=_SAFE)}" for key, value in self.query)
        path = urllib.parse.quote(self.path, safe="/")
        return f"{self.scheme}://{user}{self.authority}{path}{'?' if query else ''}{query}"

    def without_user(self) -> Url:
        """Refuse a user, where the storage has none.

        Raises:
            ModelfleetError: C(invalid_input).
        """
        if self.user:
            raise bad(f"{self.scheme}:// takes no user")
        return self

    def local(self) -> Url:
        """Refuse hosts, and the root directory, where the storage is a path of this host.

        Raises:
            ModelfleetError: C(invalid_input).
        """
        self.without_user()
        if self.hosts not in ((), ("localhost",)):
            raise bad(f"{self.scheme}:// takes no host: write {self.scheme}:///PATH")
        if self.path == "/":
            raise bad(f"{self.scheme}:// needs a path: write {self.scheme}:///PATH")
        return self._replace(hosts=())

    def remote(self, several: bool = False, port: bool = True, parts: int = 0) -> Url:
        """Refuse a URL without what storage of another machine needs.

        Args:
            several: whether there may be more than one host.
            port: whether they may have a port.
            parts: the number of directories that the path must have at least.

        Raises:
            ModelfleetError: C(invalid_input).
        """
        if not self.hosts:
            raise bad(f"{self.scheme}:// needs a host")
        if len(self.hosts) > 1 and not several:
            raise bad(f"{self.scheme}:// takes one host")
        if not port and any(_port(host) for host in self.hosts):
            raise bad(f"{self.scheme}:// takes no port")
        if len(self.parts) < parts:
            raise bad(f"its path is too short for {self.scheme}://")
        if "," in self.path or "\\" in self.path or '"' in self.path:
            # Options of mount(8) and of FUSE clients are lists with commas in which these mean something.
            raise bad("its path must not have commas, backslashes or double quotes")
        return self

    def only(self, *keys: str) -> Url:
        """Refuse keys of the query that are not known.

        Raises:
            ModelfleetError: C(invalid_input).
        """
        if any(key not in keys for key, _value in self.query):
            known = f"only {', '.join(keys)}" if keys else "nothing"
            raise bad(f"{self.scheme}:// takes {known} after a '?'; write '?' in a path as %3F")
        return self


def bad(problem: str) -> ModelfleetError:
    """The error for a URL that cannot be used."""
    return _input.invalid("storage_url", problem)


def secret(where: str) -> ModelfleetError:
    """The error for a URL with a secret in it."""
    return bad(f"{where} must not stand in a URL, which everybody can read: use the option credentials")


def scheme(url: str) -> str:
    """The scheme of a URL in lower case, empty for none."""
    return url.split("://", 1)[0].lower() if "://" in url else ""


def parse(url: str) -> Url:
    """A URL in its parts.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    _refuse_control_characters(url)
    if len(url) > 4 * _input.PATH_MAX:
        raise bad("it is too long")
    found, rest = scheme(url), url.split("://", 1)[-1]
    if not _SCHEME.match(found):
        raise bad("it has no scheme that could be one")
    if "#" in rest:
        raise bad("write '#' as %23")
    place, mark, query = rest.partition("?")
    if mark and not query:
        raise bad("nothing follows its '?'; write '?' in a path as %3F")
    authority, slash, path = place.partition("/")
    user, at, hosts = authority.rpartition("@")
    return Url(
        found,
        _user(_decoded(user)) if at else "",
        _hosts(hosts),
        _path(_decoded(slash + path)),
        _query(query) if query else (),
    )


def _refuse_control_characters(text: str) -> None:
    try:
        _input.no_control_characters("storage_url", text)
    except ModelfleetError:
        raise bad("it contains a control character") from None


def _decoded(text: str) -> str:
    try:
        decoded = urllib.parse.unquote(text, errors="strict")
    except ValueError:
        raise bad("it is not UTF-8") from None
    _refuse_control_characters(decoded)
    return decoded


def _user(user: str) -> str:
    if ":" in user:
        raise secret("a password")
    if not _USER.match(user):
        raise bad("its user must be letters, digits, '.', '_', '+', '@', '$' or '-'")
    return user


def _hosts(hosts: str) -> tuple[str, ...]:
    if not hosts:
        return ()
    found = tuple(hosts.split(","))
    if not all(_HOST.match(host) and int(_port(host) or 1) in range(1, 65536) for host in found):
        raise bad("its host is not one; a password with special characters does not belong there either")
    return found


def _port(host: str) -> str:
    return host.rpartition(":")[2] if re.search(r":[0-9]+\Z", host) else ""


def _path(path: str) -> str:
    try:
        return _input.absolute_path("storage_url", path or "/")
    except ModelfleetError:
        raise bad(
            f"its path cannot be used: no '.' and '..' in it, at most {_input.PATH_MAX} bytes, and no blank or"
            " backslash at its end"
        ) from None


def _query(query: str) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for item in query.split("&"):
        key, _equals, value = item.partition("=")
        key = key.lower()
        if _SECRET.search(key):
            raise secret("a secret")
        if not _KEY.match(key) or not value:
            raise bad("what follows its '?' must be key=value, with '&' between several; write '?' in a path as %3F")
        if key in found:
            raise bad(f"'{key}' stands there twice")
        found[key] = _decoded(value)
    return tuple(sorted(found.items()))
