# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What developers do now and then: format, renew the pinned versions, clean up."""

from __future__ import annotations

import shutil
from pathlib import Path

from . import places
from .catalogue import IMPORTER, LINT, OLD, new, oldest_target
from .process import CheckError, Log


def format_sources(log: Log) -> None:
    """Bring the Python sources into the project's format, order of imports included."""
    LINT.ensure(log)
    LINT.run(log, ["ruff", "check", "--fix-only", "."], places.ROOT)
    LINT.run(log, ["ruff", "format", "."], places.ROOT)


def pin(log: Log) -> None:
    """Write the newest versions that each .in file admits to the .txt file beside it."""
    for environment in filter(None, (OLD, new(), LINT, IMPORTER, oldest_target())):
        wanted = environment.requirements.with_suffix(".in")
        pins = environment.resolve(log, wanted)
        lines = [f"# What {wanted.name} led to; `make pins` renews it.", *pins, ""]
        environment.requirements.write_text("\n".join(lines), encoding="utf-8")
        print(f"{environment.requirements.relative_to(places.ROOT)}: {len(pins)} packages")


def clean() -> None:
    """Remove all that the checks and the lab made outside the sources, unless a lab is up."""
    cache = places.cache()
    mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines()
    if any(line.split()[4].startswith(f"{cache}/") for line in mounts):
        raise CheckError("a lab is up; take it down first: tests/lab/lab down")
    # By name, since the cache may be a directory that was given to us with other things in it.
    for name in ("dist", "homes", "images", "labs", "logs", "mypy", "pip", "trees", "venvs"):
        shutil.rmtree(cache / name, ignore_errors=True)
