# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two tenants of one model center: root in the VM of one finds nothing of what the other was given."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fleet import BOTH_AT_LENGTH, MODELS, Fleet, device_path

from modelfleet_lab import Guest, Host

OURS, THEIRS = "tenants/anna", "tenants/berta"
# What is in each model and nowhere else.
MARKS = {OURS: "7c1fa0d2-of-anna", THEIRS: "e94b5d38-of-berta"}
HUNT = (Path(__file__).parent / "on_guest" / "hunt.pl").read_text(encoding="utf-8")
# A handle is a number that the daemon gave to something: there are not many in it.
GUESSES = 150

# Links that somebody has published in the model.
LINKS = {
    "sibling": "../berta",
    "up": "..",
    "center": f"/var/lib/modelfleet/centers/zoo/{THEIRS}",
    "storage": f"{MODELS}/{THEIRS}",
    "root": f"/proc/1/root{MODELS}/{THEIRS}",
}


@pytest.fixture
def tenants(prepared: dict[str, Host]) -> Iterator[None]:
    """Two models beside one another, one of them with tools for its tenant and links to the other."""
    for host in prepared.values():
        for model, mark in MARKS.items():
            host.run(["mkdir", "-p", f"{MODELS}/{model}/part"])
            host.write(f"{MODELS}/{model}/weights.bin", f"{mark}\n" * 99)
            host.write(f"{MODELS}/{model}/part/more.bin", f"{mark}\n" * 99)
        ours = f"{MODELS}/{OURS}"
        for name, target in LINKS.items():
            host.run(["ln", "-sfn", target, f"{ours}/{name}"])
        # The guest has no language but this one's.
        tools = f"cp -L $(ldd /usr/bin/perl | grep -o '/[^ ]*') /usr/bin/perl {ours}/tools"
        host.run(["sh", "-c", f"mkdir {ours}/tools && {tools}"])
    yield
    for host in prepared.values():
        host.run(["rm", "-rf", "--one-file-system", f"{MODELS}/tenants"])


def hunt(guest: Guest, root: str) -> str:
    """What root finds by way of a mount."""
    tools = f"/models/{OURS}/tools"
    perl = [f"{tools}/ld-linux-x86-64.so.2", "--library-path", tools, f"{tools}/perl", "-"]
    return guest.run([*perl, root, str(GUESSES), *MARKS.values()], input=HUNT, timeout=120).stdout


def guesses(host: Host, other: Guest, root: str) -> list[str]:
    """Paths at which the other model might be."""
    lines = host.run(["cat", "/proc/self/mountinfo"]).stdout.splitlines()
    points = [line.split(" ")[4] for line in lines if f"/{other.uuid}/" in line.split(" ")[4]]
    assert points
    names = sorted({name for point in points for name in point.split("/") if len(name) >= 16})
    inner = [
        f"{root}/{name}" for name in (*LINKS, *(f"{link}/{THEIRS}" for link in LINKS), "../berta", f"../../{THEIRS}")
    ]
    dots = [f"{'../' * depth}{THEIRS}" for depth in range(1, 9)]
    known = [f"{MODELS}/{THEIRS}", f"/var/lib/modelfleet/centers/zoo/{THEIRS}", f"/models/{THEIRS}", *points]
    below = [
        f"{place}/{name}" for name in names for place in (root, "/models/.m", "/models", "/models/..", f"{root}/..")
    ]
    return [*inner, *(f"{root}/{path}" for path in dots), *(f"/models/.m/{path}" for path in dots), *known, *below]


@BOTH_AT_LENGTH
@pytest.mark.usefixtures("tenants")
def test_root_finds_nothing_of_another_tenant(fleet: Fleet, second: Fleet) -> None:
    fleet.mount(OURS)
    second.mount(THEIRS)
    with ThreadPoolExecutor(len(fleet.hosts)) as pool:
        list(pool.map(lambda name: attack(fleet, second, name), fleet.hosts))
    fleet.unmount(OURS)
    second.unmount(THEIRS)
    assert fleet.leftovers() == second.leftovers() == {}


def attack(fleet: Fleet, second: Fleet, name: str) -> None:
    """What root of one VM can do on a host."""
    host, guest, other = fleet.hosts[name], fleet.guests[name], second.guests[name]
    assert MARKS[THEIRS] in other.run(["cat", f"/models/{THEIRS}/weights.bin"]).stdout
    mounted = device_path(fleet.transport, f"/models/{OURS}")
    guest.run(["mount", "-o", "remount,rw,suid,dev", mounted])
    places = [mounted, *mount_all(guest, tags(guest) | tags(other) | {"berta", "zoo", "modelfleet", "/"})]
    found = read_all(guest, [f"/models/{OURS}", *places, *guesses(host, other, f"/models/{OURS}")])
    assert MARKS[THEIRS] not in found
    # It would have been found.
    assert MARKS[OURS] in found
    assert devices(host, guest) == ""
    for place in places:
        found = hunt(guest, place)
        assert MARKS[THEIRS] not in found
        assert f"found {MARKS[OURS]} in {place}" in found
        opened = re.search(r"opened (\d+)", found)
        assert opened and int(opened.group(1)) > 0, found
    for place in places[1:]:
        guest.run(["umount", place])


def tags(guest: Guest) -> set[str]:
    """The tags of a VM's devices."""
    return {target.get("dir", "") for target in guest.xml().findall("devices/filesystem/target")}


def mount_all(guest: Guest, names: set[str]) -> list[str]:
    """Mount whatever has one of these tags, and say where: what the VM was given, and nothing else."""
    found = []
    for number, tag in enumerate(sorted(names)):
        place = f"/mnt/{number}"
        guest.run(["mkdir", "-p", place])
        done = guest.run(["mount", "-t", "virtiofs", "-o", "rw,suid,dev", tag, place], check=False)
        assert (done.returncode == 0) is (tag in tags(guest)), tag
        found += [place] if done.returncode == 0 else []
    return found


def read_all(guest: Guest, paths: list[str]) -> str:
    """The marks that are found below paths, links followed."""
    grep = 'xargs grep -o -e "$0" -e "$1"'
    script = f'while read -r path; do find -L "$path" -maxdepth 5 -type f -size -64k 2>/dev/null | {grep}; done; true'
    return guest.run(["sh", "-c", script, *MARKS.values()], input="\n".join(paths) + "\n", timeout=120).stdout


def devices(host: Host, guest: Guest) -> str:
    """What is read from the disks of the host, by their numbers."""
    numbers = host.run(["stat", "--format=%Hd %Ld", f"{MODELS}/{THEIRS}", "/", "/var/lib/modelfleet"]).stdout
    disks = host.run(["sh", "-c", "cat /sys/block/*/dev"], check=False).stdout.replace(":", " ")
    each = 'mknod /tmp/disk b $pair && grep -l -- "$0" /tmp/disk; rm -f /tmp/disk'
    script = f"while read -r pair; do {each}; done 2>/dev/null; true"
    return guest.run(["sh", "-c", script, MARKS[THEIRS]], input=numbers + disks, timeout=60).stdout
