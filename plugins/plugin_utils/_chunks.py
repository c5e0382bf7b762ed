# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What vm_model_mount is called with, in parts where a list is long. Pure, and for the controller only.

This plugin util is private to the collection.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ..module_utils import _input, _wanted
from . import _values

# How many VMs a call is for.
BATCH = 50


def cut(parts: t.Iterable[Mapping[str, t.Any]], batch_size: int, allow_empty: bool) -> list[dict[str, t.Any]]:
    """The calls that do the work of a host, with so many VMs each.

    The list is not cut where its parts would mean something else than the whole: with C(purge=host), and where VMs
    are named by name and by UUID, since two entries may then mean the same VM. One call after the other is not slower
    than all at once for many VMs, and shows how far the run has come.

    Args:
        parts: of the work, each with C(mounts), C(state), C(purge) and C(vms). No VM is in two of them.
        batch_size: 0 for one call, whatever its size.
        allow_empty: whether C(purge) may take everything away.

    Returns:
        For each call C(mounts), C(state), C(vms), C(purge), C(allow_empty) and C(label). None when there is nothing to
        do.

    Raises:
        ModelfleetError: C(invalid_input) for an entry whose model is empty, which would mean all models of its VM.
    """
    return [call for part in parts for call in _cut(part, batch_size, allow_empty)]


def _cut(work: Mapping[str, t.Any], batch_size: int, allow_empty: bool) -> list[dict[str, t.Any]]:
    mounts, purge, further = list(work["mounts"]), work["purge"], list(work["vms"])
    _refuse_empty_models(mounts)
    if not mounts and purge == _wanted.PURGE_NONE:
        return []
    if not mounts and not further and purge == _wanted.PURGE_VM:
        return []
    groups: dict[str, list[dict[str, t.Any]]] = {name: [] for name in further}
    for entry in mounts:
        groups.setdefault(_name(entry), []).append(entry)
    by_uuid = {_input.is_uuid(name) for name in groups}
    whole = batch_size <= 0 or len(groups) <= batch_size or purge == _wanted.PURGE_HOST or len(by_uuid) > 1
    names = list(groups)
    size = len(names) or 1
    parts = [names] if whole else [names[at : at + batch_size] for at in range(0, len(names), batch_size)]
    calls = []
    done = 0
    for part in parts:
        calls.append(
            {
                "mounts": mounts if whole else [entry for name in part for entry in groups[name]],
                "state": work["state"],
                "vms": [name for name in part if name in further],
                "purge": purge,
                # A part that is empty is no sign of a mistake in the inventory; the whole list being empty is.
                "allow_empty": allow_empty or bool(mounts),
                "label": f"VMs {done + 1} to {done + len(part)} of {size}" if part else "no VMs",
            }
        )
        done += len(part)
    return calls


def _refuse_empty_models(mounts: list[t.Any]) -> None:
    for index, entry in enumerate(mounts):
        if not isinstance(entry, Mapping) or "model" not in entry:
            continue
        if _values.unset(entry["model"]) and _values.unset(entry.get("mount_path")):
            raise _input.invalid(f"vm_models[{index}].model", "it is empty; leave it out to mean all models of the VM")


def _name(entry: t.Any) -> str:
    """The VM of an entry; what is malformed is left to the module, which says so."""
    name = entry.get("vm") if isinstance(entry, Mapping) else None
    return str(_input.trimmed(name) if isinstance(name, str) else name)


def planned(centers: t.Iterable[Mapping[str, t.Any]]) -> list[dict[str, t.Any]]:
    """What vm_model_mount needs to know in check mode of the C(model_centers) that an earlier task would mount."""
    known = ("name", "uuid", "storage_url")
    # What is malformed is left to the role model_center, which names it.
    centers = [center for center in centers if isinstance(center, Mapping)]
    mounted = [center for center in centers if (center.get("state") or "mounted") == "mounted"]
    return [{key: center[key] for key in known if key in center} for center in mounted]
