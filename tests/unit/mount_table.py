# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mount table that is a list, for what mounts on real directories."""

from __future__ import annotations

import errno
import os

from ansible_collections.modelfleet.kvm.plugins.module_utils import _mountapi, _mountinfo, _sources, _views
from ansible_collections.modelfleet.kvm.tests.unit import builders as b


class MountTable:
    """A mount table, and what was done to it; it stands in for the kernel's mount API.

    Attributes:
        points: the mount points in their order.
        shows: what was mounted at them: the name of a tree, or the directory that was cloned.
        busy: mount points that are in use.
        broken: the number of the error with which nothing can be mounted.
        shared: whether the clones that were made hand on what is mounted in them.
        private: mount points that do not hand on what is mounted in them.
        log: the mount points that were unmounted, and whether that was done lazily.
    """

    def __init__(self):
        self.points = ["/"]
        self.shows = {}
        self.busy = set()
        self.broken = 0
        self.shared = []
        self.private = {"/"}
        self.log = []
        self._trees = {}

    def install(self, monkeypatch, directory):
        """Stand in for the kernel, with all that is made below a directory."""
        monkeypatch.setattr(_views, "_PLAIN_DIRECTORY", f"{directory}/run")
        monkeypatch.setattr(_sources, "VMS_DIRECTORY", f"{directory}/vms")
        monkeypatch.setattr(_mountinfo, "read", self.read)
        monkeypatch.setattr(_mountinfo, "at", lambda path: _mountinfo.stack(self.read(), path))
        for name in ("read_only_clone", "restore", "attach", "unmount"):
            monkeypatch.setattr(_mountapi, name, getattr(self, name))
        return self

    def tree(self, name=""):
        """A detached mount."""
        tree = os.open("/", os.O_PATH)
        self._trees[tree] = name
        return tree

    def read(self):
        return [
            b.ROOT._replace(
                mount_id=b.ROOT.mount_id + number,
                parent_id=b.ROOT.mount_id if number else b.ROOT.parent_id,
                mount_point=point,
                root=self.shows.get(point, b.MOUNTED.root if point == b.MOUNTED.mount_point else "/"),
                propagation="" if point in self.private else "shared:77",
                options=b.ROOT.options if point == "/" else b.READ_ONLY,
            )
            for number, point in enumerate(self.points)
        ]

    def read_only_clone(self, directory, shared=False):
        self.shared.append(shared)
        clone = os.dup(directory)
        self._trees[clone] = os.readlink(f"/proc/self/fd/{directory}")
        return clone

    def restore(self, path):
        self.private.remove(path)

    def attach(self, tree, path):
        os.fstat(tree)
        if self.broken:
            raise OSError(self.broken, os.strerror(self.broken), path)
        self.points.append(path)
        self.shows[path] = self._trees[tree]

    def unmount(self, path, lazy=False):
        if path in self.busy and not lazy:
            raise OSError(errno.EBUSY, "busy", path)
        self.log.append((path, lazy))
        assert not any(point.startswith(f"{path}/") for point in self.points), "something is mounted below it"
        self.points.reverse()
        self.points.remove(path)
        self.points.reverse()
        if path not in self.points:
            del self.shows[path]
