# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One large file read in a guest, by transport and by how far the guest reads ahead."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence

from modelfleet_lab import Guest

from .many import TRANSPORTS
from .stage import QUIET, Stage, WrongResultError, say
from .table import markdown

# What the kernel does by itself, and some more.
READ_AHEAD_KB = (0, 512, 1024, 4096, 16384)
_FILE_MB = 128
_MODEL = "large"
_PATH = f"/models/{_MODEL}/weights.bin"
# The guest's own clock: what the agent takes is no part of it.
_READ = """
echo 3 > /proc/sys/vm/drop_caches
read begin rest < /proc/uptime
dd if="$1" of=/dev/null bs=1M 2>/dev/null || exit 1
read end rest < /proc/uptime
echo "$begin $end" """
# What is mounted in a view has a device number of its own, and the setting of the view.
_SETTING = """
cat "/sys/class/bdi/0:$(stat -c %d "$1")/read_ahead_kb" 2>/dev/null ||
cat "/sys/class/bdi/0:$(stat -c %d /models)/read_ahead_kb" """


@dataclasses.dataclass(frozen=True)
class Speed:
    """How fast one file was read.

    Attributes:
        asked_kb: the option's value, 0 for what the kernel does by itself.
        found_kb: what the guest's kernel says.
        rates: MB in a second, of each round.
        others: the share of the machine's processors that others took right before, of each round.
    """

    transport: str
    asked_kb: int
    found_kb: int
    rates: tuple[float, ...]
    others: tuple[float, ...] = ()


class Reading:
    """One VM and one model with one large file."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        directory = f"/srv/models/{_MODEL}"
        stage.host.run(["mkdir", "-p", directory])
        file = f"{directory}/weights.bin"
        stage.host.run(["dd", "if=/dev/urandom", f"of={file}", "bs=1M", f"count={_FILE_MB}"], timeout=300)
        self._guest: Guest = stage.host.guest("reader", memory_mb=384)
        self._guest.up()

    def speeds(self, rounds: int) -> list[Speed]:
        """Read with each setting by each transport; the settings take turns."""
        found: dict[tuple[str, int], list[tuple[int, float, float]]] = {}
        for transport in TRANSPORTS:
            for turn in range(rounds + 1):
                for asked in READ_AHEAD_KB:
                    read = self._read(transport, asked)
                    # Software emulation translates what it runs for the first time.
                    if turn:
                        found.setdefault((transport, asked), []).append(read)
                say(f"{transport}: read with {len(READ_AHEAD_KB)} settings, round {turn}")
        speeds = []
        for (transport, asked), reads in found.items():
            kept, rates, others = zip(*reads, strict=True)
            speeds.append(Speed(transport, asked, kept[0], rates, others))
        return speeds

    def _read(self, transport: str, asked_kb: int) -> tuple[int, float, float]:
        """What the guest's kernel says, MB in a second, and the share of the processors that others took before."""
        entry = {"vm": self._guest.name, "model": _MODEL}
        mount = {**entry, "model_center": "zoo", "transport": transport, "read_ahead_kb": asked_kb}
        self._stage.ansible.module("vm_model_mount", mount)
        # Its file is in the memory of the host.
        self._stage.host.run(["dd", f"if=/srv/models/{_MODEL}/weights.bin", "of=/dev/null", "bs=1M"], timeout=120)
        others = self._stage.wait_quiet()
        words = self._guest.run(["sh", "-c", _READ, "sh", _PATH], timeout=300).stdout.split()
        kept = int(self._guest.run(["sh", "-c", _SETTING, "sh", _PATH]).stdout)
        self._stage.ansible.module("vm_model_mount", {**entry, "state": "absent"})
        seconds = float(words[1]) - float(words[0])
        if seconds <= 0 or (asked_kb and kept != asked_kb):
            raise WrongResultError(f"{transport}: {seconds} s with {kept} KiB read ahead, asked for {asked_kb}")
        return kept, _FILE_MB * (1 << 20) / 1e6 / seconds, others


def table(speeds: Sequence[Speed]) -> str:
    """One line for each setting of each transport."""
    head = ("transport", "read_ahead_kb", "MB/s", "slowest and fastest", "times as fast as by itself")
    usual = {speed.transport: statistics.median(speed.rates) for speed in speeds if not speed.asked_kb}
    rows = []
    for speed in speeds:
        rate = statistics.median(speed.rates)
        setting = str(speed.asked_kb) if speed.asked_kb else f"0 ({speed.found_kb} by itself)"
        spread = f"{min(speed.rates):.0f}, {max(speed.rates):.0f}"
        rows.append((speed.transport, setting, f"{rate:.0f}", spread, f"{rate / usual[speed.transport]:.1f}"))
    text = markdown(head, rows)
    others = [share for speed in speeds for share in speed.others]
    if disturbed := [share for share in others if share > QUIET]:
        text += (
            f"\n\nDisturbed: before {len(disturbed)} of {len(others)} reads others took up to {max(disturbed):.0%} of"
            " the processors; these are too slow."
        )
    return text
