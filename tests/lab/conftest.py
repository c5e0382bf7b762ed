# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures: one lab for all tests, with a Debian 12 and a Debian 13 host that are prepared and hold models."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from ansible_run import Ansible
from engine import Engine
from fleet import Fleet, publish

from modelfleet_lab import Guest, Host, Lab

KINDS = {"alpha": "debian12", "beta": "debian13"}

Guests = Callable[..., dict[str, Guest]]
Lend = Callable[..., Fleet]
AtOnce = Callable[[Callable[[Engine, Guest], None]], None]


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    # Another name lets two runs share a machine.
    with Lab.temporary(os.environ.get("MODELFLEET_TEST_LAB", "test")) as running:
        running.up(KINDS)
        yield running


@pytest.fixture(scope="session")
def hosts(lab: Lab) -> dict[str, Host]:
    """Both hosts, with the models of the tests in /srv/models, but nothing of the collection on them."""
    for host in lab.hosts().values():
        publish(host)
    return lab.hosts()


@pytest.fixture(scope="session")
def ansible(lab: Lab) -> Ansible:
    return Ansible(lab.inventory_path())


@pytest.fixture(scope="session")
def prepared(hosts: dict[str, Host], ansible: Ansible) -> dict[str, Host]:
    """Both hosts, prepared and with model center `zoo` mounted."""
    ansible.module("kvm_host_prepare", {})
    ansible.module("model_center_mount", {"name": "zoo", "storage_url": "file:///srv/models"})
    return hosts


@pytest.fixture
def unprepared(hosts: dict[str, Host], ansible: Ansible) -> dict[str, Host]:
    """Both hosts as they were before anything of the collection was on them, whatever ran before."""
    ansible.module("model_center_mount", {"name": "zoo", "state": "absent"})
    ansible.module("kvm_host_prepare", {"state": "absent"})
    for host in hosts.values():
        host.run(["rm", "-rf", "--one-file-system", "/var/lib/modelfleet"])
    return hosts


_numbers = itertools.count(1)


def make_guests(hosts: dict[str, Host], up: bool = True, only: str | None = None, **options: Any) -> dict[str, Guest]:
    """One guest of the same name on every host, or on one, booted at the same time."""
    name = f"vm{next(_numbers)}"
    made = {key: host.guest(name, **options) for key, host in hosts.items() if only in (None, key)}
    with ThreadPoolExecutor(len(made)) as pool:
        list(pool.map(Guest.up if up else Guest.define, made.values()))
    return made


@pytest.fixture
def guests(hosts: dict[str, Host]) -> Iterator[Guests]:
    """Makes guests of a test's own, as `make_guests` does, and removes them after the test."""
    made: list[Guest] = []

    def make(**options: Any) -> dict[str, Guest]:
        found = make_guests(hosts, **options)
        made.extend(found.values())
        return found

    yield make
    for guest in made:
        guest.remove()


class Pool:
    """Guests that tests leave to the next test, one of the same name on every host, by their kind."""

    def __init__(self, hosts: dict[str, Host]) -> None:
        self._hosts = hosts
        self._idle: dict[str, list[dict[str, Guest]]] = {}

    def take(self, kind: str) -> dict[str, Guest]:
        """Guests of a kind in which there is nothing of ours."""
        idle = self._idle.setdefault(kind, [])
        return idle.pop() if idle else make_guests(self._hosts, kind=kind)

    def give(self, kind: str, guests: dict[str, Guest]) -> None:
        """Leave guests to the next test."""
        self._idle[kind].append(guests)


@pytest.fixture(scope="session")
def pool(hosts: dict[str, Host]) -> Pool:
    return Pool(hosts)


@pytest.fixture
def transport(request: pytest.FixtureRequest) -> str:
    """How models reach the VMs. Tests that are marked with BOTH have it from there, all others say it in a mark.

    No test leaves it to the default of the module: that may change, and what the test shows would change with it.
    """
    marker = request.node.get_closest_marker("transport")
    assert marker is not None, 'mark the test with BOTH, or with pytest.mark.transport("device", why="...")'
    assert marker.kwargs["why"]
    name: str = marker.args[0]
    return name


@pytest.fixture
def lend(ansible: Ansible, pool: Pool, transport: str) -> Iterator[Lend]:
    """Gives fleets of a kind of guest for the time of a test.

    Booting takes the most time, so guests in which a test left nothing serve the next one as well. A test that changes
    guests for good says so with C(fleet.spoil()).
    """
    lent: list[tuple[str, Fleet]] = []

    def lend(hosts: dict[str, Host], kind: str = "tiny") -> Fleet:
        lent.append((kind, Fleet(hosts, ansible, pool.take(kind), transport)))
        return lent[-1][1]

    yield lend
    for kind, fleet in lent:
        if fleet.reusable():
            pool.give(kind, fleet.guests)
        else:
            for guest in fleet.guests.values():
                guest.remove()


@pytest.fixture
def fleet(prepared: dict[str, Host], lend: Lend) -> Fleet:
    """A guest on every prepared host, and what tests do with them."""
    return lend(prepared)


@pytest.fixture
def second(prepared: dict[str, Host], lend: Lend) -> Fleet:
    """Another guest on every prepared host."""
    return lend(prepared)


@pytest.fixture
def disks(prepared: dict[str, Host], lend: Lend) -> Fleet:
    """A guest with a disk and systemd on every prepared host."""
    return lend(prepared, "disk")


@pytest.fixture(scope="module")
def engines(prepared: dict[str, Host]) -> dict[str, Engine]:
    """The engine without Ansible, on every prepared host."""
    return {name: Engine(host) for name, host in prepared.items()}


@pytest.fixture
def at_once(fleet: Fleet, engines: dict[str, Engine]) -> AtOnce:
    """Runs a function of engine and guest on all hosts at the same time."""

    def run(function: Callable[[Engine, Guest], None]) -> None:
        with ThreadPoolExecutor(len(engines)) as pool:
            jobs = [pool.submit(function, engines[name], fleet.guests[name]) for name in engines]
            for job in jobs:
                job.result()

    return run
