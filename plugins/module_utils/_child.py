# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Processes of our own that touch storage, and can be abandoned when it does not answer.

This module util is private to the collection.
"""

from __future__ import annotations

import socket
import subprocess
import sys

_START = "import sys; sys.path[:0] = sys.argv[2:]; from {module} import serve; serve(int(sys.argv[1]))"


def start(module: str) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Run C(serve) of a module in a child; it gets the number of a descriptor, a socket that keeps messages apart.

    The child is not waited for by anybody: one that is stuck in the kernel would take us along.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        # Executed, not forked, because the parent has threads; and with no descriptor of the parent's, because a stuck
        # child would keep the parent's output open.
        child = subprocess.Popen(  # pylint: disable=ansible-bad-function
            [sys.executable, "-I", "-c", _START.format(module=module), str(theirs.fileno()), *sys.path],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    return ours, child


def abandon(ours: socket.socket, child: subprocess.Popen[bytes]) -> None:
    """End a child without waiting for it."""
    ours.close()
    child.kill()
    child.poll()
