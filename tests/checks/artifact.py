# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether the published archive holds what users need and nothing else.

`ansible-galaxy collection build` packs what lies in the directory unless told otherwise, and no linter looks.
"""

from __future__ import annotations

import tarfile
from pathlib import Path, PurePosixPath

from .process import CheckError

_FOR_USERS = {
    "CHANGELOG.rst",
    "FILES.json",
    "LICENSE",
    "MANIFEST.json",
    "README.md",
    "changelogs/changelog.yaml",
    "docs",
    "meta",
    "playbooks",
    "plugins",
    "roles",
}
_REQUIRED = {"CHANGELOG.rst", "LICENSE", "README.md", "meta", "plugins"}


def check(tarball: Path) -> None:
    """Raise CheckError when the archive holds something else, or lacks something."""
    with tarfile.open(tarball) as archive:
        paths = [PurePosixPath(member.name) for member in archive if member.isfile()]
    problems = [f"{path} is not for users" for path in paths if not _for_users(path)]
    problems += [f"{name} is missing" for name in sorted(_REQUIRED - {path.parts[0] for path in paths})]
    if problems:
        raise CheckError("; ".join(problems))


def _for_users(path: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == "__pycache__" for part in path.parts)
    return not hidden and (str(path) in _FOR_USERS or path.parts[0] in _FOR_USERS)
