# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answers of hosts in the cache of an inventory source, each with the time that it is from. Pure.

The cache of Ansible knows one time for all that a source keeps, which would begin again whenever one host is asked.

This plugin util is private to the collection.
"""

from __future__ import annotations

import hashlib
import json
import typing as t

from ._inventory_hosts import KvmHost

Entry = dict[str, t.Any]


def key(host: KvmHost, guests: bool) -> str:
    """What an answer is kept under: whom it is from, and what was asked. The URI cannot be read from it."""
    return hashlib.sha256(json.dumps([host, guests]).encode()).hexdigest()


def entry(vms: list[dict[str, t.Any]], now: float) -> Entry:
    """What is kept of an answer."""
    return {"at": now, "vms": vms}


def good(kept: t.Mapping[str, Entry], now: float, seconds: float) -> dict[str, Entry]:
    """What is not too old.

    Args:
        seconds: how long an answer may be kept, 0 for ever.
    """
    return {name: item for name, item in kept.items() if not seconds or 0 <= now - item["at"] <= seconds}
