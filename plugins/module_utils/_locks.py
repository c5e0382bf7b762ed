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
def held(names: t.Iterable[str], deadline: float, directory: str = DIRECTORY) -> t.Iterator[None]:
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
        for name in sorted(set(names)):
            descriptor = os.open(os.path.join(directory, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            stack.callback(os.close, descriptor)
            _take(descriptor, name, end, deadline)
        yield


def _take(descriptor: int, name: str, end: float, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise ModelfleetError(
                    "lock_timeout", f"another run held the lock of {name} for {deadline:.0f} s", lock=name
                ) from None
            time.sleep(0.05)
