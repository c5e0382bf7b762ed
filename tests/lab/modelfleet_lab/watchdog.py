"""Takes a temporary lab down when the process that owns it ends, however it ends.

The owner holds the write end of a pipe and never writes while it lives; the watchdog, a process of its own session,
reads. The kernel closes the owner's end when the owner dies, even of SIGKILL, and the watchdog wakes up.
The watchdog inherits the owner's lock as well: nobody else gets the lab before it is taken down.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .locks import acquire, remove_file
from .paths import RUN_DIR

_WAIT_SECONDS = 60.0
_DONE = b"done"
_PROGRAM = f"from {__name__} import main; main()"


def _owner_lock(lab: str) -> Path:
    """Return the lock that the owner of a temporary lab and its watchdog hold together."""
    return RUN_DIR / f"{lab}.owner"


@contextlib.contextmanager
def guarding(lab: str) -> Iterator[None]:
    """Own a temporary lab during the block, with a watchdog that takes it down if the block does not end normally.

    Raises TimedOut when another process owns the lab.
    """
    lock = acquire(_owner_lock(lab), f"lab {lab} (as somebody's temporary lab)", _WAIT_SECONDS)
    # Both ends are closed in every child but the watchdog, which gets the read end as its standard input.
    read_end, write_end = os.pipe()
    log = RUN_DIR / f"{lab}.watchdog.log"
    try:
        with log.open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM, lab],
                stdin=read_end,
                stdout=output,
                stderr=output,
                pass_fds=[lock],
                start_new_session=True,
                # Where Python finds this package.
                cwd=Path(__file__).parent.parent,
            )
        os.close(read_end)
        yield
        os.write(write_end, _DONE)
    finally:
        os.close(write_end)
        os.close(lock)
    process.wait()


def main() -> None:
    """Be the watchdog of the lab named in the arguments, with the pipe as standard input."""
    from .lab import Lab  # it imports this file

    lab = Lab(sys.argv[1])
    if sys.stdin.buffer.read() != _DONE:
        lab.down()
    for leftover in (RUN_DIR / f"{lab.name}.watchdog.log", _owner_lock(lab.name)):
        remove_file(leftover)
