# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""KVM hosts asked by processes that can be given up."""

from __future__ import annotations

import os
import sys
import time

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.plugin_utils import _inventory_ask as asker
from ansible_collections.modelfleet.kvm.plugins.plugin_utils._inventory_hosts import KvmHost

A, B = KvmHost("a", "test:///a"), KvmHost("b", "test:///b")


@pytest.fixture
def program(monkeypatch):
    """Have hosts asked by a program of Python, which has the request in `request`."""

    def use(text):
        text = f"import json, os, subprocess, sys, time\nrequest = json.load(sys.stdin)\n{text}"
        monkeypatch.setattr(asker, "_command", lambda _python: [sys.executable, "-I", "-c", text])

    return use


def ask(*hosts, timeout=20, guests=False):
    return asker.ask(hosts, "", timeout, guests, 4)


def gone(process):
    """Whether a process is gone, or dead and waits for its parent to look."""
    try:
        with open(f"/proc/{process}/stat", encoding="ascii") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_the_answers_of_hosts(program):
    program("print(json.dumps({'vms': [request]}))")
    assert ask(A, B, guests=True) == {host.name: [{"uri": host.uri, "timeout": 20, "guests": True}] for host in (A, B)}
    assert ask() == {}


def test_a_host_that_is_silent_is_given_up_with_all_that_was_started_for_it(program, tmp_path):
    program(
        f"if request['uri'].endswith('b'): print('{{\"vms\": []}}'); sys.exit()\n"
        f"child = subprocess.Popen(['sleep', '60'])\n"
        f"open({str(tmp_path / 'child')!r}, 'w').write(str(child.pid))\n"
        f"time.sleep(60)"
    )
    begun = time.monotonic()
    found = ask(A, B, timeout=2)
    assert time.monotonic() - begun < 10
    assert found["b"] == []
    assert (found["a"].code, "no answer in 2 s" in found["a"].what) == ("host_unreachable", True)
    child = int((tmp_path / "child").read_text())
    end = time.monotonic() + 10
    while not gone(child):
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("print('{'); sys.exit(3)", "status 3"),
        ("raise KeyError('lost')", "KeyError: 'lost'"),
        ("os.kill(os.getpid(), 9)", "status -9"),
        (
            "print(json.dumps({'error': {'code': 'libvirt_unavailable', 'what': 'x: refused', 'details': {}}}))",
            "refused",
        ),
    ],
)
def test_a_host_of_which_nothing_can_be_known(program, text, what):
    program(text)
    (problem,) = ask(A).values()
    assert problem.code == "host_unreachable"
    assert problem.what.startswith("a: ") and what in problem.what


def test_a_control_node_that_cannot_ask_anybody(program):
    with pytest.raises(ModelfleetError) as problem:
        asker.ask([A], "/no/such/python", 5, False, 1)
    assert (problem.value.code, "/no/such/python" in problem.value.what) == ("controller_unsupported", True)
    program("print(json.dumps({'error': {'code': 'controller_unsupported', 'what': 'none', 'details': {}}}))")
    with pytest.raises(ModelfleetError) as problem:
        ask(A, B)
    assert problem.value.code == "controller_unsupported"


def test_the_program_itself():
    """It is found and runs without Ansible, whether there are bindings of libvirt or not."""
    bare = {"PATH": os.environ["PATH"]}
    command = asker._command(sys.executable)
    assert command[0] == sys.executable
    status, output, errors = asker._run(
        ["/usr/bin/env", "-i", *(f"{key}={value}" for key, value in bare.items()), *command],
        '{"uri": "test:///default", "timeout": 20, "guests": false}',
        30,
    )
    assert (status, errors) == (0, "")
    assert '"vms"' in output or "controller_unsupported" in output
