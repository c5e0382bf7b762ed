# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is due before a mount is as its record wants it, and why. Pure, and for the controller only.

This plugin util is private to the collection.
"""

from __future__ import annotations

import typing as t

from ..module_utils import _errors, _layers, _records, _wanted

_RUN = "Run modelfleet.kvm.mount again; it repairs what is not right."


class Due(t.NamedTuple):
    """What somebody should do, and the reason."""

    what: str
    why: str


def due(mount: t.Mapping[str, t.Any]) -> tuple[Due, ...]:
    """What is due for one of the C(mounts) of M(modelfleet.kvm.vm_model_mount_info)."""
    return tuple(_due(mount))


def _due(mount: t.Mapping[str, t.Any]) -> t.Iterator[Due]:
    record, layers = mount["record"], mount["layers"]
    failed = mount["error"]
    if failed and failed["error_code"] in _errors.HEALED_BY_RESTART:
        yield Due("Stop the VM and start it again.", f"{_errors.CATALOGUE[failed['error_code']].title}.")
    if record["intent"] == _records.MOUNTING:
        yield Due("Run modelfleet.kvm.mount again; it finishes the mount.", "The run that mounted it was cut short.")
    elif record["intent"] == _records.UNMOUNTING:
        yield Due("Unmount it again; that finishes it.", "The run that unmounted it was cut short.")
    # What could not be looked at has a remedy of its own.
    elif mount["drift"] and not failed:
        yield from _drift(layers, mount["leaving"])
    if record.get("revoke"):
        why = "The host may still serve what was taken away from it, and revoke=strict was asked for."
        yield Due("Run again with revoke=strict.", why)
    if mount["vm_state"] == "shutoff" and record["guest"] == _wanted.AGENT:
        by_itself = record["persistence"] == _wanted.SYSTEMD
        then = "its guest mounts the model when it boots." if by_itself else "then run modelfleet.kvm.mount again."
        yield Due(f"Start the VM; {then}", "The VM is shut off.")


def _drift(layers: t.Mapping[str, str], leaving: t.Optional[t.Mapping[str, str]]) -> t.Iterator[Due]:
    fine = (_layers.RIGHT, _layers.NOT_DUE)
    off = [layer for layer in layers if layers[layer] not in fine]
    for layer in off:
        words = f"{_layers.NAMES[layer][0].upper()}{_layers.NAMES[layer][1:]}: {_layers.WORDS[layers[layer]]}."
        if layers[layer] == _layers.FOREIGN:
            yield Due("Take away what is there, then run modelfleet.kvm.mount again.", words)
        elif layers[layer] == _layers.UNKNOWN:
            yield Due("See that it can be looked at, then look again.", words)
        else:
            yield Due(_RUN, words)
    if leaving is not None:
        yield Due(_RUN, "Something of another transport is left.")
    elif not off:
        yield Due(_RUN, "The live and the persistent XML do not have the same record.")
