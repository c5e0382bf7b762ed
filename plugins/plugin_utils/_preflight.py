# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A table of whether every host and VM can do what is asked of it, from the results of a run in check mode.

Pure, and for the controller only. This plugin util is private to the collection.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from . import _outcomes

HEAD = ("KVM host", "what", "can", "why, or what would be done")

READY, WOULD, RESTART, CANNOT = "yes", "yes, would change", "after a restart", "no"


class Row(t.NamedTuple):
    """One line: a host, one of its model centers, or one of its VMs."""

    host: str
    what: str
    can: str
    why: str


def rows(
    hosts: t.Iterable[str], variables: Mapping[str, t.Any], placement: t.Optional[Mapping[str, t.Any]]
) -> list[Row]:
    """The lines of the table, as the roles would have it on each host."""
    found: list[Row] = []
    for host in hosts:
        found += _of_host(host, variables[host], placement)
    for item in (placement or {}).get("failures", []):
        found.append(Row("", f"VM {item['vm']}", CANNOT, f"{item['error_code']}: {item['msg']}"))
    return found


def table(lines: t.Sequence[Row]) -> list[str]:
    """The lines as text in columns."""
    widths = [max(len(str(line[column])) for line in (HEAD, *lines)) for column in range(3)]
    ruler = tuple("-" * width for width in (*widths, len(HEAD[3])))
    return [
        "  ".join([*(f"{line[column]:<{widths[column]}}" for column in range(3)), line[3]]).rstrip()
        for line in (HEAD, ruler, *lines)
    ]


def _of_host(host: str, variables: Mapping[str, t.Any], placement: t.Optional[Mapping[str, t.Any]]) -> list[Row]:
    outcome = _outcomes.of_host(host, variables, placement)
    lines = [_itself(host, variables, outcome)]
    for leaf in _leaves(variables, _outcomes.CENTERS):
        lines.append(
            _line(host, f"center {leaf.get(_outcomes.CENTER, '')}", leaf.get("actions"), _outcomes.failures(leaf))
        )
    vms: dict[str, list[str]] = {}
    restart: dict[str, list[str]] = {}
    for leaf in _leaves(variables, "vm_prepare_result"):
        for vm in leaf.get("vms") or []:
            vms.setdefault(vm["vm"], []).extend(vm["actions"])
            if vm["restart_required"]:
                restart[vm["vm"]] = list(vm["restart_reasons"])
    for leaf in _leaves(variables, "vm_models_result"):
        for mount in leaf.get("mounts") or []:
            actions = vms.setdefault(mount["vm"], [])
            actions += [f"{mount['mount_path']}: {len(mount['actions'])} steps"] * bool(mount["changed"])
    by_vm: dict[str, list[_outcomes.Failure]] = {}
    for failure in outcome.failures:
        if failure.vm:
            by_vm.setdefault(failure.vm, []).append(failure)
            vms.setdefault(failure.vm, [])
    for name, actions in vms.items():
        line = _line(host, f"VM {name}", actions, by_vm.get(name, []))
        if name in restart and line.can != CANNOT:
            line = line._replace(can=RESTART, why=f"runs without {', '.join(restart[name])}")
        lines.append(line)
    return lines


def _itself(host: str, variables: Mapping[str, t.Any], outcome: _outcomes.Outcome) -> Row:
    """The host without its centers and VMs."""
    own = [failure for failure in outcome.failures if not failure.vm and not failure.place]
    actions = [action for leaf in _leaves(variables, "kvm_host_result") for action in leaf.get("actions") or []]
    return _line(host, "host", actions, own)


def _line(host: str, what: str, actions: t.Any, failures: list[_outcomes.Failure]) -> Row:
    if failures:
        return Row(host, what, CANNOT, "; ".join(f"{failure.error_code}: {failure.msg}" for failure in failures))
    return Row(host, what, WOULD if actions else READY, ", ".join(actions or []))


def _leaves(variables: Mapping[str, t.Any], name: str) -> list[Mapping[str, t.Any]]:
    result = variables.get(name)
    return _outcomes.leaves(result) if isinstance(result, Mapping) else []
