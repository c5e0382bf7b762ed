# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host for model centers: a directory of units, a mount point, and a log of systemctl."""

from __future__ import annotations

import dataclasses
import errno
import os

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _center_apply,
    _center_effects,
    _center_files,
    _center_mount,
    _center_state,
    _centers,
    _keeper_file,
    _mountinfo,
    _opener,
    _storage,
    _systemd,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

UNIT = "mnt-depot.mount"


class Host:
    """A directory of units, a mount point, and a systemctl that can be made to fail."""

    def __init__(self, root, monkeypatch):
        self.root = root
        self.units = root / "units"
        self.units.mkdir()
        self.mount_point = root / "depot"
        self.center = dataclasses.replace(b.CENTER, mount_point=str(self.mount_point), keep_alive=False)
        self.calls = []
        self.fails = set()
        self.state = _center_state.HEALTHY
        self.mounts = []
        self.error, self.busy = 0, False
        monkeypatch.setattr(_systemd, "UNIT_DIRECTORY", str(self.units))
        monkeypatch.setattr(_systemd, "call", self.call)
        monkeypatch.setattr(_systemd, "journal", lambda _unit: ["said so"])
        monkeypatch.setattr(_mountinfo, "read", lambda: self.mounts)
        monkeypatch.setattr(_mountinfo, "at", lambda path: _mountinfo.stack(self.mounts, path))
        monkeypatch.setattr(_center_state, "look", self.look)
        monkeypatch.setattr(_opener, "look", self.open)
        monkeypatch.setattr(_center_files, "_PENDING", str(root / "pending"))
        monkeypatch.setattr(_center_files, "protect", lambda path: self.calls.append("protect"))
        monkeypatch.setattr(_storage._backend, "directory", lambda name: str(root / "secrets" / name))
        monkeypatch.setattr(_center_effects._unmounter, "unmount", self.unmount)
        monkeypatch.setattr(_keeper_file, "install", lambda: self.calls.append("keeper"))

    def open(self, root, paths, deadline, clone=False):
        there = os.path.isdir(root)
        return [_opener.Found((1, 5) if there else None, 0 if there else errno.ENOENT)]

    def call(self, verb, unit=None, timeout=120, code="systemd_error", options=()):
        verb = " ".join([verb, *options])
        self.calls.append(verb)
        if verb in self.fails:
            raise ModelfleetError(code, f"systemctl {verb} failed")

    def look(self, center, unit, deadline, verify=True):
        self.calls.append("look")
        return _center_state.Seen(self.state, why="said so")

    def unmount(self, path, deadline, lazy=False):
        self.calls.append("lazily" if lazy else "pop")
        if not self.busy:
            self.mounts.pop()
        return self.error

    def view(self, text=None, mounted=False, **changes):
        """What is there: a unit of ours with a text, or none."""
        ours = None
        if text is not None:
            (self.units / UNIT).write_text(text, encoding="utf-8")
            self.mount_point.mkdir()
            ours = _centers.Unit(str(self.units / UNIT), text, self.center)
        state = ("active", "enabled") if mounted else ("inactive", "")
        unit = _systemd.Unit(UNIT, "loaded", *state, "", False)
        mount = b.ROOT._replace(mount_point=str(self.mount_point)) if mounted else None
        seen = _center_state.Seen(_center_state.WRONG_OPTIONS if mounted else _center_state.NOT_MOUNTED, mount, 1)
        found = _center_mount.View(ours, unit, seen, self.mount_point.is_dir(), watched=False)
        return dataclasses.replace(found, **changes)

    def apply(self, state, view, secrets=None):
        steps = _center_mount.plan(state, self.center, view, None)
        _center_apply.apply([step._replace(unit=UNIT) for step in steps], view, None, secrets or {}, 30)

    def text(self):
        path = self.units / UNIT
        return path.read_text(encoding="utf-8") if path.exists() else None


def failure(host, view, **options):
    with pytest.raises(ModelfleetError) as caught:
        host.apply("mounted", view, **options)
    return caught.value.code
