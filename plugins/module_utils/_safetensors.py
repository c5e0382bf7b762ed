# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The safetensors format, as far as it tells whether a file is whole. Pure functions of hostile bytes.

A file is the length of its header (8 bytes, little-endian), the header (a JSON object), and the tensors. The header
says where each tensor begins and ends (C(data_offsets)), counted from its own end; nothing comes after the last one.
The index of a model in several files says which file each tensor is in (C(weight_map)).

This module util is private to the collection.
"""

from __future__ import annotations

import json
import typing as t

INDEX = ".safetensors.index.json"
FILE = ".safetensors"
PREFIX = 8
# The format's own limit for a header; an index has the same names and less beside them.
HEADER_MAX = 100_000_000
INDEX_MAX = HEADER_MAX
# A model in more files is none.
SHARDS_MAX = 10_000

_POINTER = b"version "


class Damaged(ValueError):
    """A file that is not what it should be; the text says why, and quotes nothing of it."""


def header_length(prefix: bytes, size: int) -> int:
    """How long the header of a file is.

    Args:
        prefix: its first bytes.
        size: of the file.

    Raises:
        Damaged: for a length that cannot be, or not in a file of this size.
    """
    if prefix == _POINTER:
        raise Damaged("it is a pointer of Git LFS, not the file")
    if len(prefix) < PREFIX:
        raise Damaged(f"it ends after {len(prefix)} bytes, before its header")
    length = int.from_bytes(prefix, "little")
    if length > HEADER_MAX:
        raise Damaged("it does not begin with the length of a header")
    if PREFIX + length > size:
        raise Damaged(f"its header needs {PREFIX + length} bytes, and the file has {size}")
    return length


def file_size(header: bytes) -> int:
    """How many bytes a file has with this header.

    Raises:
        Damaged: for what is no header.
    """
    if not header.startswith(b"{"):
        raise Damaged("its header is not a JSON object")
    tensors = _object(header, "its header")
    end = 0
    for name, tensor in tensors.items():
        if name != "__metadata__":
            end = max(end, _end(tensor))
    return PREFIX + len(header) + end


def require_size(wanted: int, size: int) -> None:
    """Insist that a file is as long as its header says.

    Raises:
        Damaged: for one that is not.
    """
    if size != wanted:
        raise Damaged(f"it has {size} bytes, and by its header {wanted}")


def _end(tensor: t.Any) -> int:
    offsets = tensor.get("data_offsets") if isinstance(tensor, dict) else None
    # A bool is an int to Python.
    if not isinstance(offsets, list) or [type(offset) for offset in offsets] != [int, int]:
        raise Damaged("its header does not say where its tensors are")
    begin, end = offsets
    if not 0 <= begin <= end:
        raise Damaged("by its header a tensor ends before it begins")
    return int(end)


def shards(index: bytes) -> list[str]:
    """The files that an index names, relative to its directory, in order.

    Raises:
        Damaged: for what is no index, or one that names what cannot be a file below its directory.
    """
    if len(index) > INDEX_MAX:
        raise Damaged(f"it has more than {INDEX_MAX} bytes")
    names = _object(index, "it").get("weight_map")
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise Damaged("it has no weight_map that names files")
    found = sorted(set(names.values()))
    if len(found) > SHARDS_MAX:
        raise Damaged(f"it names more than {SHARDS_MAX} files")
    if not all(_is_below(name) for name in found):
        raise Damaged("it names a file outside of its directory")
    return found


def _is_below(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name and not {"", ".", ".."} & set(name.split("/"))


def _object(text: bytes, what: str) -> dict[str, t.Any]:
    try:
        found = json.loads(text.decode(), parse_constant=_refused)
    # However deep it is nested, and whatever it makes of itself in memory; Python itself refuses endless numbers.
    except (ValueError, RecursionError, MemoryError):
        raise Damaged(f"{what} is not JSON") from None
    if not isinstance(found, dict):
        raise Damaged(f"{what} is not a JSON object")
    return found


def _refused(_name: str) -> t.Any:
    raise ValueError
