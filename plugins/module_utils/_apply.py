# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans carried out: the steps of one VM in order, and undone in reverse when one fails.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from . import _devices, _domain, _guest, _plan, _records, _sources, _virtiofsd
from ._errors import ModelfleetError, internal
from ._observed import HostView, VmView, source_error

Undo = t.Callable[[], None]

# libvirt 11.0.0 (NEWS): <readonly/> for virtiofs.
_READONLY_SINCE = 11_000_000


class Options(t.NamedTuple):
    """How long any single step may take, in seconds, and the version of libvirt."""

    deadline: float
    libvirt_version: int


def apply(
    host: HostView, vm: _domain.Vm, view: VmView, guest: _guest.Guest, steps: t.Iterable[_plan.Step], options: Options
) -> dict[str, _records.Record]:
    """Carry out the steps of one VM, all or none.

    Returns:
        the VM's records afterwards, by UUID.

    Raises:
        ModelfleetError: the failure of a step. Its details say what was C(undone). Where the guest does not let
            go of a device nothing is undone: the record says C(unmounting), and the next run carries on.
    """
    run = _Run(host, vm, view, guest, options)
    undo: list[tuple[str, Undo]] = []
    for step in steps:
        try:
            undo.append((step.action, run.do(step)))
        except Exception as unexpected:  # whatever it is, the VM must not stay half done
            problem = internal(unexpected, f"VM {view.name}")
            if problem.code != "detach_timeout":
                problem.details.update(_undo(undo))
            problem.details["failed_step"] = step.action
            raise problem from None
    return run.records


def _undo(undo: list[tuple[str, Undo]]) -> dict[str, t.Any]:
    undone: list[str] = []
    for action, function in reversed(undo):
        try:
            function()
        except Exception as problem:
            # What is left stands in the record, whose intent was written first and is undone last.
            return {"undone": undone, "undo_failed": {"step": action, "msg": str(problem)}}
        undone.append(action)
    return {"undone": undone}


