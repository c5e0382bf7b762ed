# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unmounting storage, in a process of its own that can be abandoned.

Whoever takes away the last mount of some storage has its client end the session, lazily or not, and may wait for a
server that is frozen for as long as it is: NFS 4.1 and later do. The mount has left the mount table by then.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import errno
import subprocess
import sys

from . import _mountapi

_START = "import sys; sys.path[:0] = sys.argv[3:]; from {module} import serve; sys.exit(serve(*sys.argv[1:3]))"
_LAZY = "lazy"


def unmount(path: str, deadline: float, lazy: bool = False) -> int:
    """Unmount what is seen at a path.

    Args:
        deadline: seconds after which the process is killed, and left behind if that does not end it.

    Returns:
        An errno, 0 for success, ETIMEDOUT at the deadline.
    """
    # Executed and with no descriptor of ours, as in C(_opener).
    child = subprocess.Popen(  # pylint: disable=ansible-bad-function
        [sys.executable, "-I", "-c", _START.format(module=__name__), path, _LAZY if lazy else "", *sys.path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    try:
        return child.wait(deadline)
    except subprocess.TimeoutExpired:
        child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.2)
        return errno.ETIMEDOUT


def serve(path: str, how: str) -> int:
    """The child: unmount, and end with the errno."""
    try:
        _mountapi.unmount(path, lazy=how == _LAZY)
    except OSError as problem:
        return problem.errno or errno.EIO
    return 0
