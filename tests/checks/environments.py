# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Python environments for the tools, made once from the pinned requirements and kept in the cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import machine_pip, places
from .node import Here, Node
from .process import Log

# ansible-test wants a get-pip of its own to make the environments of its sanity tests, from a host that is not a
# package registry and need not be reachable. A copy of the pip that made all other environments does as well.
_GET_PIP = """\
import pathlib, shutil, sysconfig
pip = pathlib.Path({pip!r})
for part in (pip, *pip.parent.glob("pip-*.dist-info")):
    shutil.copytree(part, pathlib.Path(sysconfig.get_path("purelib")) / part.name)
"""
_PUT_GET_PIP = """\
import pathlib, sys, types
from ansible_test._internal.python_requirements import get_venv_packages
version = get_venv_packages(types.SimpleNamespace(version="%d.%d" % sys.version_info[:2]))["pip"]
path = pathlib.Path.home() / ".ansible/test/cache" / f"get_pip_{version.replace('.', '_')}.py"
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(sys.argv[1])
"""


@dataclass(frozen=True)
class Environment:
    """One virtual environment, with a home directory of its own for what its tools keep."""

    name: str
    node: Node = field(default_factory=Here)

    @property
    def requirements(self) -> Path:
        """Return the file with the exact versions of all its packages."""
        return places.REQUIREMENTS / f"{self.name}.txt"

    @property
    def key(self) -> str:
        """Return a name that changes whenever the environment has to be made anew."""
        made_of = self.requirements.read_bytes() + self.node.identity().encode()
        return f"{self.name}-{hashlib.sha256(made_of).hexdigest()[:8]}"

    @property
    def path(self) -> Path:
        """Return the directory of the environment."""
        return places.cache() / "venvs" / self.key

    @property
    def home(self) -> Path:
        """Return the home directory of programs that run in it."""
        return places.cache() / "homes" / self.key

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment variables of programs that run in it."""
        return places.environ(self.home, self.path / "bin")

    def command(self, argv: Sequence[str], cwd: Path, environ: Mapping[str, str]) -> list[str]:
        """Return the command, for this machine, that runs argv where the environment is."""
        return self.node.command(argv, cwd, environ, machine_pip.local_paths(self.home))

    def run(self, log: Log, argv: Sequence[str], cwd: Path, **more: str) -> None:
        """Run a program in the environment; more environment variables may be given."""
        environ = {**self.environ, **more}
        log.run(self.command(argv, cwd, environ), cwd=cwd, environ=environ)

    def python_version(self) -> str:
        """Return the version of its Python, as ansible-test wants it."""
        return next(self.path.glob("lib/python3*")).name.removeprefix("python")

    def ensure(self, log: Log) -> None:
        """Make the environment unless it is there and complete."""
        pip = _bootstrap(log)
        with _making(self.path) as needed:
            if needed:
                machine_pip.write(self.home, pip, places.cache() / "pip")
                # The requirements are complete, so that nothing is left to resolve.
                self._install(log, pip, self.path, "--no-deps", "--requirement", str(self.requirements))
                if (self.path / "bin" / "ansible-test").exists():
                    self.run(log, ["python", "-c", _PUT_GET_PIP, _GET_PIP.format(pip=str(pip))], self.path)

    def resolve(self, log: Log, requirements: Path) -> list[str]:
        """Return the exact versions that open requirements lead to."""
        pip = _bootstrap(log)
        machine_pip.write(self.home, pip, places.cache() / "pip")
        trial = places.cache() / "venvs" / f"{self.name}-trial"
        shutil.rmtree(trial, ignore_errors=True)
        self._install(log, pip, trial, "--requirement", str(requirements))
        found = importlib.metadata.distributions(path=[str(path) for path in trial.glob("lib/python3*/site-packages")])
        pins = sorted((f"{package.name}=={package.version}" for package in found), key=str.casefold)
        shutil.rmtree(trial)
        return pins

    def _install(self, log: Log, pip: Path, path: Path, *what: str) -> None:
        self.run(log, [self.node.python, "-m", "venv", "--without-pip", str(path)], places.cache())
        install = [self.node.python, str(pip), "--python", str(path / "bin" / "python"), "install"]
        self.run(log, [*install, "-qq", "--no-compile", *what], places.cache())


def _bootstrap(log: Log) -> Path:
    """Return the pip that fills every environment, also those of a Python that came without one."""
    here = Environment("bootstrap")
    with _making(here.path) as needed:
        if needed:
            environ = {**os.environ, "PATH": places.real_path()}
            python = str(here.path / "bin" / "python")
            log.run([here.node.python, "-m", "venv", str(here.path)], cwd=places.cache(), environ=environ)
            install = [python, "-m", "pip", "install", "--quiet", "--requirement", str(here.requirements)]
            log.run(install, cwd=places.cache(), environ=environ)
    return next(here.path.glob("lib/python3*/site-packages/pip"))


@contextmanager
def _making(path: Path) -> Iterator[bool]:
    """Tell whether a directory has to be made, one process at a time; it counts as made when the body ends well.

    A virtual environment cannot be made elsewhere and renamed, since its programs name its path.
    """
    complete = path / ".complete"
    with places.locked(path):
        needed = not complete.exists()
        if needed:
            shutil.rmtree(path, ignore_errors=True)
        yield needed
        complete.touch()
