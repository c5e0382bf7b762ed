# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What modules return: one shape for one mount or a thousand, and a diff that a person can read.

This module util is private to the collection.
"""

from __future__ import annotations

import typing as t

from . import _errors, _identity, _layers, _mount_lines, _records, _steps
from ._converge import Outcome
from ._errors import ModelfleetError
from ._layers import MISSING, NOT_DUE, RIGHT, Layers
from ._wanted import AGENT, SYSTEMD


def mounts(outcomes: t.Iterable[Outcome], only_changed: bool = False) -> list[dict[str, t.Any]]:
    """The C(mounts) of a result, in the order of the entries.

    Args:
        only_changed: leave out what is as it was.
    """
    shown = [_mount(outcome) for outcome in outcomes]
    if not only_changed:
        return shown
    return [mount for mount in shown if mount["changed"] or mount["error"]]


def warnings(outcomes: t.Iterable[Outcome]) -> list[str]:
    """What somebody should know although nothing failed, each once."""
    return list(dict.fromkeys(warning for outcome in outcomes for warning in outcome.warnings))


def summary(outcomes: t.Iterable[Outcome]) -> dict[str, int]:
    """How many mounts there are of each kind, whatever C(mounts) shows."""
    counts = {"total": 0, "ok": 0, "changed": 0, "failed": 0, "due": 0}
    for outcome in outcomes:
        counts["total"] += 1
        counts["failed" if outcome.error else "changed" if outcome.changed else "ok"] += 1
        counts["due"] += bool(_due(outcome))
    return counts


def _mount(outcome: Outcome) -> dict[str, t.Any]:
    plan = outcome.plan
    known = plan.after or plan.before
    by_itself = plan.after if plan.after and plan.after.guest != AGENT else None
    return {
        "vm": plan.vm_name,
        "vm_instance_uuid": plan.vm_uuid,
        "model": known.model_name if known else plan.wanted.model,
        "mount_path": known.mount_path if known else plan.wanted.mount_path,
        "tag": known.tag if known else plan.wanted.tag,
        "transport": known.transport if known else plan.wanted.transport,
        "origin": plan.origin,
        "changed": outcome.changed,
        "actions": plan.actions,
        "prediction": "conditional" if plan.conditional else "exact",
        "conditions": list(plan.conditional),
        "replugged": outcome.replugged,
        "due": _due(outcome),
        "restart_required": outcome.error is not None and outcome.error.code in _errors.HEALED_BY_RESTART,
        "mount_lines": _lines(by_itself) if by_itself else None,
        "record": outcome.record.as_dict() if outcome.record else None,
        "error": outcome.error.as_result() if outcome.error else None,
    }


def _lines(record: _records.Record) -> dict[str, str]:
    """How a guest mounts a model by itself."""
    link = (record.mount_path, _identity.seen_at(record.mount_path)) if record.linked else None
    return _mount_lines.mount_lines(record.tag, record.device_path, link)


def _due(outcome: Outcome) -> list[str]:
    """What somebody else must do before all is as it was asked for."""
    plan = outcome.plan
    if outcome.error is not None:
        code = outcome.error.code
        return ["stop the VM and start it again"] if code in _errors.HEALED_BY_RESTART else []
    known = plan.after or plan.before
    if outcome.replugged and known and known.guest != AGENT:
        return [f"the guest unmounts {known.device_path} and mounts it again: its device was plugged again"]
    if plan.after is not None and plan.after.guest != AGENT:
        plugged = any(action in _steps.ATTACHES for action in plan.actions)
        due = ["the guest mounts it by itself, see mount_lines"] if plugged and not plan.before else []
        linked = plan.after.linked and not (plan.before and plan.before.linked)
        return [*due, *["the guest links it by itself, see mount_lines"] * linked]
    if outcome.vm_state != "shutoff":
        return []
    due = []
    if plan.after is not None:
        # Only a run makes the link of a model that is seen elsewhere than below the view.
        linked = not plan.after.linked or (plan.before is not None and plan.before.linked)
        by_itself = plan.after.persistence == SYSTEMD and linked
        how = "start the VM; its guest mounts the model when it boots"
        due.append(how if by_itself else "start the VM and run again, to mount the model in its guest")
    before = plan.before
    if before is not None and before.linked and not (plan.after and plan.after.linked):
        due.append(f"a link that the guest keeps at {before.mount_path} leads nowhere")
    if plan.after is None or (before is not None and before.device_path != plan.after.device_path):
        device_goes = before is not None and (not before.in_view or _steps.DETACH_PERSISTENT in plan.actions)
        if before is not None and device_goes and before.persistence == SYSTEMD:
            due.append(f"the guest keeps its mount unit of {before.device_path}, which does nothing without the device")
    return due


def diff(outcomes: t.Iterable[Outcome]) -> dict[str, str]:
    """Before and after of every mount that changes, a line for each layer."""
    before, after = [], []
    for outcome in outcomes:
        plan = outcome.plan
        if plan.origin == _steps.STRAY and outcome.changed:
            before.append(f"VM {plan.vm_name}: a device without a record, tag {plan.wanted.tag!a}\n")
        elif plan.steps and outcome.error is None:
            before.append(_state(plan, plan.before, plan.leaving if plan.converts else plan.layers))
            if plan.leaving and not plan.converts:
                before.append(_by_layer(plan.leaving, "left of another transport, "))
            after.append(_state(plan, plan.after, _all_right(plan.layers)))
    return {"before": "".join(before), "after": "".join(after)}


def _all_right(layers: t.Optional[Layers]) -> t.Optional[Layers]:
    return layers and Layers(*(NOT_DUE if layer == NOT_DUE else RIGHT for layer in layers))


def _state(plan: _steps.MountPlan, record: t.Optional[_records.Record], layers: t.Optional[Layers]) -> str:
    there = layers is not None and any(layer not in (MISSING, NOT_DUE) for layer in layers)
    if record is None and not (plan.after and there):
        return ""
    known = record or plan.after
    lines = [f"VM {plan.vm_name}: {known.mount_path if known else ''}"]
    if record is not None:
        version = f" {record.model_version}" if record.model_version else ""
        model = f"{record.model_name}{version} from {record.model_center_name}:{record.model_path}"
        how = f"transport {record.transport}, tag {record.tag}, guest {record.guest}"
        lines.append(f"  record: {model}, {how}, {record.intent}")
        account = record.account_uuid or "none"
        lines.append(f"  model UUID {record.model_uuid}, owner {record.owner}, account {account}")
    return "\n".join(lines) + "\n" + (_by_layer(layers) if layers else "")


def _by_layer(layers: Layers, what: str = "") -> str:
    """A line for each layer that there is."""
    found = {name: layer for name, layer in layers._asdict().items() if layer != NOT_DUE}
    return "".join(f"  {what}{_layers.NAMES[name]}: {_layers.WORDS[layer]}\n" for name, layer in found.items())


def failure(outcomes: t.Iterable[Outcome]) -> t.Optional[dict[str, t.Any]]:
    """C(error_code), C(msg) and C(details) of a run in which something failed: those of its first failure."""
    return first_of((outcome.error for outcome in outcomes), "mounts")


def first_of(found: t.Iterable[t.Optional[ModelfleetError]], where: str) -> t.Optional[dict[str, t.Any]]:
    """The first failure as the result of a run; the others are counted, and found where its message says."""
    errors: list[ModelfleetError] = []
    for error in found:
        if error is not None and error not in errors:
            errors.append(error)
    if not errors:
        return None
    result = errors[0].as_result()
    if len(errors) > 1:
        result["msg"] = f"{result['msg']} ({len(errors) - 1} more failed, see {where}.)"
    return result


# The words of the original, and one more.
STATUSES = ("Mounting", "Mounted", "MountFailed", "Unmounting", "Attached")


def status(record: _records.Record, layers: Layers) -> str:
    """The status of a mount in the words of the original, derived from intent and truth.

    C(Attached) is for mounts whose guest's part is not ours, or waits for the VM.
    """
    if record.intent == _records.MOUNTING:
        return "Mounting"
    if record.intent == _records.UNMOUNTING:
        return "Unmounting"
    if not layers.right:
        return "MountFailed"
    return "Attached" if layers.guest == NOT_DUE else "Mounted"
