# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who uses a model center: by records in libvirt and binds on the host."""

from __future__ import annotations

import dataclasses
import types

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _center_users,
    _connection,
    _domain,
    _mountinfo,
    _observed,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

MOUNT = b.ROOT._replace(device="0:41", root="/models", mount_point="/mnt/depot")
RECORD = b.record()
VM = types.SimpleNamespace(uuid=b.VM, name="render-4")


class Host:
    """Domains, and the mount table."""

    def __init__(self, monkeypatch):
        self.views = {b.VM: b.running(RECORD)}
        self.mounts = [b.ROOT, MOUNT, b.bind(RECORD)]
        monkeypatch.setattr(_connection, "available", lambda: True)
        monkeypatch.setattr(_domain, "Host", lambda _uri, _deadline: types.SimpleNamespace(vms=lambda: [VM]))
        monkeypatch.setattr(_observed, "observe_vm", self.observe)
        monkeypatch.setattr(_mountinfo, "read", lambda: self.mounts)

    def observe(self, vm):
        if isinstance(self.views[vm.uuid], ModelfleetError):
            raise self.views[vm.uuid]
        return self.views[vm.uuid]


@pytest.fixture
def host(monkeypatch):
    return Host(monkeypatch)


def users(center=b.CENTER, mount=MOUNT):
    return [(user.name, len(user.records), user.stale) for user in _center_users.find(center, mount, 5)]


def test_a_vm_with_a_record_is_a_user(host):
    assert users() == [("render-4", 1, False)]


def test_a_vm_that_is_shut_off_is_one_as_well(host):
    host.views[b.VM], host.mounts = b.shut_off(RECORD), [b.ROOT, MOUNT]
    assert users() == [("render-4", 1, False)]


def test_a_vm_of_another_center_is_none(host):
    other = dataclasses.replace(b.CENTER, uuid="aa0f0f0e-94ba-4b7e-8c19-a5f9a2d3c2b1")
    assert users(other, MOUNT._replace(device="0:42")) == []


def test_a_bind_without_a_record_counts_as_well(host):
    host.views[b.VM] = b.running()
    assert users() == [("render-4", 0, False)]
    assert users(mount=MOUNT._replace(root="/other")) == []


def test_a_vm_that_holds_what_was_mounted_before_is_stale(host):
    assert users(mount=MOUNT._replace(device="0:99")) == [("render-4", 1, True)]
    assert users(mount=None) == [("render-4", 1, True)]


def test_nobody_knows_what_a_vm_with_broken_records_uses(host):
    host.views[b.VM] = ModelfleetError("record_invalid", "broken")
    assert users() == [("render-4", 0, False)]
    host.views[b.VM] = ModelfleetError("vm_not_found", "gone")
    assert users() == []


def test_a_host_without_the_bindings_of_libvirt_has_only_binds(host, monkeypatch):
    monkeypatch.setattr(_connection, "available", lambda: False)
    assert users() == [(b.VM, 0, False)]
    host.mounts = [b.ROOT, MOUNT]
    assert users() == []


def test_a_center_in_use_is_not_disturbed(host):
    found = _center_users.find(b.CENTER, MOUNT, 5)
    with pytest.raises(ModelfleetError) as caught:
        _center_users.refuse(b.CENTER, found, "mounted again")
    assert caught.value.code == "center_in_use"
    assert caught.value.details["vms"] == ["render-4"]
    _center_users.refuse(b.CENTER, [], "mounted again")
