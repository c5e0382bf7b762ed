# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: vms
short_description: VMs of KVM hosts as hosts of the inventory, with their models
version_added: 0.1.0
description:
  - Asks the libvirt of any number of KVM hosts, side by side, for their VMs. Each VM becomes a host of the inventory,
    with its state, its models and their drift in the variable C(modelfleet_vm).
  - A KVM host that does not answer is left out, with a warning.
  - Never changes anything. Connections to libvirt are read-only, as long as guests are not asked.
  - The file of the source is called C(vms.yml), or its name ends with C(.vms.yml) or C(.modelfleet.yml). The ending may
    be C(.yaml) as well.
author:
  - The modelfleet.kvm contributors (@modelfleet)
requirements:
  - The Python bindings of libvirt on the control node (C(python3-libvirt), or C(libvirt-python) of PyPI), for the
    Python that runs Ansible or for C(/usr/bin/python3).
  - C(ssh) on the control node, where O(uri) names it.
extends_documentation_fragment:
  - ansible.builtin.constructed
  - ansible.builtin.inventory_cache
options:
  plugin:
    description:
      - Says that the file is for this plugin.
    type: str
    required: true
    choices: [modelfleet.kvm.vms]
  hosts:
    description:
      - The KVM hosts. Each is a name, or a dictionary with C(name) and C(uri). Give them the names that they have in
        the inventory, where they are hosts of it.
    type: list
    elements: raw
    required: true
  uri:
    description:
      - Where the libvirt of a host is that has no C(uri) of its own. C({host}) stands for its name.
      - All that libvirt takes may be in it, for example C(keyfile), C(port) or C(qemu+tls).
      - The account needs no rights to change anything, unless O(guests=true).
    type: str
    default: qemu+ssh://root@{host}/system?no_tty=1
  timeout:
    description:
      - Seconds for the answer of each host. One that has not answered by then is left out.
    type: int
    default: 30
  at_once:
    description:
      - How many hosts are asked at the same time.
    type: int
    default: 20
  strict_hosts:
    description:
      - Whether the whole source fails when one host does not answer. When none answers, it fails in any case.
    type: bool
    default: false
  guests:
    description:
      - Whether to ask guest agents too what is mounted in their guests. What they are too slow to answer is unknown.
      - The account needs the right to change VMs then, since libvirt takes any talk with a guest for a change.
    type: bool
    default: false
  name_template:
    description:
      - What VMs are called in the inventory, made of C({name}), C({uuid}) and C({host}), the name of the KVM host.
      - A VM whose name would not be its own, or is not fit to be one, is called by this with C(@) and its host after
        it, and its UUID where that is not enough. Names that hosts and groups have already are not given to VMs either.
    type: str
    default: "{name}"
  python:
    description:
      - The Python that has the bindings of libvirt, when that is neither the one that runs Ansible nor
        C(/usr/bin/python3).
    type: path
seealso:
  - name: The page about this plugin
    description: What is seen from afar, VMs of the same name, AWX, and how it compares with community.libvirt.libvirt.
    link: https://github.com/modelfleet/modelfleet.kvm/blob/main/docs/inventory_plugin.md
  - module: modelfleet.kvm.vm_model_mount_info
notes:
  - Everything in C(modelfleet_vm) is text and numbers, which Ansible does not take for templates.
"""

EXAMPLES = r"""
# kvm.vms.yml. Only plugin and hosts are needed. This source has an account on the hosts that may look and do nothing
# else, groups by model and state, and answers that are kept for five minutes.
plugin: modelfleet.kvm.vms
hosts:
  - kvm1
  - kvm2
  - name: edge
    uri: qemu+tls://edge.example.org/system
uri: qemu+ssh://watcher@{host}.example.org/system?no_tty=1&keyfile=/etc/ansible/keys/watcher
keyed_groups:
  - key: modelfleet_vm.models
    prefix: model
  - key: modelfleet_vm.state
    prefix: vm
groups:
  drifted: modelfleet_vm.drift
compose:
  ansible_host: modelfleet_vm.name ~ '.vms.example.org'
