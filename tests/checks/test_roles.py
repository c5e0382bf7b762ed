# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What roles show of what they are given."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

SECRET = "s3cr3t-of-the-depot"


def test_credentials_are_not_shown_whatever_becomes_of_a_center(tmp_path: Path) -> None:
    # Refused at once, before anything is touched.
    center = {"name": "depot", "storage_url": "nfs://filer/depot", "credentials": {"password": SECRET}}
    play = {"hosts": "localhost", "gather_facts": False, "roles": ["modelfleet.kvm.model_center"]}
    playbook = tmp_path / "play.yml"
    playbook.write_text(json.dumps([{**play, "vars": {"model_centers": [center]}}]))
    command = ["ansible-playbook", "-vvv", "--diff", "-i", "localhost,", "-c", "local", str(playbook)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, "invalid_input" in done.stdout) == (2, True), done.stdout + done.stderr
    assert "item=depot" in done.stdout
    assert SECRET not in done.stdout + done.stderr
