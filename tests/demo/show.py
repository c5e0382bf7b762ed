# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the demo shows, step by step. It fails when anything that it claims does not come true."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from checks import catalogue, packages, places, tree
from checks.process import CheckError, Log
from modelfleet_lab import Guest, Host, Lab, LabError
from modelfleet_lab.weights import safetensors

INVENTORY = places.ROOT / "docs" / "examples" / "inventory"
HOST = "kvm1"
VM = "inference-1"
MODEL = "qwen3-tiny"
FILE = "model.safetensors"
MEGABYTES = 16

INTRODUCTION = """
modelfleet.kvm brings AI models from shared storage into running virtual machines, read-only, without a restart.

This demo shows it on the real thing. It will
  1. install Debian packages that are missing:  {packages}
  2. make, in {cache},
     a Python environment with ansible-core, an image of a {kind} KVM host and one of a small guest,
     about 1 GB, which later demos and tests use again,
  3. start that host in a container on a bridge of its own ({bridge}), and in it a virtual machine,
  4. give the virtual machine two models with the playbook that this collection ships, and take them away again,
  5. stop everything and remove the container and the bridge.
Nothing else on this machine is touched. The first time takes a few minutes, later ones about one.
"""


def main() -> int:
    """Show everything; returns the exit status."""
    kind = os.environ.get("KIND", "debian13")
    lacking = packages.missing(lab=True)
    facts = {"packages": " ".join(lacking) or "none", "cache": places.cache(), "kind": kind, "bridge": "mf-demo"}
    print(INTRODUCTION.format(**facts), flush=True)
    if os.environ.get("YES") != "1" and not _agreed():
        return 1
    try:
        _prepare(lacking)
        with Lab.temporary("demo") as lab:
            _show(lab, kind)
            _title("Cleaning up")
    except (CheckError, LabError) as failure:
        print(f"\nThe demo failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; everything that was started is stopped.", file=sys.stderr)
        return 130
    print("\nDone. Everything that was started is gone. README.md shows the same playbook against your own KVM host.")
    return 0


def _agreed() -> bool:
    try:
        return input("Go ahead? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print("\nNobody is there to answer; YES=1 goes ahead without asking.", file=sys.stderr)
        return False


def _prepare(lacking: list[str]) -> None:
    log = Log(places.cache() / "logs" / "demo.log")
    _title("Preparing")
    if lacking:
        with _timed(f"installing {' '.join(lacking)}"):
            packages.install(log, lacking)
    with _timed("making the Ansible environment"):
        catalogue.OLD.ensure(log)


def _show(lab: Lab, kind: str) -> None:
    _title(f"A KVM host ({kind}) and a virtual machine")
    host = lab.up({HOST: kind})[HOST]
    guest = host.guest(VM)
    with _timed(f"booting {VM}"):
        guest.up()
    host.run(["mkdir", "-p", f"/srv/models/{MODEL}", "/srv/models/bge/bge-m3"])
    host.write(f"/srv/models/{MODEL}/{FILE}", safetensors(os.urandom(MEGABYTES << 20)))
    host.write("/srv/models/bge/bge-m3/config.json", "{}\n")
    print(f"{HOST} holds the models in /srv/models; {VM} runs and sees none of them.")

    _title("The models that the inventory names, into the virtual machine that it names")
    print((INVENTORY / "group_vars" / "kvm_hosts.yml").read_text())
    _playbook(lab, "mount")
    _compare(host, guest)
    _title("Root in the virtual machine tries to write")
    done = _in_guest(guest, f"mount -o remount,rw /models; rm /models/{MODEL}/{FILE}", check=False)
    _claim(done.returncode != 0, "refused by the host, whatever the guest does with its own mount")

    _title("The same again: that somebody tampered with the mount is found and put right")
    _playbook(lab, "mount")
    _title("And again: nothing to do")
    _claim("changed=0" in _playbook(lab, "mount"), "changed=0")
    _title("The records, and what every layer really shows")
    _playbook(lab, "query")

    _title("Away with them")
    _playbook(lab, "unmount")
    mounted = _in_guest(guest, "grep virtiofs /proc/mounts", check=False)
    devices = host.run(["virsh", "dumpxml", VM]).stdout.count("<filesystem")
    _claim(mounted.returncode != 0 and devices == 0, f"no mount and no device is left in {VM}, which ran all the time")


def _compare(host: Host, guest: Guest) -> None:
    _title(f"What {VM} reads")
    _in_guest(guest, f"ls -l /models/{MODEL} /srv/embeddings")
    in_guest = _in_guest(guest, f"sha256sum /models/{MODEL}/{FILE}").stdout.split()[0]
    print(f"[{HOST}]$ sha256sum /srv/models/{MODEL}/{FILE}")
    on_host = host.run(["sha256sum", f"/srv/models/{MODEL}/{FILE}"])
    print(on_host.stdout, end="")
    _claim(in_guest == on_host.stdout.split()[0], f"the checksums of {MEGABYTES} MB are equal")


def _playbook(lab: Lab, name: str) -> str:
    command = ["ansible-playbook", f"modelfleet.kvm.{name}", "-i", str(INVENTORY.relative_to(places.ROOT))]
    # The lab's inventory comes last and says where the example's host really is.
    command += ["-i", str(lab.inventory_path())]
    print(f"$ {' '.join(command)}", flush=True)
    environ = catalogue.OLD.environ | {"ANSIBLE_COLLECTIONS_PATH": str(tree.make()), "ANSIBLE_PIPELINING": "1"}
    process = subprocess.Popen(
        command, cwd=places.ROOT, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    output = ""
    with process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            output += line
    if process.returncode != 0:
        raise CheckError(f"the playbook {name} ended with status {process.returncode}")
    return output


def _in_guest(guest: Guest, command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    print(f"[{VM}]# {command}")
    done = guest.run(["sh", "-c", command], check=check)
    print(done.stdout + done.stderr, end="", flush=True)
    return done


def _claim(true: bool, what: str) -> None:
    if not true:
        raise CheckError(f"it is not true that {what}")
    print(f"==> {what}", flush=True)


def _title(text: str) -> None:
    print(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


@contextmanager
def _timed(what: str) -> Iterator[None]:
    print(f"{what} ...", flush=True)
    start = time.monotonic()
    yield
    print(f"{what}: {time.monotonic() - start:.1f} s", flush=True)
