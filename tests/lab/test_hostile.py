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
from fleet import BOTH_AT_LENGTH, MODELS, VIEW, Fleet, leftovers

from modelfleet_lab import Guest, Host

ROOT = Path(__file__).parents[2]
COUNT = 3000
# What docs/transports.md says.
MOST = 1000
PROGRAM = "/root/hostile"

# Strange, and allowed: each must be mounted at exactly this path. In a view all lie below /models.
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
# As strange, of a model's directory on the host.
STRANGE_MODEL = "odd/mod\u00e8le \u6a21\u578b 'a' \"b\" `id` $(reboot) 100%n \\040 #<x>&amp;"
# What nobody but root on the host can name a file: the host's bytes are the guest's.
ODD_FILES = {b"new\nline", b"no utf-8 \xff\xfe", b"\xe6\xa8\xa1", b"-rf", b"l" * 255, b"back\\slash \"quote'"}


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
        "views": "find /run/modelfleet/views -printf '%p %m %y\\n' | sort",
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


@pytest.mark.transport("view", why="the input has both, by chance")
def test_thousands_of_hostile_inputs(program: dict[str, Host], fleet: Fleet, second: Fleet) -> None:
    bystanders = second.guests
    before = {name: everything(host, fleet.guests[name], bystanders[name]) for name, host in program.items()}
    found = on_every(program, lambda name, host: run_program(host, "fuzz", fleet.vm, str(len(name)), str(COUNT)))
    for name, host in program.items():
        print(name, found[name])
        assert found[name]["faults"] == []
        answers = found[name]["answers"]
        assert sum(answers.values()) > COUNT and {"invalid_input", "vm_not_found", "source_missing"} <= set(answers)
        assert everything(host, fleet.guests[name], bystanders[name]) == before[name]


def seen(fleet: Fleet, guest: Guest) -> set[str]:
    """The paths at which models are, as the guest's kernel has them: mounts, or the links of the view."""
    if fleet.transport == VIEW:
        links = ["find", "/models", "-path", "/models/.m", "-prune", "-o", "-type", "l", "-print0"]
        return {path for path in guest.run(links).stdout.split("\0") if path}
    lines = [line.split(" ") for line in guest.run(["cat", "/proc/self/mountinfo"]).stdout.split("\n") if line]
    paths = [fields[4] for fields in lines if "virtiofs" in fields]
    return {re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), path) for path in paths}


def strange_paths(fleet: Fleet) -> list[str]:
    if fleet.transport == VIEW:
        return [path if path.startswith("/models/") else f"/models{path}" for path in STRANGE]
    return STRANGE


@BOTH_AT_LENGTH
def test_strange_paths_are_mounted_as_they_are(fleet: Fleet) -> None:
    strange = strange_paths(fleet)
    for paths in (strange[:6], strange[6:]):
        # Versions, because a VM has a model once.
        mounts: list[dict[str, Any]] = [
            fleet.entry(model_version=f"v{number}", model_path="llama-nano", mount_path=path)
            for number, path in enumerate(paths)
        ]
        for result in fleet.ansible.module("vm_model_mount", {"mounts": mounts}).values():
            assert [mount["changed"] for mount in result["mounts"]] == [True] * len(paths)
        for guest in fleet.guests.values():
            assert seen(fleet, guest) == set(paths)
            for path in paths:
                assert guest.run(["ls", "-A", f"{path}/"]).stdout == "config.json\nweights.bin\n"
        again = fleet.ansible.module("vm_model_mount", {"mounts": mounts})
        assert not any(result["changed"] for result in again.values())
        shown = [{mount["record"]["mount_path"] for mount in mounts} for mounts in fleet.info().values()]
        assert shown == [set(paths)] * len(shown)
        fleet.unmount()
        assert fleet.leftovers() == {}


@BOTH_AT_LENGTH
def test_odd_bytes_in_a_model_and_its_path_reach_the_guest_as_they_are(fleet: Fleet) -> None:
    make = """
import os, sys
root = os.fsencode(sys.argv[1])
os.makedirs(root, exist_ok=True)
for name in map(bytes.fromhex, sys.argv[2:]):
    open(os.path.join(root, name), "wb").close()
"""
    for host in fleet.hosts.values():
        host.run(["python3", "-c", make, f"{MODELS}/{STRANGE_MODEL}", *(name.hex() for name in sorted(ODD_FILES))])
    fleet.mount("odd", model_path=STRANGE_MODEL)
    assert not any(result["changed"] for result in fleet.mount("odd", model_path=STRANGE_MODEL).values())
    for guest in fleet.guests.values():
        names = guest.run(["sh", "-c", "cd /models/odd/ && find . -type f -print0 | od -An -v -tx1"]).stdout
        found = {name.removeprefix(b"./") for name in bytes.fromhex(names).split(b"\0") if name}
        assert found == ODD_FILES
    fleet.unmount("odd")
    assert fleet.leftovers() == {}


@pytest.mark.long
@pytest.mark.transport("view", why="devices are bounded by the ports that a VM has")
def test_as_many_models_as_a_view_may_have(fleet: Fleet) -> None:
    versions = [f"v{number}" for number in range(MOST)]
    mounts = [
        fleet.entry(model_version=version, model_path="llama-nano", mount_path=f"/models/all/{version}")
        for version in versions
    ]
    for changed in (MOST, 0):
        results = fleet.ansible.module("vm_model_mount", {"mounts": mounts, "return": "changed"})
        assert [result["summary"]["changed"] for result in results.values()] == [changed] * 2
    calls = [fleet.entry("acme"), {"mounts": [*mounts, fleet.entry("acme")], "return": "changed"}]
    for told in fleet.ansible.each("vm_model_mount", calls).values():
        assert [(result["error_code"], result["changed"]) for result in told] == [("too_many_models", False)] * 4
    for guest in fleet.guests.values():
        assert sorted(guest.run(["ls", "/models/all"]).stdout.split()) == sorted(versions)
        for version in (versions[0], versions[-1]):
            assert guest.run(["ls", f"/models/all/{version}/"]).stdout == "config.json\nweights.bin\n"
    # There is room again, and all of it goes.
    fleet.ansible.module("vm_model_mount", {"vm": fleet.vm, "mount_path": "/models/all/v7", "state": "absent"})
    fleet.mount("acme")
    fleet.ansible.module("vm_model_mount", {"vm": fleet.vm, "state": "absent", "return": "changed"})
    assert fleet.leftovers() == {}


@pytest.mark.transport("view", why="it is mounted by each in turn")
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
