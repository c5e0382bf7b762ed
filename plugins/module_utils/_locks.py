# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Locks of this host: one run at a time per VM and per model center.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import typing as t

from ._errors import ModelfleetError

# Gone with a reboot, as locks should be.
DIRECTORY = "/run/modelfleet/locks"


@contextlib.contextmanager
def held(
    exclusive: t.Iterable[str], deadline: float, directory: str = DIRECTORY, shared: t.Iterable[str] = ()
) -> t.Iterator[None]:
    """Hold locks, always taken in the order of their names, so that two runs cannot wait for each other.

    The locks end with the process, however it ends, and are not inherited by children.

    Args:
        deadline: seconds to wait for all of them.

    Raises:
        ModelfleetError: C(lock_timeout).
    """
    end = time.monotonic() + deadline
    os.makedirs(directory, 0o700, exist_ok=True)
    with contextlib.ExitStack() as stack:
        modes = {**dict.fromkeys(shared, fcntl.LOCK_SH), **dict.fromkeys(exclusive, fcntl.LOCK_EX)}
        for name, mode in sorted(modes.items()):
            descriptor = os.open(os.path.join(directory, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, descriptor)
            _take(descriptor, mode, name, end, deadline)
        yield


def vm(uuid: str) -> str:
    """The lock of a VM."""
    return f"vm-{uuid}"


def center(name: str) -> str:
    """The lock of a model center: shared while its models are mounted, exclusive while it is."""
    return f"center-{name}"


def _take(descriptor: int, mode: int, name: str, end: float, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise ModelfleetError(
                    "lock_timeout", f"another run held the lock of {name} for {deadline:.0f} s", lock=name
                ) from None
            time.sleep(0.05)
