# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model center on its host: what is seen of it, and what stands in its way."""

from __future__ import annotations

import dataclasses
import errno
import os

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _center_effects,
    _center_files,
    _center_observe,
    _center_seen,
    _center_state,
    _centers,
    _keeper_file,
    _mountinfo,
    _opener,
    _probe,
    _systemd,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

CENTER = b.CENTER
MOUNT = b.MOUNTED
OURS = _centers.Unit("/etc/systemd/system/mnt-depot.mount", "text", CENTER)
OTHER = _centers.Unit("/etc/systemd/system/mnt-depot.mount", "text", dataclasses.replace(CENTER, name="other"))


class Host:
    """What the host answers: its mounts, the directories behind them, and systemd."""

    def __init__(self, monkeypatch):
        self.mounts = [b.ROOT, MOUNT]
        self.directories = {"/data/depot": (1, 5), "/mnt/depot": (1, 5)}
        self.error = errno.ENOENT
        self.fragment = OURS.path
        self.known = [OURS]
        self.answer = 0
        self.programs = {"mount.nfs"}
        self.lives = False
        monkeypatch.setattr(_mountinfo, "read", lambda: self.mounts)
        monkeypatch.setattr(_mountinfo, "at", lambda path: _mountinfo.stack(self.mounts, path))
        monkeypatch.setattr(_opener, "look", self.look)
        monkeypatch.setattr(_probe, "ask", self.ask)
        monkeypatch.setattr(_systemd, "mount_unit_name", lambda path: path.strip("/").replace("/", "-") + ".mount")
        monkeypatch.setattr(_systemd, "show", self.show)
        monkeypatch.setattr(_centers, "units", lambda: self.known)
        monkeypatch.setattr(_centers, "damaged", list)
        monkeypatch.setattr(_keeper_file, "installed", lambda: True)
        monkeypatch.setattr(_keeper_file, "left", lambda: True)
        monkeypatch.setattr(_center_state, "processes", lambda _unit: [7] if self.lives else [])
        monkeypatch.setattr(_center_observe.shutil, "which", lambda name, path: name if name in self.programs else None)

    def look(self, root, paths, deadline, clone=False):
        assert paths == ["."]
        identity = self.directories.get(root)
        return [_opener.Found(identity, 0 if identity else self.error)]

    def ask(self, name, path, verify, deadline, direct):
        return _probe.Answers((_probe.Check("stat", self.answer, 0.1),))

    def show(self, unit):
        return _systemd.Unit(unit, "loaded", "active", "enabled", self.fragment, False)


@pytest.fixture
def host(monkeypatch):
    return Host(monkeypatch)


def observe(center=CENTER, wanted=True, units=(OURS,), **options):
    return _center_observe.observe(center, wanted, list(units), 5, **options)


def refusal(*arguments, **options):
    with pytest.raises(ModelfleetError) as caught:
        observe(*arguments, **options)
    return caught.value.code


def test_a_center_that_is_mounted_is_healthy(host):
    view = observe()
    assert (view.ours, view.seen.mount, view.seen.state, view.directory) == (OURS, MOUNT, "healthy", True)
    assert (view.unit.name, view.watched) == ("mnt-depot.mount", True)


@pytest.mark.parametrize(
    ("center", "mounts", "seen", "state"),
    [
        (CENTER, [b.ROOT], (1, 5), "not mounted"),
        (CENTER, [b.ROOT, MOUNT], (1, 6), "wrong source"),
        (CENTER, [b.ROOT, MOUNT], None, "wrong source"),
        (CENTER, [b.ROOT, MOUNT, MOUNT._replace(mount_id=51, parent_id=50)], (1, 5), "stacked"),
        (CENTER, [b.ROOT, MOUNT, MOUNT._replace(mount_id=51, mount_point="/mnt")], (1, 5), "shadowed"),
        (CENTER, [b.ROOT, MOUNT._replace(options=b.READ_WRITE)], (1, 5), "wrong options"),
        (CENTER, [b.ROOT, MOUNT._replace(options=frozenset({"ro", "nodev"}))], (1, 5), "wrong options"),
        (CENTER, [b.ROOT, MOUNT._replace(options=frozenset({"ro", "nosuid"}))], (1, 5), "wrong options"),
        (dataclasses.replace(CENTER, read_only=False), [b.ROOT, MOUNT], (1, 5), "wrong options"),
    ],
)
def test_what_is_mounted_is_compared_with_what_was_wanted(center, mounts, seen, state, host):
    host.mounts = mounts
    host.directories["/mnt/depot"] = seen
    assert observe(center).seen.state == state


