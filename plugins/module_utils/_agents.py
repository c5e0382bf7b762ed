# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The guest agents of a host, asked through libvirt over connections of their own, so that silent ones delay nobody.

libvirtd serves five requests of one connection at a time (max_client_requests) and twenty in all (max_workers), and an
agent that does not answer holds one of them until its timeout. So an agent is first asked with a short timeout; one
that was silent once is asked again on a lane where only the silent wait for each other.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
import typing as t

from . import _connection, _domain
from ._errors import ModelfleetError

try:
    import libvirt
    import libvirt_qemu
except ImportError:  # reported by _connection.connect
    libvirt = None
    libvirt_qemu = None

_REQUESTS_PER_CONNECTION = 5
# Seconds that one request may hold its place: of an agent never heard of, of one that answers, of one that was silent.
# libvirt itself gives an agent 5 s to be in step with it (QEMU_AGENT_WAIT_TIME), so more is of no use for the last.
_FIRST, _KNOWN, _SILENT = 2, 10, 6


class Agents:
    """The agents of the guests of one host. Any number of threads may ask."""

    def __init__(self, host: _domain.Host) -> None:
        self._quick = _Lane(host, connections=2)
        self._slow = _Lane(host, connections=1)
        self._answered: set[str] = set()
        self._silent: set[str] = set()

    def ask(self, vm: _domain.Vm, command: str, arguments: dict[str, t.Any], deadline: float) -> t.Any:
        """Send one command to the agent of a VM and return what it answers.

        Args:
            deadline: seconds to wait for the answer at most; an agent that is silent is given up earlier, to be asked
                again by whoever wants to.

        Raises:
            ModelfleetError: C(agent_unavailable) when nobody answers, C(agent_command_failed) for an error answer,
                C(libvirt_unavailable).
        """
        end = time.monotonic() + deadline
        lane, patience = self._quick, _KNOWN if vm.uuid in self._answered else _FIRST
        if vm.uuid in self._silent:
            lane, patience = self._slow, _SILENT
        request = json.dumps({"execute": command, "arguments": arguments})
        with lane.place(end) as connection:
            if connection is None:
                raise ModelfleetError("agent_unavailable", f"VM {vm}: the guest agent was silent", vm=vm.name)
            try:
                seconds = max(1, min(patience, int(end - time.monotonic())))
                answer = libvirt_qemu.qemuAgentCommand(connection.domain(vm.uuid), request, seconds, 0)
            except libvirt.libvirtError as problem:
                raise self._failure(vm, connection, problem) from None
        self._answered.add(vm.uuid)
        self._silent.discard(vm.uuid)
        try:
            return json.loads(answer)["return"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ModelfleetError(
                "agent_command_failed", f"VM {vm}: the agent's answer to {command} is not understood", vm=vm.name
            ) from None

    def _failure(self, vm: _domain.Vm, connection: _Connection, problem: t.Any) -> ModelfleetError:
        code = "agent_command_failed"
        if problem.get_error_code() in _UNHEARD:
            code = "agent_unavailable"
            self._silent.add(vm.uuid)
        return connection.failure(code, f"VM {vm}: {problem}", vm=vm.name, libvirt=str(problem))


class _Connection:
    """A connection, and the domains that were asked over it."""

    def __init__(self, host: _domain.Host) -> None:
        self._connection = _connection.connect(host.uri, host.deadline)
        self._domains: dict[str, t.Any] = {}

    def domain(self, uuid: str) -> t.Any:
        """The domain with a UUID, looked up once."""
        if uuid not in self._domains:
            self._domains[uuid] = self._connection.lookupByUUIDString(uuid)
        return self._domains[uuid]

    def failure(self, code: str, what: str, **details: t.Any) -> ModelfleetError:
        """As C(_connection.failure)."""
        return _connection.failure(self._connection, code, what, **details)


class _Lane:
    """Connections, and as many places as libvirtd serves requests on them at once."""

    def __init__(self, host: _domain.Host, connections: int) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._free = threading.Semaphore(connections * _REQUESTS_PER_CONNECTION)
        self._open: list[_Connection] = []
        self._connections = connections
        self._turn = 0
        self._refused: t.Optional[ModelfleetError] = None

    @contextlib.contextmanager
    def place(self, end: float) -> t.Iterator[t.Optional[_Connection]]:
        """A connection on which a request may be sent; None when there was no place in time."""
        if not self._free.acquire(timeout=max(0.0, end - time.monotonic())):
            yield None
            return
        try:
            yield self._connection()
        finally:
            self._free.release()

    def _connection(self) -> _Connection:
        # Two connections of five places each hold ten requests when they take turns, give or take one that waits.
        with self._lock:
            if len(self._open) < self._connections:
                self._open.append(self._connected())
            self._turn = (self._turn + 1) % len(self._open)
            return self._open[self._turn]

    def _connected(self) -> _Connection:
        if self._refused is not None:
            # Whoever waited here meanwhile would wait once more, each as long as the first.
            raise ModelfleetError(self._refused.code, self._refused.what, **self._refused.details)
        try:
            return _Connection(self._host)
        except ModelfleetError as problem:
            self._refused = problem
            raise


# OPERATION_INVALID (not running), ARGUMENT_UNSUPPORTED (no channel), AGENT_UNRESPONSIVE, AGENT_UNSYNCED,
# AGENT_COMMAND_TIMEOUT (11.2). Numbers, because older bindings lack the newer names.
_UNHEARD = (55, 74, 86, 97, 112)
