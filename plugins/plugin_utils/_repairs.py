# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mounts that vm_model_mount_info shows, as entries that make them right again.

Pure, and for the controller only. This plugin util is private to the collection.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ..module_utils import _records

# Fields of a record that are options of vm_model_mount by another name.
_OPTIONS = {
    "vm": "vm_instance_uuid",
    "model": "model_name",
    "model_version": "model_version",
    "model_uuid": "model_uuid",
    "model_center": "model_center_name",
    "model_path": "model_path",
    "mount_path": "mount_path",
    "tag": "tag",
    "transport": "transport",
    "guest": "guest",
    "persistence": "persistence",
    "account_uuid": "account_uuid",
    "owner": "owner",
}


def repairs(info: Mapping[str, t.Any]) -> dict[str, list[dict[str, str]]]:
    """What makes the mounts of a host right again.

    Args:
        info: a result of vm_model_mount_info.

    Returns:
        C(present): entries for mounts that drifted, as their records want them. C(absent): for those that an earlier
        run began to take away.
    """
    present, absent = [], []
    for mount in info.get("mounts") or []:
        record = mount["record"]
        if record["intent"] == _records.UNMOUNTING:
            absent.append(place(record))
        elif mount["drift"] or record["intent"] != _records.SETTLED:
            present.append(_entry(record))
    return {"present": present, "absent": absent}


def place(record: Mapping[str, t.Any]) -> dict[str, str]:
    """The entry that means the mount of a record, and no other."""
    return {"vm": record["vm_instance_uuid"], "mount_path": record["mount_path"]}


def _entry(record: Mapping[str, t.Any]) -> dict[str, str]:
    entry = {option: str(record[field]) for option, field in _OPTIONS.items() if record.get(field)}
    if record["transport"] == _records.VIEW:
        # A view has its tag, and takes no other.
        del entry["tag"]
    return entry
