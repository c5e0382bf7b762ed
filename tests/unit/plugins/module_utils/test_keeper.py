# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What looks after model centers: when it mounts one again, and that the program runs by itself."""

from __future__ import annotations

import ast
import dataclasses
import io
import os
import subprocess
import sys
import zipfile

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _center_effects,
    _center_files,
    _center_state,
    _center_unit,
    _centers,
    _keeper,
    _keeper_file,
    _locks,
    _mountinfo,
    _storage,
    _systemd,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

UNIT = _centers.Unit("/etc/systemd/system/mnt-depot.mount", "text", b.CENTER)
MOUNT = b.ROOT._replace(mount_point="/mnt/depot")


class Host:
    """A center in a state, and what was done to it."""

    def __init__(self, monkeypatch, root):
        self.enabled, self.reload = "enabled", False
        monkeypatch.setattr(_center_files, "_PENDING", str(root / "pending"))
        self.active, self.state, self.done, self.again = "active", "healthy", [], "healthy"
        monkeypatch.setattr(_centers, "units", lambda: [UNIT])
        monkeypatch.setattr(_systemd, "show", self.show)
        monkeypatch.setattr(_systemd, "call", lambda verb, *_arguments, **_options: self.done.append(verb))
        monkeypatch.setattr(_center_state, "look", self.look)
        monkeypatch.setattr(_center_effects, "mount", lambda *_arguments, again: self.done.append(f"mount {again}"))
        monkeypatch.setattr(_center_effects, "verify", lambda *_arguments: self.done.append("verify"))
        monkeypatch.setattr(_locks, "DIRECTORY", "/nonexistent")
        monkeypatch.setattr(_locks, "held", self.held)
        self.locked = False

    def show(self, unit):
        return _systemd.Unit(unit, "", self.active, self.enabled, "", self.reload)

    def look(self, *_arguments):
        mount = None if self.state == _center_state.NOT_MOUNTED else MOUNT
        return _center_state.Seen(self.state, mount, why="said so")

    def held(self, names, deadline):
        if self.locked:
            raise ModelfleetError("lock_timeout", "held")
        return open(os.devnull, "rb")


@pytest.fixture
def host(monkeypatch, tmp_path):
    return Host(monkeypatch, tmp_path)


# The unit, what is at the mount point, what is done, and how it ends.
CASES = [
    ("active", "healthy", [], 0),
    ("active", "dead", ["mount True", "verify"], 0),
    ("active", "not mounted", ["mount True", "verify"], 0),
    ("failed", "not mounted", ["reset-failed", "mount False", "verify"], 0),
    ("failed", "dead", ["reset-failed", "mount True", "verify"], 0),
    # What heals by itself, and what somebody must look at.
    ("active", "hung", [], 1),
    ("active", "unreachable", [], 1),
    ("active", "error", [], 1),
    ("active", "wrong source", [], 1),
    ("active", "stacked", [], 1),
    # Stopped in order; starting.
    ("inactive", "not mounted", [], 0),
    ("inactive", "healthy", [], 0),
    ("activating", "not mounted", [], 1),
]


@pytest.mark.parametrize(("active", "state", "done", "status"), CASES)
def test_what_is_dead_is_brought_back(active, state, done, status, host):
    host.active, host.state = active, state
    assert _keeper.main(["keeper", "check", "depot"]) == status
    assert host.done == done


@pytest.mark.parametrize(("enabled", "done"), [("enabled", ["mount False", "verify"]), ("disabled", [])])
def test_what_was_stopped_only_to_be_mounted_again_is_brought_back(enabled, done, host):
    host.active, host.state, host.enabled = "inactive", "not mounted", enabled
    _center_files.set_pending("depot")
    assert _keeper.main(["keeper", "check", "depot"]) == 0
    assert host.done == done
    assert _center_files.is_pending("depot") is (not done)


def test_a_keeper_that_is_killed_leaves_word(host, monkeypatch):
    def killed(*_arguments, **_options):
        raise KeyboardInterrupt

    host.state = "dead"
    monkeypatch.setattr(_center_effects, "mount", killed)
    with pytest.raises(KeyboardInterrupt):
        _keeper.main(["keeper", "check", "depot"])
    assert _center_files.is_pending("depot")


def test_what_a_run_that_was_killed_wrote_is_what_is_mounted(host):
    host.state, host.reload = "dead", True
    _keeper.main(["keeper", "check", "depot"])
    assert host.done == ["daemon-reload", "mount True", "verify"]
    assert not _center_files.is_pending("depot")


def test_a_center_at_which_a_run_is_at_work_is_left_alone(host):
    host.state, host.locked = "dead", True
    assert _keeper.main(["keeper", "check", "depot"]) == 0
    assert host.done == []


