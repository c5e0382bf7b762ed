# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unmounting in a process of its own."""

from __future__ import annotations

import errno
import time

from ansible_collections.modelfleet.kvm.plugins.module_utils import _mountapi, _unmounter


def test_what_cannot_be_unmounted_is_told(tmp_path):
    # EPERM for all but root.
    assert _unmounter.unmount(str(tmp_path), 30) in (errno.EINVAL, errno.EPERM)
    assert _unmounter.unmount(str(tmp_path / "none"), 30, lazy=True) in (errno.ENOENT, errno.EPERM)


def test_the_child_says_what_became_of_it(monkeypatch):
    done = []
    monkeypatch.setattr(_mountapi, "unmount", lambda path, lazy: done.append((path, lazy)))
    assert [_unmounter.serve("/mnt/depot", "lazy"), _unmounter.serve("/mnt/depot", "")] == [0, 0]
    assert done == [("/mnt/depot", True), ("/mnt/depot", False)]


def test_one_that_waits_for_ever_is_abandoned(monkeypatch, tmp_path):
    monkeypatch.setattr(_unmounter, "_START", "import time; time.sleep(60)")
    began = time.monotonic()
    assert _unmounter.unmount(str(tmp_path), 0.2) == errno.ETIMEDOUT
    assert time.monotonic() - began < 10
