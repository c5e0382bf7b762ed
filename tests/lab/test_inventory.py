# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory plugin, which asks the hosts over SSH from this machine."""

from __future__ import annotations

import json
import os
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fleet import Fleet

from modelfleet_lab import Host, Lab

# Nobody listens there.
_DOWN = {"name": "gone", "uri": "qemu+ssh://root@127.0.0.1:9/system?no_tty=1"}
# Not over the connection that the lab keeps, which is root's.
_SSH = """\
#!/bin/sh
echo "$@" >> {log}
exec ssh -F {config} -o ControlPath=none "$@"
"""


@dataclass(frozen=True)
class Source:
    """An inventory source and what it needs, in a directory of its own."""

    directory: Path

    def listed(self, *arguments: str, **options: Any) -> tuple[dict[str, Any], str, list[str]]:
        """What C(ansible-inventory --list) prints and warns of, and the hosts to which there were SSH connections."""
        log = self.directory / "ssh.log"
        log.write_text("")
        user = options.pop("user", "watcher")
        uri = f"qemu+ssh://{user}@{{host}}/system?no_tty=1&command={self.directory}/ssh"
        source = self.directory / "lab.vms.yml"
        source.write_text(json.dumps({"plugin": "modelfleet.kvm.vms", "uri": uri, "timeout": 20, **options}))
        done = subprocess.run(
            ["ansible-inventory", "-i", str(source), "--list", *arguments],
            env={**os.environ, "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1"},
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        # What no template is made of is marked as that.
        found = json.loads(done.stdout, object_hook=lambda found: found.get("__ansible_unsafe", found))
        words = log.read_text().split()
        return found, done.stderr, sorted(host for host in ("alpha", "beta") if host in words)


@pytest.fixture
def source(prepared: dict[str, Host], lab: Lab, tmp_path: Path) -> Source:
    """A source for which the hosts have an account that may change nothing."""
    for host in prepared.values():
        # A password that none can be; without one, sshd takes the account for locked.
        host.run(["sh", "-c", "id watcher || useradd --create-home --password '*' watcher"])
        host.run(["install", "-D", "-o", "watcher", "/root/.ssh/authorized_keys", "/home/watcher/.ssh/authorized_keys"])
    ssh = tmp_path / "ssh"
    ssh.write_text(_SSH.format(log=tmp_path / "ssh.log", config=lab.run_dir / "ssh_config"))
    ssh.chmod(0o755)
    return Source(tmp_path)


def _take_from_persistent_xml(host: Host, vm: str, xml: ET.Element) -> None:
    device = xml.find("devices/filesystem")
    assert device is not None
    host.write("/tmp/device.xml", ET.tostring(device))
    host.run(["virsh", "detach-device", vm, "/tmp/device.xml", "--config"])


@pytest.mark.transport("view", why="what is seen from afar is the device of either")
def test_vms_with_their_drift(fleet: Fleet, source: Source) -> None:
    fleet.mount()
    options = {
        "hosts": ["alpha", "beta", _DOWN],
        "keyed_groups": [{"key": "modelfleet_vm.models", "prefix": "model"}],
        "groups": {"drifted": "modelfleet_vm.drift"},
        "cache": True,
        "cache_plugin": "ansible.builtin.jsonfile",
        "cache_connection": str(source.directory / "kept"),
    }
    names = {f"{fleet.vm}@{host}": (host, guest) for host, guest in fleet.guests.items()}

    found, said, asked = source.listed(**options)
    assert "host_unreachable: gone: " in said and said.count("WARNING") == 1
    assert asked == ["alpha", "beta"]
    known = fleet.info()
    for name, (host, guest) in names.items():
        vm = found["_meta"]["hostvars"][name]["modelfleet_vm"]
        assert (vm["name"], vm["uuid"], vm["state"]) == (fleet.vm, guest.uuid, "running")
        assert (vm["kvm_host"], vm["models"], vm["drift"], vm["error"]) == (host, ["llama-nano"], False, None)
        (mount,) = vm["mounts"]
        assert mount["record"] == known[host][0]["record"]
        right = {"source": "unknown", "persistent": "right", "live": "right", "guest": "unknown"}
        assert (mount["layers"], mount["leaving"], mount["drift"]) == (right, None, False)
    assert set(names) <= set(found["model_llama_nano"]["hosts"])
    assert "drifted" not in found or not set(names) & set(found["drifted"]["hosts"])

    fleet.spoil()
    for host, guest in names.values():
        _take_from_persistent_xml(fleet.hosts[host], fleet.vm, guest.xml(inactive=True))
    kept, said, asked = source.listed(**options)
    # Who did not answer is asked again.
    assert (kept, asked, "host_unreachable: gone: " in said) == (found, [], True)

    found, _said, asked = source.listed("--flush-cache", **options)
    assert asked == ["alpha", "beta"]
    assert set(names) <= set(found["drifted"]["hosts"])
    for name in names:
        (mount,) = found["_meta"]["hostvars"][name]["modelfleet_vm"]["mounts"]
        assert (mount["drift"], mount["layers"]["persistent"]) == (True, "missing")

    # Guests are asked by an account that may do that.
    found, _said, _asked = source.listed(hosts=["alpha", "beta"], user="root", guests=True)
    for name in names:
        (mount,) = found["_meta"]["hostvars"][name]["modelfleet_vm"]["mounts"]
        assert (mount["layers"]["guest"], mount["error"]) == ("right", None)


@pytest.mark.long
@pytest.mark.transport("view", why="nothing is mounted")
def test_a_host_whose_libvirt_is_frozen_delays_nobody(fleet: Fleet, source: Source) -> None:
    frozen = fleet.hosts["alpha"]
    process = frozen.run(["pidof", "libvirtd"]).stdout.strip()
    frozen.run(["kill", "-STOP", process])
    try:
        found, said, _asked = source.listed(hosts=["alpha", "beta"], timeout=5)
    finally:
        frozen.run(["kill", "-CONT", process])
    assert "host_unreachable: alpha: " in said
    assert {vm["modelfleet_vm"]["kvm_host"] for vm in found["_meta"]["hostvars"].values()} == {"beta"}
