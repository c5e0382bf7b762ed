# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is seen of VMs from another machine."""

from __future__ import annotations

import dataclasses
import json
import time

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _connection, _converge, _domain, _guest_view
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.plugin_utils import _inventory_reader as reader
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

R = b.record()
VIEWED = b.record(b.viewed())


def unasked(vm):
    return dataclasses.replace(vm, guest=None, links={})


def drift(vm):
    found = reader.entry(vm)
    (mount,) = found["mounts"]
    assert found["drift"] == (mount["drift"] or bool(found["strays"]))
    return mount["drift"], mount["layers"], mount["leaving"]


@pytest.mark.parametrize("kept", [R, VIEWED])
def test_a_vm_that_is_as_it_should_be(kept):
    found = reader.entry(unasked(b.running(kept)))
    assert (found["name"], found["uuid"], found["state"]) == ("render-4", b.VM, "running")
    assert (found["models"], found["strays"], found["drift"], found["error"]) == (["acme/guard"], [], False, None)
    (mount,) = found["mounts"]
    assert mount["record"] == kept.as_dict()
    assert mount["layers"] == {"source": "unknown", "persistent": "right", "live": "right", "guest": "unknown"}
    assert (mount["drift"], mount["leaving"], mount["error"]) == (False, None, None)
    assert json.loads(json.dumps(found)) == found


def test_a_vm_that_is_shut_off_has_no_live_layers():
    is_wrong, layers, _leaving = drift(b.shut_off(R))
    assert not is_wrong
    assert layers == {"source": "not due", "persistent": "right", "live": "not due", "guest": "not due"}


def test_a_vm_without_models():
    found = reader.entry(unasked(b.running()))
    assert (found["models"], found["mounts"], found["drift"]) == ([], [], False)


@pytest.mark.parametrize(
    ("changes", "layer", "word"),
    [
        ({"live": b.domain()}, "live", "missing"),
        ({"persistent": b.domain()}, "persistent", "missing"),
        ({"live": b.domain(b.device(R, source="/elsewhere"))}, "live", "wrong"),
        ({"live": b.domain(b.device(R, alias="ua-other"))}, "live", "foreign"),
    ],
)
def test_what_somebody_did_to_a_device_is_drift(changes, layer, word):
    is_wrong, layers, _leaving = drift(unasked(b.running(R, **changes)))
    assert is_wrong and layers[layer] == word


@pytest.mark.parametrize("changes", [{"persistent_records": ()}, {"live_records": ()}])
def test_a_record_that_does_not_stand_everywhere_is_drift(changes):
    assert drift(unasked(b.running(R, **changes)))[0]


def test_a_device_without_a_record_is_drift_of_its_vm():
    found = reader.entry(unasked(b.running(live=b.domain(b.device(R)))))
    assert (found["drift"], found["mounts"]) == (True, [])
    assert found["strays"] == [{"tag": R.tag, "alias": R.alias, "source_path": b.device(R).source}]


def test_what_is_left_of_another_transport_is_drift():
    devices = b.domain(b.device(VIEWED), b.device(b.record(b.wanted(mount_path="/models/guard"))))
    is_wrong, _layers, leaving = drift(unasked(b.running(VIEWED, live=devices)))
    assert is_wrong and leaving["live"] == "right"


def test_what_a_guest_says():
    assert drift(b.running(R))[:2] == (
        False,
        {"source": "unknown", "persistent": "right", "live": "right", "guest": "right"},
    )
    is_wrong, layers, _leaving = drift(b.running(R, guest=(b.ROOT,)))
    assert is_wrong and layers["guest"] == "missing"
    assert drift(b.running(R, guest=(b.ROOT, b.in_guest(R, source="x"))))[1]["guest"] == "foreign"


class Vm:
    """A domain, whose records may be broken."""

    def __init__(self, view):
        self.view, self.uuid, self.name = view, view.uuid, view.name

    def state(self):
        if not self.view.state:
            raise ModelfleetError("libvirt_error", "no state either")
        return self.view.state


