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

from . import (
    _conversion,
    _guest,
    _guest_users,
    _identity,
    _input,
    _mount_lines,
    _mountinfo,
    _plan,
    _records,
    _transports,
    _views,
)
from ._errors import ModelfleetError, internal
from ._layers import device_source
from ._observed import HostView, VmView
from ._wanted import AGENT, SYSTEMD, Wanted

# Seconds by which the start of a daemon and the date of a record may differ by rounding alone.
_ROUNDING = 2.0


def for_run(vm: VmView, guest: _guest.Guest, wanted: t.Sequence[Wanted], terms: _plan.Terms) -> VmView:
    """The VM with what a plan needs to know of its guest, but for what only the host can make suspect."""
    records, strays_go = concerned(vm, wanted, terms), _plan.strays_go(wanted, terms)
    wanted = wanted if terms.present else ()
    mounts = [mount for mount in wanted if mount.guest == AGENT]
    connected = vm.live is not None and vm.live.agent_connected
    strays = connected and strays_go and vm.strays
    if not mounts and not strays and not any(_must_ask(vm, record, mounts, terms) for record in records):
        return vm
    return _asked(vm, guest, lambda seen: _with_choice(seen, guest, records, wanted))


def with_stale(host: HostView, vm: VmView, guest: _guest.Guest, records: t.Iterable[_records.Record]) -> VmView:
    """The VM with those mounts of some records behind which nobody is any more."""
    suspects = _suspects(host, vm, records)
    if not suspects:
        return vm
    return _asked(vm, guest, lambda seen: dataclasses.replace(seen, stale=guest.stale(suspects)))


def for_info(vm: VmView, guest: _guest.Guest) -> VmView:
    """The VM with what can be seen of its records in its guest, but for what only the host can make suspect."""
    mounted = by_agent(vm)
    return _asked(vm, guest, lambda seen: _with_places(seen, guest, mounted, [])) if mounted else vm


def by_agent(vm: VmView) -> list[_records.Record]:
    """The records of what we mount in a guest."""
    return [record for record in vm.records.values() if record.guest == AGENT]


def users(host: HostView, vm: VmView, guest: _guest.Guest) -> dict[str, list[_guest_users.Process]]:
    """Which processes of its guest use the models of a VM, by the UUIDs of their records, as far as they can be found.

    What we do not mount is left out, and so is all of a guest that did not answer.
    """
    found = {}
    for record in by_agent(vm) if vm.guest is not None and vm.guest_error is None else ():
        bind = host.source(record)
        # In a view, the path of a model is a link to where its bind is seen.
        path = _views.in_guest(bind) if record.in_view else record.mount_path
        if bind:
            found[record.uuid] = guest.users(path)
    return found


def suspicious(vm: VmView, wanted: t.Sequence[Wanted], terms: _plan.Terms) -> list[_records.Record]:
    """The records whose mounts a run relies on: those that it may change, and all of a view that a model joins."""
    joins = terms.present and any(mount.in_view for mount in wanted)
    others = [record for record in vm.records.values() if joins and record.in_view]
    return [*concerned(vm, wanted, terms), *others]


def concerned(vm: VmView, wanted: t.Sequence[Wanted], terms: _plan.Terms) -> list[_records.Record]:
    """The records that a run may change."""
    origins = _plan.origins(vm, wanted, terms)
    return [record for record in vm.records.values() if record.uuid in origins]


def _must_ask(vm: VmView, record: _records.Record, mounts: t.Sequence[Wanted], terms: _plan.Terms) -> bool:
    """Where a guest mounts by itself it is asked only when its agent is there."""
    there = vm.live is not None and vm.live.agent_connected
    stays = terms.present and any(mount.uuid(vm.uuid) == record.uuid for mount in mounts)
    return there or (record.guest == AGENT and not stays)


def _asked(vm: VmView, guest: _guest.Guest, more: t.Callable[[VmView], VmView]) -> VmView:
    """The VM with its guest's mount table, and what `more` adds to that."""
    if not vm.running:
        return vm
    try:
        if vm.live is not None and not vm.live.agent_channel:
            raise ModelfleetError("agent_unavailable", f"VM {vm.name} has no agent channel", vm=vm.name)
        return more(vm if vm.guest is not None else dataclasses.replace(vm, guest=tuple(guest.mounts())))
    except Exception as problem:  # what a guest sends must not reach further than this guest
        return dataclasses.replace(vm, guest=None, guest_error=internal(problem, f"VM {vm.name}"))


def _with_choice(
    vm: VmView, guest: _guest.Guest, records: t.Sequence[_records.Record], wanted: t.Sequence[Wanted]
) -> VmView:
    """The VM with what was seen for the transports that wanted mounts come to, which may depend on that."""
    likely = _transports.chosen(wanted, vm)
    vm = _with_places(vm, guest, records, [mount for mount in likely if mount.guest == AGENT])
    certain = _transports.chosen(wanted, vm)
    if certain == likely:
        return vm
    # The guest cannot have the view that was looked for.
    return _with_places(vm, guest, records, [mount for mount in certain if mount.guest == AGENT])


