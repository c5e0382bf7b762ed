# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is in the directory of a model, seen as a VM sees it: without what leads out of it or is mounted in it.

Touches storage, so only a process that can be abandoned calls it. The directory is somebody else's: it may change at
any time, and its names and files may be anything.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import typing as t

from . import _mountapi, _safetensors

# Where weights lie; what is deeper, or beyond so many names, is not looked at where a look must be short.
_SHORT_DEPTH, _SHORT_NAMES = 3, 10_000
# What a model has at most.
_DEPTH, _NAMES = 64, 100_000

# What a file is that a VM cannot find.
_NOT_THERE = {
    errno.ENOENT: "it is not there",
    errno.ENOTDIR: "it is not there",
    errno.ENAMETOOLONG: "it is not there",
    errno.ELOOP: "it is a link to itself",
    errno.EXDEV: "it is a link that leads out of the model",
}
# A VM's user may be allowed to read what root of this host is not, as on NFS.
_NOT_FOR_US = (errno.EACCES, errno.EPERM)


class Problem(t.NamedTuple):
    """Why a model must not be given to a VM.

    Attributes:
        code: of the error.
        what: what is wrong, for people, as the rest of a sentence that begins with the first of the files, if any.
        files: the files it is about, relative to the model.
    """

    code: str
    what: str
    files: tuple[str, ...] = ()


class Refused(Exception):
    """A model with a problem."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.what)


class Seen(t.NamedTuple):
    """What tells one state of a file from another without a look at its bytes."""

    size: int
    mtime_ns: int
    inode: int


def state(status: os.stat_result) -> Seen:
    """What tells this state of a file from another."""
    return Seen(status.st_size, status.st_mtime_ns, status.st_ino)


def open_file(model: int, path: str) -> int:
    """A descriptor of a file of a model, for reading.

    Raises:
        Refused: for what a VM does not find there, or finds to be no file.
        OSError: of the storage.
    """
    with _found(model, path) as found:
        # Before it is opened for reading, which has effects where it is a device or a pipe.
        if not stat.S_ISREG(os.fstat(found).st_mode):
            raise Refused(Problem("model_damaged", "it is not a file", (path,)))
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)


@contextlib.contextmanager
def _found(model: int, path: str) -> t.Iterator[int]:
    """A descriptor, for looking only, of what a VM finds at a path of a model; refused when it finds nothing."""
    try:
        found = _mountapi.open_in_tree(model, path)
    except OSError as problem:
        if problem.errno not in _NOT_THERE:
            raise
        raise Refused(Problem("model_incomplete", _NOT_THERE[problem.errno], (path,))) from None
    try:
        yield found
    finally:
        os.close(found)


def require_structure(model: int) -> None:
    """Insist that the safetensors files of a model are whole, and all there that an index names. Reads headers only.

    Args:
        model: a descriptor of its directory.

    Raises:
        Refused: for the first that is not.
        OSError: of the storage.
    """
    names = _names(model, _SHORT_DEPTH, _SHORT_NAMES, whole=False)
    # Some systems keep what they know of a file beside it, in one of the same name with a dot before it.
    paths = sorted(path for path in names if not os.path.basename(path).startswith("."))
    indexes = [path for path in paths if path.endswith(_safetensors.INDEX)]
    length = 0
    for path in [*indexes, *(path for path in paths if path.endswith(_safetensors.FILE))]:
        length += _require_shards(model, path) if path in indexes else _require_file(model, path)
        # Parsing them takes time, and others wait for it.
        if length > _safetensors.HEADER_MAX:
            raise Refused(Problem("model_damaged", "its headers and indexes are larger than those of any model"))


def _require_shards(model: int, index: str) -> int:
    """Insist that all files are there that an index names; returns how long that is."""
    text = b'{"weight_map": {}}'
    with _readable(model, index) as file, _damage(index):
        if file is not None:
            text = file.read(_safetensors.INDEX_MAX + 1)
        names = _safetensors.shards(text)
    missing: dict[str, Problem] = {}
    for name in names:
        path = os.path.join(os.path.dirname(index), name)
        try:
            with _readable(model, path):
                pass
        except Refused as refused:
            missing[path] = refused.problem
    for problem in missing.values():
        what = f"{problem.what}, and {os.path.basename(index)} names it"
        raise Refused(problem._replace(what=what, files=tuple(missing)))
    return len(text)


def _require_file(model: int, path: str) -> int:
    """Insist that a file is whole; returns how long its header is."""
    with _readable(model, path) as file, _damage(path):
        if file is None:
            return 0
        size = os.fstat(file.fileno()).st_size
        length = _safetensors.header_length(file.read(_safetensors.PREFIX), size)
        _safetensors.require_size(_safetensors.file_size(file.read(length)), size)
        return length


@contextlib.contextmanager
def _readable(model: int, path: str) -> t.Iterator[t.Optional[t.BinaryIO]]:
    """A file of a model; None for one that is there, and that root of this host may not read."""
    try:
        descriptor = open_file(model, path)
    except OSError as problem:
        if problem.errno not in _NOT_FOR_US:
            raise
        yield None
        return
    with open(descriptor, "rb") as file:
        yield file


@contextlib.contextmanager
def _damage(path: str) -> t.Iterator[None]:
    try:
        yield
    except _safetensors.Damaged as problem:
        raise Refused(Problem("model_damaged", str(problem), (path,))) from None


def files(model: int) -> t.Iterator[tuple[str, Seen]]:
    """All files of a model with what tells their states apart; a link to a file is a file.

    Raises:
        Refused: for a link that a VM could not follow, and for what is too much for a model.
        OSError: of the storage.
    """
    for path in sorted(_names(model, _DEPTH, _NAMES, whole=True)):
        with _found(model, path) as found:
            status = os.fstat(found)
        if stat.S_ISREG(status.st_mode):
            yield path, state(status)


def _names(model: int, depth: int, limit: int, whole: bool) -> t.Iterator[str]:
    """Paths of all that is no directory below a model, in no order.

    Args:
        depth: how many directories deep is looked.
        limit: how many names are looked at.
        whole: whether there must not be more, and none of it be closed to us.
    """
    directories = [""]
    count = 0
    while directories:
        directory = directories.pop()
        for entry in _entries(model, directory, whole):
            path = os.path.join(directory, entry.name)
            is_directory = entry.is_dir(follow_symlinks=False)
            count += 1
            if count > limit or (is_directory and path.count("/") >= depth):
                if whole:
                    raise Refused(
                        Problem("model_damaged", f"it has more than {limit} files, or {depth} directories in another")
                    )
                if count > limit:
                    return
            elif is_directory:
                directories.append(path)
            else:
                yield path


def _entries(model: int, directory: str, whole: bool) -> t.Iterator[os.DirEntry[str]]:
    try:
        found = _mountapi.open_in_tree(model, directory or ".")
        try:
            opened = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=found)
        finally:
            os.close(found)
    except OSError as problem:
        # It went, or something is mounted on it, and a VM sees it empty.
        if problem.errno in _NOT_THERE or (problem.errno in _NOT_FOR_US and not whole):
            return
        raise
    try:
        with os.scandir(opened) as entries:
            yield from entries
    finally:
        os.close(opened)
