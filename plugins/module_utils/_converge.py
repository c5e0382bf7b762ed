# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way through the code for C(vm_model_mount): wanted, observed, planned, applied.

This module util is private to the collection.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import typing as t

from . import _apply, _domain, _guest, _locks, _observed, _plan, _records, _sources, _wanted
from ._centers import Center
from ._errors import ModelfleetError, internal

# libvirtd serves five requests of one connection at a time (max_client_requests).
VMS_AT_ONCE = 4


@dataclasses.dataclass(frozen=True)
class Request:
    """What a task asks for.

    Attributes:
        planned: model centers that an earlier task of the same play would make, by name.
        deadline: seconds that any single wait may take.
    """

    wanted: list[_wanted.Wanted]
    present: bool
    check_mode: bool
    planned: dict[str, Center]
    deadline: float


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one mount; `plan.error` says why nothing was done, `error` why it failed."""

    plan: _plan.MountPlan
    record: t.Optional[_records.Record]
    changed: bool
    error: t.Optional[ModelfleetError]


def converge(host: _domain.Host, request: Request) -> list[Outcome]:
    """Make the mounts of a host what they shall be, or only plan it. One VM's failure leaves the others alone.

    Raises:
        ModelfleetError: what concerns all: C(duplicate_mount), C(lock_timeout), C(libvirt_error).
    """
    vms, entries, lost = _find(host, request.wanted)
    for mounts in entries.values() if request.present else ():
        # A VM may have been named once by its name and once by its UUID.
        _wanted.refuse_collisions([dataclasses.replace(mount, vm=mounts[0][1].vm) for _index, mount in mounts])
    with contextlib.ExitStack() as stack:
        if not request.check_mode:
            centers = {mount.model_center for mount in request.wanted if request.present}
            held = _locks.held(map(_locks.vm, vms), request.deadline, shared=map(_locks.center, centers))
            stack.enter_context(held)
        views, broken = observe(vms)
        view = _observed.observe_host(*_interest(request, views, entries), request.planned, request.deadline)
        options = _apply.Options(request.deadline, host.version)
        outcomes: dict[int, list[Outcome]] = {**lost}
        with concurrent.futures.ThreadPoolExecutor(VMS_AT_ONCE) as pool:
            jobs = [
                pool.submit(_isolated, view, vms[uuid], views.get(uuid), broken.get(uuid), mounts, request, options)
                for uuid, mounts in entries.items()
            ]
            for job in jobs:
                outcomes.update(job.result())
    return [outcome for index in sorted(outcomes) for outcome in outcomes[index]]


_Entries = dict[str, list[tuple[int, _wanted.Wanted]]]


def _find(
    host: _domain.Host, wanted: list[_wanted.Wanted]
) -> tuple[dict[str, _domain.Vm], _Entries, dict[int, list[Outcome]]]:
    """The VMs by UUID, the entries of each, and the outcomes of entries whose VM there is not."""
    found: dict[str, t.Union[_domain.Vm, ModelfleetError]] = {}
    vms: dict[str, _domain.Vm] = {}
    entries: _Entries = {}
    lost: dict[int, list[Outcome]] = {}
    for index, mount in enumerate(wanted):
        if mount.vm not in found:
            try:
                found[mount.vm] = host.vm(mount.vm)
            except ModelfleetError as problem:
                found[mount.vm] = problem
        vm = found[mount.vm]
        if isinstance(vm, ModelfleetError):
            lost[index] = [_not_planned(mount, "", mount.vm, vm)]
            continue
        vms[vm.uuid] = vm
        entries.setdefault(vm.uuid, []).append((index, mount))
    return vms, entries, lost


def observe(vms: dict[str, _domain.Vm]) -> tuple[dict[str, _observed.VmView], dict[str, ModelfleetError]]:
    views, broken = {}, {}
    for uuid, vm in vms.items():
        try:
            views[uuid] = _observed.observe_vm(vm)
        except ModelfleetError as problem:
            broken[uuid] = problem
    return views, broken


def _interest(
    request: Request, views: dict[str, _observed.VmView], entries: _Entries
) -> tuple[set[_observed.ModelKey], dict[str, _observed.ModelKey]]:
    """The models and sources that must be looked at; what goes away needs no look at its storage."""
    models: set[_observed.ModelKey] = set()
    sources: dict[str, _observed.ModelKey] = {}
    for uuid, mounts in entries.items():
        for _index, mount in mounts if request.present and uuid in views else []:
            key = _observed.ModelKey(mount.model_center, mount.model_path)
            models.add(key)
            sources[_sources.path(uuid, mount.uuid(uuid))] = key
    return models, sources


def _isolated(
    host: _observed.HostView,
    vm: _domain.Vm,
    view: t.Optional[_observed.VmView],
    broken: t.Optional[ModelfleetError],
    entries: list[tuple[int, _wanted.Wanted]],
    request: Request,
    options: _apply.Options,
) -> dict[int, list[Outcome]]:
    """What becomes of the mounts of one VM, whatever happens."""
    try:
        if view is not None:
            return _one_vm(host, vm, view, entries, request, options)
    except Exception as unexpected:
        broken = internal(unexpected, f"VM {vm.name}")
    return {index: [_not_planned(mount, vm.uuid, vm.name, broken)] for index, mount in entries}


def _not_planned(mount: _wanted.Wanted, uuid: str, name: str, error: t.Optional[ModelfleetError]) -> Outcome:
    return Outcome(_plan.MountPlan(mount, uuid, name, error=error), None, False, error)


def _one_vm(
    host: _observed.HostView,
    vm: _domain.Vm,
    view: _observed.VmView,
    entries: list[tuple[int, _wanted.Wanted]],
    request: Request,
    options: _apply.Options,
) -> dict[int, list[Outcome]]:
    """Plan and apply all mounts of one VM, as one transaction."""
    guest = _guest.Guest(vm.name, vm.agent, request.deadline)
    if view.running and _needs_guest(view, request, [mount for _index, mount in entries]):
        view = with_guest(view, guest)
    plans: dict[int, list[_plan.MountPlan]] = {}
    going: set[str] = set()
    for index, mount in entries:
        if request.present:
            plans[index] = [_plan.plan_present(host, view, mount, request.check_mode)]
        else:
            plans[index] = _plan.plan_absent(host, view, mount, going)
    everything = [plan for several in plans.values() for plan in several]
    failure = next((plan.error for plan in everything if plan.error), None) or _plan.refuse_too_few_ports(
        view, everything
    )
    records = view.records
    if failure is None and not request.check_mode:
        try:
            steps = [step for plan in everything for step in plan.steps]
            records = _apply.apply(host, vm, view, guest, steps, options) if steps else records
        except ModelfleetError as problem:
            failure = problem
    return {index: [_outcome(plan, records, failure, request) for plan in several] for index, several in plans.items()}


def with_guest(view: _observed.VmView, guest: _guest.Guest) -> _observed.VmView:
    """A VM's view with the guest's mount table, or with the reason why it could not be had."""
    try:
        if view.live is not None and not view.live.agent_channel:
            raise ModelfleetError("agent_unavailable", f"VM {view.name} has no agent channel", vm=view.name)
        return dataclasses.replace(view, guest=tuple(guest.mounts()))
    except Exception as problem:  # what a guest sends must not reach further than this guest
        return dataclasses.replace(view, guest_error=internal(problem, f"VM {view.name}"))


def _needs_guest(view: _observed.VmView, request: Request, mounts: list[_wanted.Wanted]) -> bool:
    """Whether the guest must be asked; where it mounts by itself it is asked only when its agent is there."""
    if request.present and any(mount.guest == _wanted.AGENT for mount in mounts):
        return True
    there = view.live is not None and view.live.agent_connected
    for record in view.records.values():
        meant = any(
            mount.uuid(view.uuid) == record.uuid if request.present else mount.matches(record) for mount in mounts
        )
        if meant and (there or (record.guest == _wanted.AGENT and not request.present)):
            return True
    return False


def _outcome(
    plan: _plan.MountPlan,
    records: dict[str, _records.Record],
    failure: t.Optional[ModelfleetError],
    request: Request,
) -> Outcome:
    if failure is None:
        mount = plan.after or plan.before
        record = plan.after if request.check_mode else records.get(mount.uuid) if mount else None
        return Outcome(plan, record, bool(plan.steps), None)
    left_over = "undo_failed" in failure.details or failure.code == "detach_timeout"
    return Outcome(plan, plan.before, left_over and bool(plan.steps), plan.error or failure)
