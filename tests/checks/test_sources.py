# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Copies of the sources are exact, the archive holds what it should, and pip's setup is carried along."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from checks import artifact, machine_pip, places, tree
from checks.process import CheckError


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository that takes the place of this one."""
    root = tmp_path / "a clone"
    (root / "tests/lab").mkdir(parents=True)
    (root / "plugins").mkdir()
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    (root / ".gitignore").write_text("*.pyc\n")
    (root / "plugins/one.py").write_text("1\n")
    (root / "tests/lab/tool.py").write_text("tool\n")
    monkeypatch.setattr(places, "ROOT", root)
    monkeypatch.setenv("MODELFLEET_LAB_CACHE", str(tmp_path / "cache"))
    return root


def _files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_copy_follows_the_sources(clone: Path) -> None:
    copy = tree.make() / tree.COLLECTION
    assert _files(copy) == {".gitignore", "plugins/one.py", "tests/lab/tool.py"}
    (clone / "plugins/two.py").write_text("2\n")
    (clone / "plugins/one.py").unlink()
    (clone / "plugins/built.pyc").write_text("")
    (clone / "tests/lab/tool.py").write_text("other\n")
    (copy / "left by a tool").write_text("")
    assert tree.make() / tree.COLLECTION == copy
    assert _files(copy) == {".gitignore", "plugins/two.py", "tests/lab/tool.py"}
    assert (copy / "tests/lab/tool.py").read_text() == "other\n"


def test_copies_for_ansible_test_hold_no_programs_for_developers(clone: Path) -> None:
    del clone
    assert _files(tree.make("sanity") / tree.COLLECTION) == {".gitignore", "plugins/one.py"}


def _archive(path: Path, *names: str) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return path


_GOOD = ("MANIFEST.json", "FILES.json", "README.md", "CHANGELOG.rst", "LICENSE", "meta/runtime.yml", "plugins/a.py")


def test_archive_for_users_passes(tmp_path: Path) -> None:
    artifact.check(_archive(tmp_path / "good.tar.gz", *_GOOD, "roles/a/tasks/main.yml", "docs/b.md"))


@pytest.mark.parametrize(
    "name", ["tests/unit/a.py", ".github/a", "Makefile", "plugins/__pycache__/a", "roles/.ansible/a"]
)
def test_archive_with_something_else_fails(tmp_path: Path, name: str) -> None:
    with pytest.raises(CheckError, match="not for users"):
        artifact.check(_archive(tmp_path / "bad.tar.gz", *_GOOD, name))


def test_archive_without_a_necessity_fails(tmp_path: Path) -> None:
    with pytest.raises(CheckError, match="LICENSE is missing"):
        artifact.check(_archive(tmp_path / "bad.tar.gz", *(name for name in _GOOD if name != "LICENSE")))


def test_pip_setup_is_carried_to_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "index" / "simple"
    index.mkdir(parents=True)
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    machine = tmp_path / "pip.conf"
    machine.write_text(
        f"[global]\ntimeout = 7\nextra-index-url =\n    file://{index}\n    https://example.invalid/simple\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(machine))
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setenv("PIP_TIMEOUT", "9")
    pip = Path(next(places.cache().glob("venvs/bootstrap-*/lib/python3*/site-packages/pip")))
    home = tmp_path / "home"
    machine_pip.write(home, pip, tmp_path / "cache")
    for name in ("PIP_CONFIG_FILE", "PIP_FIND_LINKS", "PIP_TIMEOUT"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    carried = machine_pip.settings(pip)["global"]
    assert carried["timeout"] == "9"
    assert carried["find-links"].split() == [str(wheels)]
    assert carried["extra-index-url"].split() == [f"file://{index}", "https://example.invalid/simple"]
    assert {index.parent, wheels} <= set(machine_pip.local_paths(home))
