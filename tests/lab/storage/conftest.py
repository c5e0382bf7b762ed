# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures: a lab of its own, whose hosts have storage clients and serve the storage themselves."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from ansible_run import Ansible
from fleet import publish

from modelfleet_lab import Host, Lab
from storage.servers import Storage, serve
from storage.test_back_ends import NAME, center

KINDS = {"alpha": "storage12", "beta": "storage13"}
# The same with Ceph. Their images are large, and only made when a test asks for Ceph.
CEPH_KINDS = {"alpha": "ceph12", "beta": "ceph13"}


@pytest.fixture(scope="session")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    kinds = CEPH_KINDS if any("ceph" in item.nodeid for item in request.session.items) else KINDS
    with Lab.temporary(os.environ.get("MODELFLEET_TEST_LAB", "storage")) as running:
        running.up(kinds)
        yield running


@pytest.fixture(scope="session")
def hosts(lab: Lab) -> dict[str, Host]:
    """Both hosts, with the models of the tests in /srv/models, and a disk for caches."""
    for host in lab.hosts().values():
        publish(host)
        host.run(["mkdir", "-p", "/cache"])
        host.run(["mount", "-t", "tmpfs", "-o", "size=256m", "cache", "/cache"])
    return lab.hosts()


@pytest.fixture(scope="session")
def served() -> set[str]:
    """The names of the storages that are there already."""
    return set()


@pytest.fixture
def storage(request: pytest.FixtureRequest, hosts: dict[str, Host], served: set[str]) -> Storage:
    """A storage that is served on both hosts."""
    wanted: Storage = request.param
    serve(hosts, served, wanted)
    return wanted


@pytest.fixture
def mounted(storage: Storage, prepared: dict[str, Host], ansible: Ansible) -> Iterator[dict[str, Host]]:
    """Both hosts, with the storage mounted."""
    ansible.module("model_center_mount", center(storage), limit=storage.limit)
    hosts = {name: host for name, host in prepared.items() if storage.limit in (None, name)}
    yield hosts
    for host in hosts.values():
        if storage.server:
            host.run(["systemctl", "kill", "--signal=CONT", storage.server], check=False)
            storage.serve(host)
    ansible.module("model_center_mount", {"name": NAME, "state": "absent"})


@pytest.fixture
def hurried(mounted: dict[str, Host]) -> Iterator[None]:
    """The timer that looks after centers does so every three seconds instead of once a minute.

    More than five starts of a service within ten seconds are what systemd refuses.
    """
    template = "/run/systemd/system/modelfleet-keeper@.timer.d"
    # An empty value forgets all of them, whichever it is given to (systemd.timer(5)).
    often = "[Timer]\nOnActiveSec=\nOnActiveSec=3\nOnUnitInactiveSec=3\nAccuracySec=100ms\n"

    def read_again() -> None:
        for host in mounted.values():
            host.run(["systemctl", "daemon-reload"])
            host.run(["systemctl", "try-restart", f"modelfleet-keeper@{NAME}.timer"])

    for host in mounted.values():
        host.write(f"{template}/often.conf", often)
    read_again()
    yield
    for host in mounted.values():
        host.run(["rm", "-r", template])
    read_again()
