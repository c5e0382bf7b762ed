# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""KVM hosts asked for their VMs, each by a process of its own that is given up at a deadline.

This plugin util is private to the collection.
"""

from __future__ import annotations

import concurrent.futures
import importlib.util
import json
import os
import signal
import subprocess
import sys
import typing as t

from ..module_utils._errors import ModelfleetError
from ._inventory_hosts import KvmHost

Answer = t.Union[list[dict[str, t.Any]], ModelfleetError]

# The Python of the distribution, for which it has the bindings as a package.
_DISTRIBUTION = "/usr/bin/python3"
_PLUGINS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# The collection by a name of its own: that Python need not have Ansible, and may have other collections.
_START = """\
import importlib.machinery, importlib.util, sys
package = importlib.machinery.ModuleSpec("modelfleet", None, is_package=True)
package.submodule_search_locations = [sys.argv[1]]
sys.modules["modelfleet"] = importlib.util.module_from_spec(package)
sys.path += sys.argv[2:]
from modelfleet.plugin_utils._inventory_reader import main
main()
"""


def ask(hosts: t.Sequence[KvmHost], python: str, timeout: float, guests: bool, at_once: int) -> dict[str, Answer]:
    """What each host says of its VMs, by its name, or why it says nothing.

    Args:
        python: the Python that has the bindings of libvirt. When empty, the one that runs Ansible if it has them, or
            else that of the distribution.
        timeout: seconds for each host.
        guests: whether guests are asked as well.
        at_once: how many hosts are asked at the same time.

    Raises:
        ModelfleetError: C(controller_unsupported).
    """
    command = _command(python)
    pool = concurrent.futures.ThreadPoolExecutor(at_once)
    try:
        jobs = {host.name: pool.submit(_answer, command, host, timeout, guests) for host in hosts}
        return {name: job.result() for name, job in jobs.items()}
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _command(python: str) -> list[str]:
    ours = importlib.util.find_spec("libvirt") is not None
    python = python or (sys.executable if ours else _DISTRIBUTION)
    # What Ansible itself finds modules by is right for its own Python only.
    return [python, "-I", "-c", _START, _PLUGINS, *(sys.path if python == sys.executable else ())]


def _answer(command: list[str], host: KvmHost, timeout: float, guests: bool) -> Answer:
    """What a host says.

    Raises:
        ModelfleetError: C(controller_unsupported), which would be the same for every host.
    """
    request = json.dumps({"uri": host.uri, "timeout": timeout, "guests": guests})
    try:
        status, output, errors = _run(command, request, timeout)
    except subprocess.TimeoutExpired:
        return _unreachable(host, f"no answer in {timeout:.0f} s")
    except OSError as problem:
        raise ModelfleetError(
            "controller_unsupported", f"{command[0]} cannot be run: {problem.strerror}", python=command[0]
        ) from None
    try:
        answer = json.loads(output)
    except ValueError:
        last = (errors.strip().splitlines() or [""])[-1]
        return _unreachable(host, f"{command[0]} ended with status {status} {last}")
    if "vms" in answer:
        return t.cast("list[dict[str, t.Any]]", answer["vms"])
    error = answer["error"]
    if error["code"] == "controller_unsupported":
        raise ModelfleetError(error["code"], error["what"], **error["details"])
    return _unreachable(host, error["what"])


def _unreachable(host: KvmHost, why: str) -> ModelfleetError:
    return ModelfleetError("host_unreachable", f"{host.name}: {why}", host=host.name, uri=host.uri)


def _run(command: list[str], request: str, timeout: float) -> tuple[int, str, str]:
    """Run a program to its end, which comes at the timeout together with all that it has started.

    Raises:
        OSError: it cannot be run.
        subprocess.TimeoutExpired: it was ended.
    """
    with subprocess.Popen(  # pylint: disable=ansible-bad-function
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        # Without a terminal, so that ssh asks nobody for a password.
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(request, timeout)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return process.returncode, output, errors
