# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The inventory plugin, read by Ansible's own inventory, with answers that no host gave."""

from __future__ import annotations

import json
import time

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import inventory_loader
from ansible.template import Templar
from ansible.utils.display import Display
from ansible.vars.manager import VariableManager

from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.plugin_utils import _inventory_ask

JINJA = "{{ 7 * 7 }}"
DOWN = ModelfleetError("host_unreachable", "rack-b: ssh: \x1b[31mrefused\n")


def vm(name, uuid="u1", state="running", **more):
    known = {"models": ["acme/guard"], "mounts": [], "strays": [], "drift": False, "error": None}
    return {"name": name, "uuid": uuid, "state": state, **known, **more}


@pytest.fixture
def warned(monkeypatch):
    """What was warned of, in order."""
    found = []
    monkeypatch.setattr(Display, "warning", lambda _self, msg, *_more, **_options: found.append(msg))
    monkeypatch.setattr(Display, "error_as_warning", lambda _self, msg, exception: found.append(str(exception)))
    return found


@pytest.fixture
def source(monkeypatch, tmp_path, warned):
    """Reads a source with options, of hosts that answer as `answers` says; `asked` are those that were."""
    path = tmp_path / "vms.yml"

    class Source:
        def read(self, flush=False, hosts=("rack-a", "rack-b"), before="", **options):
            path.write_text(json.dumps({"plugin": "modelfleet.kvm.vms", "hosts": list(hosts), **options}))
            self.manager = InventoryManager(DataLoader(), [*([before] if before else []), str(path)], cache=not flush)
            return {name: host.get_vars() for name, host in self.manager.hosts.items()}

        def fails(self, **options):
            """Why a source cannot be read, which Ansible itself only warns of."""
            self.read(**options)
            assert any("Unable to parse" in text for text in warned)
            return " ".join(warned)

    def ask(hosts, python, timeout, guests, at_once):
        source.asked = [host.name for host in hosts]
        return {host.name: source.answers[host.name] for host in hosts}

    monkeypatch.setattr(_inventory_ask, "ask", ask)
    source = Source()
    return source


def test_vms_and_where_they_are(source, warned):
    source.answers = {"rack-a": [vm("chat-1"), vm("chat-2", "u2", "shutoff")], "rack-b": [vm("chat-2", "u2")]}
    found = source.read()
    assert list(found) == ["chat-1", "chat-2"]
    assert found["chat-1"]["modelfleet_vm"] == {**vm("chat-1"), "kvm_host": "rack-a", "also_on": []}
    assert found["chat-2"]["modelfleet_vm"] == {**vm("chat-2", "u2"), "kvm_host": "rack-b", "also_on": ["rack-a"]}
    assert warned == []


def test_groups_and_composed_variables(source):
    source.answers = {"rack-a": [vm("chat-1", drift=True), vm("off", "u2", "shutoff", models=[])], "rack-b": []}
    found = source.read(
        keyed_groups=[
            {"key": "modelfleet_vm.models", "prefix": "model"},
            {"key": "modelfleet_vm.state", "prefix": "vm"},
        ],
        groups={"drifted": "modelfleet_vm.drift"},
        compose={"kvm_host": "modelfleet_vm.kvm_host", "model_vm": "modelfleet_vm.uuid"},
    )
    groups = {name: [host.name for host in group.get_hosts()] for name, group in source.manager.groups.items()}
    del groups["all"], groups["ungrouped"]
    assert groups == {
        "model_acme_guard": ["chat-1"],
        "vm_running": ["chat-1"],
        "vm_shutoff": ["off"],
        "drifted": ["chat-1"],
    }
    assert (found["off"]["kvm_host"], found["off"]["model_vm"]) == ("rack-a", "u2")


def test_nothing_that_a_vm_says_is_a_template(source):
    source.answers = {"rack-a": [vm(JINJA, models=[JINJA], error={"error_code": "x", "msg": JINJA})], "rack-b": []}
    (name,) = source.read(compose={"shown": "modelfleet_vm.name", "joined": "'vm ' ~ modelfleet_vm.name"})
    assert name == "___7___7___@rack-a"
    manager = VariableManager(DataLoader(), source.manager)
    variables = manager.get_vars(host=source.manager.get_host(name))
    templar = Templar(DataLoader(), variables)
    for variable, expected in (("shown", JINJA), ("joined", f"vm {JINJA}")):
        assert templar.template(variables[variable]) == expected
    assert templar.template(variables["modelfleet_vm"])["models"] == [JINJA]


