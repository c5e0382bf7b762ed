# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet as tables. Pure, and for the controller only.

This plugin util is private to the collection.
"""

from __future__ import annotations

import typing as t

from . import _fleet_due

SCHEMA_VERSION = 1

ANSWERED = "answered"
FAILED = "failed"
UNREACHABLE = "unreachable"
# There is no result: the host was left out, or the run ended before.
NOT_ASKED = "not asked"

HEALTHY = "healthy"


class Problem(t.NamedTuple):
    """Why something could not be looked at, or failed. A failure that is not ours has no code."""

    error_code: str
    title: str
    message: str
    remedy: str


class Host(t.NamedTuple):
    """A KVM host and whether it answered."""

    host: str
    state: str
    problem: t.Optional[Problem]


class Center(t.NamedTuple):
    """A model center as one host mounts it. What is not known of its capacity is None."""

    host: str
    model_center: str
    state: str
    why: str
    total_bytes: t.Optional[int]
    available_bytes: t.Optional[int]
    drift: tuple[str, ...]
    stale_users: tuple[str, ...]
    problem: t.Optional[Problem]


class Vm(t.NamedTuple):
    """A VM that has models, devices of ours that no record is for, or could not be read.

    `vm_state` and `vm_uuid` are empty where nothing but its name is known.
    """

    host: str
    vm: str
    vm_uuid: str
    vm_state: str
    problem: t.Optional[Problem]


class Mount(t.NamedTuple):
    """One model in one VM, what its four layers show, and what is due."""

    host: str
    vm: str
    model: str
    model_version: str
    model_uuid: str
    model_center: str
    model_path: str
    mount_path: str
    status: str
    drift: bool
    source: str
    persistent: str
    live: str
    guest: str
    transport: str
    tag: str
    owner: str
    account_uuid: str
    uuid: str
    source_path: str
    create_date: str
    last_op_date: str
    due: tuple[_fleet_due.Due, ...]
    problem: t.Optional[Problem]


class Stray(t.NamedTuple):
    """A device of ours in a VM that has no record of it."""

    host: str
    vm: str
    tag: str
    alias: str
    source_path: str


class Fleet(t.NamedTuple):
    """All of it, each table in the order in which people look for things."""

    title: str
    made: str
    hosts: tuple[Host, ...]
    centers: tuple[Center, ...]
    vms: tuple[Vm, ...]
    mounts: tuple[Mount, ...]
    strays: tuple[Stray, ...]

    def tables(self) -> dict[str, tuple[t.Any, ...]]:
        """The tables by the names that programs and the page know them by."""
        return {
            "hosts": self.hosts,
            "model_centers": self.centers,
            "vms": self.vms,
            "mounts": self.mounts,
            "strays": self.strays,
        }

    def summary(self) -> dict[str, int]:
        """The fleet at a glance."""
        silent = [host for host in self.hosts if host.state != ANSWERED]
        failed = [host for host in self.hosts if host.problem]
        unread = [vm for vm in self.vms if vm.problem]
        sick = [center for center in self.centers if center.state != HEALTHY or center.problem]
        return {
            "hosts": len(self.hosts),
            "hosts_answered": len(self.hosts) - len(silent),
            "vms": len(self.vms),
            "models": len({mount.model_uuid for mount in self.mounts}),
            "mounts": len(self.mounts),
            "drift": sum(mount.drift for mount in self.mounts) + len(self.strays),
            "due": sum(bool(mount.due) for mount in self.mounts),
            "errors": len(failed) + len(unread) + len(sick) + sum(mount.problem is not None for mount in self.mounts),
        }