def test_a_center_that_cannot_be_brought_back_is_told_of(host, monkeypatch, capsys):
    def failing(*_arguments, **_options):
        raise ModelfleetError("center_mount_failed", "it does not start")

    host.state = "dead"
    monkeypatch.setattr(_center_effects, "mount", failing)
    assert _keeper.main(["keeper", "check", "depot"]) == 1
    assert "it does not start" in capsys.readouterr().out


def test_a_center_that_there_is_not_is_told_of(host):
    assert _keeper.main(["keeper", "check", "other"]) == 1


BUCKET = dataclasses.replace(b.CENTER, storage_url="s3://depot-a/", verify_path="x", client="s3fs")


@pytest.mark.parametrize(
    ("fstype", "source", "process", "mounted"),
    [
        ("fuse.s3fs", "s3://depot-a", 1, True),
        ("fuse.s3fs", "s3://depot-a", 0, True),
        ("fuse.sshfs", "s3://depot-a", 1, False),
        ("fuse.s3fs", "s3://depot-b", 1, False),
    ],
)
def test_a_service_waits_until_its_client_has_mounted(fstype, source, process, mounted, monkeypatch):
    shown = MOUNT._replace(fstype=fstype, source=source)
    monkeypatch.setattr(_mountinfo, "at", lambda path: _mountinfo.stack([shown], path))
    assert _center_effects.wait(BUCKET, process, 0.2) is mounted


def test_a_service_does_not_wait_for_a_client_that_has_ended(monkeypatch):
    monkeypatch.setattr(_mountinfo, "at", lambda _path: [])
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        # It has ended, and nobody has asked how.
        assert _center_effects.wait(BUCKET, child.pid, 60) is False


def test_the_program_has_all_that_it_imports_and_nothing_else():
    with zipfile.ZipFile(io.BytesIO(_keeper_file.program())) as file:
        names = [name for name in file.namelist() if name.endswith(".py") and "/_" in name]
        parts = {_part(name): ast.parse(file.read(name)) for name in names if _part(name)}
    needed, queue = set(), ["_keeper"]
    while queue:
        name = queue.pop()
        if name in needed:
            continue
        needed.add(name)
        queue.extend(_imports(name, parts[name]))
    assert needed == set(parts)


def _part(name):
    part = name[len("modelfleet_hook/") :].removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return "" if part == "__init__" else part


def _imports(name, tree):
    package = name == "_storage"
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        inside = "_storage." if (package or name.startswith("_storage.")) and node.level == 1 else ""
        if node.module:
            yield inside + node.module
            continue
        for alias in node.names:
            yield inside + alias.name


def test_the_program_runs_by_itself(tmp_path):
    path = tmp_path / "keeper"
    path.write_bytes(_keeper_file.program())
    done = subprocess.run(
        [sys.executable, "-I", str(path), "check", "no-such-center"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "no-such-center" in done.stdout


def test_the_program_asks_storage_by_itself(tmp_path):
    """Its child finds what it needs in the archive."""
    path = tmp_path / "keeper"
    path.write_bytes(_keeper_file.program())
    text = (
        f"import sys; sys.path.insert(0, {str(path)!r}); from modelfleet_hook import _probe;"
        f"print(_probe.ask('x', {str(tmp_path)!r}, 'keeper', 10, {str(tmp_path)!r}).error)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", text], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("0\n", "")


def test_the_program_and_its_units_are_installed_and_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(_center_unit, "KEEPER", str(tmp_path / "lib" / "keeper"))
    monkeypatch.setattr(_systemd, "UNIT_DIRECTORY", str(tmp_path))
    assert not _keeper_file.installed() and not _keeper_file.left()
    _keeper_file.install()
    assert _keeper_file.installed() and _keeper_file.left()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "lib",
        "modelfleet-keeper@.service",
        "modelfleet-keeper@.timer",
    ]
    (tmp_path / "modelfleet-keeper@.timer").write_text("edited")
    assert not _keeper_file.installed() and _keeper_file.left()
    _keeper_file.remove()
    assert not _keeper_file.left()
    assert list(tmp_path.iterdir()) == []
    _keeper_file.remove()


@pytest.mark.parametrize(
    ("word", "escaped"),
    [
        ("a b", '"a b"'),
        ("50%", '"50%%"'),
        ("$HOME", '"$$HOME"'),
        ('say "x"', '"say \\"x\\""'),
        ("back\\slash", '"back\\\\slash"'),
    ],
)
def test_words_of_a_command_are_not_expanded_by_systemd(word, escaped):
    assert _center_unit.argument(word) == escaped


def test_storage_says_which_client_needs_a_file():
    assert _storage.needs_file(dataclasses.replace(BUCKET, client=""))
    assert not _storage.needs_file(BUCKET)
