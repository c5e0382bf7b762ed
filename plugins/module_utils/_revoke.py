# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The virtiofsd of a view ended and another put in its place, which takes from a guest all that it still had open.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import typing as t

from . import _domain, _guest, _held, _mountinfo, _records, _views, _virtiofsd
from ._errors import ModelfleetError
from ._wanted import AGENT


def plug_view_again(
    vm: _domain.Vm,
    guest: t.Optional[_guest.Guest],
    record: _records.Record,
    plug: t.Callable[[], None],
    deadline: float,
) -> bool:
    """Unplug the device of a view and plug it again, whatever the guest does with it meanwhile.

    Args:
        guest: None for one that is not to be asked.
        record: of any mount in the view.
        plug: plugs the device, and sees to it that it is right.

    Returns:
        Whether the guest has mounted it again, or had not mounted it.

    Raises:
        ModelfleetError: C(detach_timeout), C(detach_failed), C(not_revoked), and what `plug` and the mounting raise.
    """
    source = _views.source(vm.uuid)
    daemon = _virtiofsd.processes(source)
    mounts = [(record.tag, record.device_path)]
    table = None
    if guest is not None:
        # It may be hostile: whatever it answers, the device goes.
        with contextlib.suppress(ModelfleetError):
            table = guest.mounts()
    mounted = table is not None and _guest.is_mounted(_mountinfo.visible(table, record.device_path), record.tag)
    if guest is not None and mounted:
        with contextlib.suppress(ModelfleetError):
            guest.unmount(mounts, force=True)
    try:
        vm.detach_live([record.alias], deadline)
    except ModelfleetError as problem:
        if guest is not None and mounted:
            with contextlib.suppress(ModelfleetError):
                guest.mount(mounts)
        what = f"{problem.what}; until then the guest may read what it has open of {record.mount_path}"
        raise ModelfleetError(problem.code, what, **problem.details) from None
    if not _held.wait_until_ended(daemon, source, deadline):
        raise ModelfleetError(
            "not_revoked",
            f"VM {vm}: the virtiofsd of {source} has not ended with its device",
            vm=vm.name,
            processes=daemon,
        )
    plug()
    if guest is not None and mounted:
        guest.mount(mounts)
    return record.guest != AGENT or table is not None
