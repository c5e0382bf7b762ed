# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guest's part: its mount table read, and models mounted and unmounted, through the QEMU guest agent.

The guest is hostile. What it answers is parsed with limits and deadlines, and none of it becomes a path
or a command. Commands are argument lists; no shell is involved.

This module util is private to the collection.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
import typing as t

from . import _mountinfo
from ._errors import ModelfleetError

OPTIONS = ("ro", "nosuid", "nodev")
FSTYPE = "virtiofs"

_MOUNT_TABLE = "/proc/self/mountinfo"
_MOUNT_TABLE_MAX = 4 << 20
_READ = 256 << 10
_OUTPUT_SHOWN = 500
# Right after a hot-plug the kernel does not know the tag yet, and mount(2) fails with EINVAL.
_TOO_EARLY = re.compile(r"wrong fs type|invalid argument", re.IGNORECASE)
_APPEARS_WITHIN = 15.0


class Ask(t.Protocol):
    """Sends one command to the agent; C(Vm.agent) of _domain."""

    def __call__(self, command: str, arguments: dict[str, t.Any], deadline: float) -> t.Any: ...


class Done(t.NamedTuple):
    """How a command ended in the guest; `output` is what it wrote to both its outputs."""

    code: int
    output: str


class Guest:
    """The inside of a running VM.

    Args:
        name: the VM's name, for messages.
        deadline: seconds that any single operation may take.
    """

    def __init__(self, name: str, ask: Ask, deadline: float) -> None:
        self._name = name
        self._ask_once = ask
        self._deadline = deadline

    def mounts(self) -> list[_mountinfo.Mount]:
        """The guest's mount table.

        Raises:
            ModelfleetError: C(agent_unavailable), C(agent_command_failed).
        """
        end = time.monotonic() + self._deadline
        handle = self._ask("guest-file-open", {"path": _MOUNT_TABLE, "mode": "r"}, end, int)
        content = b""
        try:
            while len(content) < _MOUNT_TABLE_MAX:
                part = self._ask("guest-file-read", {"handle": handle, "count": _READ}, end)
                content += self._bytes(part["buf-b64"])
                if part.get("eof") or not part.get("count"):
                    break
            else:
                raise self._nonsense("its mount table is larger than 4 MiB")
        except KeyError:
            raise self._nonsense("it reads a file without content") from None
        finally:
            self._ask("guest-file-close", {"handle": handle}, end)
        mounts = _mountinfo.parse(content.decode("utf-8", "replace"))
        if _mountinfo.visible(mounts, "/") is None:
            # What could not be read must not look like a guest in which nothing is mounted.
            raise self._nonsense("its mount table has no root")
        return mounts

    def mount(self, tag: str, path: str) -> None:
        """Mount a tag at a path, which is made when it is missing.

        Raises:
            ModelfleetError: C(guest_mount_failed), C(agent_unavailable).
        """
        self._require(["mkdir", "-p", path], "guest_mount_failed", f"{path} cannot be made")
        real = self._run(["readlink", "-f", path])
        if real.code == 0 and real.output.rstrip("\n") != path:
            raise self._failure(
                "guest_mount_failed", f"{path} is reached through a symbolic link, which is refused", real
            )
        command = ["mount", "-t", FSTYPE, "-o", ",".join(OPTIONS), tag, path]
        end = time.monotonic() + min(self._deadline, _APPEARS_WITHIN)
        while True:
            done = self._run(command)
            if done.code == 0:
                break
            if not _TOO_EARLY.search(done.output) or time.monotonic() > end:
                raise self._failure("guest_mount_failed", f"{path} cannot be mounted", done)
            time.sleep(0.1)
        try:
            right = is_mounted(_mountinfo.visible(self.mounts(), path), tag)
        except ModelfleetError:
            self._run(["umount", path])
            raise
        if not right:
            self._run(["umount", path])
            raise self._failure("guest_mount_failed", f"{path} was mounted, but does not show the model", done)

    def remount_read_only(self, path: str) -> None:
        """Set the options of a mount right again.

        Raises:
            ModelfleetError: C(guest_mount_failed), C(agent_unavailable).
        """
        options = ",".join(("remount", *OPTIONS))
        self._require(["mount", "-o", options, path], "guest_mount_failed", f"{path} cannot be remounted read-only")

    def unmount(self, tag: str, path: str) -> None:
        """Unmount a tag from a path.

        Raises:
            ModelfleetError: C(mount_busy), also when a container in the guest still has it, C(guest_unmount_failed),
                C(agent_unavailable).
        """
        done = self._run(["umount", path])
        if done.code != 0:
            busy = "busy" in done.output.lower()
            raise self._failure("mount_busy" if busy else "guest_unmount_failed", f"{path} cannot be unmounted", done)
        # A process with a mount name space of its own, as containers have, keeps a copy that no umount here reaches.
        search = [
            "find",
            "/proc",
            "-maxdepth",
            "2",
            "-name",
            "mountinfo",
            "-exec",
            "grep",
            "-lF",
            f" {tag} ",
            "{}",
            "+",
        ]
        users = sorted(set(re.findall(r"^/proc/(\d+)/mountinfo$", self._run(search).output, re.MULTILINE)), key=int)
        if users:
            self.mount(tag, path)
            shown = ", ".join(users[:5])
            raise ModelfleetError(
                "mount_busy",
                f"VM {self._name}: {path} is in use in another mount name space of the guest, a container for example,"
                f" by process {shown}",
                vm=self._name,
                guest_processes=[int(pid) for pid in users[:20]],
            )

    def _require(self, command: list[str], code: str, problem: str) -> None:
        done = self._run(command)
        if done.code != 0:
            raise self._failure(code, problem, done)

    def _run(self, command: list[str]) -> Done:
        end = time.monotonic() + self._deadline
        # Messages are matched, so they must not be in the guest's language.
        arguments = {"path": "env", "arg": ["LC_ALL=C", *command], "capture-output": True}
        pid = self._ask("guest-exec", arguments, end).get("pid")
        wait = 0.01
        while True:
            status = self._ask("guest-exec-status", {"pid": pid}, end)
            if status.get("exited"):
                return self._done(status)
            if time.monotonic() > end:
                # There is no way to kill it; a command on a dead mount never ends.
                raise ModelfleetError(
                    "agent_command_failed",
                    f"VM {self._name}: '{' '.join(command)}' did not end in {self._deadline:.0f} s in the guest",
                    vm=self._name,
                )
            time.sleep(wait)
            wait = min(wait * 2, 0.2)

    def _ask(self, command: str, arguments: dict[str, t.Any], end: float, kind: type = dict) -> t.Any:
        # The agent is not connected for a moment after boot and after some hot-plugs.
        while True:
            try:
                answer = self._ask_once(command, arguments, max(1.0, end - time.monotonic()))
            except ModelfleetError as problem:
                if problem.code != "agent_unavailable" or time.monotonic() > end:
                    raise
                time.sleep(0.2)
                continue
            if not isinstance(answer, kind):
                raise self._nonsense(f"its answer to {command} is not understood")
            if time.monotonic() > end + self._deadline:
                # It answers, but never comes to an end.
                raise self._nonsense(f"it kept answering for more than {self._deadline:.0f} s")
            return answer

    def _done(self, status: dict[str, t.Any]) -> Done:
        output = self._bytes(status.get("err-data", "")) + self._bytes(status.get("out-data", ""))
        code = status.get("exitcode")
        return Done(code if isinstance(code, int) else -1, output.decode("utf-8", "replace"))

    def _bytes(self, encoded: t.Any) -> bytes:
        try:
            return base64.b64decode(encoded.encode("ascii"), validate=True)
        except (binascii.Error, ValueError, AttributeError):
            raise self._nonsense("it sends what is not base64") from None

    def _nonsense(self, problem: str) -> ModelfleetError:
        return ModelfleetError("agent_command_failed", f"VM {self._name}: {problem}", vm=self._name)

    def _failure(self, code: str, problem: str, done: Done) -> ModelfleetError:
        said = done.output.strip()[:_OUTPUT_SHOWN]
        return ModelfleetError(
            code,
            f"VM {self._name}: {problem} in the guest: {ascii(said)[1:-1] or f'exit code {done.code}'}",
            vm=self._name,
            guest_output=said,
            guest_exit_code=done.code,
        )


def is_mounted(mount: t.Optional[_mountinfo.Mount], tag: str) -> bool:
    """Whether a mount of a guest is the one of a tag, whatever its options."""
    return mount is not None and mount.fstype == FSTYPE and mount.source == tag
