# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The steps that plans are made of, in the words that results show, and the one order in which they are done.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import _records
from ._errors import ModelfleetError
from ._layers import Layers
from ._wanted import Wanted

RECORD = "record"
REMOVE_UNIT = "remove_guest_unit"
UNLINK = "unlink_in_guest"
UNMOUNT = "unmount_in_guest"
DETACH_LIVE = "detach_live"
DETACH_PERSISTENT = "detach_persistent"
BIND = "bind_source"
RELEASE = "release_source"
REVOKE = "revoke"
RETIRE = "retire_source"
ATTACH = "attach"
ATTACH_LIVE = "attach_live"
ATTACH_PERSISTENT = "attach_persistent"
VERIFY = "verify_read_only"
MOUNT = "mount_in_guest"
REMOUNT = "remount_in_guest"
LINK = "link_in_guest"
WRITE_UNIT = "write_guest_unit"
SETTLE = "settle_record"
DETACH_STRAY = "detach_stray"
UNBIND = "unbind_source"
FORGET = "forget_record"

# What goes is gone before what comes is made, so that models can change places and ports be used again. Strays and
# sources go last: what is left of them is removed by the next run, and nothing after it can fail that would need them.
ORDER = (
    RECORD,
    REMOVE_UNIT,
    UNLINK,
    UNMOUNT,
    DETACH_LIVE,
    DETACH_PERSISTENT,
    BIND,
    ATTACH,
    ATTACH_LIVE,
    ATTACH_PERSISTENT,
    VERIFY,
    MOUNT,
    REMOUNT,
    LINK,
    WRITE_UNIT,
    RELEASE,
    REVOKE,
    SETTLE,
    DETACH_STRAY,
    RETIRE,
    UNBIND,
    FORGET,
)
ATTACHES = (ATTACH, ATTACH_LIVE, ATTACH_PERSISTENT)
IN_GUEST = (REMOVE_UNIT, UNLINK, UNMOUNT, MOUNT, REMOUNT, LINK, WRITE_UNIT)
# What is done to a mount, not to the device that several mounts may share.
_OF_EACH_MOUNT = (RECORD, UNLINK, BIND, VERIFY, LINK, RELEASE, REVOKE, SETTLE, RETIRE, FORGET)

# Why there is a plan for a mount.
LISTED = "listed"
PURGED = "purged"
INTERRUPTED = "interrupted"
STRAY = "stray"


class Step(t.NamedTuple):
    """One effect. `record` is the mount it is for: as wanted when it sets up, as it was when it takes down."""

    action: str
    record: _records.Record


class Batch(t.NamedTuple):
    """The same effect on several mounts of a VM; of those that share a device one, when it is an effect on that."""

    action: str
    records: tuple[_records.Record, ...]


@dataclasses.dataclass(frozen=True)
class MountPlan:
    """What happens to one mount.

    Attributes:
        wanted: the entry that asked for it.
        before: the record there is, None for none.
        after: the record there will be, None for none.
        layers: what was found, compared with `after`, or with `before` when the mount goes.
        leaving: what was found of the transport that the mount has no more, None for nothing.
        error: why nothing can be done; then there are no steps.
        conditional: what an earlier task of the same play must have made for this to come true.
        origin: C(listed) by the task, C(purged) because it is not listed, C(interrupted) in an earlier run, or
            C(stray), a device of ours without a record.
    """

    wanted: Wanted
    vm_uuid: str
    vm_name: str
    before: t.Optional[_records.Record] = None
    after: t.Optional[_records.Record] = None
    layers: t.Optional[Layers] = None
    leaving: t.Optional[Layers] = None
    steps: tuple[Step, ...] = ()
    error: t.Optional[ModelfleetError] = None
    conditional: tuple[str, ...] = ()
    origin: str = LISTED

    @property
    def converts(self) -> bool:
        """Whether the mount gets another transport than its record has."""
        return bool(self.before and self.after and self.before.transport != self.after.transport)

    def refused(self, error: ModelfleetError) -> MountPlan:
        """The plan of a mount that must be left as it is."""
        wanted, vm, name = self.wanted, self.vm_uuid, self.vm_name
        return MountPlan(wanted, vm, name, before=self.before, error=error, origin=self.origin)

    @property
    def shows_anew(self) -> bool:
        """Whether the VM gets to see a model that it does not see, or not from this directory."""
        if self.after is None or not self.steps:
            return False
        another = self.before is None or self.before.model != self.after.model
        return another or any(step.action in (BIND, *ATTACHES) for step in self.steps)

    @property
    def actions(self) -> list[str]:
        # What comes and what goes may need the same, each on a device of its own.
        return list(dict.fromkeys(step.action for step in self.steps))


def batches(plans: t.Iterable[MountPlan]) -> list[Batch]:
    """The steps of all plans of a VM in the order in which they are done."""
    by_action: dict[str, dict[str, _records.Record]] = {}
    for plan in plans:
        for step in plan.steps:
            key = step.record.uuid if step.action in _OF_EACH_MOUNT else step.record.alias
            by_action.setdefault(step.action, {}).setdefault(key, step.record)
    return [Batch(action, tuple(by_action[action].values())) for action in ORDER if action in by_action]