def _with_places(
    vm: VmView, guest: _guest.Guest, records: t.Sequence[_records.Record], mounts: t.Sequence[Wanted]
) -> VmView:
    # Nothing is looked at through what is mounted already: it may be dead.
    mounted = {mount.mount_point for mount in vm.guest or ()}
    view = _mountinfo.visible(list(vm.guest or ()), _identity.VIEW_PATH)
    hidden = _identity.VIEW_PATH if _guest.is_mounted(view, _identity.VIEW_TAG) else ""
    vm = _with_links(vm, guest, [*filter(_may_be_linked, records), *(mount for mount in mounts if mount.linked)])
    ends = {mount.mount_path for mount in mounts if mount.linked and vm.links.get(mount.mount_path) is False}
    paths = {mount.device_path for mount in mounts if mount.device_path not in mounted} | ends
    free = sorted(path for path in paths if not hidden or not _input.overlaps(path, hidden))
    undecided = [mount for mount in mounts if _is_undecided(vm, mount)]
    views = sorted({mount.device_path for mount in mounts if mount.in_view and mount.device_path in free})
    if free or undecided:
        places = guest.places(free, views, sorted(ends))
        vm = dataclasses.replace(
            vm,
            systemd=places.systemd,
            in_the_way={**vm.in_the_way, **places.in_the_way},
            links={**vm.links, **dict.fromkeys(places.links, True)},
            filled=vm.filled | places.filled,
        )
    if views:
        vm = dataclasses.replace(vm, kernel=guest.kernel())
    return _with_units(vm, guest, records, mounts, undecided)


def _with_links(vm: VmView, guest: _guest.Guest, mounts: t.Sequence[t.Union[Wanted, _records.Record]]) -> VmView:
    """The VM with what was seen of the links at mount paths at which nothing is mounted."""
    mounted = {mount.mount_point for mount in vm.guest or ()}
    paths = sorted({mount.mount_path for mount in mounts} - mounted - set(vm.links))
    return dataclasses.replace(vm, links={**vm.links, **guest.links(paths)}) if paths else vm


def _may_be_linked(record: _records.Record) -> bool:
    """Whether a link may lead to a model, or has done so before a change of transport that was cut short."""
    elsewhere = _input.can_be_in_view(record.mount_path) and not _input.is_below_view(record.mount_path)
    return record.guest == AGENT and (record.linked or (elsewhere and record.intent != _records.SETTLED))


def _with_units(
    vm: VmView,
    guest: _guest.Guest,
    records: t.Sequence[_records.Record],
    mounts: t.Sequence[Wanted],
    undecided: t.Sequence[Wanted],
) -> VmView:
    if vm.systemd:
        paths = {mount.device_path for mount in undecided if _mount_lines.can_be_unit(mount.device_path)}
        files = {path: guest.defined_by(path) for path in sorted(paths)}
        found = {path: file for path, file in files.items() if file}
        vm = dataclasses.replace(vm, foreign_units={**vm.foreign_units, **found})
    units = {record.device_path for record in records if record.persistence == SYSTEMD}
    units |= {mount.device_path for mount in mounts if _plan.persistence(vm, mount) == SYSTEMD}
    units |= {path for path in _conversion.paths(vm, records) if _mount_lines.can_be_unit(path)}
    return dataclasses.replace(vm, units={path: guest.read_unit(path) for path in sorted(units)})


def _is_undecided(vm: VmView, wanted: Wanted) -> bool:
    """Whether the guest has not been asked yet how it may mount a model when it boots."""
    return _plan.decided(vm, wanted) != SYSTEMD and _plan.persistence(vm, wanted) in ("", SYSTEMD)


def _suspects(host: HostView, vm: VmView, records: t.Iterable[_records.Record]) -> list[str]:
    """Mount paths whose daemon is younger than their record: the guest may have mounted the device of an older one.

    The mount table looks the same then; only a request tells, which costs a program in the guest.
    """
    # Of mounts that share a device, the last that was made may have brought its daemon.
    by_date = sorted(vm.records.values(), key=lambda record: record.last_op_date)
    newest = {record.alias: record for record in by_date}
    found = []
    for record in (newest[alias] for alias in {record.alias for record in records}):
        daemon = host.serving.get(device_source(record))
        mounted = any(_guest.is_mounted(mount, record.tag) for mount in vm.guest or ())
        if daemon and mounted and record.last_op_date:
            written = datetime.datetime.fromisoformat(record.last_op_date.replace("Z", "+00:00"))
            if daemon.since > written.timestamp() + _ROUNDING:
                found.append(record.device_path)
    return sorted(found)
