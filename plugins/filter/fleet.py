# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters that the playbooks and roles of this collection decide with. What they do is in plugin_utils."""

from __future__ import annotations

import dataclasses
import functools
import os
import typing as t
from collections.abc import Mapping

from ansible.errors import AnsibleFilterError

from ansible_collections.modelfleet.kvm.plugins.module_utils import _input
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.plugin_utils import (
    _chunks,
    _evacuation,
    _outcomes,
    _placement,
    _preflight,
    _repairs,
    _summary,
    _values,
    _vms,
)

Variables = Mapping[str, t.Any]


def vms(variables: Variables, limited: list[str], kvm_hosts: list[str]) -> dict[str, t.Any]:
    return _vms.gather(variables, limited, kvm_hosts)


def placement(variables: Variables, hosts: list[str], wishes: Variables, state: str, sync: bool) -> dict[str, t.Any]:
    results = collected(variables, hosts, _outcomes.SEEN)
    return _placement.decide(wishes, results, {host: variables[host] for host in hosts}, state, sync)


def chunks(
    parts: list[dict[str, t.Any]], batch_size: t.Any = None, allow_empty: t.Any = None
) -> list[dict[str, t.Any]]:
    size = _values.whole("vm_models_batch_size", batch_size, _chunks.BATCH)
    return _chunks.cut(_values.plain(parts), size, _values.truth("vm_models_allow_empty", allow_empty))


def given(value: t.Any, fallback: t.Any) -> t.Any:
    return _values.given(value, fallback)


def failures(result: Variables) -> list[dict[str, str]]:
    return [dataclasses.asdict(failure) for failure in _outcomes.failures(result)]


def summary(variables: Variables, hosts: list[str], placed: t.Optional[Variables] = None) -> dict[str, t.Any]:
    return _summary.summary(hosts, variables, placed)


def may_begin(
    variables: Variables, hosts: list[str], percentage: t.Union[int, float, str], placed: t.Optional[Variables] = None
) -> bool:
    return _summary.may_begin(hosts, variables, float(percentage), placed)


def preflight(variables: Variables, hosts: list[str], placed: t.Optional[Variables] = None) -> dict[str, t.Any]:
    rows = _preflight.rows(hosts, variables, placed)
    return {"lines": _preflight.table(rows), "rows": [row._asdict() for row in rows]}


def repairs(info: Variables) -> dict[str, list[dict[str, str]]]:
    return _repairs.repairs(info)


def center(value: t.Any) -> str:
    return _evacuation.name(value)


def removals(info: Variables, model_center: str) -> list[dict[str, str]]:
    return _evacuation.removals(info, model_center)


def obstacles(info: Variables, centers: Variables, model_center: str) -> list[dict[str, str]]:
    return _evacuation.obstacles(info, centers, model_center)


def blocked(variables: Variables, hosts: list[str], model_center: str) -> bool:
    return _evacuation.blocked(hosts, variables, model_center)


def planned(centers: t.Any) -> list[dict[str, t.Any]]:
    return _chunks.planned(_values.given(centers, []))


def local_path(path: t.Any) -> str:
    return os.path.abspath(os.path.expanduser(_input.trimmed(str(path)) or ""))


def collected(variables: Variables, hosts: list[str], name: str) -> dict[str, t.Any]:
    return {host: _values.plain(variables[host].get(name)) for host in hosts}


def _safely(function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
    """Failures with their code in the words that Ansible shows."""

    @functools.wraps(function)
    def run(*arguments: t.Any, **options: t.Any) -> t.Any:
        try:
            return function(*arguments, **options)
        except ModelfleetError as problem:
            raise AnsibleFilterError(f"{problem.code}: {problem.msg}") from problem

    return run


class FilterModule:
    """The filters."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By their names."""
        every: list[t.Callable[..., t.Any]] = [vms, placement, chunks, given, failures, summary, may_begin, preflight]
        every += [repairs, center, removals, obstacles, blocked, planned, local_path, collected]
        return {f"fleet_{function.__name__}": _safely(function) for function in every}
