# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _converge,
    _devices,
    _filters,
    _guest_view,
    _info,
    _input,
    _observed,
    _report,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

ACCOUNT = "0c7f5a70-6f0e-4b0a-a43c-5f6d3f0f3a11"
GUARD = b.record(b.wanted(owner="ops", account_uuid=ACCOUNT))
OCR = b.record(b.second(tag="ocr-eu"))
NAMES = {GUARD.uuid: "guard", OCR.uuid: "ocr"}


def filters(**given):
    return _filters.from_params(_input.trimmed(given))


def found(**given):
    """Which of the two records pass."""
    return [NAMES[record.uuid] for record in (GUARD, OCR) if filters(**given).record(record)]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["guard", "ocr"]),
        ({"models": ["acme/guard"]}, ["guard"]),
        ({"models": ["acme/*"]}, ["guard"]),
        ({"models": ["guard"]}, []),
        ({"models": ["*/guard", "oc?"]}, ["guard", "ocr"]),
        ({"models": ["[a-n]*"]}, ["guard"]),
        ({"models": ["[!a-n]*"]}, ["ocr"]),
        ({"models": ["OCR"]}, []),
        ({"models": [OCR.model_uuid]}, ["ocr"]),
        ({"models": [OCR.model_uuid.upper()]}, ["ocr"]),
        ({"models": [f"{OCR.model_uuid[:-1]}?"]}, []),
        ({"model_centers": ["depot"]}, ["guard", "ocr"]),
        ({"model_centers": [b.CENTER.uuid]}, ["guard", "ocr"]),
        ({"model_centers": ["zoo*"]}, []),
        ({"accounts": [ACCOUNT.upper()]}, ["guard"]),
        ({"accounts": ["0c7f5a70-*"]}, ["guard"]),
        ({"accounts": ["?*"]}, ["guard"]),
        ({"accounts": ["*"]}, ["guard", "ocr"]),
        ({"owners": ["ops", "default"]}, ["guard", "ocr"]),
        ({"owners": ["o*"]}, ["guard"]),
        ({"mount_paths": ["/srv/ai/ocr"]}, ["ocr"]),
        ({"mount_paths": ["//srv/ai//ocr/"]}, ["ocr"]),
        ({"mount_paths": ["/srv/*"]}, ["guard", "ocr"]),
        ({"mount_paths": ["/srv/ai"]}, []),
        ({"mount_paths": ["/"]}, []),
        ({"tags": ["ocr-*"]}, ["ocr"]),
        ({"tags": [GUARD.tag]}, ["guard"]),
        # Within an option one value is enough, and every option counts.
        ({"models": ["*"], "tags": ["ocr-*"], "owners": ["default"]}, ["ocr"]),
        ({"models": ["acme/*"], "tags": ["ocr-*"]}, []),
        ({"models": ["acme/*", "ocr"], "tags": ["ocr-*", "x"]}, ["ocr"]),
        # Surveys send an empty text for no answer; a list that is empty was computed.
        ({"models": [""]}, ["guard", "ocr"]),
        ({"models": ["", " \n"], "owners": ["ops"]}, ["guard"]),
        ({"models": ["", "ocr"]}, ["ocr"]),
        ({"models": []}, []),
        ({"models": [], "owners": ["ops"]}, []),
        # VM and status are looked at elsewhere.
        ({"vms": ["x"], "statuses": ["Mounted"]}, ["guard", "ocr"]),
    ],
    ids=str,
)
def test_the_records_that_are_shown(given, expected):
    assert found(**given) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, list(_report.STATUSES)),
        ([""], list(_report.STATUSES)),
        ([], []),
        (["Mounted"], ["Mounted"]),
        (["Mounted", " MountFailed\n"], ["Mounted", "MountFailed"]),
        (["*ing"], ["Mounting", "Unmounting"]),
        (["Mount*"], ["Mounting", "Mounted", "MountFailed"]),
    ],
    ids=str,
)
def test_the_statuses_that_are_shown(given, expected):
    wanted = filters(statuses=given)
    assert [status for status in _report.STATUSES if wanted.status(status)] == expected


def test_what_has_brackets_is_found_by_its_name():
    odd = dataclasses.replace(GUARD, mount_path="/srv/guard [2]")
    assert filters(mount_paths=["/srv/guard [2]"]).record(odd)
    assert filters(mount_paths=["/srv/guard [[]2]"]).record(odd)
    assert not filters(mount_paths=["/srv/guard [3]"]).record(odd)


@pytest.mark.parametrize("option", _filters.OPTIONS)
@pytest.mark.parametrize(
    "text", ["a\nb", "a\0", "\x1b[31m", "a\u2028*", "\udc80", "x" * 1025, "é" * 1025, "*" * 17, "*a" * 17], ids=ascii
)
def test_what_cannot_be_a_value_is_refused(option, text):
    with pytest.raises(ModelfleetError) as refused:
        filters(**{option: ["*", text]})
    assert refused.value.code == "invalid_input"
    assert refused.value.details == {"option": f"{option}[1]"}
    assert refused.value.msg.isprintable() and len(refused.value.msg) < 300


