# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mount that a back end makes of a storage URL.

This module util is private to the collection.
"""

from __future__ import annotations

import typing as t


class Definition(t.NamedTuple):
    """A mount as systemd.mount(5) and mount(8) want it.

    `directory` is a local directory that must show the same as the mount point, None where the mount
    is recognised otherwise.
    """

    what: str
    fstype: str
    options: tuple[str, ...]
    directory: t.Optional[str]
