# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All the checks: what is run, where, and what must be there before."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import artifact, places, tree
from .environments import Environment
from .jobs import Job
from .node import Debian13, Here
from .process import CheckError, Log

LINT = Environment("lint")
IMPORTER = Environment("importer")
OLD = Environment("control")

_LAB = (sys.executable, str(places.ROOT / "tests" / "lab" / "lab"))
# Of hosts and guests; storage and the browser have more, which nobody else waits for.
_IMAGES = ("debian12", "debian13", "tiny", "disk")
_LAB_STORAGE = "tests/lab/storage"
# About half of the lab's time.
_LAB_FAULTS = tuple(
    f"tests/lab/test_{name}.py"
    for name in (
        "agents",
        "fleets",
        "frozen_libvirt",
        "hostile",
        "interrupted",
        "restarts",
        "transports",
        "view_elsewhere",
    )
)
# LONG=1 has all tests run, and takes as long as it takes.
_LONG = bool(os.environ.get("LONG"))
_USUAL = () if _LONG else ("-m", "not long")


@functools.cache
def new() -> Environment:
    """Return the environment of the newest control node, on the Debian 13 of the lab, the same for a whole run."""
    built = subprocess.run([*_LAB, "build", "debian13"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return Environment("control-new", Debian13(Path(built.split(maxsplit=1)[1].strip())))


def oldest_target() -> Environment | None:
    """Return the environment of the oldest Python of a managed host, if this machine has that Python."""
    python = places.interpreter("3.9")
    return Environment("target", Here(python)) if python else None


def jobs() -> list[Job]:
    """Return everything there is to run; what others wait for, and what takes long, comes first."""
    target = oldest_target()
    return [*_jobs(), *([] if target is None else _target_jobs(target))]


def _jobs() -> list[Job]:
    lint, old, newest = ("env-lint",), ("env-control",), ("env-control-new",)
    return [
        Job("image-debian13", lambda log: _build_images(log, "debian13"), check=False),
        Job("env-control", OLD.ensure, check=False),
        Job("image-browser", lambda log: _build_images(log, "browser"), check=False),
        Job("images", lambda log: _build_images(log, *_IMAGES), needs=("image-debian13",), check=False),
        Job("env-control-new", lambda log: new().ensure(log), needs=("image-debian13",), check=False),
        Job("env-lint", LINT.ensure, check=False),
        Job("env-importer", IMPORTER.ensure, check=False),
        Job("images-storage", lambda log: _build_images(log, "storage12", "storage13"), check=False),
        Job("sanity-2.19", lambda log: _ansible_test(log, OLD, "sanity"), needs=old),
        Job("sanity-2.21", lambda log: _ansible_test(log, new(), "sanity"), needs=newest),
        Job("lint-ansible", _lint_ansible, needs=lint),
        Job("lint-docs", _lint_docs, needs=lint),
        Job("lint-changelog", lambda log: LINT.run(log, ["antsibull-changelog", "lint"], _collection()), needs=lint),
        Job("lint-types", _lint_types, needs=lint),
        Job("lint-format", lambda log: LINT.run(log, ["ruff", "format", "--diff", "."], places.ROOT), needs=lint),
        Job("lint-python", lambda log: LINT.run(log, ["ruff", "check", "."], places.ROOT), needs=lint),
        Job("lint-shell", _lint_shell, needs=lint),
        Job("units-2.19", lambda log: _ansible_test(log, OLD, "units"), needs=old),
        Job("units-2.21", lambda log: _ansible_test(log, new(), "units"), needs=newest),
        Job("integration-2.19", lambda log: _ansible_test(log, OLD, "integration"), needs=old),
        Job("integration-2.21", lambda log: _ansible_test(log, new(), "integration"), needs=newest),
        Job("package-build", _package_build, needs=old),
        Job("package-import", _package_import, needs=("env-importer", "package-build")),
        Job("browser", _browser, needs=(*old, "image-browser")),
        Job("selftest", lambda log: _pytest(log, "tests/checks"), needs=old),
        Job("lab-2.19", _lab_rest, needs=(*old, "images"), lane="lab"),
        Job("lab-faults-2.19", _lab_faults, needs=(*old, "images"), lane="lab faults"),
        Job("lab-storage-2.19", _lab_storage, needs=(*old, "images", "images-storage"), lane="lab faults"),
        Job("lab-2.21", _lab_new, needs=(*old, *newest, "images"), lane="lab"),
    ]


def _target_jobs(target: Environment) -> list[Job]:
    """Return the jobs that try what runs on managed hosts on the oldest Python that they may have."""
    path = os.pathsep.join([str(OLD.path / "bin"), str(target.path / "bin"), places.real_path()])

    def check(log: Log) -> None:
        collection = _collection("target")
        for command in (["sanity", "--test", "compile", "--test", "import"], ["units"]):
            OLD.run(log, ["ansible-test", *command, "--color", "no", "--python", "3.9"], collection, PATH=path)

    return [
        Job("env-target", target.ensure, check=False),
        Job("target-3.9", check, needs=("env-control", "env-target")),
    ]


def _build_images(log: Log, *names: str) -> None:
    """Make images of the lab where they are missing."""
    log.run([*_LAB, "build", *names], cwd=places.ROOT, environ=OLD.environ)


def _collection(purpose: str = "") -> Path:
    return tree.make(purpose) / tree.COLLECTION


def _ansible_test(log: Log, environment: Environment, command: str) -> None:
    """Run a command of ansible-test in a copy of its own, since it writes there."""
    python = environment.python_version()
    collection = _collection(f"{command}-{python}")
    environment.run(log, ["ansible-test", command, "--color", "no", "--python", python], collection)


def _lint_ansible(log: Log) -> None:
    command = ["ansible-lint", "--offline", "--profile", "production", "--strict"]
    LINT.run(log, command, _collection(), ANSIBLE_COLLECTIONS_PATH=str(tree.make()))


def _lint_docs(log: Log) -> None:
    command = ["antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs", "all"]
    LINT.run(log, [*command, "--disallow-unknown-collection-refs", "."], _collection())


def _lint_types(log: Log) -> None:
    """Check the plugins by the names they are imported with, then the programs for developers."""
    cache = places.cache() / "mypy" / places.checkout_id()
    mypy = ["mypy", "--config-file", str(places.ROOT / "pyproject.toml"), "--cache-dir", str(cache)]
    LINT.run(log, [*mypy, str(tree.COLLECTION / "plugins")], tree.make())
    programs = ["tests/bench", "tests/browser", "tests/checks", "tests/demo", "tests/lab"]
    LINT.run(log, [*mypy, *programs], places.ROOT, MYPYPATH=f"tests:tests/lab:tests/bench/on_host:{tree.make()}")


def _lint_shell(log: Log) -> None:
    """Check the shell scripts, most of which ansible-test does not get to see."""
    scripts = [name for name in tree.sources() if (places.ROOT / name).read_bytes().startswith(b"#!/bin/sh")]
    LINT.run(log, ["shellcheck", "--severity=warning", *scripts], places.ROOT)


def _package_build(log: Log) -> None:
    """Build what would be published, and look at what is in it."""
    shutil.rmtree(_dist(), ignore_errors=True)
    OLD.run(log, ["ansible-galaxy", "collection", "build", "--output-path", str(_dist())], _collection())
    artifact.check(_tarball())


def _package_import(log: Log) -> None:
    """Import the archive as Galaxy does, and take its warnings for failures, which Galaxy does not."""
    command = ["python", "-m", "galaxy_importer.main", str(_tarball())]
    IMPORTER.run(log, command, _dist(), GALAXY_IMPORTER_CHECK_REQUIRED_TAGS="1")
    warnings = [line for line in log.path.read_text(encoding="utf-8").splitlines() if line.startswith("WARNING")]
    if warnings:
        raise CheckError(f"{len(warnings)} warnings, the first: {warnings[0]}")


def _dist() -> Path:
    return places.cache() / "dist" / places.checkout_id()


def _tarball() -> Path:
    return next(_dist().glob("*.tar.gz"))


def _pytest(log: Log, *arguments: str, **environ: str) -> None:
    """Run pytest with the older control node's programs in PATH, and the collection where they look for it."""
    collections = str(tree.make())
    OLD.run(
        log,
        ["pytest", "-v", "--durations=25", *arguments],
        places.ROOT,
        ANSIBLE_COLLECTIONS_PATH=collections,
        **environ,
    )


def _browser(log: Log) -> None:
    """Look at reports, which the tests make of the plugins themselves."""
    _pytest(log, "tests/browser", PYTHONPATH=str(tree.make()))


def _lab_faults(log: Log) -> None:
    """Run the tests that mostly wait for what does not answer, in a lab of their own beside the other."""
    _pytest(log, *_LAB_FAULTS, *_USUAL, MODELFLEET_TEST_LAB="faults")


def _lab_storage(log: Log) -> None:
    """Run the tests of storage, in a lab whose hosts have the clients and the servers."""
    _pytest(log, _LAB_STORAGE, *_USUAL, MODELFLEET_TEST_LAB="storage")


def _lab_rest(log: Log) -> None:
    _pytest(log, "tests/lab", *(f"--ignore={path}" for path in (*_LAB_FAULTS, _LAB_STORAGE)), *_USUAL)


def _lab_new(log: Log) -> None:
    """Run the tests that say so once more; they find in the environment what to put before Ansible's commands."""
    wrapper = str(Path(__file__).with_name("ansible-new"))
    _pytest(log, "tests/lab", f"--ignore={_LAB_STORAGE}", "-m", "control_new", MODELFLEET_CONTROL=wrapper)
