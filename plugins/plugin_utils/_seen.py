# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The VMs that the KVM hosts of a run have now, as vm_info found them. Pure.

This plugin util is private to the collection, and for the controller only.
"""

from __future__ import annotations

import typing as t
from collections.abc import Mapping

from ..module_utils import _input
from ..module_utils._errors import ModelfleetError


class Domain(t.NamedTuple):
    """A VM as one host has it."""

    host: str
    name: str
    uuid: str
    active: bool


class Seen:
    """What the hosts of the run have.

    Attributes:
        silent: hosts that could not be asked.
    """

    def __init__(self, results: Mapping[str, t.Any]) -> None:
        """From the result of vm_info of every host of the run; one that could not be asked has no C(vms) in it."""
        self.silent: list[str] = []
        self._known: dict[str, list[Domain]] = {}
        self._here: dict[str, dict[str, Domain]] = {}
        for host, result in results.items():
            if not isinstance(result, Mapping) or "vms" not in result or _failed(result):
                self.silent.append(host)
                continue
            here = self._here.setdefault(host, {})
            for vm in result["vms"]:
                domain = Domain(host, vm["vm"], vm["vm_instance_uuid"], bool(vm["active"]))
                for name in dict.fromkeys((domain.name, domain.uuid)):
                    self._known.setdefault(name, []).append(domain)
                    here[name] = domain

    def knows(self, name: str) -> bool:
        """Whether any host has a VM of this name or UUID."""
        return key(name) in self._known

    def here(self, host: str, name: str) -> t.Optional[Domain]:
        """The VM that a host has by this name or UUID."""
        return self._here.get(host, {}).get(key(name))

    def place(self, name: str, only: t.Collection[str]) -> t.Optional[Domain]:
        """Where a VM is; None when no host has it.

        Args:
            only: hosts that may have it; all of them when empty.

        Raises:
            ModelfleetError: C(vm_runs_twice), C(vm_ambiguous), C(host_unreachable).
        """
        found = [domain for domain in self._known.get(key(name), []) if not only or domain.host in only]
        silent = [host for host in self.silent if not only or host in only]
        running = [domain for domain in found if domain.active]
        if len({domain.uuid for domain in found}) > 1:
            raise _puzzle(name, code="vm_ambiguous", what="different VMs have this name", found=found)
        if len(running) > 1:
            raise _puzzle(name, code="vm_runs_twice", what="it runs", found=running)
        if running:
            # What is shut off elsewhere is what a migration left behind.
            return running[0]
        if silent:
            what = f"is shut off on {found[0].host} and may run" if found else "may be"
            raise ModelfleetError(
                "host_unreachable",
                f"VM {name} {what} on {', '.join(silent)}, which cannot be asked",
                vm=name,
                hosts=silent,
            )
        if len(found) > 1:
            raise _puzzle(name, code="vm_ambiguous", what="it is shut off", found=found)
        return found[0] if found else None


def key(name: str) -> str:
    """A name or UUID as hosts are asked for it."""
    return name.lower() if _input.is_uuid(name) else name


def _failed(result: Mapping[str, t.Any]) -> bool:
    return any(result.get(name) for name in ("failed", "unreachable", "error_code"))


def _puzzle(name: str, code: str, what: str, found: list[Domain]) -> ModelfleetError:
    hosts = [domain.host for domain in found]
    return ModelfleetError(code, f"VM {name}: {what} on {', '.join(hosts)}", vm=name, hosts=hosts)
