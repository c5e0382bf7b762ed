# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections to libvirt that end when its daemon answers nothing any more, so that no call waits for ever.

A daemon that is slow answers keepalive messages all the same, so a call may take as long as it takes.

This module util is private to the collection.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import threading
import time
import typing as t

from . import _input
from ._errors import ModelfleetError

try:
    import libvirt
except ImportError:  # reported by connect, so that input is checked on hosts without libvirt as well
    libvirt = None

# Keepalive messages that may stay without an answer before libvirt closes a connection, one interval after the last.
_UNANSWERED = 4
# How often keepalive messages of a daemon are answered between calls, in seconds, and in how many rounds of the event
# loop: read, write, and some to spare. libvirtd sends one every 5 s, and may be told to more often.
_PERIOD, _ROUNDS = 2.0, 5


def available() -> bool:
    """Whether this host has the Python bindings of libvirt."""
    return libvirt is not None


def connect(uri: str, deadline: float, read_only: bool = False) -> t.Any:
    """A connection to libvirt.

    Args:
        deadline: seconds that the daemon may be silent; then the connection ends, and with it every call on it.
        read_only: have libvirt refuse every call that could change something, or that asks a guest.

    Raises:
        ModelfleetError: C(libvirt_unavailable), C(invalid_input).
    """
    _input.uri("uri", uri)
    if libvirt is None:
        raise ModelfleetError("libvirt_unavailable", "the Python bindings of libvirt are not installed on this host")
    # Without a handler libvirt prints every error to standard error as well.
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    _handle_events()
    try:
        connection = _opened(uri, deadline, read_only)
        connection.setKeepAlive(max(1, int(deadline) // (_UNANSWERED + 1)), _UNANSWERED)
    except libvirt.libvirtError as problem:
        raise unreachable(uri, problem) from None
    except concurrent.futures.TimeoutError:
        raise unreachable(uri, f"no answer in {deadline:.0f} s") from None
    return connection


def _opened(uri: str, deadline: float, read_only: bool) -> t.Any:
    """Open in a thread that can be left behind: there is no keepalive yet."""
    opened: concurrent.futures.Future[t.Any] = concurrent.futures.Future()

    def work() -> None:
        try:
            opened.set_result(libvirt.openReadOnly(uri) if read_only else libvirt.open(uri))
        except Exception as problem:
            opened.set_exception(problem)

    threading.Thread(target=work, daemon=True).start()
    return opened.result(deadline)


@functools.cache
def _handle_events() -> None:
    """Give libvirt the event loop that keepalive needs, for as long as the process lasts."""
    libvirt.virEventRegisterDefaultImpl()
    # With something that is always due, a round of the loop waits for nothing.
    libvirt.virEventAddTimeout(0, lambda _timer, _none: None, None)
    threading.Thread(target=_answer_when_idle, daemon=True).start()


def _answer_when_idle() -> None:
    """Answer the daemon, which gives a client up that is silent for half a minute.

    A call that waits takes care of keepalive by itself. A loop that always runs would be woken by every call, which
    makes each of them slower by a tenth of a millisecond.
    """
    with contextlib.suppress(libvirt.libvirtError):
        while True:
            time.sleep(_PERIOD)
            for _round in range(_ROUNDS):
                libvirt.virEventRunDefaultImpl()


def unreachable(uri: str, problem: object) -> ModelfleetError:
    """The error for a daemon that does not answer."""
    return ModelfleetError("libvirt_unavailable", f"{uri}: {problem}", uri=uri)


def failure(connection: t.Any, code: str, what: str, **details: t.Any) -> ModelfleetError:
    """The error for a call that failed; that the connection is lost is the reason for whatever fails on it."""
    # libvirt knows that without asking its daemon.
    return ModelfleetError(code if connection.isAlive() else "libvirt_unavailable", what, **details)