@pytest.fixture
def libvirt(monkeypatch):
    """A host with VMs; gives a function that says which, and what some of them fail with."""
    opened = []

    def have(*views, broken=None, delay=0.0):
        class Host:
            def __init__(self, uri, deadline, read_only=False):
                opened.append((uri, deadline, read_only))

            def vms(self):
                return [Vm(view) for view in views]

        found = {view.uuid: view for view in views}

        def observe(handles):
            time.sleep(delay)
            failed = {uuid: (broken or {})[uuid] for uuid in handles if uuid in (broken or {})}
            return {uuid: found[uuid] for uuid in handles if uuid not in failed}, failed

        monkeypatch.setattr(_domain, "Host", Host)
        monkeypatch.setattr(_converge, "observe", observe)
        monkeypatch.setattr(_connection, "available", lambda: True)
        return opened

    return have


def test_a_host_is_asked_over_a_connection_that_can_change_nothing(libvirt):
    opened = libvirt(unasked(b.running(R)), unasked(b.running(uuid=b.OTHER_VM, name="idle")))
    assert [vm["name"] for vm in reader.read("qemu:///x", 7, False)] == ["render-4", "idle"]
    assert opened == [("qemu:///x", 7, True)]


def test_a_host_that_is_far_away_is_asked_several_questions_at_once(libvirt):
    libvirt(*(unasked(b.running(uuid=str(number), name=f"vm-{number}")) for number in range(20)), delay=0.1)
    begun = time.monotonic()
    assert [vm["name"] for vm in reader.read("qemu:///x", 7, False)] == [f"vm-{number}" for number in range(20)]
    assert time.monotonic() - begun < 1.5


def test_a_vm_that_cannot_be_read_is_shown_and_one_that_is_gone_is_not(libvirt):
    broken = {b.VM: ModelfleetError("record_invalid", "bad"), b.OTHER_VM: ModelfleetError("vm_not_found", "gone")}
    libvirt(b.running(), b.running(uuid=b.OTHER_VM), broken=broken)
    (found,) = reader.read("qemu:///x", 7, False)
    assert (found["uuid"], found["models"], found["drift"]) == (b.VM, [], None)
    assert found["error"]["error_code"] == "record_invalid"
    assert found["state"] == "running"
    libvirt(b.running(state=""), broken=broken)
    assert reader.read("qemu:///x", 7, False)[0]["state"] == "unknown"


def test_a_connection_that_is_lost_on_the_way_is_a_host_that_did_not_answer(libvirt):
    libvirt(b.running(), broken={b.VM: ModelfleetError("libvirt_unavailable", "lost")})
    with pytest.raises(ModelfleetError) as problem:
        reader.read("qemu:///x", 7, False)
    assert problem.value.code == "libvirt_unavailable"


def test_without_the_bindings(monkeypatch):
    monkeypatch.setattr(_connection, "available", lambda: False)
    with pytest.raises(ModelfleetError) as problem:
        reader.read("qemu:///x", 7, False)
    assert problem.value.code == "controller_unsupported"


def test_a_guest_that_is_slow_costs_nobody_else_anything(libvirt, monkeypatch):
    quick, slow = unasked(b.running(R)), unasked(b.running(R, uuid=b.OTHER_VM, name="slow"))

    def ask(view, _guest):
        if view.name == "slow":
            time.sleep(3)
        return dataclasses.replace(view, guest=(b.ROOT, b.in_guest(R)))

    monkeypatch.setattr(_guest_view, "for_info", ask)
    libvirt(quick, slow)
    begun = time.monotonic()
    found = {vm["name"]: vm["mounts"][0] for vm in reader.read("qemu:///x", 1, True)}
    assert time.monotonic() - begun < 2
    assert (found["render-4"]["layers"]["guest"], found["render-4"]["error"]) == ("right", None)
    assert found["slow"]["layers"]["guest"] == "unknown"
    assert found["slow"]["error"]["error_code"] == "agent_unavailable"
