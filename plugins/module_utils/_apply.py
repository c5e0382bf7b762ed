# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans carried out: the steps of one VM in order, and undone in reverse when one fails.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import typing as t

from . import _binder, _devices, _domain, _guest, _records, _revoke, _sources, _steps, _views, _virtiofsd
from ._binder import Options, Undo
from ._errors import ModelfleetError, internal
from ._observed import HostView, VmView
from ._wanted import AGENT

# libvirt 11.0.0 (NEWS): <readonly/> for virtiofs.
_READONLY_SINCE = 11_000_000


class Done(t.NamedTuple):
    """What came of the steps.

    Attributes:
        records: the VM's records afterwards, by UUID.
        failure: of the step that ended them early.
        replugged: the UUIDs of mounts for which the device of the view was plugged again, to revoke what they had.
    """

    records: t.Mapping[str, _records.Record]
    failure: t.Optional[ModelfleetError] = None
    replugged: frozenset[str] = frozenset()


def apply(
    host: HostView,
    vm: _domain.Vm,
    view: VmView,
    guest: _guest.Guest,
    batches: t.Iterable[_steps.Batch],
    options: Options,
) -> Done:
    """Carry out the steps of one VM, all or none.

    The details of a failure say what was C(undone). Where the guest does not let go of a device nothing is undone: the
    record says C(unmounting), and the next run carries on. The same holds once sources are being unbound, when all
    that remains is to take away, and once a model is being revoked.
    """
    run = _Run(host, vm, view, guest, options)
    for batch in batches:
        try:
            run.do(batch)
        except Exception as unexpected:  # whatever it is, the VM must not stay half done
            problem = internal(unexpected, f"VM {view.name}")
            if problem.code != "detach_timeout":
                problem.details.update(run.undo())
            problem.details["failed_step"] = batch.action
            return Done(run.records, problem)
    return Done(run.records, replugged=run.replugged)


