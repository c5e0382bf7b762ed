# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Views on real directories, in which nothing is really mounted."""

from __future__ import annotations

import contextlib
import errno
import os

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _identity,
    _input,
    _mountapi,
    _views,
)
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit.mount_table import MountTable

GUARD, OCR = b.record(b.viewed()), b.record(b.second(transport="view", mount_path="/models/org/ocr"))


@pytest.fixture(autouse=True)
def mounts(tmp_path, monkeypatch):
    return MountTable().install(monkeypatch, tmp_path)


@pytest.fixture
def plain(tmp_path):
    """The directory that the view of the VM is made of."""
    return tmp_path / "run" / b.VM


@pytest.fixture
def bind(opened):
    def bound(record=GUARD, path=""):
        _views.bind(b.VM, record.uuid, path or record.mount_path, opened.tree(record.model_path))

    return bound


def bound(record, number=1):
    return f"{_views.source(b.VM)}/.m/{_identity.token(record.uuid)}-{number}"


def shown(record):
    return _views.bound_at(b.VM, record.mount_path)


def left_over(record):
    return sorted(_views.left_over(b.VM, record.uuid, record.mount_path))


def found(root):
    """All that there is below a directory, links with what they say."""
    paths = sorted(root.rglob("*"))
    return {str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else "" for path in paths}


@pytest.fixture
def opened(mounts):
    _views.open_view(b.VM)
    return mounts


# Paths elsewhere

ELSEWHERE = b.record(b.wanted(transport="view", mount_path="/srv/ai/guard"))


def test_a_model_elsewhere_is_shown_at_its_whole_path(bind, mounts, plain):
    bind(ELSEWHERE)
    bind(OCR)
    assert shown(ELSEWHERE) == bound(ELSEWHERE)
    assert {path: target for path, target in found(plain).items() if target} == {
        ".at/srv/ai/guard": f"../../../.m/{os.path.basename(bound(ELSEWHERE))}",
        "org/ocr": f"../.m/{os.path.basename(bound(OCR))}",
    }
    _views.hide(b.VM, ELSEWHERE.mount_path)
    assert shown(ELSEWHERE) == "" and not (plain / ".at").exists()
    assert shown(OCR) == bound(OCR)


@pytest.mark.parametrize("path", ["/models/.at", "/models/.at/srv/ai/guard", "/", "/models"])
def test_no_path_of_anybody_lies_where_models_elsewhere_are_shown(path):
    assert not _input.can_be_in_view(path)


# The view


def test_every_user_of_a_guest_may_enter_whatever_the_umask_is(mounts, plain, bind_below_umask):
    bind_below_umask(0o077)
    made = [plain, plain / ".m", plain / "org", plain / ".m" / os.path.basename(bound(OCR))]
    assert [oct(path.stat().st_mode & 0o777) for path in made] == ["0o755"] * 4


@pytest.fixture
def bind_below_umask(mounts):
    def run(umask):
        before = os.umask(umask)
        try:
            _views.open_view(b.VM)
            _views.bind(b.VM, OCR.uuid, OCR.mount_path, mounts.tree())
        finally:
            os.umask(before)

    return run


def test_a_new_view_is_a_bound_directory_that_shows_nothing(mounts, plain):
    _views.open_view(b.VM)
    assert mounts.points == ["/", _views.source(b.VM)]
    assert mounts.shared == [True]
    assert found(plain) == {".m": ""}


def test_a_view_that_is_there_stays_as_it_is(opened, plain, bind):
    bind()
    before = found(plain)
    _views.open_view(b.VM)
    assert (found(plain), len(opened.points)) == (before, 3)


def test_a_view_that_somebody_made_private_is_shared_again(opened, plain, bind):
    bind()
    before = found(plain)
    opened.private.add(_views.source(b.VM))
    _views.open_view(b.VM)
    assert opened.private == {"/"}
    assert (found(plain), len(opened.points)) == (before, 3)


def test_a_view_that_was_lost_starts_without_what_it_showed(opened, plain, bind):
    bind()
    opened.points = ["/"]
    _views.open_view(b.VM)
    assert (found(plain), shown(GUARD)) == ({".m": ""}, "")