def test_a_writable_center_may_be_wanted(host):
    host.mounts = [b.ROOT, MOUNT._replace(options=b.READ_WRITE)]
    assert observe(dataclasses.replace(CENTER, read_only=False)).seen.healthy


@pytest.mark.parametrize(
    ("answer", "lives", "state"),
    [
        (errno.ENOTCONN, False, "dead"),
        (errno.ENOTCONN, True, "unreachable"),
        (errno.ESTALE, True, "dead"),
        (errno.EHOSTDOWN, True, "unreachable"),
        (errno.ETIMEDOUT, True, "hung"),
        (errno.EIO, True, "error"),
    ],
)
def test_one_error_may_mean_two_things(answer, lives, state, host):
    host.answer, host.lives = answer, lives
    host.mounts = [b.ROOT, MOUNT._replace(fstype="fuse.glusterfs", source="g1:/depot")]
    host.programs = {"mount.glusterfs"}
    center = dataclasses.replace(CENTER, storage_url="glusterfs://g1/depot")
    assert observe(center).seen.state == state


SFTP = dataclasses.replace(CENTER, storage_url="sftp://svc@filer/depot")
SSHFS = MOUNT._replace(fstype="fuse.sshfs", source="svc@filer:/depot")


def asked_while(host, monkeypatch, *tables):
    """What a probe answers that finds no verify_path, while the mount table becomes one after the other."""
    left, calls = list(tables), []

    def ask(*arguments, **_options):
        calls.append(arguments)
        host.mounts = left.pop(0) if len(left) > 1 else left[0]
        return _probe.Answers((_probe.Check("stat", 0, 0.1), _probe.Check("verify", errno.ENOENT, 0.1)))

    monkeypatch.setattr(_probe, "ask", ask)
    host.mounts = [b.ROOT, SSHFS]
    seen = _center_state.look(SFTP, "modelfleet-center-depot.service", 5)
    return seen.state, len(calls)


def test_what_lies_below_a_mount_that_goes_is_not_taken_for_it(host, monkeypatch):
    assert asked_while(host, monkeypatch, [b.ROOT]) == ("not mounted", 1)


def test_a_mount_that_came_in_the_place_of_one_that_went_is_asked_itself(host, monkeypatch):
    again = [b.ROOT, SSHFS._replace(mount_id=51)]
    assert asked_while(host, monkeypatch, again, again) == ("wrong content", 2)
    host.lives = True
    assert asked_while(host, monkeypatch, [b.ROOT, SSHFS]) == ("wrong content", 1)


