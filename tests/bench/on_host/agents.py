# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the programs of the benchmark share that run on the host: a task on standard input, and guest agents."""

from __future__ import annotations

import base64
import concurrent.futures
import json
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import libvirt
import libvirt_qemu

_DEADLINE = 60.0

Task = dict[str, Any]


def read_task() -> Task:
    """What to do: `vms`, `models` (directories by name) and `threads`."""
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    task: Task = json.load(sys.stdin)
    return task


def of_every_vm(task: Task, function: Callable[[Any], Any]) -> dict[str, Any]:
    """Call a function with the domain of every VM, in threads with a connection each; its results by VM.

    libvirtd serves five requests of one connection at a time, so that one connection for all would be a limit.
    """
    own = threading.local()

    def one(name: str) -> Any:
        if not hasattr(own, "connection"):
            own.connection = libvirt.open("qemu:///system")
        return function(own.connection.lookupByName(name))

    with concurrent.futures.ThreadPoolExecutor(task["threads"]) as pool:
        return dict(zip(task["vms"], pool.map(one, task["vms"]), strict=True))


def ask(domain: Any, command: str, **arguments: Any) -> Any:
    """Send one command to a guest agent; it is not there for a moment after some hot-plugs."""
    request = json.dumps({"execute": command, "arguments": arguments})
    end = time.monotonic() + _DEADLINE
    while True:
        try:
            return json.loads(libvirt_qemu.qemuAgentCommand(domain, request, 30, 0))["return"]
        except libvirt.libvirtError as problem:
            if problem.get_error_code() != libvirt.VIR_ERR_AGENT_UNRESPONSIVE or time.monotonic() > end:
                raise
            time.sleep(0.05)


def start(domain: Any, *command: str, content: str = "") -> int:
    """Start a command in a guest, with something to read at its standard input, and return its process."""
    arguments = {"path": command[0], "arg": command[1:], "capture-output": True}
    if content:
        arguments["input-data"] = base64.b64encode(content.encode()).decode()
    pid: int = ask(domain, "guest-exec", **arguments)["pid"]
    return pid


def finish(domain: Any, pid: int) -> tuple[int, str]:
    """Wait until a command ends; returns its status and what it printed."""
    end = time.monotonic() + _DEADLINE
    pause = 0.01
    while True:
        status = ask(domain, "guest-exec-status", pid=pid)
        if status["exited"]:
            output = base64.b64decode(status.get("out-data", "") + status.get("err-data", "")).decode()
            return status.get("exitcode", -1), output
        if time.monotonic() > end:
            raise TimeoutError(f"{domain.name()}: process {pid} has not ended")
        time.sleep(pause)
        pause = min(2 * pause, 0.2)


def succeed(domain: Any, *command: str) -> str:
    """Run a command in a guest that must succeed, and return what it printed."""
    code, output = finish(domain, start(domain, *command))
    if code != 0:
        raise RuntimeError(f"{domain.name()}: {command} ended with status {code}: {output}")
    return output


def mount_table(domain: Any) -> list[list[str]]:
    """The lines of a guest's /proc/mounts, in words."""
    handle = ask(domain, "guest-file-open", path="/proc/mounts", mode="r")
    content = base64.b64decode(ask(domain, "guest-file-read", handle=handle, count=1 << 20)["buf-b64"]).decode()
    ask(domain, "guest-file-close", handle=handle)
    return [line.split() for line in content.splitlines()]
