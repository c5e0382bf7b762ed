# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Attributes of modules, written once.

This doc fragment is private to the collection.
"""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Predicts exactly what a run will do, and changes nothing.
    support: full
  diff_mode:
    description: Returns what has changed, or in check mode would change, with C(--diff).
    support: full
  idempotent:
    description: A second run with the same options changes nothing.
    support: full
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    description: Never changes anything, so it does the same in check mode.
    support: full
  diff_mode:
    description: Never changes anything, so there is nothing to show.
    support: N/A
  idempotent:
    description: Never changes anything.
    support: full
"""

    ACTION_GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/modelfleet.kvm.kvm) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - modelfleet.kvm.kvm
"""
