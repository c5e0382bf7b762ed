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


def cut(work: Mapping[str, t.Any], batch_size: int, allow_empty: bool) -> list[dict[str, t.Any]]:
    """The calls that do the work of a host, with so many VMs each.

    The list is not cut where its parts would mean something else than the whole: with C(purge=host), and where VMs
    are named by name and by UUID, since two entries may then mean the same VM. One call after the other is not slower
    than all at once for many VMs, and shows how far the run has come.

    Args:
        work: C(mounts), C(purge) and C(vms).
        batch_size: 0 for one call, whatever its size.
        allow_empty: whether C(purge) may take everything away.

    Returns:
        For each call C(mounts), C(vms), C(purge), C(allow_empty) and C(label). None when there is nothing to do.
    """
    mounts, purge, further = list(work["mounts"]), work["purge"], list(work["vms"])
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
                "vms": [name for name in part if name in further],
                "purge": purge,
                # A part that is empty is no sign of a mistake in the inventory; the whole list being empty is.
                "allow_empty": allow_empty or bool(mounts),
                "label": f"VMs {done + 1} to {done + len(part)} of {size}" if part else "no VMs",
            }
        )
        done += len(part)
    return calls


def _name(entry: t.Any) -> str:
    """The VM of an entry; what is malformed is left to the module, which says so."""
    name = entry.get("vm") if isinstance(entry, Mapping) else None
    return str(_input.trimmed(name) if isinstance(name, str) else name)


def planned(centers: t.Iterable[Mapping[str, t.Any]]) -> list[dict[str, t.Any]]:
    """What vm_model_mount needs to know in check mode of the C(model_centers) that an earlier task would mount."""
    known = ("name", "uuid", "storage_url")
    mounted = [center for center in centers if (center.get("state") or "mounted") == "mounted"]
    return [{key: center[key] for key in known if key in center} for center in mounted]
