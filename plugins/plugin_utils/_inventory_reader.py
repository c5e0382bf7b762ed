# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the libvirt of one KVM host says of its VMs: the program that the inventory plugin runs for each host.

libvirt may block for ever, so that a child asks, which can be killed. It reads one request as JSON from standard input
and writes one answer to standard output. Its connection is read-only, so that it cannot change anything. Guests, when
they shall be asked, are asked over others, as libvirt takes that for a change.

This plugin util is private to the collection.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import json
import os
import signal
import sys
import time
import typing as t

from ..module_utils import (
    _agents,
    _connection,
    _converge,
    _conversion,
    _domain,
    _guest,
    _guest_view,
    _layers,
    _observed,
    _records,
)
from ..module_utils._errors import ModelfleetError, internal

# Of the seconds for a host, what its guests may take: one that is slow must not cost the others theirs.
_FOR_GUESTS = 0.6
# As many as libvirtd serves on one connection.
_QUESTIONS_AT_ONCE = 5


def main() -> None:
    """Answer one request, with C(uri), C(timeout) and C(guests): the C(vms), or the C(error)."""
    request = json.load(sys.stdin)
    # For when nobody is there any more who would end it.
    signal.alarm(int(request["timeout"]) + 5)
    try:
        answer: dict[str, t.Any] = {"vms": read(request["uri"], request["timeout"], request["guests"])}
    except Exception as problem:
        error = internal(problem, "libvirt")
        answer = {"error": {"code": error.code, "what": error.what, "details": error.details}}
    sys.stdout.write(json.dumps(answer))
    sys.stdout.flush()
    # Threads may still wait, for guests or in libvirt.
    os._exit(0)


def read(uri: str, timeout: float, guests: bool) -> list[dict[str, t.Any]]:
    """The VMs of a host, as C(entry) and C(unreadable) show them.

    Raises:
        ModelfleetError: C(controller_unsupported), C(libvirt_unavailable), C(libvirt_error).
    """
    end = time.monotonic() + timeout * _FOR_GUESTS
    if not _connection.available():
        raise ModelfleetError(
            "controller_unsupported", f"{sys.executable} has no module libvirt", python=sys.executable
        )
    host = _domain.Host(uri, timeout, read_only=True)
    handles = {vm.uuid: vm for vm in host.vms()}
    views, broken = _observed_all(handles)
    for problem in broken.values():
        if problem.code == "libvirt_unavailable":
            # The connection was lost on the way, and with it all other VMs.
            raise problem
    if guests:
        views = _with_guests(host, handles, views, end)
    gone = {uuid for uuid, problem in broken.items() if problem.code == "vm_not_found"}
    lost = [unreadable(handles[uuid], problem) for uuid, problem in broken.items() if uuid not in gone]
    return [*map(entry, views.values()), *lost]


def _observed_all(
    vms: t.Mapping[str, _domain.Vm],
) -> tuple[dict[str, _observed.VmView], dict[str, ModelfleetError]]:
    """As C(_converge.observe), for a host that may be far away: what takes long is the way of each question."""
    views: dict[str, _observed.VmView] = {}
    broken: dict[str, ModelfleetError] = {}
    with concurrent.futures.ThreadPoolExecutor(_QUESTIONS_AT_ONCE) as pool:
        for seen, failed in pool.map(lambda vm: _converge.observe({vm.uuid: vm}), vms.values()):
            views.update(seen)
            broken.update(failed)
    return views, broken


def entry(vm: _observed.VmView) -> dict[str, t.Any]:
    """A VM with its mounts. These have the keys that vm_model_mount_info gives them, as far as they can be known."""
    mounts = [_mount(vm, record) for record in sorted(vm.records.values(), key=lambda record: record.mount_path)]
    strays = [device.as_dict() for device in vm.strays]
    return {
        "name": vm.name,
        "uuid": vm.uuid,
        "state": vm.state,
        "models": sorted({record.model_name for record in vm.records.values()}),
        "mounts": mounts,
        "strays": strays,
        "drift": bool(strays) or any(mount["drift"] for mount in mounts),
        "error": None,
    }


def unreadable(vm: _domain.Vm, problem: ModelfleetError) -> dict[str, t.Any]:
    """A VM whose mounts nobody can know."""
    try:
        state = vm.state()
    except ModelfleetError:
        state = "unknown"
    unknown: dict[str, t.Any] = {"models": [], "mounts": [], "strays": [], "drift": None}
    return {"name": vm.name, "uuid": vm.uuid, "state": state, **unknown, "error": problem.as_result()}


def _mount(vm: _observed.VmView, record: _records.Record) -> dict[str, t.Any]:
    layers = _layers.from_afar(vm, record)
    leaving = _conversion.leaving(None, vm, None, record)
    return {
        "record": record.as_dict(),
        "layers": layers._asdict(),
        "leaving": _layers.from_afar(vm, leaving)._asdict() if leaving else None,
        "drift": layers.seen_wrong or leaving is not None or not vm.recorded_everywhere(record),
        "error": vm.guest_error.as_result() if vm.guest_error else None,
    }


def _with_guests(
    host: _domain.Host, handles: t.Mapping[str, _domain.Vm], views: dict[str, _observed.VmView], end: float
) -> dict[str, _observed.VmView]:
    """The VMs with what their guests say of it until `end`."""
    agents = _agents.Agents(host)
    # Not left by a `with`, which would wait for those that are late.
    pool = concurrent.futures.ThreadPoolExecutor(_converge.VMS_AT_ONCE)
    jobs = {}
    for uuid, view in views.items():
        ask = functools.partial(agents.ask, handles[uuid])
        guest = _guest.Guest(view.name, ask, max(1.0, end - time.monotonic()))
        jobs[uuid] = pool.submit(_guest_view.for_info, view, guest)
    done, _late = concurrent.futures.wait(jobs.values(), timeout=max(0.0, end - time.monotonic()))
    return {uuid: job.result() if job in done else _unheard(views[uuid]) for uuid, job in jobs.items()}


def _unheard(vm: _observed.VmView) -> _observed.VmView:
    problem = ModelfleetError("agent_unavailable", f"VM {vm.name}: its guest was not heard in time", vm=vm.name)
    return dataclasses.replace(vm, guest_error=problem)
