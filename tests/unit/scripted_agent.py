# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest agent that a script plays, and the little guest behind it."""

from __future__ import annotations

import base64

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _guest
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError

TABLE = "/proc/self/mountinfo"
ROOT = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
OURS = "61 21 0:55 / /srv/ai/guard ro,nosuid,nodev,relatime shared:30 - virtiofs guard-tag rw\n"
MOUNT = ["mount", "-t", "virtiofs", "-o", "ro,nosuid,nodev", "guard-tag", "/srv/ai/guard"]
FOREVER = object()


def ours(tag, path):
    """The line of the guest's mount table for a model."""
    return OURS.replace("guard-tag", tag).replace("/srv/ai/guard", path)


def as_bytes(text):
    return text if isinstance(text, bytes) else text.encode()


def encoded(text):
    return base64.b64encode(as_bytes(text)).decode()


def said(command, reason):
    """What libvirt makes of an agent's error."""
    text = f"internal error: unable to execute QEMU agent command '{command}': {reason}"
    return ModelfleetError("agent_command_failed", f"VM render-4: {text}", vm="render-4", libvirt=text)


class Agent:
    """An honest agent. `results` says how commands end, by their first word; those not in it end well.

    A result is (exit code, standard output, standard error), a list of them for one call after the other, or a function
    of the command and its standard input. `refuses` has the agent's own commands that fail, and what it says then.
    """

    def __init__(self, table=ROOT, **results):
        self.files = {TABLE: as_bytes(table)}
        self.results = results
        self.refuses = {}
        self.commands = []
        self.asked = []
        self.open = 0
        self.chunk = 1 << 20
        self._path = ""
        self._read = 0
        self._answers = {}

    def __call__(self, command, arguments, deadline):
        self.asked.append(command)
        if command in self.refuses:
            raise said(command, self.refuses[command])
        return getattr(self, command.replace("-", "_"))(arguments)

    def guest_file_open(self, arguments):
        assert arguments["mode"] == "r"
        if arguments["path"] not in self.files:
            raise said("guest-file-open", f"failed to open file '{arguments['path']}': No such file or directory")
        self.open += 1
        self._path = arguments["path"]
        self._read = 0
        return 1000

    def guest_file_read(self, arguments):
        assert arguments["handle"] == 1000
        content = self.files[self._path]
        part = content[self._read : self._read + min(arguments["count"], self.chunk)]
        self._read += len(part)
        return {"count": len(part), "buf-b64": encoded(part), "eof": self._read >= len(content)}

    def guest_file_close(self, arguments):
        assert arguments == {"handle": 1000}
        self.open -= 1
        return {}

    def guest_info(self, _arguments):
        blocked = "guest-exec" in self.refuses
        return {"version": "7.2.0", "supported_commands": [{"name": "guest-exec", "enabled": not blocked}]}

    def guest_get_osinfo(self, _arguments):
        return {"id": "debian", "name": "Debian GNU/Linux"}

    def guest_exec(self, arguments):
        assert arguments["capture-output"] is True
        # In no language but the one whose messages are understood.
        assert arguments["env"][0] == "LC_ALL=C"
        command = [arguments["path"], *arguments["arg"]]
        self.commands.append(command)
        self._answers[len(self.commands)] = self._result(command, base64.b64decode(arguments.get("input-data", "")))
        return {"pid": len(self.commands)}

    def _result(self, command, stdin):
        result = self.results.get(command[0], self.usual)
        if callable(result):
            result = result(command, stdin)
        if isinstance(result, list):
            result = result.pop(0) if len(result) > 1 else result[0]
        if command[0] == "mount" and result is not FOREVER and result[0] == 0 and "-t" in command:
            self.files[TABLE] += ours(*command[-2:]).encode()
        return result

    def usual(self, command, _stdin):
        """What a command does that no result was given for."""
        if command[0] == "stat":
            return 1, "", "stat: cannot statx"
        if command[0] == "cat":
            if command[1] in self.files:
                return 0, self.files[command[1]]
            return 1, "", f"cat: {command[1]}: No such file or directory"
        return 0, ""

    def guest_exec_status(self, arguments):
        result = self._answers[arguments["pid"]]
        if result is FOREVER:
            return {"exited": False}
        code, *outputs = result
        return {"exited": True, "exitcode": code, **dict(zip(("out-data", "err-data"), map(encoded, outputs)))}


def guest(agent, deadline=5.0, read_ahead_kb=0):
    return _guest.Guest("render-4", agent, deadline, read_ahead_kb)


def failure(call, *arguments, **options):
    with pytest.raises(ModelfleetError) as caught:
        call(*arguments, **options)
    assert "render-4" in caught.value.msg
    return caught.value
