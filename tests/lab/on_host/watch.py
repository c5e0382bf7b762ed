# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write down what users who are not root can see of processes, over and over, until SIGTERM: every command line, and
the environment of every process that is not root's.

Run as C(watch.py FILE). The file has one line for each that was ever seen. Nothing of it is part of the collection.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Any


def seen(pid: str) -> list[bytes]:
    """What can be seen of a process now."""
    found = []
    # Whatever it is, the process has ended.
    with contextlib.suppress(OSError):
        for name in ("cmdline", "environ") if os.stat(f"/proc/{pid}").st_uid else ("cmdline",):
            with open(f"/proc/{pid}/{name}", "rb", buffering=0) as file:
                found.append(file.read().replace(b"\0", b" ").replace(b"\n", b" "))
    return found


def main(path: str) -> None:
    stopped: list[Any] = []
    signal.signal(signal.SIGTERM, lambda *signals: stopped.append(signals))
    everything: set[bytes] = set()
    rounds = 0
    while not stopped:
        rounds += 1
        for pid in os.listdir("/proc"):
            if pid.isdigit():
                everything.update(seen(pid))
    with open(path, "wb") as file:
        file.write(b"".join(line + b"\n" for line in sorted(everything)))
    print(f"{rounds} rounds")


if __name__ == "__main__":
    main(sys.argv[1])
