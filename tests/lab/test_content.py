# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models that are not whole are refused before anything is done, and models are in memory before they are needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_run import Result
from fleet import BOTH_AT_LENGTH, MODELS, VIEW, Fleet, guest_checksum

from modelfleet_lab import Host
from modelfleet_lab.weights import index, safetensors

MODEL = "acme/chat.v3"
SHARDS = ("model-1.safetensors", "model-2.safetensors")
DATA = {shard: safetensors(os.urandom(1 << 20)) for shard in SHARDS}
VIEW_ONLY = pytest.mark.transport("view", why="what is done with the model's files is the same")


@pytest.fixture
def model(fleet: Fleet) -> Iterator[Fleet]:
    """A model whose second file is missing."""
    for host in fleet.hosts.values():
        host.run(["mkdir", "-p", f"{MODELS}/{MODEL}"])
        host.write(f"{MODELS}/{MODEL}/model.safetensors.index.json", index(*SHARDS))
        host.write(f"{MODELS}/{MODEL}/config.json", b'{"layers": 2}\n')
        write(host, SHARDS[0])
    yield fleet
    for host in fleet.hosts.values():
        host.run(["rm", "-r", f"{MODELS}/{MODEL}"])
        host.run(["sh", "-c", "rm -f /var/lib/modelfleet/manifests/*"])


def write(host: Host, shard: str, data: bytes = b"") -> None:
    """Publish a file of the model."""
    host.write(f"{MODELS}/{MODEL}/{shard}", data or DATA[shard])


def on_model(fleet: Fleet, module: str, ok: bool = True, **options: Any) -> dict[str, Result]:
    """Run a module for the model on every host."""
    arguments = {"model": MODEL, "model_center": "zoo", **options}
    return fleet.ansible.module(module, arguments, ok=ok)


def codes(results: dict[str, Result]) -> set[tuple[Any, ...]]:
    """What failed, and because of which files."""
    found = set()
    for result in results.values():
        mounts = [mount for mount in result.get("mounts", []) if mount["error"]]
        details = (mounts[0]["error"] if mounts else result)["details"]
        found.add((result["error_code"], result["changed"], *details["files"]))
    return found


@BOTH_AT_LENGTH
def test_a_model_that_is_not_whole_is_refused_until_it_is(model: Fleet) -> None:
    model.refuse(("model_incomplete", {"model": MODEL}))
    assert codes(model.mount(MODEL, ok=False)) == {("model_incomplete", False, SHARDS[1])}
    for host in model.hosts.values():
        write(host, SHARDS[1], DATA[SHARDS[1]][:-1])
    assert codes(model.mount(MODEL, ok=False)) == {("model_damaged", False, SHARDS[1])}
    assert codes(on_model(model, "model_verify", ok=False)) == {("model_damaged", False, SHARDS[1])}
    for host in model.hosts.values():
        write(host, SHARDS[1])
    # Whole, but nobody has verified it.
    model.refuse(("model_unverified", {"model": MODEL, "verify": "manifest"}))
    verified = on_model(model, "model_verify")
    assert {result["changed"] for result in verified.values()} == {True}
    assert len({result["digest"] for result in verified.values()}) == 1
    for host in model.hosts.values():
        told = host.run(["journalctl", "-o", "cat", "-t", "ansible-modelfleet.kvm.model_verify", "-n", "1"]).stdout
        assert told.startswith(f"verify zoo:{MODEL}: all 2")
    model.mount(MODEL, verify="manifest")
    sums = {entry["path"]: entry["sha256"] for entry in next(iter(verified.values()))["manifest"]}
    for guest in model.guests.values():
        assert guest_checksum(guest, f"/models/{MODEL}/{SHARDS[1]}") == sums[SHARDS[1]]
    # A byte that nobody sees by the structure, in what is mounted already: that is left as it is.
    for host in model.hosts.values():
        write(host, "config.json", b'{"layers": 3}\n')
    assert codes(on_model(model, "model_verify", ok=False)) == {("model_damaged", False, "config.json")}
    again = model.mount(MODEL, verify="manifest")
    assert {result["changed"] for result in again.values()} == {False}
    model.unmount(MODEL)
    model.refuse(("model_unverified", {"model": MODEL, "verify": "manifest"}))


@pytest.mark.long
@VIEW_ONLY
def test_a_model_is_read_into_memory_when_there_is_room(model: Fleet) -> None:
    forget = f"cd {MODELS}/{MODEL} && sync -f . && for file in *; do dd if=$file iflag=nocache count=0; done"
    for host in model.hosts.values():
        write(host, SHARDS[1])
        host.run(["sh", "-c", forget])
    refused = on_model(model, "model_prefetch", ok=False, reserve_mb=1 << 29)
    assert {result["error_code"] for result in refused.values()} == {"no_room_for_model"}
    for check, cold in ((True, True), (False, True), (False, False)):
        arguments = {"model": MODEL, "model_center": "zoo", "reserve_mb": 0}
        for result in model.ansible.module("model_prefetch", arguments, check=check).values():
            size = result["bytes"]
            assert size > 2 << 20
            assert (result["changed"], result["resident_bytes_before"]) == (cold, 0 if cold else size)
            assert result["resident_bytes"] == (0 if check else size)
    for result in on_model(model, "model_prefetch", into="client").values():
        assert result["bytes_read"] == result["bytes"]


@pytest.mark.long
@VIEW_ONLY
def test_what_is_mounted_in_a_model_is_not_there_for_a_vm(model: Fleet) -> None:
    for host in model.hosts.values():
        write(host, SHARDS[1])
        host.run(["mkdir", f"{MODELS}/{MODEL}/sub"])
        host.write(f"{MODELS}/{MODEL}/a.safetensors.index.json", index("sub/x.safetensors"))
        host.run(["mount", "-t", "tmpfs", "sub", f"{MODELS}/{MODEL}/sub"])
        host.write(f"{MODELS}/{MODEL}/sub/x.safetensors", DATA[SHARDS[0]])
    # The center shows what is mounted below it as well, or does not; a VM does not get it in any case.
    assert codes(model.mount(MODEL, ok=False)) == {("model_incomplete", False, "sub/x.safetensors")}
    for host in model.hosts.values():
        host.run(["umount", f"{MODELS}/{MODEL}/sub"])
        host.write(f"{MODELS}/{MODEL}/sub/x.safetensors", DATA[SHARDS[0]])
    model.mount(MODEL)
    model.unmount(MODEL)


@pytest.mark.long
@VIEW_ONLY
def test_one_model_that_is_torn_leaves_other_vms_alone(model: Fleet, second: Fleet) -> None:
    """Both VMs are asked for in one task; the one with the torn model stays as it was."""
    mounts = [model.entry(), model.entry(MODEL), second.entry(transport=VIEW)]
    for result in model.ansible.module("vm_model_mount", {"mounts": mounts}, ok=False).values():
        assert [mount["changed"] for mount in result["mounts"]] == [False, False, True]
        assert result["error_code"] == "model_incomplete"
    assert model.leftovers() == {}
    second.unmount()