def test_no_descriptor_stays_open(mounts):
    before = len(os.listdir("/proc/self/fd"))
    _views.open_view(b.VM)
    _views.bind(b.VM, GUARD.uuid, GUARD.mount_path, mounts.tree())
    mounts.broken = errno.ENOSPC
    with pytest.raises(OSError):
        _views.bind(b.VM, GUARD.uuid, GUARD.mount_path, mounts.tree())
    with pytest.raises(OSError):
        _views.open_view(b.OTHER_VM)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_closed_view_leaves_nothing(opened, tmp_path, bind):
    bind()
    bind(OCR)
    _views.open_view(b.OTHER_VM)
    _views.close_view(b.VM)
    assert opened.points == ["/", _views.source(b.OTHER_VM)]
    assert [path for path, _lazy in opened.log] == [bound(OCR), bound(GUARD), _views.source(b.VM)]
    assert found(tmp_path / "run") == {b.OTHER_VM: "", f"{b.OTHER_VM}/.m": ""}
    assert os.listdir(tmp_path / "vms") == [b.OTHER_VM]


def test_a_view_is_closed_also_while_it_is_in_use(opened, plain, bind):
    bind()
    opened.busy = {bound(GUARD), _views.source(b.VM)}
    _views.close_view(b.VM)
    assert (opened.points, plain.exists()) == (["/"], False)


def test_a_view_that_is_not_there_is_closed_already(mounts):
    _views.close_view(b.VM)
    assert mounts.log == []


# Models in it


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/models/guard", ".m/{}-1"),
        ("/models/org/guard", "../.m/{}-1"),
        ("/models/a/b/c/guard 2.1", "../../../.m/{}-1"),
        ("/models/org/.guard", "../.m/{}-1"),
    ],
)
def test_a_link_leads_to_where_the_model_is_bound(path, target, opened, plain, bind):
    bind(path=path)
    link = plain / path[len("/models/") :]
    assert os.readlink(link) == target.format(_identity.token(GUARD.uuid))
    assert link.resolve() == plain / ".m" / f"{_identity.token(GUARD.uuid)}-1"
    assert _views.bound_at(b.VM, path) == bound(GUARD) == opened.points[-1]


def test_names_for_the_daemon_and_the_guest():
    name = f"{_identity.token(GUARD.uuid)}-1"
    assert _views.in_daemon(bound(GUARD)) == f"/.m/{name}"
    assert _views.in_guest(bound(GUARD)) == f"/models/.m/{name}"


def test_binds_are_known_by_their_mount():
    assert _views.bind_path(b.VM, GUARD.uuid, 7) == bound(GUARD, 7)
    assert _views.of_mount(bound(GUARD, 7)) == _views.of_mount(bound(GUARD, 12)) != _views.of_mount(bound(OCR, 7))
    for path in ("/", "/srv/a-1", _views.source(b.VM), f"{_views.source(b.VM)}/.m"):
        assert _views.of_mount(path) == path


def test_another_model_takes_the_place_while_the_first_stays_bound(opened, plain, bind):
    bind(OCR)
    bind(OCR)
    assert shown(OCR) == bound(OCR, 2)
    assert left_over(OCR) == [bound(OCR)]
    assert opened.points[2:] == [bound(OCR), bound(OCR, 2)]
    assert sorted(found(plain)) == sorted(
        [".m", *(f".m/{os.path.basename(bound(OCR, n))}" for n in (1, 2)), "org", "org/ocr"]
    )


def test_there_is_no_moment_without_a_model(opened, plain, monkeypatch, bind):
    bind()

    def rename(_source, _target):
        assert shown(GUARD) == bound(GUARD)
        raise OSError(errno.EIO, "x")

    monkeypatch.setattr(os, "rename", rename)
    with pytest.raises(OSError):
        bind()
    assert (shown(GUARD), left_over(GUARD)) == (bound(GUARD), [bound(GUARD, 2)])


