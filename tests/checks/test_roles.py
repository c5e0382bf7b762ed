# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Roles say of their variables what is true: each is described, with its default and the choices of the module.

The pages name all roles and playbooks. No role shows secrets.
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from checks import places

ROLES = sorted(path.name for path in (places.ROOT / "roles").iterdir())
PLAYBOOKS = sorted(path.stem for path in (places.ROOT / "playbooks").glob("[a-z]*.yml"))

MODULES = {
    "kvm_host": "kvm_host_prepare",
    "model_center": "model_center_mount",
    "vm_models": "vm_model_mount",
    "vm_prepare": "vm_model_prepare",
}

SECRET = "s3cr3t-of-the-depot"
ROLE = places.ROOT / "roles" / "model_center"


def test_every_option_of_the_module_can_be_said_to_the_role() -> None:
    command = ["ansible-doc", "--json", "modelfleet.kvm.model_center_mount"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    options = json.loads(done.stdout)["modelfleet.kvm.model_center_mount"]["doc"]["options"]
    spec = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    keys = spec["argument_specs"]["main"]["options"]["model_centers"]["options"]
    (task,) = yaml.safe_load((ROLE / "tasks" / "main.yml").read_text(encoding="utf-8"))
    assert set(keys) == set(task["modelfleet.kvm.model_center_mount"]) == set(options)
    for name, option in options.items():
        for what in ("type", "elements", "choices", "default", "required"):
            assert keys[name].get(what) == (option.get(what) or None if what == "required" else option.get(what)), name
    assert task["loop"] == "{{ model_centers | default([], true) | map(attribute='name', default='') }}"


def play(directory: Path, center: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run the role for one center, on this machine."""
    content = {"hosts": "localhost", "gather_facts": False, "roles": ["modelfleet.kvm.model_center"]}
    playbook = directory / "play.yml"
    playbook.write_text(json.dumps([{**content, "vars": {"model_centers": [center]}}]))
    command = ["ansible-playbook", "-vvv", "--diff", "-i", "localhost,", "-c", "local", str(playbook)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text()) if path.exists() else {}


def specification(role: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read(places.ROOT / "roles" / role / "meta" / "argument_specs.yml")
    return found["argument_specs"]["main"]["options"]


def documentation(module: str) -> dict[str, dict[str, Any]]:
    """The options of a module, with those of the fragments that it extends."""
    options: dict[str, dict[str, Any]] = {}
    fragments = (places.ROOT / "plugins" / "doc_fragments" / "_options.py").read_text()
    texts = dict(re.findall(r'^    (\w+) = r"""\n(.*?)^"""$', fragments, re.M | re.S))
    text = (places.ROOT / "plugins" / "modules" / f"{module}.py").read_text()
    (own,) = re.findall(r'^DOCUMENTATION = r"""\n(.*?)^"""$', text, re.M | re.S)
    for extended in yaml.safe_load(own)["extends_documentation_fragment"]:
        if "_options" in extended:
            _fragment, _dot, part = extended.partition("_options.")
            options |= yaml.safe_load(texts[part.upper() or "DOCUMENTATION"])["options"]
    return options | yaml.safe_load(own)["options"]


@pytest.mark.parametrize("role", ROLES)
def test_every_variable_is_described_with_its_default(role: str) -> None:
    described = specification(role)
    defaults = read(places.ROOT / "roles" / role / "defaults" / "main.yml")
    assert set(defaults) <= set(described)
    for name, value in defaults.items():
        if "{{" not in str(value):
            assert described[name].get("default") == value, name
    used = set(re.findall(rf"\b({role}s?_?\w*)\b", (places.ROOT / "roles" / role / "tasks" / "main.yml").read_text()))
    known = set(described) | {f"{role}_{name}" for name in ("result", "index", "name")} | {role, MODULES[role]}
    assert used - known == set()


@pytest.mark.parametrize("role", ROLES)
def test_what_a_role_hands_to_its_module_is_what_the_module_takes(role: str) -> None:
    (task,) = read(places.ROOT / "roles" / role / "tasks" / "main.yml")
    options = documentation(MODULES[role])
    assert set(task[f"modelfleet.kvm.{MODULES[role]}"]) <= set(options)
    prefix = {"vm_models": "vm_models_", "vm_prepare": "vm_prepare_", "kvm_host": "kvm_host_"}.get(role, "-")
    variables = {name.removeprefix(prefix): spec for name, spec in specification(role).items()}
    lists = {"vm_models": "vm_models", "model_center": "model_centers"}
    if role in lists:
        variables |= specification(role)[lists[role]]["options"]
    for name, spec in variables.items():
        module = options.get(name)
        if module:
            assert (spec["type"], sorted(spec.get("choices", []))) == (
                module["type"],
                sorted(module.get("choices", [])),
            )


def test_pages_name_all_there_is() -> None:
    page = (places.ROOT / "docs" / "playbooks.md").read_text()
    readme = (places.ROOT / "README.md").read_text()
    texts = "".join(path.read_text() for path in (places.ROOT / "playbooks").rglob("*.yml"))
    used = set(re.findall(r"\b((?:query|report|evacuate)_\w+|modelfleet_(?:hosts|serial|max_\w+)) \| default", texts))
    variables = {name for role in ROLES for name in specification(role)} | used
    assert [name for name in sorted(variables) if f"`{name}`" not in page] == []
    for name in (*PLAYBOOKS, *ROLES):
        assert f"`{name}`" in page and f"`{name}`" in readme, name


def test_credentials_are_not_shown_whatever_becomes_of_a_center(tmp_path: Path) -> None:
    # Refused at once, before anything is touched.
    center = {"name": "depot", "storage_url": "nfs://filer/depot", "credentials": {"password": SECRET}}
    done = play(tmp_path, center)
    assert (done.returncode, "invalid_input" in done.stdout) == (2, True), done.stdout + done.stderr
    assert "item=depot" in done.stdout
    assert SECRET not in done.stdout + done.stderr
