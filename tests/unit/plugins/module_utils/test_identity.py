# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import uuid

from ansible_collections.modelfleet.kvm.plugins.module_utils import _identity, _input
from ansible_collections.modelfleet.kvm.tests.unit.builders import OTHER_VM, VM

MOUNT = "c7e2b9a4-11d0-5f3e-8a66-0123456789ab"


def test_the_namespace_is_what_it_says_it_is():
    assert uuid.uuid5(uuid.NAMESPACE_DNS, "modelfleet.kvm") == _identity.NAMESPACE


# Written out: these stand in records, units and device names of hosts that are in use, and may never change.
def test_a_center_keeps_its_uuid_for_ever():
    assert _identity.center_uuid("depot") == "f8980e57-932c-5586-ae14-eb7bdaedce2d"


def test_a_model_keeps_its_uuid_for_ever():
    assert _identity.model_uuid(MOUNT, "acme/guard", "2.1") == "0ca1736b-3ec0-54b5-afe1-4f17bde7c92c"


def test_a_mount_keeps_its_uuid_for_ever():
    assert _identity.mount_uuid(VM, "/srv/ai/guard") == "43ce0f2a-d548-572f-b6e4-2ec133193ad0"


def test_the_names_of_a_mount_stay_for_ever():
    assert _identity.token(MOUNT) == "8a660123456789ab"
    assert _identity.alias(MOUNT) == "ua-modelfleet-8a660123456789ab"
    assert _identity.tag(MOUNT, "acme/Guard 8B") == "guard-8b-8a660123456789ab"


def test_different_things_have_different_uuids():
    uuids = [
        _identity.model_uuid(MOUNT, "acme/guard", "2.1"),
        _identity.model_uuid(MOUNT, "acme/guard", "2.2"),
        _identity.model_uuid(MOUNT, "acme/guard2", ".1"),
        _identity.model_uuid(VM, "acme/guard", "2.1"),
        _identity.mount_uuid(MOUNT, "acme/guard"),
        _identity.center_uuid("acme/guard"),
    ]
    assert len(set(uuids)) == len(uuids)


def test_every_path_of_every_vm_is_another_mount():
    mounts = [_identity.mount_uuid(vm, f"/srv/ai/{index}") for vm in (VM, OTHER_VM) for index in range(500)]
    assert len(set(mounts)) == 1000
    assert len({_identity.alias(mount) for mount in mounts}) == 1000
    assert len({_identity.tag(mount, "guard") for mount in mounts}) == 1000


def test_a_tag_always_fits_and_needs_no_quoting():
    models = [
        "g",
        "guard",
        "a" * 128,
        "A_B." * 30,
        "___",
        "+",
        "模型",
        "ééé" * 40,
        "x" * 18 + "-y",
        "acme/" + "g" * 19,
        "",
    ]
    tags = [_identity.tag(MOUNT, model) for model in models]
    assert max(len(tag.encode()) for tag in tags) == 36
    assert all(tag.endswith("-8a660123456789ab") and "--" not in tag for tag in tags)
    assert [_input.tag("tag", tag) for tag in tags] == tags


def test_an_alias_leaves_room_in_the_path_of_a_socket():
    # /var/lib/libvirt/qemu/domain-99999-<20 of the name>/<alias>-fs.sock must stay below 108 bytes.
    assert len(_identity.alias(MOUNT)) == 30
    assert _identity.alias(MOUNT).startswith("ua-")
