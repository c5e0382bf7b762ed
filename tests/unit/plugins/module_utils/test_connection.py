# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to libvirt, and what becomes of those that are lost."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _agents, _connection, _domain
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError


class LibvirtError(Exception):
    """C(libvirt.libvirtError), also where the bindings are not installed."""

    def get_error_code(self):
        return 1


class Libvirt:
    """The bindings, and the one connection that they give; what is named in `lost` fails."""

    libvirtError = LibvirtError  # noqa: N815
    VIR_ERR_NO_DOMAIN = 42

    def __init__(self):
        self.lost = set()
        self.frozen = None
        self.opened = self.read_only = 0
        self.kept_alive = []

    def registerErrorHandler(self, _handler, _context):  # noqa: N802
        pass

    def open(self, _uri):
        self.opened += 1
        if self.frozen:
            self.frozen.wait(30)
        return self._answer("open", self)

    def openReadOnly(self, _uri):  # noqa: N802
        self.read_only += 1
        return self._answer("open", self)

    def getLibVersion(self):  # noqa: N802
        return self._answer("getLibVersion", 9_000_000)

    def listAllDomains(self):  # noqa: N802
        return self._answer("listAllDomains", [])

    def isAlive(self):  # noqa: N802
        return int(not self.lost)

    def setKeepAlive(self, interval, count):  # noqa: N802
        self.kept_alive.append((interval, count))

    def _answer(self, what, answer):
        if what in self.lost:
            raise LibvirtError("connection reset")
        return answer


@pytest.fixture
def libvirt(monkeypatch):
    fake = Libvirt()
    for module in (_connection, _domain, _agents):
        monkeypatch.setattr(module, "libvirt", fake)
    monkeypatch.setattr(_connection, "_handle_events", lambda: None)
    return fake


@pytest.fixture
def frozen(libvirt):
    libvirt.frozen = threading.Event()
    yield libvirt
    libvirt.frozen.set()


def unavailable(call):
    with pytest.raises(ModelfleetError) as caught:
        call()
    assert caught.value.code == "libvirt_unavailable"
    return caught.value


@pytest.mark.parametrize("where", ["open", "getLibVersion"])
def test_a_libvirt_that_is_lost_while_it_is_asked_has_a_code(where, libvirt):
    libvirt.lost.add(where)
    assert unavailable(lambda: _domain.Host("qemu:///system", 5.0)).details["uri"] == "qemu:///system"


def test_a_connection_that_cannot_change_anything(libvirt):
    _domain.Host("qemu+ssh://rack-a/system", 5.0, read_only=True)
    assert (libvirt.read_only, libvirt.opened) == (1, 0)
    _domain.Host("qemu:///system", 5.0)
    assert (libvirt.read_only, libvirt.opened) == (1, 1)


def test_what_fails_on_a_lost_connection_fails_for_that_reason(libvirt):
    host = _domain.Host("qemu:///system", 5.0)
    assert host.vms() == []
    libvirt.lost.add("listAllDomains")
    unavailable(host.vms)


def test_a_daemon_that_answers_nothing_is_not_waited_for_without_end(frozen):
    began = time.monotonic()
    problem = unavailable(lambda: _domain.Host("qemu:///system", 0.1))
    assert time.monotonic() - began < 10
    assert "no answer" in problem.msg


@pytest.mark.parametrize(("deadline", "silent"), [(1.0, 5), (5.0, 5), (30.0, 30), (59.0, 55), (3600.0, 3600)])
def test_a_connection_ends_when_its_daemon_was_silent_for_so_long(deadline, silent, libvirt):
    _connection.connect("qemu:///system", deadline)
    # libvirt.h: it is closed one interval after the last message that may stay without an answer.
    assert [interval * (count + 1) for interval, count in libvirt.kept_alive] == [silent]


def test_agents_of_a_daemon_that_answers_nothing_are_given_up_together(frozen):
    agents = _agents.Agents(SimpleNamespace(uri="qemu:///system", deadline=0.1))
    for _vm in range(3):
        vm = SimpleNamespace(name="render-4", uuid="uuid")
        unavailable(lambda vm=vm: agents.ask(vm, "guest-ping", {}, 30.0))
    assert frozen.opened == 1


def test_an_agent_asked_over_a_lost_connection_is_not_blamed(libvirt, monkeypatch):
    def ask(*_request):
        libvirt.lost.add("everything")
        raise LibvirtError("client socket is closed")

    libvirt.lookupByUUIDString = str
    monkeypatch.setattr(_agents, "libvirt_qemu", SimpleNamespace(qemuAgentCommand=ask))
    agents = _agents.Agents(SimpleNamespace(uri="qemu:///system", deadline=5.0))
    unavailable(lambda: agents.ask(SimpleNamespace(name="render-4", uuid="uuid"), "guest-ping", {}, 30.0))
