# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs that are killed, run side by side, or meet a guest that does not let go: the next run finishes the work."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from conftest import AtOnce
from engine import Engine
from fleet import BOTH_AT_LENGTH, VIEW, Fleet, binds, checksum, devices, entry, guest_checksum, leftovers

from modelfleet_lab import Guest
from modelfleet_lab.polling import wait_until

WEIGHTS, SAFETENSORS = "llama-nano/weights.bin", "acme/embed.v2/model.safetensors"


def wanted(guest: Guest, transport: str) -> list[dict[str, Any]]:
    """Entries for both models of a guest."""
    return [entry(guest.name, name, transport) for name in ("llama-nano", "acme/embed.v2")]


def settled(result: dict[str, Any]) -> None:
    """A run that succeeded, and the same run again, which finds nothing to do."""
    assert result["failure"] is None, result["failure"]
    assert all(mount["record"]["intent"] == "settled" for mount in result["mounts"])


def mounted(engine: Engine, guest: Guest, transport: str) -> None:
    """Both models are there and right, each once."""
    settled(engine.run(wanted(guest, transport)))
    again = engine.run(wanted(guest, transport))
    assert [mount["actions"] for mount in again["mounts"]] == [[], []]
    assert guest_checksum(guest, f"/models/{WEIGHTS}") == checksum(WEIGHTS)
    assert guest_checksum(guest, f"/models/{SAFETENSORS}") == checksum(SAFETENSORS)
    found = leftovers(guest, engine.host)
    assert len(found["live devices"]) == len(found["persistent devices"]) == devices(transport, 2)
    assert len(found["binds"].splitlines()) == binds(transport, 2)
    own = [line for line in found["guest mounts"].splitlines() if "/.m/" not in line]
    assert len(own) == devices(transport, 2)


def gone(engine: Engine, guest: Guest) -> None:
    result = engine.run([{"vm": guest.name}], state="absent")
    assert result["failure"] is None, result["failure"]
    assert leftovers(guest, engine.host) == {}


@BOTH_AT_LENGTH
def test_run_killed_after_any_effect_is_finished_or_undone_by_the_next(at_once: AtOnce, transport: str) -> None:
    # The view has one device for both models.
    few = 4 + 2 * devices(transport, 2)

    def kill_everywhere(engine: Engine, guest: Guest) -> None:
        effects = 1
        while engine.killed(wanted(guest, transport), effects):
            # Every second time the next run wants something else.
            if effects % 2:
                mounted(engine, guest, transport)
            gone(engine, guest)
            effects += 1
        assert effects > few
        mounted(engine, guest, transport)
        effects = 1
        while engine.killed([{"vm": guest.name}], effects, state="absent"):
            if effects % 2:
                gone(engine, guest)
            mounted(engine, guest, transport)
            effects += 1
        assert effects > few
        gone(engine, guest)

    at_once(kill_everywhere)


@pytest.mark.long
@pytest.mark.transport("view", why="the device of a model comes, goes and is replaced whatever others there are")
def test_run_killed_while_a_model_comes_is_replaced_or_goes_in_a_view_with_another(at_once: AtOnce) -> None:
    def kill_everywhere(engine: Engine, guest: Guest) -> None:
        stays, other = wanted(guest, VIEW)
        place = {"vm": guest.name, "mount_path": f"/models/{other['model']}"}

        def leave() -> None:
            assert engine.run([place], state="absent")["failure"] is None

        def kill(job: dict[str, Any], state: str = "present", again: bool = False) -> None:
            effects = 1
            while engine.killed([job], effects, state=state):
                # Every second time the next run wants something else.
                if again and effects % 2:
                    leave()
                mounted(engine, guest, VIEW)
                if again:
                    leave()
                effects += 1
            assert effects > 3

        settled(engine.run([stays]))
        kill(other, again=True)
        kill(entry(guest.name, "acme", VIEW, mount_path=place["mount_path"]))
        mounted(engine, guest, VIEW)
        kill(place, state="absent")
        gone(engine, guest)

    at_once(kill_everywhere)


@BOTH_AT_LENGTH
def test_another_run_carries_on_what_a_killed_one_began(at_once: AtOnce, transport: str) -> None:
    def carry_on(engine: Engine, guest: Guest) -> None:
        first, second = wanted(guest, transport)
        assert engine.killed([first], 2)
        result = engine.run([second])
        settled(result)
        assert [mount["origin"] for mount in result["mounts"]] == ["listed", "interrupted"]
        mounted(engine, guest, transport)
        assert engine.killed([{"vm": guest.name, "model": first["model"]}], 2, state="absent")
        result = engine.run([second])
        assert [(mount["origin"], mount["record"]) for mount in result["mounts"]][1] == ("interrupted", None)
        assert len(leftovers(guest, engine.host)["live devices"]) == 1
        gone(engine, guest)

    at_once(carry_on)


@BOTH_AT_LENGTH
def test_runs_side_by_side_lose_nothing(at_once: AtOnce, transport: str) -> None:
    def side_by_side(engine: Engine, guest: Guest) -> None:
        first, second = wanted(guest, transport)
        absent = {"vm": guest.name, "model": first["model"]}
        with ThreadPoolExecutor(4) as pool:
            jobs = [
                pool.submit(engine.run, [first, second]),
                pool.submit(engine.run, [first, second]),
                pool.submit(engine.run, [absent], state="absent"),
                pool.submit(engine.run, [second]),
            ]
            results = [job.result() for job in jobs]
        assert [result["failure"] for result in results] == [None] * 4
        # Whatever the last run left, it left all of it or nothing of it.
        found = leftovers(guest, engine.host)
        assert len(found["live devices"]) == len(found["persistent devices"]) == len(set(found["live devices"])) <= 2
        models = guest.xml().findall("metadata/{urn:modelfleet:kvm}mounts/*")
        assert len(found["binds"].splitlines()) == binds(transport, len(models))
        mounted(engine, guest, transport)
        gone(engine, guest)

    at_once(side_by_side)


@pytest.mark.transport("device", why="it waits for deadlines, and what does not go is a device either way")
def test_guest_that_ignores_the_unplug_is_reported_and_the_next_run_carries_on(fleet: Fleet, at_once: AtOnce) -> None:
    fleet.spoil()

    def hang(engine: Engine, guest: Guest) -> None:
        first, _second = wanted(guest, "device")
        settled(engine.run([first]))
        # A kernel that panicked neither answers nor releases a device.
        panic = "echo 0 > /proc/sys/kernel/panic; sleep 1; echo c > /proc/sysrq-trigger"
        guest.agent("guest-exec", {"path": "sh", "arg": ["-c", panic]}, 10)
        wait_until("the guest panics", 30, lambda: "Kernel panic" in guest.console())
        failed = engine.run([{"vm": guest.name}], state="absent", timeout=3)["failure"]
        assert failed["error_code"] == "agent_unavailable"
        result = engine.run([{"vm": guest.name}], state="absent", timeout=3, force=True)
        assert result["failure"]["error_code"] == "detach_timeout"
        (left,) = result["mounts"]
        assert (left["changed"], left["record"]["intent"]) == (True, "unmounting")
        guest.reset()
        gone(engine, guest)

    at_once(hang)
