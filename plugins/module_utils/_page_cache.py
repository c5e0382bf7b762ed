# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The memory in which Linux keeps what was read of files, and which it takes back when somebody needs it.

This module util is private to the collection.
"""

from __future__ import annotations

import ctypes
import mmap
import typing as t

# What is mapped at once, so that the map of the pages of a great file stays small.
_WINDOW = 256 << 20

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
_FAILED = ctypes.c_void_p(-1).value
# It says of a page whether it is in memory. The other bits are not defined.
_LOWEST_BIT = bytes(byte & 1 for byte in range(256))


class Memory(t.NamedTuple):
    """Bytes of memory of a host.

    Attributes:
        free: used for nothing.
        available: what can be had without swapping, which is mostly what is free and what is kept of files.
    """

    free: int
    available: int


def memory(meminfo: str) -> Memory:
    """The memory of a host, out of the text of C(/proc/meminfo)."""
    values = dict(line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    free, available = (int(values[name].split()[0]) << 10 for name in ("MemFree", "MemAvailable"))
    return Memory(free, available)


def resident(descriptor: int, size: int) -> int:
    """How many bytes of a file are in memory; 0 where that cannot be told."""
    found = 0
    for begin in range(0, size, _WINDOW):
        length = min(_WINDOW, size - begin)
        found += min(length, _pages(descriptor, begin, length) * mmap.PAGESIZE)
    return found


def _pages(descriptor: int, begin: int, length: int) -> int:
    address = _libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_PRIVATE, descriptor, begin)
    if address == _FAILED:
        return 0
    try:
        pages = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
        if _libc.mincore(address, length, pages) != 0:
            return 0
        return pages.raw.translate(_LOWEST_BIT).count(1)
    finally:
        _libc.munmap(address, length)
