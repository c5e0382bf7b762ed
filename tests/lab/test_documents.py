# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The tasks of the documentation and the examples of the modules, run in their order.

Those that do not say by which transport mean what the documentation means: the default.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_run import Ansible

from modelfleet_lab import Guest, Host

_ROOT = Path(__file__).parents[2]
_DOCS = _ROOT / "docs"
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
def test_tasks_of_the_pages_about_mounts_and_content(ansible: Ansible) -> None:
    shown = tasks("mounts.md")
    assert len(shown) >= 7
    for results in ansible.play(shown, as_written=True).results.values():
        assert len(results) == len(shown)
        assert all(result["changed"] for result in results)
        assert results[-1]["mounts"][0]["mount_lines"]["command"].startswith("mkdir -p /models/qwen3-tiny && mount")
    # Those VMs are left without models, which the page about content begins with.
    shown = tasks("content.md")
    for results in ansible.play(shown, as_written=True).results.values():
        assert [result["changed"] for result in results][:2] == [True, True]
        assert len(results) == len(shown) == 3


def examples(module: str) -> list[dict[str, Any]]:
    """The tasks of a module's EXAMPLES."""
    text = (_ROOT / "plugins" / "modules" / f"{module}.py").read_text()
    (shown,) = re.findall(r'^EXAMPLES = r"""\n(.*?)^"""$', text, re.MULTILINE | re.DOTALL)
    tasks: list[dict[str, Any]] = yaml.safe_load(shown)
    return tasks


EXAMPLE_UUID = "3c5c6b8a-1c3b-4a52-9d0e-6d3b5ee0a4c1"
INVENTORY = [
    {"vm": "inference-7", "model": "qwen3-32b", "model_center": "zoo"},
    {"vm": "inference-7", "model": "embeddings/bge-m3", "model_path": "embeddings/bge-m3/v1.5", "model_center": "zoo"},
]


@pytest.fixture
def example_vms(prepared: dict[str, Host], ansible: Ansible) -> Iterator[list[Guest]]:
    """The VMs and models of the examples, on one host."""
    host = prepared["beta"]
    running = [host.guest("inference-7"), host.guest("inference-8"), host.guest("trainer-2", uuid=EXAMPLE_UUID)]
    off = host.guest("trainer-1")
    for model in ("qwen3-32b", "embeddings/bge-m3/v1.5"):
        host.write(f"/srv/models/{model}/config.json", "{}")
    off.define()
    for guest in running:
        guest.up()
    yield running
    for guest in (*running, off):
        guest.remove()
    # The last example takes the model center away, which other tests have.
    ansible.module("model_center_mount", {"name": "zoo", "storage_url": "file:///srv/models"}, limit="beta")


def test_examples_of_the_modules(example_vms: list[Guest], ansible: Ansible) -> None:
    # Those between are of storage that is not here; tests/lab/storage has it.
    mount_center, *_elsewhere, remove_center = examples("model_center_mount")
    prepared = [*examples("kvm_host_prepare"), mount_center, *examples("vm_model_prepare")]
    content = [*examples("model_verify"), *examples("model_prefetch")]
    ansible.play([*prepared, *content], limit="beta")
    for guest in example_vms:
        # One was restarted.
        guest.wait_agent()
    mounted = examples("vm_model_mount")
    looked = [*examples("vm_model_mount_info"), *examples("model_center_info"), *examples("vm_info")]
    # Of one VM nothing was taken away, and a model center in use stays.
    rest = {"modelfleet.kvm.vm_model_mount": {"vm": "trainer-2", "state": "absent"}}
    shown = [*mounted, *looked, rest, remove_center]
    run = ansible.play(shown, as_written=True, variables={"vm_models": INVENTORY}, limit="beta")
    # Each of these does what its name says; of what is shown nothing is left.
    assert [result["changed"] for result in run.results["beta"]][: len(mounted)] == [True] * len(mounted)
    assert run.of("vm_model_mount_info")["beta"]["mounts"] == []


def test_every_module_has_examples_that_are_run() -> None:
    modules = {path.stem for path in (_ROOT / "plugins" / "modules").glob("*.py")}
    run = set(re.findall(r'examples\("(\w+)"\)', Path(__file__).read_text()))
    assert modules == run
