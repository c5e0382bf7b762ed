# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the virtiofsd of a view still has of a model, by what /proc shows of its two processes."""

from __future__ import annotations

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _held, _mountinfo, _views, _virtiofsd
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

R = b.record(b.viewed())
SOURCE = _views.source(b.VM)
BIND, NEXT = b.bind(R), b.bind(R, number=2)
GONE = _views.of_mount(BIND.mount_point)
ROOT = b.view()._replace(mount_id=300, mount_point="/")
OTHER = b.bind(b.record(b.second(transport="view", mount_path="/models/ocr")))


def in_daemon(bind, number):
    return bind._replace(mount_id=number, mount_point=_views.in_daemon(bind.mount_point))


class Daemon:
    """Two processes with one mount table, of which the second has files open."""

    def __init__(self, directory):
        self.directory = directory
        self.table = [ROOT, in_daemon(OTHER, 302)]
        self.opens(0, "/dev/null", 24, "0100002")
        self.opens(4, "socket:[4711]", 9, "02000002")

    def opens(self, descriptor, path, mount, flags="012400000"):
        for name in ("fd", "fdinfo"):
            (self.directory / "812" / name).mkdir(parents=True, exist_ok=True)
        (self.directory / "812" / "fd" / str(descriptor)).symlink_to(path)
        text = f"pos:\t0\nflags:\t{flags}\nmnt_id:\t{mount}\nino:\t9\n"
        (self.directory / "812" / "fdinfo" / str(descriptor)).write_text(text)


@pytest.fixture(autouse=True)
def daemon(tmp_path, monkeypatch):
    found = Daemon(tmp_path)
    monkeypatch.setattr(_held, "_PROC", str(tmp_path))
    # The first of its processes ends while it is looked at.
    monkeypatch.setattr(_virtiofsd, "processes", lambda source: ["811", "812"] if source == SOURCE else [])
    host = [b.ROOT._replace(mount_id=24), b.view(), OTHER]
    monkeypatch.setattr(_mountinfo, "read", lambda pid="self": host if pid == "self" else found.table)
    return found


def served(shown=""):
    return _held.is_served(SOURCE, GONE, shown)


def test_a_daemon_that_has_nothing_of_it_serves_nothing_of_it(daemon):
    daemon.opens(5, "/.m/x-1/weights.bin", 302)
    assert not served()


@pytest.mark.parametrize(
    ("path", "flags"),
    [
        ("/a b", "02100000"),
        ("/", "012400000"),
        ("/", "010400000"),
        ("/a (deleted)", "0"),
        ("/4/mountinfo", "010400000"),
    ],
)
def test_what_is_open_of_it_is_served(path, flags, daemon):
    daemon.opens(5, path, 301, flags)
    assert served()


@pytest.mark.parametrize(
    ("path", "flags"),
    [
        ("/memfd:pc.ram (deleted)", "02000002"),
        ("/dev/hugepages/libvirt/qemu/4-render-4/ram", "02000002"),
        ("/var/log/libvirt/qemu/render-4-fs0-virtiofsd.log", "0102001"),
        ("/", "010000000"),
        ("/1/task", "010000000"),
        ("/298/mountinfo", "0100000"),
        ("anon_inode:[eventfd]", "02000000"),
    ],
)
def test_what_a_daemon_has_open_beside_models_is_no_model(path, flags, daemon):
    daemon.opens(5, path, 77, flags)
    assert not served()


def test_a_mount_that_a_daemon_did_not_lose_is_served(daemon):
    daemon.table.append(in_daemon(BIND, 301))
    assert served()
    daemon.table[-1] = in_daemon(NEXT, 303)
    assert served()
    assert not served(shown=NEXT.mount_point)


def test_what_is_bound_now_is_no_leftover(daemon):
    daemon.table.append(in_daemon(NEXT, 301))
    daemon.opens(5, "/.m/x-2/weights.bin", 301)
    assert not served(shown=NEXT.mount_point)


@pytest.mark.parametrize("ended", [True, False])
def test_processes_that_do_not_end_are_told(ended, monkeypatch):
    left = [["811", "812"], ["812"], [] if ended else ["812"]]
    monkeypatch.setattr(_virtiofsd, "processes", lambda _source: left.pop(0) if len(left) > 1 else left[0])
    assert _held.wait_until_ended(["811", "812"], SOURCE, 0.1) is ended
