# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a VM's guest must be asked, and the VM with the answers.

A guest is asked as little as possible: it may be slow, hostile, or none of our business.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from . import _guest, _mount_lines, _plan, _records, _sources
from ._errors import ModelfleetError, internal
from ._observed import HostView, VmView
from ._wanted import AGENT, SYSTEMD, Wanted

# Seconds by which the start of a daemon and the date of a record may differ by rounding alone.
_ROUNDING = 2.0


def for_run(host: HostView, vm: VmView, guest: _guest.Guest, wanted: t.Sequence[Wanted], terms: _plan.Terms) -> VmView:
    """The VM with what a plan needs to know of its guest."""
    records = _concerned(vm, wanted, terms)
    mounts = [mount for mount in wanted if terms.present and mount.guest == AGENT]
    connected = vm.live is not None and vm.live.agent_connected
    strays = connected and _plan.strays_go(wanted, terms) and vm.strays
    if not mounts and not strays and not any(_must_ask(vm, record, mounts, terms) for record in records):
        return vm
    return _asked(host, vm, guest, records, mounts)


def for_info(host: HostView, vm: VmView, guest: _guest.Guest, records: t.Iterable[_records.Record]) -> VmView:
    """The VM with what can be seen of some records in its guest."""
    mounted = [record for record in records if record.guest == AGENT]
    return _asked(host, vm, guest, mounted, []) if mounted else vm


def _concerned(vm: VmView, wanted: t.Sequence[Wanted], terms: _plan.Terms) -> list[_records.Record]:
    """The records that a run may change."""
    claimed = {mount.uuid(vm.uuid) for mount in wanted} if terms.present else set()
    return [
        record
        for record in vm.records.values()
        if record.uuid in claimed
        or record.intent != _records.SETTLED
        or (terms.purge and record.owner == terms.owner)
        or (not terms.present and any(mount.matches(record) for mount in wanted))
    ]


def _must_ask(vm: VmView, record: _records.Record, mounts: t.Sequence[Wanted], terms: _plan.Terms) -> bool:
    """Where a guest mounts by itself it is asked only when its agent is there."""
    there = vm.live is not None and vm.live.agent_connected
    stays = terms.present and any(mount.uuid(vm.uuid) == record.uuid for mount in mounts)
    return there or (record.guest == AGENT and not stays)


def _asked(
    host: HostView,
    vm: VmView,
    guest: _guest.Guest,
    records: t.Sequence[_records.Record],
    mounts: t.Sequence[Wanted],
) -> VmView:
    if not vm.running:
        return vm
    try:
        if vm.live is not None and not vm.live.agent_channel:
            raise ModelfleetError("agent_unavailable", f"VM {vm.name} has no agent channel", vm=vm.name)
        vm = dataclasses.replace(vm, guest=tuple(guest.mounts()))
        vm = _with_units(vm, guest, records, mounts)
        return dataclasses.replace(vm, stale=guest.stale(_suspects(host, vm, records)))
    except Exception as problem:  # what a guest sends must not reach further than this guest
        return dataclasses.replace(vm, guest=None, guest_error=internal(problem, f"VM {vm.name}"))


def _with_units(
    vm: VmView, guest: _guest.Guest, records: t.Sequence[_records.Record], mounts: t.Sequence[Wanted]
) -> VmView:
    undecided = [mount for mount in mounts if _is_undecided(vm, mount)]
    if undecided:
        vm = dataclasses.replace(vm, systemd=guest.init() == SYSTEMD)
    if vm.systemd:
        paths = [mount.mount_path for mount in undecided if _mount_lines.can_be_unit(mount.mount_path)]
        files = {path: guest.defined_by(path) for path in paths}
        vm = dataclasses.replace(vm, foreign_units={path: file for path, file in files.items() if file})
    units = {record.mount_path for record in records if record.persistence == SYSTEMD}
    units |= {mount.mount_path for mount in mounts if _plan.persistence(vm, mount) == SYSTEMD}
    return dataclasses.replace(vm, units={path: guest.read_unit(path) for path in sorted(units)})


def _is_undecided(vm: VmView, wanted: Wanted) -> bool:
    """Whether the guest has not been asked yet how it may mount a model when it boots."""
    before = vm.records.get(wanted.uuid(vm.uuid))
    known = before is not None and before.persistence == SYSTEMD
    return not known and _plan.persistence(vm, wanted) in ("", SYSTEMD)


def _suspects(host: HostView, vm: VmView, records: t.Iterable[_records.Record]) -> list[str]:
    """Mount paths whose daemon is younger than their record: the guest may have mounted the device of an older one.

    The mount table looks the same then; only a request tells, which costs a program in the guest.
    """
    found = []
    for record in records:
        daemon = host.serving.get(_sources.path(vm.uuid, record.uuid))
        mounted = any(_guest.is_mounted(mount, record.tag) for mount in vm.guest or ())
        if daemon and mounted and record.last_op_date:
            written = datetime.datetime.fromisoformat(record.last_op_date.replace("Z", "+00:00"))
            if daemon.since > written.timestamp() + _ROUNDING:
                found.append(record.mount_path)
    return sorted(found)
