# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What roles show of what they are given."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import yaml

from checks import places

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
    assert task["loop"] == "{{ model_centers | default([]) | map(attribute='name') }}"


def play(directory: Path, center: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run the role for one center, on this machine."""
    content = {"hosts": "localhost", "gather_facts": False, "roles": ["modelfleet.kvm.model_center"]}
    playbook = directory / "play.yml"
    playbook.write_text(json.dumps([{**content, "vars": {"model_centers": [center]}}]))
    command = ["ansible-playbook", "-vvv", "--diff", "-i", "localhost,", "-c", "local", str(playbook)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def test_credentials_are_not_shown_whatever_becomes_of_a_center(tmp_path: Path) -> None:
    # Refused at once, before anything is touched.
    center = {"name": "depot", "storage_url": "nfs://filer/depot", "credentials": {"password": SECRET}}
    done = play(tmp_path, center)
    assert (done.returncode, "invalid_input" in done.stdout) == (2, True), done.stdout + done.stderr
    assert "item=depot" in done.stdout
    assert SECRET not in done.stdout + done.stderr
