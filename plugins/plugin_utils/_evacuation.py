# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model center that is taken out of use: what must go for it, and what is in the way.

Pure, and for the controller only. This plugin util is private to the collection.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ..module_utils import _input
from ..module_utils._errors import ModelfleetError
from . import _outcomes, _repairs, _values

OPTION = "evacuate_model_center"


def name(value: t.Any) -> str:
    """The name of the model center. It is no pattern, and no UUID.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    if _values.unset(value):
        raise _input.invalid(OPTION, "it is required: the name of the model center")
    return _input.name(OPTION, _input.trimmed(str(value)))


def removals(info: Mapping[str, t.Any], center: str) -> list[dict[str, str]]:
    """Entries that take away every mount of the model center that a result of vm_model_mount_info shows."""
    return [_repairs.place(mount["record"]) for mount in _mounts(info, center)]


def obstacles(info: Mapping[str, t.Any], centers: Mapping[str, t.Any], center: str) -> list[dict[str, str]]:
    """What is in the way on a host, in the form of `_outcomes.Failure`.

    Args:
        info: a result of vm_model_mount_info.
        centers: a result of model_center_info.
    """
    found = []
    for mount in _mounts(info, center):
        names = [f"{process['pid']} ({process['name']})" for process in mount.get("guest_processes") or []]
        if names:
            path = mount["record"]["mount_path"]
            what = f"VM {mount['vm']}: {path} is used by process {', '.join(names)}"
            found.append(_outcomes.noted(mount["vm"], ModelfleetError("mount_busy", what).as_result(), path))
    leaving = {mount["record"]["vm_instance_uuid"] for mount in _mounts(info, center)}
    for entry in centers.get("model_centers") or []:
        if entry["center"]["name"] != center:
            continue
        if entry.get("error"):
            found.append(_outcomes.noted("", entry["error"]))
        for user in entry.get("users") or []:
            if user["vm_instance_uuid"] not in leaving:
                what = f"VM {user['vm']} has something of model center '{center}', and no record says what"
                found.append(_outcomes.noted(user["vm"], ModelfleetError("center_in_use", what).as_result()))
    return found


def blocked(hosts: t.Collection[str], variables: Mapping[str, t.Any], center: str) -> bool:
    """Whether anything is in the way on any host, so that nothing may be changed anywhere.

    What could not be looked at is in the way: a host that cannot be reached, a VM that cannot be read.

    Raises:
        ModelfleetError: C(center_unknown) when all could be looked at, and no host knows the model center.
    """
    if any(_outcomes.of_host(host, variables[host]).failures for host in hosts):
        return True
    if not any(_known(variables[host], center) for host in hosts):
        raise ModelfleetError("center_unknown", f"no KVM host of this run has a model center '{center}'")
    return False


def _known(variables: Mapping[str, t.Any], center: str) -> bool:
    centers = (variables.get(_outcomes.DEFINED) or {}).get("model_centers") or []
    if any(entry["center"]["name"] == center for entry in centers):
        return True
    return bool(_mounts(variables.get(_outcomes.INFO) or {}, center))


def _mounts(info: Mapping[str, t.Any], center: str) -> list[Mapping[str, t.Any]]:
    return [mount for mount in info.get("mounts") or [] if mount["record"]["model_center_name"] == center]