def test_what_a_killed_run_left_of_a_link_is_in_nobodys_way(opened, plain, bind):
    token = _identity.token(_identity.mount_uuid(b.VM, GUARD.mount_path))
    (plain / f".{token}").symlink_to("nowhere")
    bind()
    assert sorted(found(plain)) == [".m", f".m/{os.path.basename(bound(GUARD))}", "guard"]


def test_numbers_go_on_after_the_highest(opened, bind):
    for _time in range(3):
        bind()
    assert _views.unbind(bound(GUARD)) and _views.unbind(bound(GUARD, 2))
    bind()
    assert shown(GUARD) == bound(GUARD, 4)


def test_a_model_that_cannot_be_bound_changes_nothing(opened, plain, bind):
    bind()
    before = found(plain)
    opened.broken = errno.ENOSPC
    with pytest.raises(OSError):
        bind()
    assert (found(plain), shown(GUARD)) == (before, bound(GUARD))


def test_a_model_can_be_shown_again(opened, bind):
    bind()
    bind()
    _views.show(b.VM, GUARD.mount_path, bound(GUARD))
    assert (shown(GUARD), left_over(GUARD)) == (bound(GUARD), [bound(GUARD, 2)])


def test_what_is_hidden_leaves_only_directories_that_hold_something(opened, plain, bind):
    for path in ("/models/org/deep/a", "/models/org/deep/b", "/models/org/c"):
        bind(b.record(b.viewed(mount_path=path)))
    _views.hide(b.VM, "/models/org/deep/a")
    assert {path for path in found(plain) if not path.startswith(".m")} == {"org", "org/deep", "org/deep/b", "org/c"}
    _views.hide(b.VM, "/models/org/deep/b")
    assert {path for path in found(plain) if not path.startswith(".m")} == {"org", "org/c"}
    _views.hide(b.VM, "/models/org/c")
    assert {path for path in found(plain) if not path.startswith(".m")} == set()
    assert plain.is_dir()


def test_what_is_hidden_may_be_hidden_again(opened, plain, bind):
    bind(OCR)
    _views.hide(b.VM, OCR.mount_path)
    before = found(plain)
    _views.hide(b.VM, OCR.mount_path)
    assert (found(plain), shown(OCR), left_over(OCR)) == (before, "", [bound(OCR)])


def test_directories_that_a_killed_run_left_are_in_nobodys_way(opened, plain, bind):
    bind(OCR)
    os.unlink(plain / "org" / "ocr")
    _views.hide(b.VM, OCR.mount_path)
    bind(GUARD, "/models/org")
    assert _views.bound_at(b.VM, "/models/org") == bound(GUARD)


def test_only_a_link_is_hidden(opened, plain):
    (plain / "org").mkdir()
    _views.hide(b.VM, "/models/org")
    assert (plain / "org").is_dir()


# What is left over


def test_only_what_is_left_over_of_the_mount_is_unbound(opened, bind):
    bind()
    bind()
    bind(OCR)
    opened.busy = {bound(GUARD)}
    _views.clear(b.VM, GUARD.uuid, GUARD.mount_path)
    assert opened.log == [(bound(GUARD), True)]
    assert opened.points[2:] == [bound(GUARD, 2), bound(OCR)]
    assert (left_over(GUARD), left_over(OCR)) == ([], [])


def test_what_a_guest_still_knows_stays_bound(opened, plain, bind):
    bind()
    opened.busy = {bound(GUARD)}
    assert _views.unbind(bound(GUARD)) is False
    assert _views.is_bound(bound(GUARD)) and opened.log == []
    assert (plain / ".m" / os.path.basename(bound(GUARD))).is_dir()
    opened.busy = set()
    assert _views.unbind(bound(GUARD)) is True
    assert not _views.is_bound(bound(GUARD))
    assert not (plain / ".m" / os.path.basename(bound(GUARD))).exists()


def test_binds_over_one_another_all_go(opened, bind):
    bind()
    opened.points.append(bound(GUARD))
    assert _views.unbind(bound(GUARD)) is True
    assert opened.points == ["/", _views.source(b.VM)]


