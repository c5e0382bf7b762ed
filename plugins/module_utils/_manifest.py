# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Manifests: what the files of a model are, and what differs from that. Pure, but for the files they are kept in.

A manifest is made once, and is the truth from then on. Beside the digest of each file it remembers what the file looked
like when that was made, so that a file which still looks like that needs no other look.

This module util is private to the collection.
"""

from __future__ import annotations

import hashlib
import json
import os
import typing as t

from . import _sources
from ._content import Problem, Seen
from ._errors import ModelfleetError

SCHEMA_VERSION = 1
DIRECTORY = f"{_sources.STATE_DIRECTORY}/manifests"


class Digested(t.NamedTuple):
    """A file as it was when its digest was made."""

    sha256: str
    seen: Seen


class Expected(t.NamedTuple):
    """What a file shall be; None, or an empty digest, where that is not said."""

    size: t.Optional[int]
    sha256: str


Manifest = dict[str, Digested]

# Of a model that is to agree with a manifest.
NONE_KEPT = Problem("model_unverified", "this host has no manifest of it")


def path(model: str) -> str:
    """Where the manifest of a model is kept, by the UUID of the model."""
    return f"{DIRECTORY}/{model}.json"


def expected(manifest: Manifest) -> dict[str, Expected]:
    """What a manifest says that files shall be."""
    return {name: Expected(file.seen.size, file.sha256) for name, file in manifest.items()}


def difference(wanted: t.Mapping[str, Expected], seen: t.Mapping[str, Seen]) -> t.Optional[Problem]:
    """What differs without a look at the bytes: a file that is missing, of another size, or too much."""
    missing = [name for name in wanted if name not in seen]
    if missing:
        return _problem("model_incomplete", "it is in the manifest, and is not there", missing)
    sizes = {name: file.size for name, file in wanted.items() if file.size is not None}
    other = sorted(name for name, size in sizes.items() if seen[name].size != size)
    if other:
        what = f"it has {seen[other[0]].size} bytes, and by the manifest {sizes[other[0]]}"
        return _problem("model_damaged", what, other)
    more = [name for name in seen if name not in wanted]
    return _problem("model_damaged", "it is not in the manifest", more) if more else None


def nothing(seen: t.Mapping[str, Seen]) -> t.Optional[Problem]:
    """The problem of a model without any file."""
    return None if seen else Problem("model_incomplete", "there is no file in it")


def wrong(wanted: t.Mapping[str, Expected], digests: t.Mapping[str, str]) -> t.Optional[Problem]:
    """What differs in its bytes.

    Args:
        digests: of all files that are wanted.
    """
    other = [name for name, file in wanted.items() if file.sha256 not in ("", digests[name])]
    return _problem("model_damaged", "its SHA-256 is not that of the manifest", other) if other else None


def unknown(kept: Manifest, seen: t.Mapping[str, Seen]) -> list[str]:
    """The files that do not look as they did when their digests were made, or have none."""
    return [name for name, file in seen.items() if name not in kept or kept[name].seen != file]


def changed(kept: Manifest, seen: t.Mapping[str, Seen]) -> t.Optional[Problem]:
    """Why a manifest does not vouch for what is seen, told without a look at the bytes."""
    problem = difference(expected(kept), seen)
    if problem is not None:
        return problem
    others = unknown(kept, seen)
    return _problem("model_unverified", "it was written after the manifest was made", others) if others else None


def _problem(code: str, what: str, names: t.Iterable[str]) -> Problem:
    return Problem(code, what, tuple(sorted(names)))


def text(digests: t.Mapping[str, str]) -> str:
    """A manifest as sha256sum(1) writes it, in the order of the bytes of the names."""
    return "".join(_line(name, digests[name]) for name in sorted(digests, key=os.fsencode))


def _line(name: str, digest: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n"


def digest(digests: t.Mapping[str, str]) -> str:
    """The SHA-256 of a manifest's text: one for all files of a model, whichever host made it."""
    return hashlib.sha256(os.fsencode(text(digests))).hexdigest()


def dump(manifest: Manifest, model: t.Mapping[str, str]) -> str:
    """A manifest as it is kept.

    Args:
        model: what it is of, for people.
    """
    files = {name: [file.sha256, *file.seen] for name, file in sorted(manifest.items())}
    return json.dumps({"schema_version": SCHEMA_VERSION, "model": model, "files": files}) + "\n"


def parse(text_: str) -> Manifest:
    """What C(dump) wrote.

    Raises:
        ValueError: for anything else, and for what a newer release wrote.
    """
    kept = json.loads(text_)
    try:
        if kept["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"it has schema version {kept['schema_version']}")
        return {
            name: Digested(str(sha256), Seen(int(size), int(mtime), int(inode)))
            for name, (sha256, size, mtime, inode) in kept["files"].items()
        }
    except (KeyError, TypeError, AttributeError) as problem:
        raise ValueError(f"{type(problem).__name__}: {problem}") from None


def load(file: str) -> t.Optional[Manifest]:
    """The manifest that is kept in a file, None for none.

    Raises:
        ModelfleetError: C(manifest_invalid).
    """
    try:
        with open(file, encoding="ascii") as kept:
            return parse(kept.read())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as problem:
        raise ModelfleetError("manifest_invalid", f"the manifest {file} cannot be read: {problem}", file=file) from None
