# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""VMs of several hosts in one inventory: which host has a VM, and what it is called."""

from __future__ import annotations

import re

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.plugin_utils import _inventory_names as names


def vm(name="render-4", uuid="u1", state="running", **more):
    return {"name": name, "uuid": uuid, "state": state, **more}


def where(answers):
    found, warnings = names.placed(answers)
    return [(item["uuid"], item["kvm_host"], item["also_on"]) for item in found], warnings


def called(*vms, template="{name}", taken=()):
    """The names of VMs in their order."""
    found = names.named([{"kvm_host": "a", **item} for item in vms], template, taken)
    return list(found)


@pytest.mark.parametrize(("left", "here"), [("shutoff", "running"), ("shutoff", "paused"), ("paused", "running")])
@pytest.mark.parametrize("first", ["a", "b"])
def test_what_a_migration_left_behind_does_not_win(left, here, first):
    answers = {host: [vm(state=left if host == first else here)] for host in ("a", "b")}
    other = "b" if first == "a" else "a"
    assert where(answers) == ([("u1", other, [first])], [])


@pytest.mark.parametrize(
    ("states", "what"),
    [(("running", "blocked"), "runs"), (("paused", "crashed"), "neither"), (("shutoff", "shutoff"), "is shut off")],
)
def test_a_vm_that_two_hosts_have_alike_is_shown_for_each(states, what):
    found, warnings = where({"a": [vm(state=states[0])], "b": [vm(state=states[1])]})
    assert found == [("u1", "a", ["b"]), ("u1", "b", ["a"])]
    assert len(warnings) == 1 and what in warnings[0] and "a, b" in warnings[0]


def test_the_leftover_of_a_vm_that_runs_twice():
    found, warnings = where({"a": [vm()], "b": [vm()], "c": [vm(state="shutoff")]})
    assert found == [("u1", "a", ["b", "c"]), ("u1", "b", ["a", "c"])]
    assert len(warnings) == 1 and warnings[0].endswith("on a, b")


def test_a_renamed_leftover_is_known_by_its_uuid():
    assert where({"a": [vm("old", state="shutoff")], "b": [vm("new")]}) == ([("u1", "b", ["a"])], [])


def test_a_warning_shows_what_a_name_has_in_it():
    _found, warnings = names.placed({"a": [vm("x\x1b[2J")], "b": [vm("x\x1b[2J")]})
    assert warnings[0].isprintable() and "\\x1b" in warnings[0]


def test_different_vms_of_one_name_are_all_told_apart():
    assert called(vm(uuid="u1"), vm(uuid="u2", kvm_host="b"), vm("other", "u3")) == [
        "render-4@a",
        "render-4@b",
        "other",
    ]


@pytest.mark.parametrize("taken", ["render-4", "all", "localhost"])
def test_a_name_that_something_else_has_is_not_given(taken):
    assert called(vm(taken), taken={taken}) == [f"{taken}@a"]
    assert called(vm(taken), taken={taken, f"{taken}@a"}) == [f"{taken}@a@u1"]


HOSTILE = [
    "{{ lookup('pipe', 'id') }}",
    "{% raw %}",
    "a\x1b[31mb",
    "tab\there",
    "back\\slash",
    "x[1:5]",
    "a,b",
    "a:b",
    "!all",
    "&all",
    "~.*",
    "*",
    "@/etc/shadow",
    "web@b",
    "-e x=y",
    "..",
    " ",
    "a\u202eb",
    "a\u2028b",
    "<b>",
    "=",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_means_something_to_ansible(name):
    (found,) = called(vm(name))
    assert re.fullmatch(r"[\w][\w.-]*@a", found), found
    assert found.isprintable()


def test_no_name_can_be_made_to_look_like_that_of_another_vm():
    # The first two would become the same, and the name of the third, which keeps it.
    found = called(vm("a b", "u1"), vm("a*b", "u2"), vm("a_b", "u3"), vm("a_b@a", "u4"))
    assert found == ["a_b@a@u1", "a_b@a@u2", "a_b", "a_b_a@a"]
    assert len(called(*(vm(name, str(index)) for index, name in enumerate(HOSTILE)))) == len(HOSTILE)


def test_names_of_every_script():
    assert called(vm("推理-1"), vm("größe.2", "u2")) == ["推理-1", "größe.2"]


def test_templates():
    assert called(vm(), template="{name}@{host}") == ["render-4@a"]
    assert called(vm("x y"), template="vm-{uuid}") == ["vm-u1"]
    assert called(vm("x y"), template="{name}.{host}") == ["x_y.a@a"]
    # What a name has in braces is no field.
    assert called(vm("{uuid}"), template="{name}-{host}") == ["_uuid_-a@a"]


@pytest.mark.parametrize(
    "template", ["", "vm", "{host}", "{}", "{name}{", "{name.x}", "{name} {uuid}", "{name}:{uuid}"]
)
def test_templates_that_are_refused(template):
    with pytest.raises(ModelfleetError) as problem:
        names.check_template(template)
    assert problem.value.code == "invalid_input"


@pytest.mark.parametrize("template", ["{name}", "{uuid}", "{name}@{host}", "vm_{name}-{uuid}.example.org"])
def test_templates_that_are_taken(template):
    names.check_template(template)


def test_messages_have_one_line_that_can_be_printed():
    assert names.printable("a: \x1b[31m ssh: \r\n refused\u202e\n") == "a: [31m ssh: refused"
