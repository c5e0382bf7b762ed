# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far guests read ahead in what was mounted in them."""

from __future__ import annotations

from typing import Any

import pytest
from fleet import BOTH_AT_LENGTH, Fleet, checksum, guest_checksum

from modelfleet_lab import Guest

NANO, EMBED = "llama-nano", "acme/embed.v2"


def read_ahead(guest: Guest, path: str) -> int:
    """What the guest's kernel reads ahead of a file, in KiB."""
    guest.run(["cat", path])
    # What is mounted in a view has a device number of its own, and the setting of the view.
    script = (
        'd=$(stat -c %d "$1"); cd /sys/class/bdi; cat 0:$d/read_ahead_kb || cat 0:$(stat -c %d /models)/read_ahead_kb'
    )
    return int(guest.run(["sh", "-c", script, "sh", path]).stdout)


@BOTH_AT_LENGTH
def test_a_guest_reads_ahead_as_far_as_it_is_told(fleet: Fleet) -> None:
    given: list[tuple[dict[str, Any], int]] = [({}, 4096), ({"read_ahead_kb": 0}, 128)]
    for options, expected in given:
        fleet.mount(**options)
        for guest in fleet.guests.values():
            assert read_ahead(guest, f"/models/{NANO}/weights.bin") == expected
        # It is no reason to do anything.
        for result in fleet.mount(read_ahead_kb=512).values():
            assert result["changed"] is False
        fleet.mount(EMBED, read_ahead_kb=512)
        for guest in fleet.guests.values():
            alone = fleet.transport == "device"
            assert read_ahead(guest, f"/models/{EMBED}/model.safetensors") == (512 if alone else expected)
            assert read_ahead(guest, f"/models/{NANO}/weights.bin") == expected
        fleet.unmount(EMBED)
        fleet.unmount()
    assert fleet.leftovers() == {}


@pytest.mark.transport("view", why="what is told when it cannot be set is the same of any device")
def test_a_guest_that_cannot_be_told_has_its_model_all_the_same(fleet: Fleet) -> None:
    for guest in fleet.guests.values():
        guest.run(["mount", "-o", "remount,ro", "/sys"])
    for result in fleet.mount().values():
        assert result["changed"] and result["mounts"][0]["error"] is None
        (warning,) = [text for text in result["warnings"] if "read-ahead" in text]
        assert "Read-only file system" in warning
    for guest in fleet.guests.values():
        assert guest_checksum(guest, f"/models/{NANO}/weights.bin") == checksum(f"{NANO}/weights.bin")
        guest.run(["mount", "-o", "remount,rw", "/sys"])
    fleet.unmount()
    assert fleet.leftovers() == {}
