# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Models in the safetensors format, as tests need them."""

from __future__ import annotations

import json


def safetensors(**tensors: bytes) -> bytes:
    """A file with tensors of bytes."""
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, content in tensors.items():
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": "U8", "shape": [len(content)], "data_offsets": offsets}
        data += content
    return with_header(json.dumps(header).encode(), data)


def with_header(header: bytes, data: bytes = b"") -> bytes:
    """A file with any header."""
    return len(header).to_bytes(8, "little") + header + data


def index(*files: str) -> bytes:
    """An index that names files."""
    weights = {f"layer.{number}": name for number, name in enumerate(files)}
    return json.dumps({"metadata": {"total_size": 3}, "weight_map": weights}).encode()


def publish(directory, **more: bytes) -> None:
    """A model in two files with an index, and more."""
    directory.mkdir(parents=True, exist_ok=True)
    names = ["model-1.safetensors", "model-2.safetensors"]
    for number, name in enumerate(names):
        (directory / name).write_bytes(safetensors(weight=bytes([number]) * 3000))
    (directory / "model.safetensors.index.json").write_bytes(index(*names))
    (directory / "config.json").write_bytes(b"{}")
    for name, content in more.items():
        (directory / name).write_bytes(content)