def test_a_mount_that_comes_and_goes_is_not_looked_at_for_ever(host, monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr(_center_state.time, "monotonic", lambda: next(clock))
    tables = [[b.ROOT, SSHFS._replace(mount_id=number)] for number in range(60, 80)]
    state, calls = asked_while(host, monkeypatch, *tables)
    assert state == "dead" and calls < 10


def test_a_client_that_ended_after_it_answered_has_not_mounted_anything(host, monkeypatch):
    monkeypatch.setattr(_systemd, "journal", lambda _unit: [])
    host.mounts, host.lives = [b.ROOT, SSHFS], True
    _center_effects.verify(SFTP, "modelfleet-center-depot.service", 5)
    host.lives = False
    with pytest.raises(ModelfleetError) as caught:
        _center_effects.verify(SFTP, "modelfleet-center-depot.service", 5)
    assert (caught.value.code, caught.value.details["state"]) == ("center_mount_failed", "dead")


@pytest.mark.parametrize(("operation", "state"), [("stat", "dead"), ("statvfs", "dead"), ("read", "error")])
def test_a_stale_handle_means_a_dead_client_for_the_whole_mount_only(operation, state):
    answers = _probe.Answers((_probe.Check(operation, errno.ESTALE, 0.1),))
    assert _center_state.judge(answers, lambda: True)[0] == state


def test_a_mount_point_is_not_touched_where_something_is_mounted(host, monkeypatch):
    touched = []
    for name in ("open", "listdir"):
        monkeypatch.setattr(_center_files.os, name, lambda path, *_rest: touched.append(path) or [])
    _center_files.protect(CENTER.mount_point)
    _center_files.unprotect(CENTER.mount_point)
    assert touched == []


@pytest.mark.parametrize(("names", "calls"), [([], [True]), (["a"], [])])
def test_only_an_empty_mount_point_is_made_immutable(names, calls, monkeypatch, tmp_path):
    for name in names:
        (tmp_path / name).touch()
    found = []
    monkeypatch.setattr(_center_files, "_set_immutable", lambda directory, immutable: found.append(immutable))
    _center_files.protect(str(tmp_path))
    assert found == calls


@pytest.mark.parametrize(
    ("url", "changes", "state"),
    [
        ("nfs://filer/vol", {"fstype": "nfs4", "source": "filer:/vol"}, "healthy"),
        ("nfs://filer/vol", {"fstype": "nfs4", "source": "filer:/other"}, "wrong source"),
        ("nfs://filer/vol", {"fstype": "fuse.nfs", "source": "filer:/vol"}, "wrong source"),
    ],
)
def test_storage_is_recognised_in_the_mount_table(url, changes, state, host):
    host.mounts = [b.ROOT, MOUNT._replace(**changes)]
    assert observe(dataclasses.replace(CENTER, storage_url=url)).seen.state == state


@pytest.mark.parametrize(
    ("wanted", "shown", "same"),
    [
        ("a:/b", "a:/b", True),
        ("a:/b", "a:/bc", False),
        ("*:/b", "10.0.0.1:6789:/b", True),
        ("*:/b", "10.0.0.1:6789:/b/c", False),
        ("JuiceFS:*", "JuiceFS:depot", True),
        ("JuiceFS:*", "Other:depot", False),
    ],
)
def test_a_source_may_be_known_in_part(wanted, shown, same):
    assert _center_seen.matches(wanted, shown) is same


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errno.ENOENT, "storage_missing"),
        (errno.ENOTDIR, "storage_missing"),
        (errno.ETIMEDOUT, "storage_timeout"),
        (errno.EIO, "storage_error"),
    ],
)
def test_storage_that_cannot_be_had_has_its_reason(error, code, host):
    del host.directories["/data/depot"]
    host.error = error
    assert refusal() == code


def test_what_goes_needs_no_look_at_its_storage(host):
    host.directories, host.answer = {}, errno.ETIMEDOUT
    view = observe(wanted=False)
    assert (view.ours, view.mounted) == (OURS, True)


def test_a_client_that_is_not_installed_is_named(host):
    host.programs = set()
    with pytest.raises(ModelfleetError) as caught:
        observe(dataclasses.replace(CENTER, storage_url="nfs://filer/vol"))
    assert caught.value.code == "client_missing"
    assert caught.value.details["debian"] == "nfs-common"


CACHED = dataclasses.replace(CENTER, storage_url="juicefs+redis://meta/1", cache_dir="/cache/models/a")


@pytest.mark.parametrize(("where", "refused"), [("/cache/models", False), ("/cache", False), ("/", True)])
def test_a_cache_does_not_fill_the_disk_of_the_system(where, refused, host):
    host.programs, host.mounts = {"juicefs"}, [b.ROOT]
    host.fragment = ""
    system = os.stat("/").st_dev
    host.directories["/"] = (system, 2)
    host.directories[where] = (system if refused else system + 1, 7)
    if refused:
        assert refusal(CACHED, units=[]) == "cache_on_root"
    else:
        assert observe(CACHED, units=[]).ours is None


def test_a_cache_on_storage_that_hangs_is_not_waited_for(host):
    host.programs, host.error = {"juicefs"}, errno.ETIMEDOUT
    assert refusal(CACHED, units=[]) == "storage_timeout"


