# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Argument specifications that several modules share; their documentation is in doc_fragments/_options.py.

This module util is private to the collection.
"""

from __future__ import annotations

import typing as t

from . import _domain

Spec = dict[str, dict[str, t.Any]]


def common() -> Spec:
    """Options of every module that talks to libvirt."""
    return {
        "uri": {"type": "str", "default": _domain.SYSTEM},
        "timeout": {"type": "int", "default": 30},
    }


def mount() -> Spec:
    """Options of one mount, alone or as an entry of C(mounts)."""
    return {
        "vm": {"type": "str"},
        "model": {"type": "str"},
        "model_version": {"type": "str"},
        "model_uuid": {"type": "str"},
        "model_center": {"type": "str"},
        "model_path": {"type": "str"},
        "mount_path": {"type": "str"},
        "tag": {"type": "str"},
        "transport": {"type": "str", "choices": ["auto", "device", "view"], "default": "auto"},
        "guest": {"type": "str", "choices": ["agent", "none"], "default": "agent"},
        "persistence": {"type": "str", "choices": ["auto", "systemd", "none"], "default": "auto"},
        "account_uuid": {"type": "str"},
        "owner": {"type": "str"},
    }


def published() -> Spec:
    """Options of what is done with one model in its model center, without any VM."""
    return {
        "model": {"type": "str", "required": True},
        "model_version": {"type": "str"},
        "model_center": {"type": "str", "required": True},
        "model_path": {"type": "str"},
        "jobs": {"type": "int", "default": 4},
        "timeout": {"type": "int", "default": 30},
    }