cache: true
cache_plugin: ansible.builtin.jsonfile
cache_connection: /var/cache/ansible
cache_timeout: 300
"""

import time

from ansible import constants
from ansible.errors import AnsibleParserError
from ansible.inventory.data import InventoryData
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable

from ansible_collections.modelfleet.kvm.plugins.module_utils import _input
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.plugin_utils import (
    _inventory_ask,
    _inventory_hosts,
    _inventory_kept,
    _inventory_names,
)
from ansible_collections.modelfleet.kvm.plugins.plugin_utils._inventory_hosts import KvmHost

VARIABLE = "modelfleet_vm"


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    NAME = "modelfleet.kvm.vms"

    def verify_file(self, path: str) -> bool:
        return super().verify_file(path) and _inventory_hosts.is_source(path)

    def parse(self, inventory: InventoryData, loader: DataLoader, path: str, cache: bool = True) -> None:
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        try:
            self._fill(inventory, path, cache)
        except ModelfleetError as problem:
            raise AnsibleParserError(_said(problem)) from None

    def _fill(self, inventory: InventoryData, path: str, cache: bool) -> None:
        template = self.get_option("name_template")
        _inventory_names.check_template(template)
        hosts = _inventory_hosts.from_options(self.get_option("hosts"), self.get_option("uri"))
        if self.get_option("at_once") < 1:
            raise _input.invalid("at_once", "it must be at least 1")
        vms, warnings = _inventory_names.placed(self._answers(hosts, path, cache))
        taken = {host.name for host in hosts} | set(inventory.hosts) | set(inventory.groups) | set(constants.LOCALHOST)
        for name, vm in _inventory_names.named(vms, template, taken).items():
            if vm["error"]:
                warnings.append(f"{vm['error']['error_code']}: {vm['error']['msg']}")
            self._add(inventory, name, vm)
        for warning in warnings:
            self.display.warning(_inventory_names.printable(warning))

    def _answers(self, hosts: list[KvmHost], path: str, cache: bool) -> dict[str, list[_inventory_names.Vm]]:
        """The VMs of every host that answers, or did so not long ago.

        What is kept is kept for each host, so that one that did not answer is asked again.
        """
        use, path_key = self.get_option("cache"), self.get_cache_key(path)
        guests, now = self.get_option("guests"), time.time()
        kept = self._cache.get(path_key, {}) if use and cache else {}
        good = _inventory_kept.good(kept, now, self.get_option("cache_timeout") or 0)
        keys = {host.name: _inventory_kept.key(host, guests) for host in hosts}
        asked = _inventory_ask.ask(
            [host for host in hosts if keys[host.name] not in good],
            self.get_option("python") or "",
            _input.seconds("timeout", self.get_option("timeout")),
            guests,
            self.get_option("at_once"),
        )
        problems = []
        for name, answer in asked.items():
            if isinstance(answer, ModelfleetError):
                problems.append(answer)
            else:
                good[keys[name]] = _inventory_kept.entry(answer, now)
        found = {host.name: good[keys[host.name]]["vms"] for host in hosts if keys[host.name] in good}
        fails = problems and (self.get_option("strict_hosts") or not found)
        for problem in problems[1:] if fails else problems:
            self.display.warning(_said(problem))
        if fails:
            raise problems[0]
        if use and asked:
            self._cache[path_key] = {name: good[name] for name in keys.values() if name in good}
        return found

    def _add(self, inventory: InventoryData, name: str, vm: _inventory_names.Vm) -> None:
        inventory.add_host(name)
        inventory.set_variable(name, VARIABLE, vm)
        variables, strict = inventory.hosts[name].get_vars(), self.get_option("strict")
        self._set_composite_vars(self.get_option("compose"), variables, name, strict=strict)
        self._add_host_to_composed_groups(self.get_option("groups"), variables, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option("keyed_groups"), variables, name, strict=strict)


def _said(problem: ModelfleetError) -> str:
    return _inventory_names.printable(f"{problem.code}: {problem.msg}")
