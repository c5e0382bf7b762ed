# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of weights in the safetensors format, whose parts tell whether they are whole."""

from __future__ import annotations

import json


def safetensors(data: bytes) -> bytes:
    """A file with one tensor."""
    header = json.dumps({"weight": {"dtype": "U8", "shape": [len(data)], "data_offsets": [0, len(data)]}}).encode()
    return len(header).to_bytes(8, "little") + header + data


def index(*files: str) -> bytes:
    """The index of a model in several files."""
    names = {f"layer.{number}": name for number, name in enumerate(files)}
    return json.dumps({"weight_map": names}).encode()
