# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A thousand VMs in one call. They are shut off: what is shown is that nothing grows out of hand on the way."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator

import pytest
from ansible_run import Ansible
from fleet import DEVICE, VIEW, entry

from modelfleet_lab import Host

COUNT = 1000
# On the host, with one connection: a thousand times virsh would take longer than all else.
SCRIPT = """
import sys, libvirt
connection = libvirt.open("qemu:///system")
for number in range(int(sys.argv[2])):
    name = f"many-{number:04}"
    if sys.argv[1] == "undefine":
        connection.lookupByName(name).undefine()
        continue
    connection.defineXML(f'''
        <domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
        <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
        <os><type arch='x86_64' machine='q35'>hvm</type></os></domain>''')
"""


@pytest.fixture
def many(prepared: dict[str, Host]) -> Iterator[list[str]]:
    """The names of the VMs, on the Debian 13 host."""
    host = prepared["beta"]
    host.run(["python3", "-c", SCRIPT, "define", str(COUNT)], timeout=300)
    yield [f"many-{number:04}" for number in range(COUNT)]
    host.run(["python3", "-c", SCRIPT, "undefine", str(COUNT)], timeout=300)


def test_thousand_vms_in_one_call(many: list[str], ansible: Ansible) -> None:
    mounts = [entry(name, "llama-nano", transport) for name, transport in zip(many, itertools.cycle((DEVICE, VIEW)))]
    for check, changed in ((True, COUNT), (False, COUNT), (False, 0)):
        arguments = {"mounts": mounts, "return": "changed"}
        result = ansible.module("vm_model_mount", arguments, check=check, limit="beta")["beta"]
        expected = {"total": COUNT, "ok": COUNT - changed, "changed": changed, "failed": 0, "due": COUNT}
        assert result["summary"] == expected
        assert len(result["mounts"]) == changed
    # Ansible's own echo of the arguments is as long as they are.
    assert len(json.dumps({key: value for key, value in result.items() if key != "invocation"})) < 1000
    arguments = {"model": "llama-nano", "state": "absent", "return": "changed"}
    result = ansible.module("vm_model_mount", arguments, limit="beta")["beta"]
    assert result["summary"]["changed"] == COUNT
