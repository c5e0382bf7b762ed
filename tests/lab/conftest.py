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
from fleet import Fleet, publish

from modelfleet_lab import Guest, Host, Lab

KINDS = {"alpha": "debian12", "beta": "debian13"}

Guests = Callable[..., dict[str, Guest]]


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


@pytest.fixture(scope="session")
def shared() -> list[dict[str, Guest]]:
    """The guests that tests leave to the next test; at most one set."""
    return []


@pytest.fixture
def transport() -> str:
    """How models reach the VMs; tests that are marked with BOTH run once with each."""
    return "device"


@pytest.fixture
def fleet(
    prepared: dict[str, Host], ansible: Ansible, shared: list[dict[str, Guest]], transport: str
) -> Iterator[Fleet]:
    """A guest on every prepared host, and what tests do with them.

    Booting takes the most time, so a guest in which a test left nothing serves the next one as well. A test that
    changes a guest for good says so with C(fleet.spoil()).
    """
    fleet = Fleet(prepared, ansible, shared.pop() if shared else make_guests(prepared), transport)
    yield fleet
    if fleet.reusable():
        shared.append(fleet.guests)
    else:
        for guest in fleet.guests.values():
            guest.remove()
