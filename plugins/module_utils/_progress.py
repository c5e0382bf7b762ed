# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far the reading of a model is, told in the host's journal, since a module cannot tell before it ends.

This module util is private to the collection.
"""

from __future__ import annotations

import time
import typing as t

from . import _reading

Log = t.Callable[[str], None]

# Seconds between two lines.
_EVERY = 10.0


def speed(bytes_read: int, seconds: float) -> dict[str, t.Any]:
    """How much was read and how fast, as modules return it."""
    return {
        "bytes_read": bytes_read,
        "seconds": round(seconds, 3),
        "bytes_per_second": round(bytes_read / seconds) if seconds else 0,
    }


class Progress:
    """The progress of one reading.

    Args:
        what: is read, for people.
        parts: all that will be read.
        now: a clock.

    Attributes:
        total: bytes of all parts.
    """

    def __init__(
        self, log: Log, what: str, parts: t.Iterable[_reading.Part], now: t.Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._what = what
        self._now = now
        self._began = self._told = now()
        self._until = self._began
        self.total = sum(part.end - part.begin for part in parts)

    @property
    def seconds(self) -> float:
        """How long it took until the last bytes came."""
        return self._until - self._began

    def tell(self, done: int) -> None:
        """Say that so many bytes were read."""
        self._until = self._now()
        if self._until - self._told < _EVERY:
            return
        self._told = self._until
        rate = done / self.seconds
        left = f", {(self.total - done) / rate:.0f} s left" if rate else ""
        self._say(f"{done / 1e9:.2f} of {self.total / 1e9:.2f} GB, {rate / 1e6:.0f} MB/s{left}")

    def end(self) -> None:
        """Say that all was read, if there was anything."""
        if self.total:
            self._say(f"all {self.total} bytes in {self.seconds:.1f} s")

    def _say(self, text: str) -> None:
        self._log(f"{self._what}: {text}")
