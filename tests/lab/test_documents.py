# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks of the documentation, run in their order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_run import Ansible

from modelfleet_lab import Host

_DOCS = Path(__file__).parents[2] / "docs"
VMS = ("inference-1", "inference-2")
MODELS = ("qwen3-tiny", "embeddings/bge-m3")


def tasks(page: str) -> list[dict[str, Any]]:
    """The tasks that a page shows."""
    blocks = re.findall(r"^```yaml\n(.*?)^```$", (_DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    return [task for block in blocks for task in yaml.safe_load(block)]


@pytest.fixture
def world(prepared: dict[str, Host]) -> Iterator[None]:
    """The VMs and models that the page speaks of, on both hosts."""
    guests = [host.guest(name) for host in prepared.values() for name in VMS]
    for host in prepared.values():
        for model in MODELS:
            host.write(f"/srv/models/{model}/config.json", "{}")
    for guest in guests:
        guest.up()
    yield
    for guest in guests:
        guest.remove()


@pytest.mark.usefixtures("world")
def test_tasks_of_the_page_about_mounts(ansible: Ansible) -> None:
    shown = tasks("mounts.md")
    assert len(shown) >= 7
    for results in ansible.play(shown).results.values():
        assert len(results) == len(shown)
        assert all(result["changed"] for result in results)
        assert results[-1]["mounts"][0]["mount_lines"]["command"].startswith("mkdir -p /models/qwen3-tiny && mount")
