# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The systemd units of a model center, as text. Pure.

This module util is private to the collection.
"""

from __future__ import annotations

from . import _centers, _mount_lines, _storage
from ._storage._backend import Definition

# The program that waits for mounts and looks after them, and the units that run it.
KEEPER = "/usr/local/lib/modelfleet/center-keeper"
PYTHON = "/usr/bin/python3"
# Seconds after which systemd gives up a mount, and between two looks of the keeper.
_MOUNT_SECONDS = 90
_INTERVAL = 60

# What starts VMs must come after the centers, so that a VM that starts with the host finds its models. Without the
# default dependencies, because a bind that systemd takes for local, of a directory on a network file system, would have
# to come before local-fs.target and after the network: a cycle, which systemd breaks by dropping some mount.
_BEFORE = "libvirtd.service virtqemud.service libvirt-guests.service"


def name(center: _centers.Center) -> str:
    """The name of the unit that mounts a center."""
    definition = _storage.definition(center)
    if definition.command or definition.adopted:
        return f"modelfleet-center-{center.name}.service"
    return _mount_lines.unit_name(center.mount_point)


def timer(center: _centers.Center) -> str:
    """The name of the timer that looks after a center."""
    return f"modelfleet-keeper@{center.name}.timer"


def needs_keeper(center: _centers.Center) -> bool:
    """Whether a center needs the program: to be looked after, or for a client that does not say when it has mounted."""
    definition = _storage.definition(center)
    return center.keep_alive or bool(definition.command and not definition.notifies)


def render(center: _centers.Center) -> str:
    """The text of the unit of a center."""
    definition = _storage.definition(center)
    network = "After=network-online.target\nWants=network-online.target\n" if definition.network else ""
    return f"""\
# Written by modelfleet.kvm for model center "{center.name}". Changes made here are overwritten.

[Unit]
Description=Model center {center.name}
DefaultDependencies=no
After=local-fs.target
{network}Conflicts=umount.target
Before=umount.target {_BEFORE}
{_body(center, definition)}
[Install]
WantedBy=multi-user.target

{_centers.record(center)}"""


def _body(center: _centers.Center, definition: Definition) -> str:
    if definition.adopted:
        return _adopted(center)
    return _service(center, definition) if definition.command else _mount(center, definition)


def _mount(center: _centers.Center, definition: Definition) -> str:
    return f"""
[Mount]
What={_escaped(definition.what)}
Where={_escaped(center.mount_point)}
Type={definition.fstype}
Options={_escaped(",".join(definition.options))}
DirectoryMode=0755
TimeoutSec={_MOUNT_SECONDS}
"""


def _service(center: _centers.Center, definition: Definition) -> str:
    where = argument(center.mount_point)
    environment = f"EnvironmentFile={_escaped(_storage.environment_file(center))}\n" if definition.environment else ""
    waits = "" if definition.notifies else f"ExecStartPost={PYTHON} -I {KEEPER} wait {center.name}\n"
    # What a client that was killed leaves is unmounted before and after; only what no process stands behind any more
    # is. KillMode: the client gets the signal and unmounts by itself. SIGTERM is a failure to some clients.
    return f"""\
StartLimitIntervalSec=0

[Service]
Type={"notify" if definition.notifies else "simple"}
NotifyAccess=all
{environment}ExecStartPre=-/bin/umount --lazy {where}
ExecStart={" ".join(argument(word, first=not index) for index, word in enumerate(definition.command))}
{waits}ExecStopPost=-/bin/umount --lazy {where}
Restart=always
RestartSec=2
TimeoutStartSec={_MOUNT_SECONDS}
TimeoutStopSec=20
OOMScoreAdjust=-500
LimitNOFILE=1048576
SuccessExitStatus=SIGTERM
"""


def _adopted(center: _centers.Center) -> str:
    return f"""\
RequiresMountsFor={argument(center.mount_point, first=True)}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
"""


def keeper_units() -> dict[str, str]:
    """The units that look after centers, by their names: one template for all of them each."""
    head = "# Written by modelfleet.kvm. Changes made here are overwritten.\n\n"
    service = f"""\
{head}[Unit]
Description=Look after model center %i

[Service]
Type=oneshot
ExecStart={PYTHON} -I {KEEPER} check %i
TimeoutStartSec=300
"""
    timer = f"""\
{head}[Unit]
Description=Look after model center %i

[Timer]
OnActiveSec={_INTERVAL}
OnUnitInactiveSec={_INTERVAL}
AccuracySec=5

[Install]
WantedBy=timers.target
"""
    return {"modelfleet-keeper@.service": service, "modelfleet-keeper@.timer": timer}


def argument(word: str, first: bool = False) -> str:
    """A word of a command line (systemd.service(5)), in which nothing is expanded."""
    escaped = _escaped(word).replace("\\", "\\\\").replace('"', '\\"')
    # A dollar sign in the name of the program, or in what is no command, is none.
    return f'"{escaped if first else escaped.replace("$", "$$")}"'


def _escaped(value: str) -> str:
    # systemd.unit(5): a percent sign starts a specifier.
    return value.replace("%", "%%")


def how(text: str) -> str:
    """What in the text of a unit decides how something is mounted."""
    lines, inside = [], False
    for line in text.splitlines():
        if line.startswith("["):
            inside = line in ("[Mount]", "[Service]")
        elif inside and line and not line.startswith("#"):
            lines.append(line)
    return "\n".join(lines)
