# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The KVM hosts that an inventory source names, and how their libvirt is reached. Pure.

This plugin util is private to the collection.
"""

from __future__ import annotations

import os
import re
import typing as t
import urllib.parse

from ..module_utils import _input

_SUFFIXES = ("vms", "modelfleet")
_EXTENSIONS = (".yml", ".yaml")
# Nothing that means something in a pattern of hosts, in a URI, or to ssh.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}\Z")
_PLACE = "{host}"


class KvmHost(t.NamedTuple):
    """A KVM host by its name in the inventory, and the URI of its libvirt."""

    name: str
    uri: str


def is_source(path: str) -> bool:
    """Whether a file's name says that it is an inventory source of ours: C(vms.yml), C(lab.vms.yml), ..."""
    stem, extension = os.path.splitext(os.path.basename(path))
    first, _dot, last = stem.rpartition(".")
    return extension in _EXTENSIONS and (stem == "vms" or (last in _SUFFIXES and first != ""))


def from_options(hosts: t.Any, template: str) -> list[KvmHost]:
    """The hosts that the option C(hosts) lists, each a name or a dictionary with C(name) and C(uri).

    Args:
        template: the URI of hosts without one of their own, with C({host}) in the place of the name.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    if not isinstance(hosts, list) or not hosts:
        raise _input.invalid("hosts", "it must be a list with at least one KVM host")
    found: list[KvmHost] = []
    for index, entry in enumerate(hosts):
        host = _host(f"hosts[{index}]", entry, template)
        for other in found:
            if host.name == other.name or host.uri == other.uri:
                raise _input.invalid(f"hosts[{index}]", f"{host.name} has the name or the URI of {other.name}")
        found.append(host)
    return found


def _host(where: str, entry: t.Any, template: str) -> KvmHost:
    entry = {"name": entry} if isinstance(entry, str) else entry
    if not isinstance(entry, dict) or not set(entry) <= {"name", "uri"}:
        raise _input.invalid(where, "it must be a name, or a dictionary with name and uri")
    name, uri = entry.get("name"), entry.get("uri")
    if not isinstance(name, str) or not _NAME.match(name):
        shown = _input.show(str(name))
        raise _input.invalid(where, f"{shown} must be letters, digits, '.', '_' or '-', first a letter or digit")
    if uri is not None and not isinstance(uri, str):
        raise _input.invalid(f"{where}.uri", "it must be a text")
    return KvmHost(name, _uri(f"{where}.uri" if uri else "uri", uri or template.replace(_PLACE, name)))


def _uri(where: str, value: str) -> str:
    _input.uri(where, value)
    try:
        password = urllib.parse.urlsplit(value).password
    except ValueError:
        raise _input.invalid(where, "it is not a URI") from None
    if password is not None:
        # libvirt does not take it from there, and it would be shown in messages.
        raise _input.invalid(where, "a password has no place in it")
    return value
