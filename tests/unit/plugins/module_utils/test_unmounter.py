# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unmounting in a process of its own."""

from __future__ import annotations

import errno
import json
import socket
import threading
import time

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _child, _mountapi, _mountinfo, _unmounter
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

NFS = b.MOUNTED._replace(fstype="nfs4", source="filer:/depot")


@pytest.fixture
def unmounter():
    found = _unmounter.Unmounter()
    yield found
    found._abandon()


def test_what_cannot_be_unmounted_is_told(unmounter, tmp_path):
    # EPERM for all but root.
    assert unmounter.unmount(str(tmp_path), 30) in (errno.EINVAL, errno.EPERM)
    child = unmounter._child
    assert unmounter.unmount(str(tmp_path / "none"), 30, lazy=True) in (errno.ENOENT, errno.EPERM)
    assert unmounter._child is child


def test_the_child_says_what_became_of_it(monkeypatch):
    done = []

    def unmount(path, lazy):
        done.append((path, lazy))
        if not lazy:
            raise OSError(errno.EBUSY, "busy", path)

    monkeypatch.setattr(_mountapi, "unmount", unmount)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = threading.Thread(target=_unmounter.serve, args=[theirs.detach()])
    child.start()
    with ours:
        answers = []
        for lazy in (True, False):
            ours.send(json.dumps({"path": "/mnt/depot", "lazy": lazy}).encode())
            answers.append(json.loads(ours.recv(1000))["error"])
    child.join(10)
    assert (answers, done) == ([0, errno.EBUSY], [("/mnt/depot", True), ("/mnt/depot", False)])
    assert not child.is_alive()


def test_one_that_waits_for_ever_is_abandoned_and_the_next_is_asked(unmounter, monkeypatch, tmp_path):
    start = _child._START
    monkeypatch.setattr(_child, "_START", "import time; time.sleep(60)")
    began = time.monotonic()
    assert unmounter.unmount(str(tmp_path), 0.2) == errno.ETIMEDOUT
    assert time.monotonic() - began < 10
    monkeypatch.setattr(_child, "_START", "pass")
    assert unmounter.unmount(str(tmp_path), 30) == errno.EIO
    monkeypatch.setattr(_child, "_START", start)
    assert unmounter.unmount(str(tmp_path), 30) in (errno.EINVAL, errno.EPERM)


class Kernel:
    """A mount table, and what is asked in this process and in another."""

    def __init__(self, monkeypatch):
        self.here, self.there = [], []
        self.error, self.goes = 0, True
        self.mounts = []
        monkeypatch.setattr(_mountapi, "unmount", lambda path, lazy: self.here.append((path, lazy)))
        monkeypatch.setattr(_unmounter, "unmount", self.unmount)
        monkeypatch.setattr(_mountinfo, "at", lambda _path: self.mounts)

    def unmount(self, path, deadline, lazy):
        self.there.append((path, lazy))
        if self.goes:
            self.mounts = []
        return self.error


@pytest.fixture
def kernel(monkeypatch):
    return Kernel(monkeypatch)


@pytest.mark.parametrize("fstype", ["ext4", "xfs", "tmpfs", "squashfs"])
def test_what_waits_for_no_server_is_unmounted_here(fstype, kernel):
    _unmounter.take_away(NFS._replace(fstype=fstype), lazy=True)
    assert (kernel.here, kernel.there) == ([("/mnt/depot", True)], [])


@pytest.mark.parametrize("fstype", ["nfs4", "cifs", "ceph", "fuse.rclone", "fuse", "of-another-kind"])
@pytest.mark.parametrize("error", [0, errno.ETIMEDOUT])
def test_what_may_wait_for_a_server_is_unmounted_by_another_process(fstype, error, kernel):
    mount = NFS._replace(fstype=fstype)
    kernel.mounts, kernel.error = [mount], error
    _unmounter.take_away(mount)
    assert (kernel.here, kernel.there) == ([], [("/mnt/depot", False)])


@pytest.mark.parametrize("error", [errno.ETIMEDOUT, errno.EBUSY])
def test_what_stays_is_told(error, kernel):
    kernel.mounts, kernel.error, kernel.goes = [NFS], error, False
    with pytest.raises(OSError) as caught:
        _unmounter.take_away(NFS)
    assert (caught.value.errno, caught.value.filename) == (error, "/mnt/depot")
