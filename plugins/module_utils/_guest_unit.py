# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mount units in a guest with systemd, so that a model is mounted again when the guest boots.

A unit of ours says so in its first line. What is not ours, also a line in the guest's fstab, is left alone: of two
definitions of one mount systemd would take ours, and the guest's owner would look for the reason for long.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import typing as t

from . import _guest_agent, _mount_lines
from ._errors import ModelfleetError

_DIRECTORY = "/etc/systemd/system"
_MISSING = "No such file or directory"


def read(agent: _guest_agent.Agent, path: str) -> t.Optional[str]:
    """The text of the mount unit of a path in /etc; None when there is none.

    Raises:
        ModelfleetError: C(invalid_input) for a path that no unit can have.
    """
    return _text(agent, f"{_DIRECTORY}/{_mount_lines.unit_name(path)}")


def write(agent: _guest_agent.Agent, uuid: str, tag: str, path: str) -> bool:
    """Write the mount unit of a mount and have it started at boot.

    Returns:
        Whether anything had to be changed.

    Raises:
        ModelfleetError: C(invalid_input), C(guest_unit_foreign), C(guest_unit_failed).
    """
    name = _mount_lines.unit_name(path)
    wanted = _mount_lines.unit(tag, path, uuid)
    present = read(agent, path)
    file = foreign(agent, path)
    if file is not None:
        raise error(agent.name, file)
    enabled = agent.run(["systemctl", "is-enabled", "--", name]).stdout.strip() == b"enabled"
    if present == wanted and enabled:
        return False
    try:
        if present != wanted:
            _put(agent, uuid, f"{_DIRECTORY}/{name}", wanted)
        _systemctl(agent, "daemon-reload")
        _systemctl(agent, "enable", name)
    except ModelfleetError:
        # Back to how it was, as far as it goes: the failure that led here is the one to report.
        with contextlib.suppress(ModelfleetError):
            if present is None:
                remove(agent, uuid, path)
            elif present != wanted:
                _put(agent, uuid, f"{_DIRECTORY}/{name}", present)
                _systemctl(agent, "daemon-reload")
        raise
    return True


def remove(agent: _guest_agent.Agent, uuid: str, path: str) -> bool:
    """Remove the mount unit of a mount. The mount itself is not touched.

    Returns:
        Whether there was one.

    Raises:
        ModelfleetError: C(guest_unit_foreign) when the unit of this path is not ours, C(guest_unit_failed).
    """
    name = _mount_lines.unit_name(path)
    present = read(agent, path)
    if present is None:
        return False
    marked = _mount_lines.mount_of_unit(present)
    if marked is None:
        raise error(agent.name, f"{_DIRECTORY}/{name}")
    if marked != uuid:
        # Another mount of ours came to this path meanwhile; the unit is its own.
        return False
    _systemctl(agent, "disable", name)
    agent.require(["rm", "-f", f"{_DIRECTORY}/{name}"], "guest_unit_failed", f"{name} cannot be removed")
    _systemctl(agent, "daemon-reload")
    return True


def foreign(agent: _guest_agent.Agent, path: str) -> t.Optional[str]:
    """The file by which the guest itself defines a mount at a path; None when nothing but a unit of ours does."""
    name = _mount_lines.unit_name(path)
    present = read(agent, path)
    if present is not None:
        return replaced_by(path, present)
    if _mount_lines.stands_in_fstab(_text(agent, "/etc/fstab") or "", path):
        return "/etc/fstab"
    # A unit that a package or a generator brings stands elsewhere. One that systemd made up for a mount that it saw
    # stands nowhere.
    shown = agent.run(["systemctl", "show", "--property=FragmentPath", "--", name]).stdout
    fragment = shown.decode("utf-8", "replace").strip().partition("=")[2]
    return fragment if fragment and fragment != f"{_DIRECTORY}/{name}" else None


def replaced_by(path: str, unit: str) -> t.Optional[str]:
    """The file with the unit of a path when it is not ours."""
    return None if _mount_lines.mount_of_unit(unit) else f"{_DIRECTORY}/{_mount_lines.unit_name(path)}"


def error(name: str, file: str) -> ModelfleetError:
    """The error for a mount of a VM that a file of the guest defines."""
    shown = ascii(file[:500])[1:-1]
    return ModelfleetError(
        "guest_unit_foreign", f"VM {name}: {shown} in the guest defines this mount already", vm=name, guest_file=shown
    )


def _put(agent: _guest_agent.Agent, uuid: str, file: str, text: str) -> None:
    # By a command and not by the agent's own file calls: a unit needs systemctl, so that commands must be allowed
    # anyway, and one way is less than two.
    temporary = f"{_DIRECTORY}/.modelfleet-{uuid}"
    try:
        for command, content in (
            (["tee", temporary], text.encode()),
            (["chmod", "0644", temporary], None),
            (["mv", "-f", temporary, file], None),
        ):
            agent.require(command, "guest_unit_failed", f"{file} cannot be written", content)
    except ModelfleetError:
        with contextlib.suppress(ModelfleetError):
            agent.run(["rm", "-f", temporary])
        raise


def _systemctl(agent: _guest_agent.Agent, verb: str, name: t.Optional[str] = None) -> None:
    command = ["systemctl", "--quiet", "--no-ask-password", verb, *(["--", name] if name else [])]
    agent.require(command, "guest_unit_failed", f"systemctl {verb} failed")


def _text(agent: _guest_agent.Agent, file: str) -> t.Optional[str]:
    # By a command, because the agent's own answer about a missing file is in the guest's language.
    done = agent.run(["cat", file])
    if done.code == 0:
        return done.stdout.decode("utf-8", "replace")
    if _MISSING in done.output:
        return None
    raise agent.failure("guest_unit_failed", f"{file} cannot be read", done)
