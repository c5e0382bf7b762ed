# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way through the code for C(model_prefetch): a model read before anybody needs it, if there is room for it.

This module util is private to the collection.
"""

from __future__ import annotations

import dataclasses
import typing as t

from . import _page_cache, _progress, _published, _reader, _reading
from ._errors import ModelfleetError

# Where a model is kept: in the memory of the host, or where the client of the storage keeps what it has read.
MEMORY, CLIENT = "memory", "client"

# What one thread reads at once, so that several read a great file.
_PART = 256 << 20


@dataclasses.dataclass(frozen=True)
class Terms:
    """How a model is prefetched.

    Attributes:
        into: where it is kept.
        reserve: bytes of memory that are left available.
        evict: bytes of what is kept of other files that may be pushed out of memory, None for all.
        jobs: how many parts of files are read at once.
        deadline: seconds for which the storage may be silent.
    """

    into: str
    reserve: int
    evict: t.Optional[int]
    jobs: int
    deadline: float
    check_mode: bool


@dataclasses.dataclass(frozen=True)
class Prefetched:
    """What came of it, in bytes.

    Attributes:
        size: of all files of the model.
        resident: in memory before.
        resident_after: in memory now.
        bytes_read: that were read, or in check mode would be.
        seconds: that this took.
    """

    size: int
    resident: int
    resident_after: int
    bytes_read: int
    seconds: float


def no_room(missing: int, memory: _page_cache.Memory, reserve: int, evict: t.Optional[int]) -> str:
    """Why so many bytes more must not be kept in the memory of a host, for people; empty when they may.

    Args:
        reserve: see C(Terms), as C(evict).
    """
    if missing and missing > memory.available - reserve:
        return (
            f"{missing} bytes of it are not in memory, of which {memory.available} bytes are available,"
            f" {reserve} to be left alone (reserve_mb)"
        )
    pushed_out = missing - memory.free
    if evict is not None and pushed_out > evict:
        return (
            f"{missing} bytes of it are not in memory, of which {memory.free} bytes are free, and no more than"
            f" {evict} bytes of other files may be pushed out (evict_mb)"
        )
    return ""


def parts(files: t.Mapping[str, _reader.File], whole: bool) -> list[_reading.Part]:
    """What is read of files.

    Args:
        whole: also what is in memory.
    """
    return [
        _reading.Part(path, begin, min(begin + _PART, file.seen.size), file.seen)
        for path, file in files.items()
        if whole or file.resident < file.seen.size
        for begin in range(0, file.seen.size, _PART)
    ]


def prefetch(model: _published.Model, terms: Terms, log: _progress.Log) -> Prefetched:
    """Read a model, as far as it is not in memory.

    Raises:
        ModelfleetError: C(no_room_for_model), C(invalid_input), and what the storage may do.
    """
    where = model.center.mount_point
    with _published.problems_told(model), _reader.Reader(where, model.path, terms.deadline) as reader:
        return _prefetch(model, terms, log, reader)


def _prefetch(model: _published.Model, terms: Terms, log: _progress.Log, reader: _reader.Reader) -> Prefetched:
    files = reader.files(resident=True)
    size, resident = sum(file.seen.size for file in files.values()), _resident(files)
    _require_room(model, terms, size, resident)
    due = parts(files, whole=terms.into == CLIENT)
    progress = _progress.Progress(log, f"prefetch {model.center.name}:{model.path}", due)
    if not due or terms.check_mode:
        return Prefetched(size, resident, resident, progress.total, 0.0)
    client = terms.into == CLIENT
    reader.read(due, _reading.How(terms.jobs, fresh=client, drop=client), progress.tell)
    progress.end()
    return Prefetched(size, resident, _resident(reader.files(resident=True)), progress.total, progress.seconds)


def _resident(files: t.Mapping[str, _reader.File]) -> int:
    return sum(file.resident for file in files.values())


def _require_room(model: _published.Model, terms: Terms, size: int, resident: int) -> None:
    center = model.center
    if terms.into == CLIENT:
        limit = center.cache_size << 20
        why = f"it has {size} bytes, and the cache of the client {limit} (cache_size)" if 0 < limit < size else ""
    else:
        with open("/proc/meminfo", encoding="ascii") as file:
            memory = _page_cache.memory(file.read())
        why = no_room(size - resident, memory, terms.reserve, terms.evict)
    if why:
        raise ModelfleetError(
            "no_room_for_model",
            f"model center '{center.name}': {model.path}: {why}",
            center=center.name,
            path=model.path,
        )
