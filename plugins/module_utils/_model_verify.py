# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way through the code for C(model_verify): what is published beside what its manifest says.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t

from . import (
    _center_files,
    _checker,
    _content,
    _input,
    _locks,
    _manifest,
    _opener,
    _progress,
    _published,
    _reader,
    _reading,
)
from ._errors import ModelfleetError

# How much is compared, each with all before it.
STRUCTURE, SIZE, SHA256 = "structure", "size", "sha256"
WRITE = "write_manifest"

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")

Expectations = dict[str, _manifest.Expected]


@dataclasses.dataclass(frozen=True)
class Terms:
    """How a model is verified.

    Attributes:
        level: how much is compared.
        given: what its files shall be, where that is not left to the manifest that is kept.
        renew: whether what is there becomes the manifest.
        reread: whether files are read that look as they did when their digests were made.
        jobs: how many files are read at once.
        deadline: seconds for which the storage may be silent.
    """

    level: str
    given: t.Optional[Expectations]
    renew: bool
    reread: bool
    jobs: int
    deadline: float
    check_mode: bool


@dataclasses.dataclass(frozen=True)
class Verified:
    """What came of it.

    Attributes:
        kept: the manifest as it was; empty for none.
        manifest: as it is, or in check mode would be.
        bytes_read: of files whose digests were made.
        seconds: that this took.
    """

    kept: _manifest.Manifest
    manifest: _manifest.Manifest
    bytes_read: int = 0
    seconds: float = 0.0

    @property
    def changed(self) -> bool:
        """Whether the manifest that is kept is another one now."""
        return self.kept != self.manifest


def given(option: str, entries: t.Sequence[t.Mapping[str, t.Any]]) -> Expectations:
    """A manifest as an option gives it.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    found: Expectations = {}
    for index, entry in enumerate(entries):
        path = _input.relative_path(f"{option}[{index}].path", entry["path"] or "")
        digest = (entry.get("sha256") or "").lower()
        size = entry.get("size")
        if digest and not _SHA256.match(digest):
            raise _input.invalid(f"{option}[{index}].sha256", f"{_input.show(digest)} is not a SHA-256")
        if size is not None and size < 0:
            raise _input.invalid(f"{option}[{index}].size", f"{size} is less than nothing")
        if path in found:
            raise _input.invalid(f"{option}[{index}].path", f"{_input.show(path)} is listed twice")
        found[path] = _manifest.Expected(size, digest)
    if not found:
        raise _input.invalid(option, "it lists no file")
    return found


def verify(model: _published.Model, terms: Terms, openers: _opener.Openers, log: _progress.Log) -> Verified:
    """Compare what is published with its manifest, and keep that, or make it when there is none.

    Raises:
        ModelfleetError: C(model_incomplete), C(model_damaged), C(model_unverified), and what the storage may do.
    """
    with _published.problems_told(model):
        return _verify(model, terms, openers, log)


def _verify(model: _published.Model, terms: Terms, openers: _opener.Openers, log: _progress.Log) -> Verified:
    checks = _checker.Checks(_checker.STRUCTURE, terms.deadline, openers)
    checked = checks.check(model.center.mount_point, model.path, model.uuid)
    if checked.error:
        raise OSError(checked.error, os.strerror(checked.error))
    if checked.problem:
        raise _content.Refused(checked.problem)
    kept = _manifest.load(_manifest.path(model.uuid)) or {}
    if terms.level == STRUCTURE:
        return Verified(kept, kept)
    wanted = terms.given or ({} if terms.renew else _manifest.expected(kept))
    if terms.level == SIZE and not wanted:
        raise _content.Refused(_manifest.NONE_KEPT)
    with _reader.Reader(model.center.mount_point, model.path, terms.deadline) as reader:
        seen = {path: file.seen for path, file in reader.files().items()}
        _refuse(_manifest.nothing(seen) or (_manifest.difference(wanted, seen) if wanted else None))
        if terms.level == SIZE:
            return Verified(kept, kept)
        unknown = list(seen) if terms.reread else _manifest.unknown(kept, seen)
        parts = [_reading.Part(path, 0, seen[path].size, seen[path]) for path in unknown]
        progress = _progress.Progress(log, f"verify {model.center.name}:{model.path}", parts)
        digests = {path: file.sha256 for path, file in kept.items()}
        digests.update(reader.read(parts, _reading.How(terms.jobs, digest=True, fresh=terms.reread), progress.tell))
        progress.end()
    _refuse(_manifest.wrong(wanted, digests))
    manifest = {path: _manifest.Digested(digests[path], file) for path, file in seen.items()}
    if manifest != kept and not terms.check_mode:
        _keep(model, manifest, terms.deadline)
    return Verified(kept, manifest, progress.total, progress.seconds)


def _refuse(problem: t.Optional[_content.Problem]) -> None:
    if problem is not None:
        raise _content.Refused(problem)


def _keep(model: _published.Model, manifest: _manifest.Manifest, deadline: float) -> None:
    file = _manifest.path(model.uuid)
    shown = {"model_center": model.center.name, "path": model.path, "version": model.version}
    try:
        os.makedirs(os.path.dirname(file), 0o700, exist_ok=True)
        with _locks.held(["manifests"], deadline):
            _center_files.write(file, _manifest.dump(manifest, shown), 0o600)
    except OSError as problem:
        raise ModelfleetError(
            "manifest_invalid", f"the manifest {file} cannot be written: {problem.strerror}", file=file
        ) from None
