# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hostile input: refused with a code or done as it says, in time, and nothing else is touched."""

from __future__ import annotations

import io
import json
import re
import tarfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import Guests
from fleet import MODELS, Fleet, leftovers

from modelfleet_lab import Guest, Host

ROOT = Path(__file__).parents[2]
COUNT = 3000
PROGRAM = "/root/hostile"

# Strange, and allowed: each must be mounted at exactly this path.
STRANGE = [
    "/models/two  blanks",
    "/models/quotes ' \" `id`",
    "/models/100%n %i%%",
    "/models/back\\slash\\040\\x2d/x",
    "/models/$(reboot);reboot&|>x",
    "/--help",
    "/models/-o,rw,suid=1",
    "/models/\u6a21\u578b/e\u0301 \xe9",
    "/models/\u202ertl\u200bzero\xa0width",
    "/models/<mounts vm='x'/>&amp;]]>",
    "/models/#comment/ .../~root",
    "/" + "/".join(["\U0001f40d" * 60, "l" * 255, "d" * 255, "e" * 255]),
]


@pytest.fixture(scope="module")
def program(prepared: dict[str, Host]) -> dict[str, Host]:
    """The hosts, with the collection and the program that calls its modules."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        collection = "ansible_collections/modelfleet/kvm/plugins"
        for name in ("modules", "module_utils"):
            archive.add(ROOT / "plugins" / name, f"{collection}/{name}", filter=_sources)
        archive.add(ROOT / "tests/lab/hostile.py", "hostile.py")
    for host in prepared.values():
        host.run(["mkdir", "-p", PROGRAM])
        host.run(["tar", "--extract", f"--directory={PROGRAM}"], input=packed.getvalue())
    return prepared


def _sources(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if "__pycache__" in entry.name else entry


def on_every(hosts: dict[str, Host], call: Callable[[str, Host], Any]) -> dict[str, Any]:
    """What a call gives for every host, all at the same time."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        return dict(zip(hosts, pool.map(call, hosts, hosts.values()), strict=True))


def run_program(host: Host, *arguments: str) -> dict[str, Any]:
    """Run the program on a host; its own answer to a fault is a list, so that its status must be 0."""
    done = host.run(["python3", "-B", f"{PROGRAM}/hostile.py", *arguments], timeout=240)
    assert done.stderr == ""
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def everything(host: Host, guest: Guest, bystander: Guest) -> dict[str, str]:
    """All that must be as it was: of the host, of a VM that nobody named, and inside both VMs."""
    state = {
        "mounts": "sed 's/^[0-9]* [0-9]* //' /proc/self/mountinfo | sort",
        "etc": "cd /etc && find . -type f -exec sha256sum {} + | sort; find /etc -printf '%p %m %l\\n' | sort",
        "state": "find /var/lib/modelfleet -xdev -printf '%p %m %y\\n' | sort; ls -A / /srv /models 2>&1",
        "units": "systemctl list-units --type=mount --all --plain --no-legend | sort; systemctl --failed --no-legend",
        "bystander": f"virsh dumpxml {bystander.name}; virsh dumpxml --inactive {bystander.name}",
        "victim": f"virsh dumpxml {guest.name}; virsh dumpxml --inactive {guest.name}",
        "daemons": "pgrep -a virtiofsd",
    }
    found = {what: host.run(["sh", "-c", command], check=False).stdout for what, command in state.items()}
    for name, vm in (("victim", guest), ("bystander", bystander)):
        inside = "cat /proc/mounts; find /etc -type f -exec sha256sum {} +; ls -A / /models /srv 2>&1"
        found[f"inside the {name}"] = vm.run(["sh", "-c", inside], check=False).stdout
    return found


def test_thousands_of_hostile_inputs(program: dict[str, Host], fleet: Fleet, guests: Guests) -> None:
    bystanders = guests()
    before = {name: everything(host, fleet.guests[name], bystanders[name]) for name, host in program.items()}
    found = on_every(program, lambda name, host: run_program(host, "fuzz", fleet.vm, str(len(name)), str(COUNT)))
    for name, host in program.items():
        print(name, found[name])
        assert found[name]["faults"] == []
        answers = found[name]["answers"]
        assert sum(answers.values()) > COUNT and {"invalid_input", "vm_not_found", "source_missing"} <= set(answers)
        assert everything(host, fleet.guests[name], bystanders[name]) == before[name]


def mounted(guest: Guest) -> set[str]:
    """The paths at which models are mounted, as the guest's kernel writes them."""
    lines = [line.split(" ") for line in guest.run(["cat", "/proc/self/mountinfo"]).stdout.split("\n") if line]
    paths = [fields[4] for fields in lines if "virtiofs" in fields]
    return {re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), path) for path in paths}


def test_strange_paths_are_mounted_as_they_are(fleet: Fleet) -> None:
    for paths in (STRANGE[:6], STRANGE[6:]):
        # Versions, because a VM has a model once.
        mounts: list[dict[str, Any]] = [
            {
                "vm": fleet.vm,
                "model": "llama-nano",
                "model_version": f"v{number}",
                "model_center": "zoo",
                "model_path": "llama-nano",
                "mount_path": path,
            }
            for number, path in enumerate(paths)
        ]
        for result in fleet.ansible.module("vm_model_mount", {"mounts": mounts}).values():
            assert [mount["changed"] for mount in result["mounts"]] == [True] * len(paths)
        for guest in fleet.guests.values():
            assert mounted(guest) == set(paths)
            for path in paths:
                assert guest.run(["ls", "-A", path]).stdout == "config.json\nweights.bin\n"
        again = fleet.ansible.module("vm_model_mount", {"mounts": mounts})
        assert not any(result["changed"] for result in again.values())
        shown = [{mount["record"]["mount_path"] for mount in mounts} for mounts in fleet.info().values()]
        assert shown == [set(paths)] * len(shown)
        fleet.unmount()
        assert fleet.leftovers() == {}


def test_a_model_that_becomes_a_link_out_of_its_center(program: dict[str, Host], fleet: Fleet) -> None:
    directory = f"{MODELS}/turncoat"
    for host in program.values():
        host.write(f"{directory}/turncoat.txt", "one\n")
        host.run(["ln", "-sfn", "/etc", f"{directory}-etc"])
        host.run(["ln", "-sfn", "../../..", f"{directory}-up"])
    found = on_every(program, lambda _name, host: run_program(host, "race", fleet.vm, directory, "50", "5000"))
    for name, host in program.items():
        print(name, found[name])
        answers = found[name]["answers"]
        assert found[name]["faults"] == []
        # Both sides of the coin were seen.
        assert answers["looked"] > 100 and answers["source_outside_center"] > 0 and answers["seen"] > 0
        assert leftovers(fleet.guests[name], host) == {}
        # Whichever of them is the directory now.
        host.run(["rm", "-rf", "--one-file-system", directory, f"{directory}-etc", f"{directory}-up"])
