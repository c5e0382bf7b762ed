# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The records of a host's VMs beside what is really there. Changes nothing.

This module util is private to the collection.
"""

from __future__ import annotations

import concurrent.futures
import functools
import typing as t

from . import (
    _agents,
    _converge,
    _conversion,
    _domain,
    _filters,
    _guest,
    _guest_users,
    _guest_view,
    _layers,
    _observed,
    _opener,
    _records,
    _report,
)
from ._errors import ModelfleetError


def mounts(
    host: _domain.Host,
    vms: t.Iterable[_domain.Vm],
    filters: _filters.Filters,
    deadline: float,
    processes: bool = False,
) -> dict[str, list[dict[str, t.Any]]]:
    """C(mounts) and C(errors) of a result. Only guests and storage of records that pass the filters are asked.

    Args:
        processes: whether to look for the processes of guests that use the models.
    """
    handles = {vm.uuid: vm for vm in sorted(vms, key=lambda item: item.name)}
    views, broken = _converge.observe(handles)
    strays = {uuid: view.strays for uuid, view in views.items()}
    views = {uuid: filters.narrowed(view) for uuid, view in views.items()}
    places = _observed.Places({}, {})
    for view in views.values():
        for record in view.records.values():
            key = _observed.ModelKey(record.model_center_name, record.model_path)
            places.add(view.uuid, record.uuid, record.mount_path, key)
    models = set(places.sources.values())
    agents = _agents.Agents(host)
    with _opener.Openers() as openers, concurrent.futures.ThreadPoolExecutor(_converge.VMS_AT_ONCE) as pool:
        looked = pool.submit(_observed.observe_host, models, *places, {}, deadline, openers)
        jobs = {
            uuid: pool.submit(_seen, agents, handles[uuid], looked, view, deadline, processes)
            for uuid, view in views.items()
        }
        on_host = looked.result()
        views = {uuid: job.result()[0] for uuid, job in jobs.items()}
        users = {record: found for job in jobs.values() for record, found in job.result()[1].items()}
    host_uuid = host.uuid()
    found = [
        {**_mount(on_host, view, record, host_uuid), "guest_processes": users.get(record.uuid)}
        for view in views.values()
        for record in _sorted(view)
    ]
    return {
        "mounts": [mount for mount in found if filters.status(mount["status"])],
        "strays": [
            {"vm": view.name, "vm_instance_uuid": view.uuid, **device.as_dict()}
            for view in views.values()
            for device in strays[view.uuid]
        ],
        "errors": [{"vm": handles[uuid].name, **problem.as_result()} for uuid, problem in broken.items()],
    }


def _seen(
    agents: _agents.Agents,
    vm: _domain.Vm,
    looked: concurrent.futures.Future[_observed.HostView],
    view: _observed.VmView,
    deadline: float,
    processes: bool,
) -> tuple[_observed.VmView, dict[str, list[_guest_users.Process]]]:
    guest = _guest.Guest(vm.name, functools.partial(agents.ask, vm), deadline)
    seen = _guest_view.for_info(view, guest)
    host = looked.result()
    seen = _guest_view.with_stale(host, seen, guest, _guest_view.by_agent(view))
    return seen, _guest_view.users(host, seen, guest) if processes else {}


def _sorted(view: _observed.VmView) -> list[_records.Record]:
    return sorted(view.records.values(), key=lambda record: record.mount_path)


def _mount(host: _observed.HostView, vm: _observed.VmView, record: _records.Record, host_uuid: str) -> dict[str, t.Any]:
    layers = _layers.layers(host, vm, record)
    leaving = _conversion.leaving(host, vm, None, record)
    model = host.models.get(_observed.ModelKey(record.model_center_name, record.model_path))
    error = model if isinstance(model, ModelfleetError) else vm.guest_error
    return {
        "vm": vm.name,
        "vm_state": vm.state,
        "record": record.as_dict(),
        "status": _report.status(record, layers),
        "source_path": host.source(record) if vm.live is not None else "",
        "host_uuid": host_uuid,
        "layers": layers._asdict(),
        "leaving": _layers.layers(host, vm, leaving)._asdict() if leaving else None,
        "drift": not layers.right or leaving is not None or not vm.recorded_everywhere(record),
        "error": error.as_result() if error else None,
    }