@pytest.mark.parametrize("name", ["rack-a", "rack-b", "localhost", "127.0.0.1", "all", "racks", "db"])
def test_a_vm_cannot_be_taken_for_something_else(source, tmp_path, name):
    before = tmp_path / "before.yml"
    before.write_text("racks: {hosts: {db: {ansible_host: 203.0.113.9}}}")
    source.answers = {"rack-a": [vm(name)], "rack-b": []}
    found = source.read(before=str(before), compose={"ansible_host": "'192.0.2.66'"})
    assert set(found) == {"db", f"{name}@rack-a"}
    assert found["db"]["ansible_host"] == "203.0.113.9" and "modelfleet_vm" not in found["db"]


def test_a_host_that_is_down_is_left_out_with_a_warning(source, warned):
    source.answers = {"rack-a": [vm("chat-1")], "rack-b": DOWN}
    assert list(source.read()) == ["chat-1"]
    assert len(warned) == 1
    assert warned[0].startswith("host_unreachable: rack-b: ssh: [31mrefused") and warned[0].isprintable()


@pytest.mark.parametrize(("down", "options"), [("ab", {}), ("b", {"strict_hosts": True})])
def test_when_the_source_fails(source, down, options):
    source.answers = {f"rack-{key}": DOWN if key in down else [vm("chat-1")] for key in "ab"}
    assert "host_unreachable: rack-b" in source.fails(**options)
    assert source.manager.hosts == {}


@pytest.mark.parametrize(
    "options", [{"hosts": []}, {"timeout": 0}, {"at_once": 0}, {"name_template": "{host}"}, {"hosts": ["a b"]}]
)
def test_options_that_are_refused(source, options):
    assert "invalid_input" in source.fails(**options)


def test_a_vm_that_cannot_be_read(source, warned):
    error = {"error_code": "record_invalid", "msg": "VM x\x1b[2J: damaged", "details": {}}
    source.answers = {"rack-a": [vm("x", drift=None, error=error)], "rack-b": []}
    assert source.read()["x"]["modelfleet_vm"]["drift"] is None
    assert warned == ["record_invalid: VM x [2J: damaged"]


def test_what_is_kept(source, tmp_path):
    keep = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(tmp_path / "kept")}
    url = "qemu+ssh://watcher@{host}/system?keyfile=/keys/secret-one"
    source.answers = {"rack-a": [vm("chat-1")], "rack-b": DOWN}

    def read(**more):
        names = list(source.read(**{"uri": url, **keep, **more}))
        return names, source.asked

    assert read() == (["chat-1"], ["rack-a", "rack-b"])
    source.answers = {"rack-a": [vm("chat-1"), vm("new", "u2")], "rack-b": [vm("chat-3", "u3")]}
    # Only who did not answer is asked again.
    assert read() == (["chat-1", "chat-3"], ["rack-b"])
    assert read() == (["chat-1", "chat-3"], [])
    (file,) = (tmp_path / "kept").iterdir()
    assert "watcher" not in file.read_text() and "secret-one" not in file.read_text()
    # With --flush-cache, and with other questions.
    assert read(flush=True)[1] == ["rack-a", "rack-b"]
    assert read()[1] == []
    assert read(guests=True)[1] == ["rack-a", "rack-b"]
    assert read(uri="qemu+ssh://other@{host}/system")[1] == ["rack-a", "rack-b"]
    assert read(hosts=["rack-b"], uri="qemu+ssh://other@{host}/system") == (["chat-3"], [])


def test_an_answer_is_not_kept_for_longer_because_another_host_does_not_answer(source, tmp_path, monkeypatch):
    keep = {"cache": True, "cache_plugin": "jsonfile", "cache_connection": str(tmp_path), "cache_timeout": 300}
    source.answers = {"rack-a": [vm("chat-1")], "rack-b": DOWN}
    asked = []
    for now in (1000, 1200, 1400, 1500):
        monkeypatch.setattr(time, "time", lambda: now)  # noqa: B023
        source.read(**keep)
        asked.append(source.asked)
    # What Ansible keeps is one for all hosts, and is written anew whenever one of them was asked.
    assert asked == [["rack-a", "rack-b"], ["rack-b"], ["rack-a", "rack-b"], ["rack-b"]]


def test_files(tmp_path):
    plugin = inventory_loader.get("modelfleet.kvm.vms")
    for name, expected in (("vms.yml", True), ("a.vms.yaml", True), ("hosts.yml", False)):
        (tmp_path / name).touch()
        assert plugin.verify_file(str(tmp_path / name)) is expected
    assert not plugin.verify_file(str(tmp_path / "none.vms.yml"))