def test_a_center_does_not_take_the_place_of_another(host):
    assert refusal(units=[OTHER]) == "center_conflict"
    elsewhere = OTHER._replace(path="/etc/systemd/system/modelfleet-center-other.service")
    assert refusal(units=[elsewhere]) == "center_conflict"


def test_a_center_does_not_take_the_place_of_a_unit_of_somebody_else(host):
    host.mounts, host.known = [b.ROOT], []
    assert refusal(units=[]) == "center_conflict"
    assert observe(units=[], take_over=True).ours is None


def test_a_center_does_not_take_the_place_of_a_mount_of_somebody_else(host):
    host.fragment, host.known = "", []
    assert refusal(units=[]) == "center_conflict"
    assert observe(units=[], take_over=True).mounted
    host.mounts = [b.ROOT]
    assert observe(units=[]).ours is None


SERVICE = "/etc/systemd/system/modelfleet-center-depot.service"
BUCKET = dataclasses.replace(CENTER, storage_url="s3://depot-a/", verify_path="x")
ADOPTED = _centers.Unit(SERVICE, "text", dataclasses.replace(CENTER, storage_url="existing:///mnt/depot"))


@pytest.mark.parametrize("center", [CENTER, BUCKET])
@pytest.mark.parametrize("fragment", ["", "/run/systemd/generator/mnt-depot.mount"])
def test_what_was_only_looked_at_is_still_somebody_elses(center, fragment, host, monkeypatch):
    host.programs, host.known = {"rclone", "fusermount3", "s3fs"}, [ADOPTED]
    fragments = {"mnt-depot.mount": fragment, "modelfleet-center-depot.service": SERVICE}
    monkeypatch.setattr(
        _systemd,
        "show",
        lambda name: _systemd.Unit(name, "loaded", "active", "enabled", fragments.get(name, ""), False),
    )
    assert refusal(center, units=[ADOPTED], secrets={}) == "center_conflict"
    assert observe(center, units=[ADOPTED], secrets={}, take_over=True).mounted
    host.mounts = [b.ROOT]
    if fragment:
        assert refusal(center, units=[ADOPTED], secrets={}) == "center_conflict"
    else:
        assert not observe(center, units=[ADOPTED], secrets={}).mounted


def test_a_service_that_moves_does_not_take_the_place_of_somebody_elses_mount(host, monkeypatch):
    host.programs = {"rclone", "fusermount3", "s3fs"}
    elsewhere = _centers.Unit(SERVICE, "text", dataclasses.replace(BUCKET, mount_point="/mnt/elsewhere"))
    host.known = [elsewhere]
    fragments = {"modelfleet-center-depot.service": SERVICE}
    monkeypatch.setattr(
        _systemd,
        "show",
        lambda name: _systemd.Unit(name, "loaded", "active", "enabled", fragments.get(name, ""), False),
    )
    assert refusal(BUCKET, units=[elsewhere], secrets={}) == "center_conflict"
    host.mounts = [b.ROOT]
    assert observe(BUCKET, units=[elsewhere], secrets={}).ours == elsewhere


def test_two_centers_cannot_have_one_uuid(host):
    elsewhere = dataclasses.replace(CENTER, name="other", mount_point="/mnt/elsewhere")
    assert refusal(units=[OURS, OTHER._replace(center=elsewhere)][::-1]) == "center_conflict"


def test_a_center_that_goes_does_not_mistake_another_for_itself(host):
    assert observe(wanted=False, units=[OTHER]).ours is None


@pytest.mark.parametrize(
    ("url", "keep_alive", "needs"),
    [
        ("sftp://models@filer/depot", False, True),
        ("file:///data/other", True, True),
        ("file:///data/other", False, False),
        ("of-another-release://x", False, True),
    ],
)
def test_another_center_may_need_the_program(url, keep_alive, needs, host):
    other = dataclasses.replace(
        CENTER, name="other", uuid="x", mount_point="/mnt/other", storage_url=url, keep_alive=keep_alive
    )
    elsewhere = _centers.Unit("/etc/systemd/system/modelfleet-center-other.service", "text", other)
    assert observe(units=[OURS, elsewhere]).others is needs


