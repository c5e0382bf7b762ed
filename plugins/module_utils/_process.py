# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Programs of the host, run with a deadline and without a shell.

Not AnsibleModule.run_command: it needs a module, and the hook is none; and it has no time limit.

This module util is private to the collection.
"""

from __future__ import annotations

import os
import subprocess

from ._errors import ModelfleetError


def require_root() -> None:
    """Refuse other users, to whom the mount tables of others and our directories look empty.

    Raises:
        ModelfleetError: C(not_root).
    """
    if os.geteuid() != 0:
        raise ModelfleetError("not_root", f"the module runs as user {os.geteuid()}")


def run(command: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Args:
        timeout: seconds after which it is killed.

    Raises:
        ModelfleetError: C(host_unsupported) when there is no such program, C(program_timeout) at the deadline.
    """
    try:
        return subprocess.run(  # pylint: disable=ansible-bad-function
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except OSError as problem:
        raise ModelfleetError("host_unsupported", f"{command[0]} cannot be run: {problem.strerror}") from None
    except subprocess.TimeoutExpired:
        raise ModelfleetError("program_timeout", f"'{' '.join(command)}' did not end in {timeout:.0f} s") from None