class _Run:
    """The effects on one VM; each method does one step and returns how to undo it."""

    def __init__(self, host: HostView, vm: _domain.Vm, view: VmView, guest: _guest.Guest, options: Options) -> None:
        self._host = host
        self._vm = vm
        self._view = view
        self._guest = guest
        self._options = options
        self.records = view.records
        self._effects: dict[str, t.Callable[[_records.Record], Undo]] = {
            _plan.RECORD: self._record,
            _plan.UNMOUNT: self._unmount,
            _plan.DETACH_LIVE: self._detach_live,
            _plan.DETACH_PERSISTENT: self._detach_persistent,
            _plan.UNBIND: self._unbind,
            _plan.BIND: self._bind,
            _plan.ATTACH: self._attach,
            _plan.ATTACH_LIVE: self._attach_live,
            _plan.ATTACH_PERSISTENT: self._attach_persistent,
            _plan.VERIFY: self._verify,
            _plan.MOUNT: self._mount,
            _plan.REMOUNT: self._remount,
            _plan.SETTLE: self._settle,
            _plan.FORGET: self._forget,
        }

    def do(self, step: _plan.Step) -> Undo:
        return self._effects[step.action](step.record)

    # Records

    def _record(self, record: _records.Record) -> Undo:
        intent = _records.UNMOUNTING if record.intent == _records.UNMOUNTING else _records.MOUNTING
        return self._write({**self.records, record.uuid: self._stamped(dataclasses.replace(record, intent=intent))})

    def _settle(self, record: _records.Record) -> Undo:
        return self._write({**self.records, record.uuid: self._stamped(record)})

    def _forget(self, record: _records.Record) -> Undo:
        return self._write({uuid: kept for uuid, kept in self.records.items() if uuid != record.uuid})

    def _write(self, records: dict[str, _records.Record]) -> Undo:
        before = self.records
        self._store(records)
        return lambda: self._store(before)

    def _store(self, records: dict[str, _records.Record]) -> None:
        # It may have been stopped meanwhile; then there is nothing live to write to.
        live = self._view.live is not None and self._vm.active()
        if live or self._view.persistent is not None:
            self._vm.write_records(records.values(), live, self._view.persistent is not None)
        self.records = records

    def _stamped(self, record: _records.Record) -> _records.Record:
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        before = self._view.records.get(record.uuid)
        return dataclasses.replace(
            record,
            create_date=before.create_date if before else now,
            last_op_date=now,
            generation=before.generation + 1 if before else 1,
            unknown=before.unknown if before else (),
        )

    # The host's source

    def _bind(self, record: _records.Record) -> Undo:
        path = _sources.path(self._vm.uuid, record.uuid)
        center = self._host.centers[record.model_center_name]
        # Nothing is touched before the model is at hand.
        found = _sources.look_at(center.mount_point, [record.model_path], self._options.deadline, clone=True)[0]
        if found.tree < 0:
            raise source_error(center, record.model_path, found)
        put_back = self._put_back(path)
        try:
            _sources.make_directories()
            _sources.bind(found.tree, path)
        except OSError as problem:
            failure = ModelfleetError("storage_error", f"VM {self._vm}: {path}: {problem}", path=path)
            failure.details.update(_undo([(_plan.BIND, put_back)]))
            raise failure from None
        return put_back

    def _unbind(self, record: _records.Record) -> Undo:
        path = _sources.path(self._vm.uuid, record.uuid)
        put_back = self._put_back(path)
        try:
            _sources.unbind(path)
        except OSError as problem:
            raise ModelfleetError("storage_error", f"VM {self._vm}: {path}: {problem}", path=path) from None
        return put_back

    def _put_back(self, path: str) -> Undo:
        """How to have at a source path what is there now, even when its storage has lost it meanwhile."""
        if self._host.bind(path) is None:
            return lambda: _sources.unbind(path)
        tree = _sources.keep(path, self._options.deadline)

        def put_back() -> None:
            if tree < 0:
                _sources.bind_empty(path)
                raise ModelfleetError("storage_error", f"VM {self._vm}: {path} could not be brought back", path=path)
            _sources.bind(tree, path)

        return put_back

    # The device

    def _attach(self, record: _records.Record) -> Undo:
        self._plug(record, live=True, persistent=True)

        def undo() -> None:
            self._vm.detach_live(record.alias, self._options.deadline)
            self._vm.detach_persistent(record.alias)

        return undo

    def _attach_live(self, record: _records.Record) -> Undo:
        self._plug(record, live=True)
        return lambda: self._vm.detach_live(record.alias, self._options.deadline)

    def _attach_persistent(self, record: _records.Record) -> Undo:
        self._plug(record, persistent=True)
        return lambda: self._vm.detach_persistent(record.alias)

    def _detach_live(self, record: _records.Record) -> Undo:
        self._vm.detach_live(record.alias, self._options.deadline)
        return lambda: self._plug(record, live=True)

    def _detach_persistent(self, record: _records.Record) -> Undo:
        self._vm.detach_persistent(record.alias)
        return lambda: self._plug(record, persistent=True)

    def _plug(self, record: _records.Record, live: bool = False, persistent: bool = False) -> None:
        source = _sources.path(self._vm.uuid, record.uuid)
        readonly = self._options.libvirt_version >= _READONLY_SINCE and _virtiofsd.can_be_read_only()
        device = _devices.virtiofs(record.tag, record.alias, source, readonly)
        domain = self._view.live if live else self._view.persistent
        self._vm.attach(device, live, persistent, shared_memory=domain is not None and domain.shared_memory)

    def _verify(self, record: _records.Record) -> Undo:
        source = _sources.path(self._vm.uuid, record.uuid)
        _virtiofsd.wait_until_read_only(source, self._vm.name, self._options.deadline)
        return _nothing

    # The guest

    def _mount(self, record: _records.Record) -> Undo:
        self._guest.mount(record.tag, record.mount_path)
        return lambda: self._guest.unmount(record.tag, record.mount_path)

    def _unmount(self, record: _records.Record) -> Undo:
        self._guest.unmount(record.tag, record.mount_path)
        return lambda: self._guest.mount(record.tag, record.mount_path)

    def _remount(self, record: _records.Record) -> Undo:
        self._guest.remount_read_only(record.mount_path)
        return _nothing


def _nothing() -> None:
    """Undoes what had no effect that anybody would want back."""