def test_a_center_that_cannot_be_read_may_need_the_program(host, monkeypatch):
    assert observe().others is False
    damaged = _centers.Damaged("/etc/systemd/system/mnt-annex.mount", "annex", ModelfleetError("internal_error", "x"))
    monkeypatch.setattr(_centers, "damaged", lambda: [damaged])
    assert observe().others is True


def test_credentials_of_a_center_that_nobody_knows_are_found(host, monkeypatch):
    monkeypatch.setattr(_center_files, "any_secrets", lambda name: name == "depot")
    unknown = dataclasses.replace(CENTER, storage_url="")
    found = observe(unknown, wanted=False, units=[])
    assert (found.ours, found.has_secrets) == (None, True)


@pytest.fixture
def keys(host, monkeypatch, tmp_path):
    """The file with the secrets of a bucket that is mounted, in its directory."""
    monkeypatch.setattr(_center_observe._storage._backend, "directory", lambda name: str(tmp_path / name))
    host.programs, host.known = {"s3fs"}, []
    host.fragment = ""
    path = tmp_path / "depot" / "keys"
    path.parent.mkdir(mode=0o700)
    path.write_text("AKIDEPOT7:hunter2\n")
    path.chmod(0o600)
    host.mounts = [b.ROOT]
    return path


S3FS = dataclasses.replace(BUCKET, client="s3fs", credentials=("access_key", "secret_key"))


def test_credentials_that_are_as_they_were_written_are_right(keys):
    found = observe(S3FS, units=[])
    assert (found.secrets, found.private) == (True, True)


@pytest.mark.parametrize(("file", "directory"), [(0o644, 0o700), (0o640, 0o700), (0o400, 0o700), (0o600, 0o755)])
def test_credentials_that_others_can_read_are_seen_without_being_given(file, directory, keys):
    keys.chmod(file)
    keys.parent.chmod(directory)
    for secrets in (None, {str(keys): "AKIDEPOT7:hunter2\n"}):
        found = observe(S3FS, units=[], secrets=secrets)
        assert (found.secrets, found.private) == (True, False)


def test_credentials_of_somebody_elses_are_not_for_root_alone(keys, monkeypatch):
    monkeypatch.setattr(_center_files.os, "geteuid", lambda: 4711)
    assert observe(S3FS, units=[]).private is False


def test_a_login_is_needed_before_anything_is_done(host):
    host.programs, host.mounts = {"mount.cifs"}, [b.ROOT]
    share = dataclasses.replace(CENTER, storage_url="smb://svc@nas/depot")
    assert refusal(share, units=[], secrets={}) == "invalid_input"
    host.fragment, host.known = "", []
    assert observe(dataclasses.replace(share, options=("guest",)), units=[], secrets={}).ours is None


def test_credentials_that_are_gone_are_needed_again(keys):
    keys.unlink()
    with pytest.raises(ModelfleetError) as caught:
        observe(S3FS, units=[])
    assert (caught.value.code, caught.value.details["option"]) == ("invalid_input", "credentials")
    assert observe(S3FS, units=[], secrets={str(keys): "AKIDEPOT7:hunter3\n"}).secrets is False
    assert observe(S3FS, units=[], wanted=False).secrets is True


@pytest.mark.parametrize(
    ("active", "enabled", "left"),
    [("inactive", "enabled", True), ("active", "disabled", True), ("active", "enabled", False)],
)
def test_a_timer_may_be_left_half(active, enabled, left, host, monkeypatch):
    monkeypatch.setattr(
        _systemd, "show", lambda name: _systemd.Unit(name, "loaded", active, enabled, host.fragment, False)
    )
    assert observe().timer_left is left


def test_a_mount_point_may_be_there_without_a_mount(host, monkeypatch):
    host.mounts, host.fragment, host.known = [b.ROOT], "", []
    missing = dataclasses.replace(CENTER, mount_point="/mnt/missing")
    assert observe(missing, units=[]).directory is False
    assert observe(units=[]).directory is True
    # Where something is mounted nobody needs to ask.
    host.mounts = [b.ROOT, MOUNT]
    monkeypatch.setattr(_opener, "look", lambda *_arguments: pytest.fail("asked"))
    assert observe(wanted=False).directory is True