class _Run:
    """The effects on one VM; what undoes an effect is noted as soon as there may be something to undo."""

    def __init__(self, host: HostView, vm: _domain.Vm, view: VmView, guest: _guest.Guest, options: Options) -> None:
        self._host = host
        self._vm = vm
        self._view = view
        self._guest = guest
        self._options = options
        self.records: t.Mapping[str, _records.Record] = view.records
        self.replugged: frozenset[str] = frozenset()
        self._undo: list[tuple[str, Undo]] = []
        self._binder = _binder.Binder(host, vm, view, guest, options, self._undo)
        self._effects: dict[str, t.Callable[[tuple[_records.Record, ...]], None]] = {
            _steps.RECORD: self._record,
            _steps.REMOVE_UNIT: self._remove_units,
            _steps.UNLINK: self._unlink,
            _steps.UNMOUNT: self._unmount,
            _steps.DETACH_LIVE: self._detach_live,
            _steps.DETACH_PERSISTENT: self._detach_persistent,
            _steps.BIND: self._binder.bind,
            _steps.ATTACH: functools.partial(self._attach, live=True, persistent=True),
            _steps.ATTACH_LIVE: functools.partial(self._attach, live=True, persistent=False),
            _steps.ATTACH_PERSISTENT: functools.partial(self._attach, live=False, persistent=True),
            _steps.VERIFY: self._verify,
            _steps.MOUNT: self._mount,
            _steps.REMOUNT: self._remount,
            _steps.LINK: self._link,
            _steps.WRITE_UNIT: self._write_units,
            _steps.RELEASE: self._binder.release,
            _steps.REVOKE: self._revoke,
            _steps.RETIRE: self._retire,
            _steps.SETTLE: self._settle,
            _steps.DETACH_STRAY: self._detach_strays,
            _steps.UNBIND: self._unbind,
            _steps.FORGET: self._forget,
        }

    def do(self, batch: _steps.Batch) -> None:
        self._effects[batch.action](batch.records)

    def undo(self) -> dict[str, t.Any]:
        """Undo what was done, and say what was undone; what is left stands in the records, undone last."""
        undone: list[str] = []
        while self._undo:
            action, function = self._undo.pop()
            try:
                function()
            except Exception as problem:
                return {"undone": undone, "undo_failed": {"step": action, "msg": str(problem)}}
            undone.append(action)
        return {"undone": undone}

    def _commit(self) -> None:
        # All that can be undone is done; what fails from here on is for the next run to finish.
        self._undo.clear()

    # Records

    def _record(self, records: tuple[_records.Record, ...]) -> None:
        self._write(_steps.RECORD, {record.uuid: self._intended(record) for record in records})

    def _intended(self, record: _records.Record) -> _records.Record:
        intent = _records.UNMOUNTING if record.intent == _records.UNMOUNTING else _records.MOUNTING
        return self._stamped(dataclasses.replace(record, intent=intent))

    def _settle(self, records: tuple[_records.Record, ...]) -> None:
        self._write(_steps.SETTLE, {record.uuid: self._stamped(record) for record in records})

    def _write(self, action: str, changed: dict[str, _records.Record]) -> None:
        before = self.records
        self._undo.append((action, lambda: self._store(before)))
        self._store({**before, **changed})

    def _forget(self, records: tuple[_records.Record, ...]) -> None:
        gone = {record.uuid for record in records}
        self._store({uuid: kept for uuid, kept in self.records.items() if uuid not in gone})

    def _store(self, records: t.Mapping[str, _records.Record]) -> None:
        # It may have been stopped meanwhile; then there is nothing live to write to.
        live = self._view.live is not None and self._vm.active()
        if live or self._view.persistent is not None:
            self._vm.write_records(records.values(), live, self._view.persistent is not None)
        self.records = records

    def _stamped(self, record: _records.Record) -> _records.Record:
        now = datetime.datetime.now(datetime.timezone.utc).strftime(_records.TIME)
        before = self._view.records.get(record.uuid)
        return dataclasses.replace(
            record,
            create_date=before.create_date if before else now,
            last_op_date=now,
            generation=before.generation + 1 if before else 1,
            unknown=before.unknown if before else (),
        )

    # The host's binds: from here on all that remains is to take away

    def _unbind(self, records: tuple[_records.Record, ...]) -> None:
        self._commit()
        self._binder.unbind(records)

    def _retire(self, records: tuple[_records.Record, ...]) -> None:
        self._commit()
        self._binder.retire(records)

    # What a guest may not read any more

    def _revoke(self, records: tuple[_records.Record, ...]) -> None:
        """See to it that the host serves nothing more of what was released, by another virtiofsd if it must be."""
        served = [record for record in records if self._binder.is_served(record)]
        if not served:
            return
        if not self._options.force:
            raise self._binder.busy(served[0])
        self._commit()
        staying = [kept for kept in self.records.values() if kept.in_view and kept.intent != _records.UNMOUNTING]
        settled = tuple(kept for kept in staying if kept.intent == _records.SETTLED)
        # Whoever comes after a run that ends here finds that they are to be mounted again.
        self._store({**self.records, **{kept.uuid: self._intended(kept) for kept in settled}})
        asked = served[0].guest == AGENT and self._view.guest is not None
        bound = [kept for kept in staying if _views.is_bound(_views.bound_at(self._vm.uuid, kept.mount_path))]

        def plug() -> None:
            self._plug(served[0], live=True, persistent=False)
            self._verify(tuple(bound))

        guest = self._guest if asked else None
        if _revoke.plug_view_again(self._vm, guest, served[0], plug, self._options.deadline):
            self._store({**self.records, **{kept.uuid: self._stamped(kept) for kept in settled}})
        else:
            self._guest.warnings.append(f"VM {self._vm}: the guest does not answer; run again to mount its view in it")
        self.replugged = frozenset(record.uuid for record in served)

    # The devices

    def _attach(self, records: tuple[_records.Record, ...], live: bool, persistent: bool) -> None:
        for record in records:
            self._plug(record, live, persistent)
            self._undo.append((_steps.ATTACH, functools.partial(self._unplug, record, live, persistent)))

    def _unplug(self, record: _records.Record, live: bool, persistent: bool) -> None:
        if live:
            self._vm.detach_live([record.alias], self._options.deadline)
        if persistent:
            self._vm.detach_persistent(record.alias)

    def _detach_live(self, records: tuple[_records.Record, ...]) -> None:
        for record in records:
            self._undo.append((_steps.DETACH_LIVE, functools.partial(self._plug_again, record)))
        self._vm.detach_live([record.alias for record in records], self._options.deadline)

    def _plug_again(self, record: _records.Record) -> None:
        if not self._vm.has_device(record.alias):
            self._plug(record, live=True, persistent=False)

    def _detach_persistent(self, records: tuple[_records.Record, ...]) -> None:
        for record in records:
            self._vm.detach_persistent(record.alias)
            undo = functools.partial(self._plug, record, live=False, persistent=True)
            self._undo.append((_steps.DETACH_PERSISTENT, undo))

    def _detach_strays(self, records: tuple[_records.Record, ...]) -> None:
        self._commit()
        self._vm.detach_live([record.alias for record in records], self._options.deadline)
        for record in records:
            if self._view.persistent is not None:
                self._vm.detach_persistent(record.alias)

    def _plug(self, record: _records.Record, live: bool, persistent: bool) -> None:
        source = _sources.path(self._vm.uuid, record.device_uuid)
        readonly = self._options.libvirt_version >= _READONLY_SINCE and _virtiofsd.can_be_read_only()
        device = _devices.virtiofs(record.tag, record.alias, source, readonly)
        domain = self._view.live if live else self._view.persistent
        self._vm.attach(device, live, persistent, shared_memory=domain is not None and domain.shared_memory)

    def _verify(self, records: tuple[_records.Record, ...]) -> None:
        by_device: dict[str, list[_records.Record]] = {}
        for record in records:
            by_device.setdefault(record.device_uuid, []).append(record)
        devices = []
        for device, several in by_device.items():
            binds = [_views.bound_at(self._vm.uuid, record.mount_path) for record in several if record.in_view]
            below = [(bind, _views.in_daemon(bind)) for bind in binds]
            devices.append(_virtiofsd.Awaited(_sources.path(self._vm.uuid, device), several[0].alias, below))
        _virtiofsd.wait_until_read_only(devices, self._vm.name, self._options.deadline)

    # The guest

    def _mount(self, records: tuple[_records.Record, ...]) -> None:
        mounts = [(record.tag, record.device_path) for record in records]
        self._guest.mount(mounts)
        self._undo.append((_steps.MOUNT, functools.partial(self._guest.unmount, mounts)))

    def _unmount(self, records: tuple[_records.Record, ...]) -> None:
        mounts = [(record.tag, record.device_path) for record in records]
        self._guest.unmount(mounts, self._options.force)
        self._undo.append((_steps.UNMOUNT, functools.partial(self._guest.mount, mounts)))

    def _remount(self, records: tuple[_records.Record, ...]) -> None:
        for record in records:
            self._guest.remount_read_only(record.device_path)

    def _link(self, records: tuple[_records.Record, ...]) -> None:
        paths = [record.mount_path for record in records]
        directories = self._guest.link(paths)
        self._undo.append((_steps.LINK, functools.partial(self._guest.unlink, paths, directories)))

    def _unlink(self, records: tuple[_records.Record, ...]) -> None:
        gone = self._guest.unlink([record.mount_path for record in records])
        self._undo.append((_steps.UNLINK, functools.partial(self._guest.link, gone)))

    def _write_units(self, records: tuple[_records.Record, ...]) -> None:
        for record in records:
            self._undo.append((_steps.WRITE_UNIT, self._put_unit_back(record)))
            self._guest.write_unit(record.device_uuid, record.tag, record.device_path)

    def _remove_units(self, records: tuple[_records.Record, ...]) -> None:
        for record in records:
            self._undo.append((_steps.REMOVE_UNIT, self._put_unit_back(record)))
            self._guest.remove_unit(record.device_uuid, record.device_path)

    def _put_unit_back(self, record: _records.Record) -> Undo:
        before = self._view.records.get(record.uuid)
        # The unit of a view is there already when another model joins it, and of one that leaves the record knows none.
        if record.in_view or (before is not None and before.in_view):
            before = record
        if before is None or self._view.units.get(record.device_path) is None:
            return functools.partial(self._guest.remove_unit, record.device_uuid, record.device_path)
        return functools.partial(self._guest.write_unit, before.device_uuid, before.tag, before.device_path)
