# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The QEMU guest agent of one VM: commands run and files read in the guest, with limits and deadlines.

Many guests allow only a part of what the agent can do: where reading files is blocked, a command reads them.

This module util is private to the collection.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import re
import time
import typing as t

from ._errors import ModelfleetError

_READ = 256 << 10
# No command of a guest ends sooner.
_SHORTEST = 0.01
_OUTPUT_SHOWN = 500
# What libvirt passes on of an agent that was told not to do something, or that is too old to know it.
_BLOCKED = re.compile(r"\bhas been disabled\b|\bhas not been found\b|\bis not allowed\b")
# A guest whose file systems are frozen for a backup refuses nearly everything, for a moment.
_FROZEN = re.compile(r"\bfrozen\b")
# What SELinux leaves of a command: the agent may not execute env, or env may not execute the program.
_NOT_EXECUTED = re.compile(r"Failed to execute child process .*\(Permission denied\)", re.DOTALL)
# Messages are matched, so they must not be in the guest's language.
_ENVIRONMENT = ["LC_ALL=C", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
# A file that exists and may not be read, as SELinux answers the agent.
_DENIED = re.compile(r"Permission denied")


class Ask(t.Protocol):
    """Sends one command to the agent; C(Vm.agent) of _domain."""

    def __call__(self, command: str, arguments: dict[str, t.Any], deadline: float) -> t.Any: ...


class Done(t.NamedTuple):
    """How a command ended in the guest."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def output(self) -> str:
        """What it wrote to both its outputs."""
        return (self.stderr + self.stdout).decode("utf-8", "replace")


class Agent:
    """The agent of a running VM.

    Args:
        name: the VM's name, for messages.
        deadline: seconds that any single operation may take.
    """

    def __init__(self, name: str, ask: Ask, deadline: float) -> None:
        self.name = name
        self.deadline = deadline
        self._ask_once = ask

    def run(
        self, command: t.Sequence[str], content: t.Optional[bytes] = None, code: str = "agent_command_failed"
    ) -> Done:
        """Run a command in the guest.

        Args:
            content: what it finds at its standard input.
            code: of the error when it does not end.

        Raises:
            ModelfleetError: C(agent_restricted), C(agent_unavailable), C(agent_command_failed).
        """
        return self._finish(self._start(command, content), command, code)

    def _start(self, command: t.Sequence[str], content: t.Optional[bytes] = None) -> int:
        arguments: dict[str, t.Any] = {
            "path": command[0],
            "arg": list(command[1:]),
            "env": _ENVIRONMENT,
            "capture-output": True,
        }
        if content is not None:
            arguments["input-data"] = base64.b64encode(content).decode("ascii")
        pid = self.ask("guest-exec", arguments, time.monotonic() + self.deadline).get("pid")
        if not isinstance(pid, int):
            raise self.nonsense("it runs a command without a process")
        return pid

    def _finish(self, pid: int, command: t.Sequence[str], code: str = "agent_command_failed") -> Done:
        end = time.monotonic() + self.deadline
        wait = _SHORTEST
        while True:
            # Every question takes something from the guest that it could spend on the command.
            time.sleep(wait)
            status = self.ask("guest-exec-status", {"pid": pid}, end)
            if status.get("exited"):
                break
            if time.monotonic() > end:
                # There is no way to kill it; a command on a dead mount never ends.
                raise ModelfleetError(
                    code,
                    f"VM {self.name}: '{' '.join(command)}' did not end in {self.deadline:.0f} s in the guest",
                    vm=self.name,
                )
            wait = min(wait * 2, 0.2)
        return self._done(status)

    def require(self, command: t.Sequence[str], code: str, problem: str, content: t.Optional[bytes] = None) -> None:
        """Run a command that must succeed; when it fails, that is an error with the given code."""
        done = self.run(command, content)
        if done.code != 0:
            raise self.failure(code, problem, done)

    def read(self, path: str, limit: int) -> bytes:
        """The content of a file of the guest.

        Raises:
            ModelfleetError: C(agent_restricted), C(agent_unavailable), C(agent_command_failed).
        """
        try:
            return self._read_file(path, limit)
        except ModelfleetError as problem:
            denied = problem.code == "agent_command_failed" and _DENIED.search(problem.details.get("libvirt", ""))
            if problem.code != "agent_restricted" and not denied:
                raise
            done = self.run(["cat", path])
            if done.code != 0:
                raise self.failure("agent_command_failed", f"{path} cannot be read", done) from None
            if len(done.stdout) > limit:
                raise self.nonsense(f"{path} is larger than {limit} bytes") from None
            return done.stdout

    def _read_file(self, path: str, limit: int) -> bytes:
        end = time.monotonic() + self.deadline
        handle = self.ask("guest-file-open", {"path": path, "mode": "r"}, end, int)
        content = b""
        try:
            while len(content) <= limit:
                part = self.ask("guest-file-read", {"handle": handle, "count": _READ}, end)
                content += self._bytes(part["buf-b64"])
                if part.get("eof") or not part.get("count"):
                    return content
        except KeyError:
            raise self.nonsense("it reads a file without content") from None
        finally:
            # An open file in the guest is no reason to throw away what was read, or to hide why it was not.
            with contextlib.suppress(ModelfleetError):
                self.ask("guest-file-close", {"handle": handle}, end)
        raise self.nonsense(f"{path} is larger than {limit} bytes")

    def ask(self, command: str, arguments: dict[str, t.Any], end: float, kind: type = dict) -> t.Any:
        """Send one command to the agent and return its answer, which must be of a kind.

        Args:
            end: when to stop asking, by the monotonic clock.
        """
        # The agent is not connected for a moment after boot and after some hot-plugs.
        while True:
            try:
                answer = self._ask_once(command, arguments, max(1.0, end - time.monotonic()))
            except ModelfleetError as problem:
                self._refuse_restricted(command, problem)
                if problem.code != "agent_unavailable" or time.monotonic() > end:
                    raise
                time.sleep(0.2)
                continue
            if not isinstance(answer, kind):
                raise self.nonsense(f"its answer to {command} is not understood")
            if time.monotonic() > end + self.deadline:
                # It answers, but never comes to an end.
                raise self.nonsense(f"it kept answering for more than {self.deadline:.0f} s")
            return answer

    def _refuse_restricted(self, command: str, problem: ModelfleetError) -> None:
        said = problem.details.get("libvirt", "")
        if problem.code != "agent_command_failed" or _FROZEN.search(said):
            return
        if _BLOCKED.search(said) or (command == "guest-exec" and _NOT_EXECUTED.search(said)):
            raise self._restricted(command, said) from None

    def _restricted(self, command: str, said: str) -> ModelfleetError:
        shown = ascii(said.strip()[:_OUTPUT_SHOWN])[1:-1]
        return ModelfleetError(
            "agent_restricted", f"VM {self.name}: {command}: {shown}", vm=self.name, command=command, guest_output=shown
        )

    def _done(self, status: dict[str, t.Any]) -> Done:
        code = status.get("exitcode")
        return Done(
            code if isinstance(code, int) else -1,
            self._bytes(status.get("out-data", "")),
            self._bytes(status.get("err-data", "")),
        )

    def _bytes(self, encoded: t.Any) -> bytes:
        try:
            return base64.b64decode(encoded.encode("ascii"), validate=True)
        except (binascii.Error, ValueError, AttributeError):
            raise self.nonsense("it sends what is not base64") from None

    def nonsense(self, problem: str) -> ModelfleetError:
        """The error for an answer that no honest agent gives."""
        return ModelfleetError("agent_command_failed", f"VM {self.name}: {problem}", vm=self.name)

    def failure(self, code: str, problem: str, done: Done, **details: t.Any) -> ModelfleetError:
        """The error for a command that failed, with what it said."""
        said = done.output.strip()[:_OUTPUT_SHOWN]
        return ModelfleetError(
            code,
            f"VM {self.name}: {problem} in the guest: {ascii(said)[1:-1] or f'exit code {done.code}'}",
            vm=self.name,
            guest_output=said,
            guest_exit_code=done.code,
            **details,
        )