def test_another_error_than_that_it_is_in_use_is_told(opened, monkeypatch, bind):
    def unmount(path, lazy=False):
        raise OSError(errno.EIO, "x", path)

    bind()
    monkeypatch.setattr(_mountapi, "unmount", unmount)
    with pytest.raises(OSError, match="x"):
        _views.unbind(bound(GUARD))


def test_a_vm_without_a_view_has_nothing_left_over():
    assert left_over(GUARD) == []
    assert shown(GUARD) == ""


# What somebody else wrote there

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    "target",
    [
        "/etc",
        "../../etc",
        "../../../../etc/passwd",
        f"/.m/{TOKEN}-1",
        f"{TOKEN}-1",
        f".m/{TOKEN}",
        f".m/{TOKEN}-",
        f".m/{TOKEN}-1234567890",
        f".m/{TOKEN}--1",
        f".m/{TOKEN}-1/",
        f".m/{TOKEN}-1/../../x",
        f".m/{TOKEN}-1\n",
        f".m/{TOKEN.upper()}-1",
        f".m/{TOKEN}0-1",
        f".m/../{TOKEN}-1",
        f"./.m/{TOKEN}-1",
        f"..//.m/{TOKEN}-1",
        f"x/.m/{TOKEN}-1",
        ".m/..",
        ".",
        f".m/{TOKEN}-\u0661",
        ".m/\udcff",
    ],
)
def test_only_a_link_of_ours_leads_somewhere(target, opened, plain):
    os.symlink(target, plain / "guard")
    assert shown(GUARD) == ""


@pytest.mark.parametrize("number", [1, 10, 999_999_999])
def test_a_link_of_ours_leads_to_any_number(number, opened, plain):
    os.symlink(f".m/{TOKEN}-{number}", plain / "guard")
    assert shown(GUARD) == f"{_views.source(b.VM)}/.m/{TOKEN}-{number}"


def test_what_is_no_link_leads_nowhere(opened, plain):
    (plain / "guard").write_text("x")
    assert shown(GUARD) == ""
    (plain / "guard").unlink()
    (plain / "guard").mkdir()
    assert shown(GUARD) == ""


@pytest.mark.parametrize("place", ["x", "org/x", ".m/x", f".m/{TOKEN}-1/weights.bin"])
def test_a_file_is_never_removed(place, opened, plain, bind):
    bind()
    (plain / place).parent.mkdir(parents=True, exist_ok=True)
    (plain / place).write_text("weights")
    with pytest.raises(OSError):
        _views.close_view(b.VM)
    assert (plain / place).read_text() == "weights"
    # What is bound goes all the same.
    assert opened.points == ["/"]
    opened.points = ["/"]
    with pytest.raises(OSError):
        _views.open_view(b.VM)
    assert (plain / place).read_text() == "weights"


def test_nothing_is_removed_through_a_link(opened, plain, tmp_path):
    outside = tmp_path / "outside"
    (outside / "below").mkdir(parents=True)
    (outside / "below" / "link").symlink_to("x")
    (plain / "org").symlink_to(outside)
    _views.close_view(b.VM)
    assert found(outside) == {"below": "", "below/link": "x"}
    assert not plain.exists()


@pytest.mark.parametrize("place", ["org", f".m/{TOKEN}-1", "org/deep", ""])
def test_nothing_is_removed_where_something_is_mounted(place, opened, plain):
    (plain / place).mkdir(parents=True, exist_ok=True)
    (plain / place / "link").symlink_to("x")
    before = found(plain)
    opened.points.append(os.path.join(plain, place).rstrip("/"))
    with pytest.raises(OSError, match="mounted"):
        _views.close_view(b.VM)
    assert found(plain) == before


def test_what_is_mounted_beside_a_view_is_in_nobodys_way(opened, plain):
    opened.points.append(f"{plain}-other/x")
    _views.close_view(b.VM)
    assert not plain.exists()


def test_a_path_below_a_link_does_not_lead_through_it(opened, plain, bind):
    bind(GUARD, "/models/org")
    with contextlib.suppress(OSError):
        bind(OCR)
    _views.unbind(bound(GUARD))
    assert not (plain / ".m" / os.path.basename(bound(GUARD))).exists()
