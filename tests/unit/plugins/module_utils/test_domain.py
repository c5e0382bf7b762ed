# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The connection to libvirt."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _domain
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError


class LibvirtError(Exception):
    """C(libvirt.libvirtError), also where the bindings are not installed."""


def lost():
    raise LibvirtError("connection reset")


@pytest.mark.parametrize("where", ["open", "getLibVersion"])
def test_a_libvirt_that_is_lost_while_it_is_asked_has_a_code(where, monkeypatch):
    connection = SimpleNamespace(getLibVersion=lost)
    fake = SimpleNamespace(
        libvirtError=LibvirtError,
        registerErrorHandler=lambda *_arguments: None,
        open=lambda _uri: lost() if where == "open" else connection,
    )
    monkeypatch.setattr(_domain, "libvirt", fake)
    with pytest.raises(ModelfleetError) as caught:
        _domain.Host("qemu:///system")
    assert (caught.value.code, caught.value.details["uri"]) == ("libvirt_unavailable", "qemu:///system")
