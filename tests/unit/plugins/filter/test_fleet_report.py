# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter that makes reports."""

from __future__ import annotations

import json
import re

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.modelfleet.kvm.plugins.filter.fleet_report import FilterModule
from ansible_collections.modelfleet.kvm.tests.unit import fleets

report = FilterModule().filters()["fleet_report"]
FOUND = {"rack-a": fleets.result(fleets.mount("chat-1"))}


def test_every_format():
    assert report(FOUND).startswith("<!DOCTYPE html>")
    assert json.loads(report(FOUND, "json"))["summary"]["mounts"] == 1
    assert report(FOUND, "csv").startswith("kind,")


def test_title_and_time():
    document = json.loads(report(FOUND, "json", title="Ours", made="today"))
    assert (document["title"], document["made"]) == ("Ours", "today")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", json.loads(report(FOUND, "json"))["made"])


def test_model_centers():
    centers = {"rack-a": fleets.centers(fleets.center())}
    assert len(json.loads(report(FOUND, "json", model_centers=centers))["model_centers"]) == 1


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ((FOUND, "pdf"), "format is 'pdf', and must be one of html, json, csv"),
        (([],), "the input must be a dictionary"),
        ((FOUND, "html", ["x"]), "model_centers must be a dictionary"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments, problem):
    with pytest.raises(AnsibleFilterError, match=problem):
        report(*arguments)
