# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_report
short_description: Make a report of a fleet, to look at or to work with
version_added: 0.1.0
description:
  - Makes one self-contained HTML page, a JSON document or a CSV table of what
    M(modelfleet.kvm.vm_model_mount_info) returned for each KVM host.
  - It returns a text, which M(ansible.builtin.copy) writes to a file.
author:
  - The modelfleet.kvm contributors (@modelfleet)
positional: _input, format
options:
  _input:
    description:
      - For the name of each KVM host, what a task with M(modelfleet.kvm.vm_model_mount_info) registered there. Hosts
        that failed or could not be reached are shown with the reason.
      - An empty dictionary stands for a host that was not looked at, and is shown as such.
    type: dict
    required: true
  format:
    description:
      - V(html) is a page that shows the fleet, with search and filters. It loads nothing from anywhere.
      - V(json) has all data of the page, as lists of objects.
      - V(csv) has them too, in one table with a line for each host, model center, VM, mount and stray device.
    type: str
    choices: [html, json, csv]
    default: html
  model_centers:
    description:
      - For the name of each KVM host, what a task with M(modelfleet.kvm.model_center_info) registered there.
    type: dict
    default: {}
  title:
    description:
      - Heading of the report.
    type: str
    default: Model fleet
  made:
    description:
      - When the fleet was looked at, as people shall read it. The present time when it is not given.
    type: str
notes:
  - Nothing that the name of a VM, a model or a host contains can run in the page, and no cell of the table is a formula
    for a spreadsheet.
seealso:
  - module: modelfleet.kvm.vm_model_mount_info
  - module: modelfleet.kvm.model_center_info
"""

EXAMPLES = r"""
- name: Look at the fleet
  hosts: kvm_hosts
  gather_facts: false
  become: true
  tasks:
    - name: Look at the models of VMs
      modelfleet.kvm.vm_model_mount_info:
      register: fleet_mounts
      ignore_errors: true
      ignore_unreachable: true

- name: Write the report
  hosts: localhost
  gather_facts: false
  vars:
    fleet_hosts: "{{ groups['kvm_hosts'] }}"
    fleet_found: "{{ fleet_hosts | map('extract', hostvars) | map(attribute='fleet_mounts', default={}) }}"
    fleet: "{{ dict(fleet_hosts | zip(fleet_found)) }}"
  tasks:
    - name: Write the page, and the data beside it
      ansible.builtin.copy:
        content: "{{ fleet | modelfleet.kvm.fleet_report(item) }}"
        dest: "fleet.{{ item }}"
        mode: "0600"
      diff: false
      loop: [html, json, csv]
"""

RETURN = r"""
_value:
  description: The report.
  type: str
"""

import datetime
import typing as t

from ansible.errors import AnsibleFilterError

from ansible_collections.modelfleet.kvm.plugins.plugin_utils import _fleet_page, _fleet_read, _fleet_text

_FORMATS = {"html": _fleet_page.to_html, "json": _fleet_text.to_json, "csv": _fleet_text.to_csv}


def fleet_report(
    mounts: t.Any, format: str = "html", model_centers: t.Any = None, title: str = "Model fleet", made: str = ""
) -> str:
    if format not in _FORMATS:
        raise AnsibleFilterError(f"fleet_report: format is {format!a}, and must be one of {', '.join(_FORMATS)}")
    for option, value in (("the input", mounts), ("model_centers", model_centers or {})):
        if not isinstance(value, t.Mapping):
            raise AnsibleFilterError(f"fleet_report: {option} must be a dictionary with the names of hosts as keys")
    made = made or datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    return _FORMATS[format](_fleet_read.fleet(mounts, model_centers or {}, str(title), str(made)))


class FilterModule:
    def filters(self) -> dict[str, t.Callable[..., str]]:
        return {"fleet_report": fleet_report}
