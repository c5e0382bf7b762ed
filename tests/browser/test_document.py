# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook of docs/report.md makes a report, whatever the hosts say."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from pathlib import Path

from browser.chromium import Page
from checks import places

PAGE = places.ROOT / "docs" / "report.md"
# No host of a test has libvirt at its usual place, or listens on this port.
INVENTORY = """
[kvm_hosts]
here ansible_connection=local ansible_become=false ansible_python_interpreter=/usr/bin/python3
away ansible_host=127.0.0.1 ansible_port=1 ansible_ssh_common_args='-o ConnectTimeout=5'
"""


def test_the_playbook_makes_all_three(page: Page, tmp_path: Path) -> None:
    first, second = re.findall(r"(?s)```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"))
    indented = re.sub(r"(?m)^", "    ", second)
    (tmp_path / "play.yml").write_text(f"{first}{indented}", encoding="utf-8")
    (tmp_path / "inventory").write_text(INVENTORY, encoding="utf-8")
    run = subprocess.run(
        ["ansible-playbook", "-i", "inventory", "-vvv", "play.yml"],
        cwd=tmp_path,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    # A report of megabytes does not go through what is logged.
    assert "DOCTYPE html" not in run.stdout
    document = json.loads((tmp_path / "fleet.json").read_text(encoding="utf-8"))
    assert document["title"] == "Models of the west site"
    assert {host["host"]: host["state"] for host in document["hosts"]} == {"here": "failed", "away": "unreachable"}
    with (tmp_path / "fleet.csv").open(newline="", encoding="utf-8") as table:
        assert [row["host"] for row in csv.DictReader(table)] == ["away", "here"]
    page.open(tmp_path / "fleet.html")
    assert page.texts(".matrix .silent") == ["unreachable", "failed"]
    assert page.texts("h1") == ["Models of the west site"]
