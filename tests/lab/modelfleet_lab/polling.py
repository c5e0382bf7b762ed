"""Waiting for something to become true, never longer than until a deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from .errors import TimedOut

Answer = TypeVar("Answer")

# Between two probes, growing: what takes long need not be asked often, and asking costs the processors that it runs on.
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 0.5


class Deadline:
    """A moment in the future that several waits can share."""

    def __init__(self, seconds: float) -> None:
        """Set the moment ``seconds`` from now."""
        self._at = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, 0 when the moment has passed."""
        return max(0.0, self._at - time.monotonic())


def wait_until(what: str, seconds: float, probe: Callable[[], Answer | None]) -> Answer:
    """Call ``probe`` until it returns something true, and return that.

    Raises TimedOut naming ``what`` when nothing true came within ``seconds``. ``probe`` is called at least once.
    """
    deadline = Deadline(seconds)
    pause = _FIRST_PAUSE
    while True:
        answer = probe()
        if answer:
            return answer
        if not deadline.left():
            raise TimedOut(f"{what}: not within {seconds:g} s")
        time.sleep(min(pause, deadline.left()))
        pause = min(pause * 1.5, _LONGEST_PAUSE)
