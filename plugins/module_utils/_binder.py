# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The part of applying a plan that binds models on the host, each at a source of its own or in the view of its VM.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
import typing as t

from . import _domain, _guest, _guest_users, _held, _mountinfo, _opener, _records, _sources, _steps, _views
from ._errors import ModelfleetError
from ._observed import HostView, ModelKey, VmView, source_error
from ._wanted import AGENT

# A guest looks a link of a view up again after a second at the latest; then it has nothing of what that led to. One
# that is slow, and in which nobody is seen to use the model, gets more time.
_LETS_GO_WITHIN = 2.0
_AT_THE_LATEST = 15.0
_POLL = 0.2


Undo = t.Callable[[], object]


@dataclasses.dataclass(frozen=True)
class Options:
    """What holds for the steps of all VMs.

    Attributes:
        deadline: how long any single step may take, in seconds.
        force: whether what is in use in the guest is unmounted all the same.
        openers: the processes that touch storage.
    """

    deadline: float
    libvirt_version: int
    force: bool
    openers: _opener.Openers


class Binder:
    """Binds and unbinds the models of one VM; what undoes an effect is added to the steps to undo.

    Args:
        undo: the steps that a failure undoes, the last first.
    """

    def __init__(
        self,
        host: HostView,
        vm: _domain.Vm,
        view: VmView,
        guest: _guest.Guest,
        options: Options,
        undo: list[tuple[str, Undo]],
    ) -> None:
        self._host = host
        self._vm = vm
        self._view = view
        self._guest = guest
        self._options = options
        self._undo = undo
        # What the view showed at the mount paths of mounts before this run.
        self._shown: dict[str, str] = {}

    def bind(self, records: tuple[_records.Record, ...]) -> None:
        """Bind models, read-only, in the place of what is bound for their mounts.

        Raises:
            ModelfleetError: C(source_missing) and its kin, C(storage_error).
        """
        _sources.make_directories()
        opened = False
        for record in records:
            # Nothing is touched before the model is at hand.
            tree = self._open(record)
            with self._errors(record):
                if record.in_view:
                    self._undo.append((_steps.BIND, self._show_again(record)))
                    if not opened:
                        _views.open_view(self._vm.uuid)
                    opened = True
                    _views.bind(self._vm.uuid, record.uuid, record.mount_path, tree)
                else:
                    path = _sources.path(self._vm.uuid, record.uuid)
                    self._undo.append((_steps.BIND, self._put_back(path)))
                    _sources.bind(tree, path)

    @contextlib.contextmanager
    def _errors(self, record: _records.Record) -> t.Iterator[None]:
        path = _sources.path(self._vm.uuid, record.device_uuid)
        try:
            yield
        except OSError as problem:
            raise ModelfleetError(
                "storage_error", f"VM {self._vm}: {record.mount_path} in {path}: {problem}", path=path
            ) from None

    def _open(self, record: _records.Record) -> int:
        """A read-only mount of a model, the same that was planned with."""
        center = self._host.centers[record.model_center_name]
        look = self._options.openers.look
        found = _sources.look_at(center.mount_point, [record.model_path], self._options.deadline, True, look)[0]
        if found.tree < 0:
            raise source_error(center, record.model_path, found)
        planned = self._host.models.get(ModelKey(record.model_center_name, record.model_path))
        if isinstance(planned, tuple) and planned != found.identity:
            _sources.close(found.tree)
            raise ModelfleetError(
                "storage_error",
                f"model center '{center.name}': {record.model_path} was replaced while it was being mounted",
                center=center.name,
                path=record.model_path,
            )
        return found.tree

    def _put_back(self, path: str) -> Undo:
        """How to have at a source path what is there now, even when its storage has lost it meanwhile."""
        if self._host.bind(path) is None:
            return lambda: _sources.unbind(path)
        tree = _sources.keep(path, self._options.deadline, self._options.openers.look)

        def put_back() -> None:
            if tree < 0:
                _sources.bind_empty(path)
                raise ModelfleetError("storage_error", f"VM {self._vm}: {path} could not be brought back", path=path)
            _sources.bind(tree, path)

        return put_back

    def unbind(self, records: tuple[_records.Record, ...]) -> None:
        """Unbind what no device is given any more, a view with all that is in it."""
        for record in records:
            with self._errors(record):
                if record.in_view:
                    _views.close_view(self._vm.uuid)
                else:
                    _sources.unbind(_sources.path(self._vm.uuid, record.uuid))

    def _show_again(self, record: _records.Record) -> Undo:
        """How to have a view show what it shows now at a mount path."""
        vm, path = self._vm.uuid, record.mount_path
        closed = self._host.bind(_views.source(vm)) is None
        self._shown[record.uuid] = shown = _views.bound_at(vm, path)

        def show_again() -> None:
            if closed:
                _views.close_view(vm)
                return
            if not shown:
                _views.hide(vm, path)
            elif _views.is_bound(shown):
                _views.show(vm, path, shown)
            _views.clear(vm, record.uuid, path)

        return show_again

    def release(self, records: tuple[_records.Record, ...]) -> None:
        """Unbind what the view does not show any more, or what goes, once the guest has let go of it.

        Raises:
            ModelfleetError: C(mount_busy) when it does not, C(storage_error).
        """
        for record in records:
            with self._errors(record):
                self._release_one(record)

    def _release_one(self, record: _records.Record) -> None:
        vm, path = self._vm.uuid, record.mount_path
        going = self._shown.get(record.uuid, "")
        if record.intent == _records.UNMOUNTING:
            going = _views.bound_at(vm, path)
            _views.hide(vm, path)
        if going and not self._options.force:
            tree = _sources.keep(going, self._options.deadline, self._options.openers.look)
            self._undo.append((_steps.RELEASE, functools.partial(self._bind_again, record, going, tree)))
        for bind in _views.left_over(vm, record.uuid, path):
            if not self._options.force:
                self._unbind_idle(record, bind)
            elif not (record.strict and self._lets_go(record, bind)):
                _views.unbind(bind, lazy=True)

    def _lets_go(self, record: _records.Record, bind: str) -> bool:
        """Whether a model could be unbound so that nobody has anything of it, which spares the others in the view."""
        try:
            self._unbind_idle(record, bind)
        except ModelfleetError:
            # It is in use, or the guest is of no help; in the end the model is taken from it.
            return False
        return True

    def is_served(self, record: _records.Record) -> bool:
        """Whether the virtiofsd of the view may still have something of what is not bound for a mount any more."""
        vm = self._vm.uuid
        gone = _views.of_mount(_views.bind_path(vm, record.uuid, 0))
        return _held.is_served(_views.source(vm), gone, _views.bound_at(vm, record.mount_path))

    def _bind_again(self, record: _records.Record, bind: str, tree: int) -> None:
        vm, path = self._vm.uuid, record.mount_path
        if _views.is_bound(bind):
            _sources.close(tree)
            _views.show(vm, path, bind)
        elif tree >= 0:
            _views.bind(vm, record.uuid, path, tree)
        else:
            raise ModelfleetError("storage_error", f"VM {self._vm}: {path} could not be brought back", path=path)

    def _unbind_idle(self, record: _records.Record, bind: str) -> None:
        """Unbind what is not in use, which a busy guest may take a while to show."""
        view = _mountinfo.visible(list(self._view.guest or ()), record.device_path)
        # What the guest has put over the view is none of our business.
        asked = record.guest == AGENT and _guest.is_mounted(view, record.tag)
        now = time.monotonic()
        usual, last = now + _LETS_GO_WITHIN, now + min(self._options.deadline, _AT_THE_LATEST if asked else 0.0)
        if _views.unbind(bind):
            return
        while True:
            if asked:
                self._guest.let_go(record.device_path, _views.in_guest(bind))
            if _views.unbind(bind):
                return
            if time.monotonic() > usual:
                users = self._guest.users(_views.in_guest(bind)) if asked else []
                if users or time.monotonic() > last:
                    raise self.busy(record, users)
            time.sleep(_POLL)

    def busy(self, record: _records.Record, users: t.Sequence[_guest_users.Process] = ()) -> ModelfleetError:
        """The error for a model that cannot be taken out of the view as somebody has something of it."""
        by = f"process {_guest_users.shown(users)}" if users else "no process that could be found"
        return ModelfleetError(
            "mount_busy",
            f"VM {self._vm}: {record.mount_path}, used by {by}, cannot be taken out of the view",
            vm=self._vm.name,
            mount_path=record.mount_path,
            guest_processes=list(users),
        )

    def retire(self, records: tuple[_records.Record, ...]) -> None:
        """Unbind what the view does not show any more, whoever still has something of it open."""
        for record in records:
            with self._errors(record):
                _views.clear(self._vm.uuid, record.uuid, record.mount_path)