@pytest.mark.parametrize("text", ["mounted", "Mounted,Mounting", "Failed*", "[m]ounted", b.VM])
def test_a_status_that_there_is_not_is_refused(text):
    with pytest.raises(ModelfleetError) as refused:
        filters(statuses=["Mounted", text])
    assert (refused.value.code, refused.value.details["option"]) == ("invalid_input", "statuses[1]")


HOSTILE = [
    "*a" * 16,
    "*?" * 16,
    "*" * 16 + "b",
    "a" * 1008 + "*" * 16,
    ("*" + "a" * 63) * 16,
    "?" * 1024,
    "[!b]" * 256,
    "[!b]*" * 16,
    "[" * 1024,
    "[]" * 512,
    "(a+)+$",
    "(a|a)*" * 16,
    "\\" * 1024,
    "[\\]*",
    "[&&]",
    "[~~a||b--c]",
    "[z-a]",
    "{a,b}",
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:12])
def test_hostile_patterns_are_refused_or_answered_soon(text):
    start = time.process_time()
    try:
        wanted = filters(mount_paths=[text])
    except ModelfleetError as problem:
        assert problem.code == "invalid_input"
    else:
        for path in ("/" + "a" * 1023, "/" + "a" * 1022 + "b", "/a+a" * 256):
            wanted.record(dataclasses.replace(GUARD, mount_path=path))
    assert time.process_time() - start < 1


@pytest.mark.parametrize("text", ["(a+)+$", "a.c", "^a$", "a|b", "{a,b}", "\\d", "a b"])
def test_nothing_but_a_wildcard_has_a_meaning(text):
    wanted = filters(tags=[text])
    assert wanted.record(dataclasses.replace(GUARD, tag=text))
    assert not any(wanted.record(dataclasses.replace(GUARD, tag=tag)) for tag in ("aaa", "abc", "a", "b", "7", "ab"))


def test_a_vm_keeps_both_copies_of_what_is_shown():
    old = dataclasses.replace(GUARD, owner="default")
    vm = b.running(GUARD, OCR, persistent_records=(old, OCR))
    narrowed = filters(owners=["ops"]).narrowed(vm)
    # Where live and persistent differ the live record counts, and the difference stays visible.
    assert (narrowed.live_records, narrowed.persistent_records) == ((GUARD,), (old,))
    assert not narrowed.recorded_everywhere(GUARD)
    assert (narrowed.live, narrowed.persistent, narrowed.guest) == (vm.live, vm.persistent, vm.guest)


# What is asked when mounts are shown.


@pytest.fixture
def fleet(monkeypatch):
    """Two VMs, each with a model of its own; gives back who was asked for what when their mounts are shown."""
    other = b.record(b.second(vm="render-5"), vm=b.OTHER_VM)
    views = {b.VM: b.running(GUARD), b.OTHER_VM: b.running(other, uuid=b.OTHER_VM, name="render-5")}
    asked = []

    def for_info(view, _guest):
        asked.extend([view.name] if view.records else [])
        return view

    def observe_host(models, *_arguments):
        asked.extend(sorted(key.path for key in models))
        return b.host(b.bind(GUARD), b.bind(other))

    monkeypatch.setattr(_converge, "observe", lambda handles: (views, {}))
    monkeypatch.setattr(_guest_view, "for_info", for_info)
    monkeypatch.setattr(_observed, "observe_host", observe_host)
    vms = [SimpleNamespace(uuid=uuid, name=view.name, agent=None) for uuid, view in views.items()]
    host = SimpleNamespace(uuid=lambda: "a host", uri="test:///default")

    def shown(**given):
        asked.clear()
        mounts = _info.mounts(host, vms, filters(**given), 5.0)["mounts"]
        return [mount["vm"] for mount in mounts], sorted(asked)

    return shown


def test_a_device_whose_record_is_filtered_away_is_no_stray(fleet, monkeypatch):
    found = []
    monkeypatch.setattr(_devices.Device, "as_dict", lambda device: found.append(device.tag) or {})
    fleet(models=["ocr"])
    assert found == []


@pytest.mark.parametrize(
    ("given", "shown", "asked"),
    [
        ({}, ["render-4", "render-5"], ["acme/guard-2.1", "ocr", "render-4", "render-5"]),
        ({"models": ["ocr"]}, ["render-5"], ["ocr", "render-5"]),
        ({"owners": ["ops"]}, ["render-4"], ["acme/guard-2.1", "render-4"]),
        ({"models": ["llama*"]}, [], []),
        ({"statuses": ["Unmounting"]}, [], ["acme/guard-2.1", "ocr", "render-4", "render-5"]),
        ({"statuses": ["Mounted"], "owners": ["ops"]}, ["render-4"], ["acme/guard-2.1", "render-4"]),
    ],
    ids=str,
)
def test_only_those_are_asked_who_can_have_what_is_shown(given, shown, asked, fleet):
    assert fleet(**given) == (shown, asked)
