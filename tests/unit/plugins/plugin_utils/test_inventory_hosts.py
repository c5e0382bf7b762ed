# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The KVM hosts that an inventory source names."""

from __future__ import annotations

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.plugin_utils import _inventory_hosts as hosts

TEMPLATE = "qemu+ssh://watcher@{host}/system"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("vms.yml", True),
        ("vms.yaml", True),
        ("rack-a.vms.yml", True),
        ("rack-a.modelfleet.yaml", True),
        ("x.y.vms.yml", True),
        ("modelfleet.yml", False),
        (".vms.yml", False),
        ("myvms.yml", False),
        ("vms.yml.bak", False),
        ("vms.json", False),
        ("hosts.yml", False),
    ],
)
def test_names_of_sources(name, expected):
    assert hosts.is_source(f"/etc/ansible/inventory.vms/{name}") is expected


def test_names_and_uris():
    found = hosts.from_options(["rack-a1", {"name": "edge", "uri": "qemu+tls://edge/system"}, {"name": "b"}], TEMPLATE)
    assert found == [
        ("rack-a1", "qemu+ssh://watcher@rack-a1/system"),
        ("edge", "qemu+tls://edge/system"),
        ("b", "qemu+ssh://watcher@b/system"),
    ]


@pytest.mark.parametrize(
    ("given", "template"),
    [
        (None, TEMPLATE),
        ([], TEMPLATE),
        ("rack-a1", TEMPLATE),
        ([17], TEMPLATE),
        ([None], TEMPLATE),
        ([{"uri": "qemu:///system"}], TEMPLATE),
        ([{"name": "a", "user": "root"}], TEMPLATE),
        ([{"name": "a", "uri": 5}], TEMPLATE),
        (["-oProxyCommand=id"], TEMPLATE),
        (["a b"], TEMPLATE),
        (["a/../b"], TEMPLATE),
        (["a\n"], TEMPLATE),
        (["a", "a"], TEMPLATE),
        (["a", "b"], "qemu:///system"),
        (["a"], "qemu+ssh://{host}/system\x1b"),
        (["a"], "qemu+ssh://[{host}/system"),
        ([{"name": "a", "uri": "qemu+tcp://x:hunter2@a/system"}], TEMPLATE),
    ],
)
def test_what_is_refused(given, template):
    with pytest.raises(ModelfleetError) as problem:
        hosts.from_options(given, template)
    assert problem.value.code == "invalid_input"
    assert "hunter2" not in problem.value.msg
