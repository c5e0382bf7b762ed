"""What can go wrong in the lab, one class for each way a caller may want to react."""

from __future__ import annotations

import shlex
from collections.abc import Sequence


class LabError(Exception):
    """Something of the lab failed; the text says what, where and, where known, what to do."""


class TimedOut(LabError):
    """Something did not happen before its deadline."""


class GuestPanicked(LabError):
    """The serial console of a guest shows a kernel panic."""


class CommandFailed(LabError):
    """A command ended with a status other than 0.

    The text shows the command, where it ran, its status and both of its outputs.
    """

    def __init__(self, where: str, argv: Sequence[str], status: int, stdout: str, stderr: str) -> None:
        """Remember the outcome of ``argv`` that ran on ``where``."""
        self.argv = list(argv)
        self.status = status
        self.stdout = stdout
        self.stderr = stderr
        text = f"{where}: {shlex.join(argv)} ended with status {status}"
        for label, output in (("stdout", stdout), ("stderr", stderr)):
            if output.strip():
                text += f"\n--- {label}\n{output.rstrip()}"
        super().__init__(text)
