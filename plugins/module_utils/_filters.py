# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters: which of a host's mounts somebody wants to see. Touches nothing.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import re
import typing as t

from . import _input, _observed, _records, _report

# fnmatch makes a regular expression of what somebody wrote. Its time grows with both.
LENGTH_MAX = _input.PATH_MAX
STARS_MAX = 16

_WILDCARDS = frozenset("*?[")

# For each option what of a record its values are matched with, and a UUID that may be given instead, in full.
_OF_A_RECORD = {
    "models": ("model_name", "model_uuid"),
    "model_centers": ("model_center_name", "model_center_uuid"),
    "accounts": ("account_uuid", "account_uuid"),
    "owners": ("owner", ""),
    "mount_paths": ("mount_path", ""),
    "tags": ("tag", ""),
}
OPTIONS = ("vms", *_OF_A_RECORD, "statuses")


@dataclasses.dataclass(frozen=True)
class Value:
    """One value of a filter: a text, which may have shell wildcards."""

    text: str
    _pattern: re.Pattern[str] = dataclasses.field(compare=False, repr=False)

    @property
    def wild(self) -> bool:
        return not _WILDCARDS.isdisjoint(self.text)

    def matches(self, text: str) -> bool:
        # What has brackets in its name is found by its name as well.
        return text == self.text or self._pattern.match(text) is not None


Values = t.Optional[tuple[Value, ...]]


@dataclasses.dataclass(frozen=True)
class Filters:
    """What must hold of a mount that is shown: one value of every option that was given. None was not given."""

    vms: Values = None
    models: Values = None
    model_centers: Values = None
    accounts: Values = None
    owners: Values = None
    mount_paths: Values = None
    tags: Values = None
    statuses: Values = None

    def record(self, record: _records.Record) -> bool:
        """Whether a record can be that of a mount that is shown."""
        for option, (name, uuid) in _OF_A_RECORD.items():
            values: Values = getattr(self, option)
            if values is None:
                continue
            known_as = getattr(record, uuid) if uuid else None
            if not any(value.matches(getattr(record, name)) or value.text == known_as for value in values):
                return False
        return True

    def status(self, status: str) -> bool:
        """Whether a mount of this status is shown."""
        return self.statuses is None or any(value.matches(status) for value in self.statuses)

    def narrowed(self, vm: _observed.VmView) -> _observed.VmView:
        """A VM with only those of its records, live and persistent, that can be of mounts that are shown."""
        shown = {uuid for uuid, record in vm.records.items() if self.record(record)}
        return dataclasses.replace(
            vm,
            live_records=tuple(record for record in vm.live_records if record.uuid in shown),
            persistent_records=tuple(record for record in vm.persistent_records if record.uuid in shown),
        )


def from_params(params: dict[str, t.Any]) -> Filters:
    """The filters that a task asks for.

    Args:
        params: the module's parameters, already trimmed. Empty texts are left out. An option with nothing else is
            as not given, which an unanswered question of an AWX survey means. An empty list admits nothing.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    return Filters(**{option: _values(option, params.get(option)) for option in OPTIONS})


def _values(option: str, given: t.Optional[list[t.Optional[str]]]) -> Values:
    texts = [(f"{option}[{index}]", text) for index, text in enumerate(given or []) if text is not None]
    if given is None or (given and not texts):
        return None
    return tuple(_value(option, where, text) for where, text in texts)


def _value(option: str, where: str, text: str) -> Value:
    _input.no_control_characters(where, text)
    if len(text) > LENGTH_MAX or text.count("*") > STARS_MAX:
        raise _input.invalid(where, f"{_input.show(text)} has more than {LENGTH_MAX} characters or {STARS_MAX} '*'")
    if option == "mount_paths":
        text = re.sub("/+", "/", text).rstrip("/") or "/"
    if _input.is_uuid(text):
        text = text.lower()
    try:
        value = Value(text, re.compile(fnmatch.translate(text)))
    except re.error:
        # Python 3.9 does not take [z-a], which later ones let match nothing.
        raise _input.invalid(where, f"{_input.show(text)} has a range that cannot match") from None
    if option == "vms" and not value.wild:
        _input.vm_name(where, text)
    if option == "statuses" and not any(map(value.matches, _report.STATUSES)):
        raise _input.invalid(where, f"{_input.show(text)} is none of {', '.join(_report.STATUSES)}")
    return value
