# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two machines that a control node can be: this one, and the Debian 13 of the lab's image."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from . import places


class Node(Protocol):
    """A place with a Python of its own where programs can be run."""

    @property
    def python(self) -> str:
        """Return its interpreter."""

    def identity(self) -> str:
        """Return what environments for this node depend on."""

    def command(
        self, argv: Sequence[str], cwd: Path, environ: Mapping[str, str], readable: Iterable[Path]
    ) -> list[str]:
        """Return the command, for this machine, that runs argv on the node in a directory that both have."""


@dataclass(frozen=True)
class Here:
    """This machine, with the interpreter that runs the checks or another one."""

    python: str = sys.executable

    def identity(self) -> str:
        """Return the interpreter, and a version that changes with the machine's release."""
        return f"{self.python} {sys.version}"

    def command(
        self, argv: Sequence[str], cwd: Path, environ: Mapping[str, str], readable: Iterable[Path]
    ) -> list[str]:
        """Return argv as it is."""
        del cwd, environ, readable
        return list(argv)


@dataclass(frozen=True)
class Debian13:
    """A throw-away copy of the lab's image, with this machine's network.

    nspawn lays an overlay in memory over the image, and takes only a shared lock on it, so that any number
    can run at once, all of the same name. Directories that both sides need have the same path on both.
    """

    image: Path
    python: str = "/usr/bin/python3"

    def identity(self) -> str:
        """Return the release and its Python; a later image of the same release can use what was made in this one."""
        release = (self.image / "usr/lib/os-release").read_text(encoding="utf-8")
        return f"{release} {(self.image / 'usr/bin/python3').readlink()}"

    def command(
        self, argv: Sequence[str], cwd: Path, environ: Mapping[str, str], readable: Iterable[Path]
    ) -> list[str]:
        """Return the nspawn command that runs argv there."""
        shared = [places.ROOT, places.cache(), Path("/tmp"), Path("/run/modelfleet-lab")]
        read_only = [Path("/etc/hosts"), Path("/etc/resolv.conf"), *readable]
        return [
            # What runs there ends with us, also when we are killed, which nspawn alone would not see to.
            *("setpriv", "--pdeathsig", "KILL"),
            *("unshare", "--pid", "--mount-proc", "--fork", "--kill-child"),
            # nspawn complains about its own clean-up where /run is not a tmpfs.
            *("env", "SYSTEMD_LOG_LEVEL=crit"),
            "systemd-nspawn",
            "--quiet",
            "--pipe",
            # An init that reaps what Ansible leaves, persistent ssh connections for example
            "--as-pid2",
            "--register=no",
            "--keep-unit",
            "--read-only",
            "--volatile=overlay",
            "--machine=modelfleet-control",
            f"--directory={self.image}",
            "--resolv-conf=off",
            *(f"--bind={path}" for path in shared if path.exists()),
            *(f"--bind-ro={path}" for path in read_only if path.exists()),
            *(f"--setenv={name}" for name in environ if name != "SYSTEMD_LOG_LEVEL"),
            f"--chdir={cwd}",
            "--",
            *argv,
        ]
