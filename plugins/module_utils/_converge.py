# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way through the code for C(vm_model_mount): wanted, observed, planned, applied.

This module util is private to the collection.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import typing as t

from . import (
    _agents,
    _apply,
    _binder,
    _checker,
    _domain,
    _guest,
    _guest_view,
    _locks,
    _observed,
    _opener,
    _plan,
    _published,
    _records,
    _refusals,
    _scope,
    _steps,
    _transports,
    _wanted,
)
from ._centers import Center
from ._errors import ModelfleetError, internal

# Most of them wait: for libvirtd, which serves five requests of a connection at a time, or for a guest.
VMS_AT_ONCE = 32


Looked = concurrent.futures.Future[_observed.HostView]


@dataclasses.dataclass(frozen=True)
class Request:
    """What a task asks for.

    Attributes:
        vms: names of VMs that are meant beside those that the wanted mounts name.
        planned: model centers that an earlier task of the same play would make, by name.
        deadline: seconds that any single wait may take.
        read_ahead_kb: see C(_guest.Guest).
        verify: how much of a model is looked at before it is mounted, see C(_checker).
    """

    wanted: list[_wanted.Wanted]
    terms: _plan.Terms
    purge: str
    vms: list[str]
    planned: dict[str, Center]
    deadline: float
    read_ahead_kb: int = 0
    verify: str = _checker.NONE


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one mount.

    Attributes:
        plan: its `error` says why nothing was done.
        error: why it failed.
        replugged: whether the device of the view was plugged again to revoke what the mount had; None where that was
            not asked for, or not tried.
        warnings: what is not as it should be in its VM, and no reason to fail.
    """

    plan: _steps.MountPlan
    record: t.Optional[_records.Record]
    changed: bool
    error: t.Optional[ModelfleetError]
    vm_state: str = ""
    replugged: t.Optional[bool] = None
    warnings: tuple[str, ...] = ()


def converge(host: _domain.Host, request: Request) -> list[Outcome]:
    """Make the mounts of a host what they shall be, or only plan it. One VM's failure leaves the others alone.

    Raises:
        ModelfleetError: what concerns all: C(duplicate_mount), C(libvirt_error).
    """
    scope = _scope.find(host, request.wanted, request.vms, request.purge == _wanted.PURGE_HOST)
    if request.terms.present:
        scope.refuse_collisions()
    views, broken = observe(scope.vms)
    with _opener.Openers() as openers:
        run = _Run(host, request, openers, scope)
        # The host is looked at while the first guests are asked; one more, so that nobody waits for it in its place.
        with concurrent.futures.ThreadPoolExecutor(VMS_AT_ONCE + 1) as pool:
            looked = pool.submit(run.look, views)
            jobs = [pool.submit(run.isolated, looked, uuid, views.get(uuid), broken.get(uuid)) for uuid in scope.vms]
            results = [job.result() for job in jobs]
    outcomes = {index: [_not_planned(mount, "", mount.vm, problem)] for index, (mount, problem) in scope.lost.items()}
    for result in results:
        for index, several in result.items():
            outcomes.setdefault(index, []).extend(several)
    unasked = outcomes.pop(-1, [])
    for index, mount in enumerate(request.wanted):
        if not outcomes.get(index):
            # It means every VM of the host, and there is none.
            outcomes[index] = [Outcome(_steps.MountPlan(mount, "", mount.vm), None, False, None)]
    return [*(outcome for index in sorted(outcomes) for outcome in _meant(outcomes[index])), *unasked]


def _meant(outcomes: list[Outcome]) -> list[Outcome]:
    """Of an entry that means all VMs of a host only those that have something of it, or one to say that none has."""
    told = [outcome for outcome in outcomes if outcome.plan.before or outcome.plan.after or outcome.error]
    return told or outcomes[:1]


def observe(vms: t.Mapping[str, _domain.Vm]) -> tuple[dict[str, _observed.VmView], dict[str, ModelfleetError]]:
    """The views of VMs by UUID, and why those that are not there could not be had."""
    views, broken = {}, {}
    for uuid, vm in vms.items():
        try:
            views[uuid] = _observed.observe_vm(vm)
        except ModelfleetError as problem:
            broken[uuid] = problem
    return views, broken


class _Run:
    """One run on one host, whose parts VMs share."""

    def __init__(self, host: _domain.Host, request: Request, openers: _opener.Openers, scope: _scope.Scope) -> None:
        self._request = request
        self._scope = scope
        self._openers = openers
        self._checks = _checker.Checks(request.verify, request.deadline, openers)
        self._agents = _agents.Agents(host)
        self._options = _binder.Options(request.deadline, host.version, request.terms.force, openers)

    def look(self, views: dict[str, _observed.VmView]) -> _observed.HostView:
        """Look at the host's own layers as far as VMs need them; what goes away needs no look at its storage."""
        models: set[_observed.ModelKey] = set()
        places = _observed.Places({}, {})
        for uuid, view in views.items():
            wanted = [mount for _index, mount in self._scope.entries[uuid] if self._request.terms.present]
            begun = [record for record in view.records.values() if record.intent == _records.MOUNTING]
            for mount in (*wanted, *map(_wanted.from_record, begun)):
                key = _observed.ModelKey(mount.model_center, mount.model_path)
                models.add(key)
                places.add(uuid, mount.uuid(uuid), mount.mount_path, key)
            places.add_views(view)
        request = self._request
        return _observed.observe_host(models, *places, request.planned, request.deadline, self._openers)

    def isolated(
        self,
        looked: Looked,
        uuid: str,
        view: t.Optional[_observed.VmView],
        broken: t.Optional[ModelfleetError],
    ) -> dict[int, list[Outcome]]:
        """What becomes of the mounts of one VM, whatever happens."""
        vm = self._scope.vms[uuid]
        try:
            if view is not None:
                return self._one_vm(looked, vm, view)
        except Exception as unexpected:
            broken = internal(unexpected, f"VM {vm.name}")
        return {
            index: [_not_planned(mount, vm.uuid, vm.name, broken)] for index, mount in self._scope.entries[uuid]
        } or {-1: [_not_planned(_wanted.nothing(vm.name), vm.uuid, vm.name, broken)]}

    def _one_vm(self, looked: Looked, vm: _domain.Vm, view: _observed.VmView) -> dict[int, list[Outcome]]:
        """Plan and apply all mounts of one VM, as one transaction."""
        ask = functools.partial(self._agents.ask, vm)
        guest = _guest.Guest(vm.name, ask, self._request.deadline, self._request.read_ahead_kb)
        seen, plans, failure = self._planned(looked.result, view, guest)
        # A failure may be the half of another run's work, so it counts only once that run cannot be at work.
        if self._request.terms.check_mode or (failure is None and not _due(plans)):
            return self._outcomes(plans, _apply.Done(seen.records, failure), seen)
        centers = {plan.after.model_center_name for plan in _each(plans) if plan.after}
        with _locks.held([_locks.vm(vm.uuid)], self._request.deadline, shared=map(_locks.center, centers)):
            now, host = _observed.observe_vm(vm, view), looked.result()
            if not now.says_the_same(view):
                # Another run was here meanwhile, or the VM was started or stopped.
                host = self.look({vm.uuid: now})
                seen, plans, failure = self._planned(lambda: host, now, guest)
            done = _apply.Done(seen.records, failure)
            if failure is None:
                done = _apply.apply(host, vm, seen, guest, _steps.batches(_each(plans)), self._options)
            return self._outcomes(plans, done, seen, tuple(guest.warnings))

    def _planned(
        self, look: t.Callable[[], _observed.HostView], view: _observed.VmView, guest: _guest.Guest
    ) -> tuple[_observed.VmView, dict[int, list[_steps.MountPlan]], t.Optional[ModelfleetError]]:
        """The VM with its guest, its plans, and the failure that keeps all of them from being carried out."""
        terms = self._request.terms
        indices, mounts = zip(*self._scope.entries[view.uuid]) if self._scope.entries[view.uuid] else ((), ())
        view = _guest_view.for_run(view, guest, mounts, terms)
        wanted = _transports.chosen(mounts, view) if terms.present else mounts
        entries = list(zip(indices, wanted))
        host = look()
        view = _guest_view.with_stale(host, view, guest, _guest_view.suspicious(view, wanted, terms))
        planned = _plan.plan_vm(host, view, entries, terms)
        plans = {
            index: [_published.checked(plan, host, self._checks) for plan in several]
            for index, several in planned.items()
        }
        asked_for = [plan for plan in _each(plans) if plan.origin in (_steps.LISTED, _steps.PURGED)]
        failure = next((plan.error for plan in asked_for if plan.error), None)
        failure = failure or _refusals.too_few_ports(view, _each(plans))
        in_guest = any(action in _steps.IN_GUEST for plan in _each(plans) for action in plan.actions)
        # A guest whose places were looked at has run a command.
        if failure is None and in_guest and view.systemd is None:
            try:
                guest.require_commands()
            except ModelfleetError as problem:
                failure = problem
        return view, plans, failure

    def _outcomes(
        self,
        plans: dict[int, list[_steps.MountPlan]],
        done: _apply.Done,
        view: _observed.VmView,
        warnings: tuple[str, ...] = (),
    ) -> dict[int, list[Outcome]]:
        return {
            index: [dataclasses.replace(self._outcome(plan, done, view), warnings=warnings) for plan in several]
            for index, several in plans.items()
        }

    def _outcome(self, plan: _steps.MountPlan, done: _apply.Done, view: _observed.VmView) -> Outcome:
        mount = plan.after or plan.before
        record = done.records.get(mount.uuid) if mount else None
        if plan.error or not done.failure:
            if self._request.terms.check_mode and not plan.error:
                record = plan.after
            replugged = None
            if mount and _steps.REVOKE in plan.actions and not self._request.terms.check_mode:
                replugged = mount.uuid in done.replugged
            return Outcome(plan, record, bool(plan.steps), plan.error, view.state, replugged)
        # It is as it was, but for what could not be undone.
        return Outcome(plan, record, bool(plan.steps) and record != plan.before, done.failure, view.state)


def _each(plans: dict[int, list[_steps.MountPlan]]) -> list[_steps.MountPlan]:
    return [plan for several in plans.values() for plan in several]


def _due(plans: dict[int, list[_steps.MountPlan]]) -> bool:
    return any(plan.steps for plan in _each(plans))


def _not_planned(mount: _wanted.Wanted, uuid: str, name: str, error: t.Optional[ModelfleetError]) -> Outcome:
    return Outcome(_steps.MountPlan(mount, uuid, name, error=error), None, False, error)
