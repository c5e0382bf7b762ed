# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _connection, _input
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError

PASTED = {
    "render-4": "render-4",
    "  render-4\r\n": "render-4",
    "\ufeffrender-4": "render-4",
    "\u200brender-4\u2060 \n": "render-4",
    "\u00a0render-4\u3000": "render-4",
    "\ufeff \u200brender-4": "render-4",
    "two words ": "two words",
    "": None,
    " \t\n": None,
    "\u200b": None,
    None: None,
    7: 7,
}


def test_what_pasting_adds_at_the_ends_is_dropped():
    assert {given: _input.trimmed(given) for given in PASTED} == PASTED
    assert _input.trimmed(False) is False


def test_lists_and_dicts_are_trimmed_to_any_depth():
    pasted = {"mounts": [{"vm": " a ", "tag": ""}, {"vm": "b\n"}], "vms": [["\ufeffc", " "]], "timeout": 9}
    assert _input.trimmed(pasted) == {
        "mounts": [{"vm": "a", "tag": None}, {"vm": "b"}],
        "vms": [["c", None]],
        "timeout": 9,
    }


def test_trimming_leaves_the_given_value_alone():
    given = {"mounts": [{"vm": " a "}]}
    _input.trimmed(given)
    assert given == {"mounts": [{"vm": " a "}]}


# For each checker: what it is given, and what it makes of it.
GOOD = {
    _input.name: {"depot": "depot", "0_depot.eu-west": "0_depot.eu-west", "d" * 63: "d" * 63},
    _input.model_name: {"guard": "guard", "acme/guard+8b": "acme/guard+8b", "acme/team/guard": "acme/team/guard"},
    _input.version: {"2.1": "2.1", "2026-02-11+r4": "2026-02-11+r4"},
    _input.tag: {"guard": "guard", "g" * 36: "g" * 36},
    _input.uuid: {"8D4C5A1E-7B0F-4C7E-9A35-2F1B6C0D9E77": "8d4c5a1e-7b0f-4c7e-9a35-2f1b6c0d9e77"},
    _input.vm_name: {
        "render 4 (old)": "render 4 (old)",
        "<vm> & co": "<vm> & co",
        "机器": "机器",
        "8D4C5A1E-7B0F-4C7E-9A35-2F1B6C0D9E77": "8d4c5a1e-7b0f-4c7e-9a35-2f1b6c0d9e77",
    },
    _input.absolute_path: {"//data///depot/": "/data/depot", "/": "/", "/data/..depot/...": "/data/..depot/..."},
    _input.relative_path: {"acme//guard/": "acme/guard", "-rf": "-rf", "模型/ä": "模型/ä"},
    _input.mount_path: {
        "/srv/ai/guard/": "/srv/ai/guard",
        "/home/ada": "/home/ada",
        "/mnt/100% 模型": "/mnt/100% 模型",
        "/binary": "/binary",
    },
}
# What no name of ours may be: options, hidden files, markup, shell, format strings, too long, nothing.
NO_NAME = ["-x", "--help", ".hidden", "..", "../x", "<a>", "a&b", "a b", "a\nb", "x\n", "naïve", "a=b", "$(id)", "a;b"]
NO_NAME += ["a%b", "a,b", "a\\b", '"a"', "x" * 4096, ""]
BAD = {
    _input.name: [*NO_NAME, "d" * 64, "acme/guard"],
    _input.model_name: [*NO_NAME, "acme//guard", "/guard", "guard/", "acme/../guard", "a/" + "g" * 129, "a/b" * 90],
    _input.version: [*NO_NAME, "v" * 65, "2/1"],
    _input.tag: [*NO_NAME, "t" * 37],
    _input.uuid: [
        *NO_NAME,
        "8d4c5a1e7b0f4c7e9a352f1b6c0d9e77",
        "{8d4c5a1e-7b0f-4c7e-9a35-2f1b6c0d9e77}",
        "8d4c5a1e-7b0f-4c7e-9a35-2f1b6c0d9e7g",
        "8d4c5a1e-7b0f-4c7e-9a35-2f1b6c0d9e７７",
    ],
    _input.vm_name: ["", "/", "../x", "é" * 128, "x" * 4096],
    _input.absolute_path: ["data/depot", "", "/a/..", "/../a", "/./a", "/" + "a/" * 2048, "/" + "é" * 128],
    _input.relative_path: ["/acme", "", "///", "a/..", "../a", "./a", "a/" * 2048, "é" * 128],
    _input.mount_path: ["data/depot", "", "/a/..", "/../a", "/./a", "/" + "a/" * 2048, "/" + "é" * 128],
}


def refusal(check, given):
    """The error of a checker, None when it takes the value."""
    try:
        check("mounts[2].thing", given)
    except ModelfleetError as problem:
        return problem
    return None


@pytest.mark.parametrize("check", GOOD, ids=lambda check: check.__name__)
def test_good_values_come_back_in_their_normal_form(check):
    assert {given: check("option", given) for given in GOOD[check]} == GOOD[check]


@pytest.mark.parametrize("check", GOOD, ids=lambda check: check.__name__)
def test_the_normal_form_stays_as_it_is(check):
    normal = list(GOOD[check].values())
    assert [check("option", value) for value in normal] == normal


@pytest.mark.parametrize("check", BAD, ids=lambda check: check.__name__)
def test_bad_values_are_refused(check):
    assert [given for given in BAD[check] if refusal(check, given) is None] == []


@pytest.mark.parametrize("check", BAD, ids=lambda check: check.__name__)
def test_a_refusal_names_the_option(check):
    problem = refusal(check, BAD[check][-1])
    assert problem.code == "invalid_input"
    assert problem.details == {"option": "mounts[2].thing"}


CONTROL = ["\0", "\n", "\r", "\t", "\x0b", "\x1b", "\x7f", "\x85", "\u2028", "\u2029", "\udc80", "\ud800", "\uffff"]
# Noncharacters, for which systemd ignores a line.
CONTROL += ["\ufdd0", "\ufdef", "\U0001fffe", "\U0010ffff"]


@pytest.mark.parametrize("check", [_input.vm_name, _input.absolute_path, _input.relative_path, _input.mount_path])
def test_control_characters_are_refused_wherever_free_text_is_allowed(check):
    free = check in (_input.vm_name, _input.relative_path)
    found = {character: refusal(check, f"{'' if free else '/srv/'}a{character}b") for character in CONTROL}
    assert [character for character, problem in found.items() if problem is None] == []
    # The message goes to terminals and logs, and must not carry the character there.
    assert [character for character, problem in found.items() if character in problem.msg] == []


def test_nothing_is_mounted_over_the_operating_system():
    protected = """
        / /usr /var /var/log /home /root /tmp /srv /etc /etc/ssh /bin/sh /boot /dev/shm /proc/1 /sys/fs /lib64
        /usr/bin/x //etc//ssh /usr/ ///
    """.split()
    assert [path for path in protected if refusal(_input.mount_path, path) is None] == []


def test_a_center_is_not_mounted_over_what_a_host_needs():
    protected = """
        /etc /usr/share/models /run/user /var/log/x /var/lib/libvirt/images /var/lib/dpkg /var/lib/modelfleet
        /var/lib/modelfleet/vms /var/lib/modelfleet/empty /var/lib/modelfleet/centers /var/lib/modelfleet/centers/a/b
    """.split()
    assert [path for path in protected if refusal(_input.mount_point, path) is None] == []
    free = ["/mnt/depot", "/data", "/var/lib/models", "/var/lib/modelfleet/centers/depot", "/runs"]
    assert [_input.mount_point("option", path) for path in free] == free


def test_a_path_may_be_long_but_not_too_long():
    parts = ["/" + "p" * 255] * 4
    assert len("".join(parts)) == 1024
    assert _input.absolute_path("option", "".join(parts)) == "".join(parts)
    assert refusal(_input.absolute_path, "".join([*parts[:3], "/" + "p" * 254, "/p"])) is not None
    assert refusal(_input.absolute_path, "/" + "p" * 256) is not None


@pytest.mark.parametrize("check", [_input.model_name, _input.vm_name])
def test_a_name_may_be_long_but_not_too_long(check):
    separator = "/" if check is _input.model_name else "-"
    longest = separator.join(["n" * 127, "n" * 127])
    assert check("option", longest) == longest
    assert refusal(check, longest + "n") is not None


def test_a_deadline_is_a_time_that_people_wait():
    assert [_input.seconds("timeout", value) for value in (1, 30, 3600)] == [1.0, 30.0, 3600.0]
    assert [value for value in (-5, 0, 3601) if refusal(_input.seconds, value) is None] == []


def test_paths_overlap_when_one_lies_below_the_other():
    assert _input.overlaps("/srv/ai", "/srv/ai")
    assert _input.overlaps("/srv/ai", "/srv/ai/guard")
    assert _input.overlaps("/srv/ai/guard", "/srv/ai")
    assert not _input.overlaps("/srv/ai", "/srv/ai2")
    assert not _input.overlaps("/srv/a", "/srv/b")


def test_values_in_messages_are_short_and_printable():
    shown = _input.show("\x1b[31m" + "é" * 4000)
    assert len(shown) <= 120
    assert shown.isprintable() and shown.isascii()


@pytest.mark.parametrize("uri", ["qemu:///system\0", "qemu:///\udc80", "x" * 1025])
def test_a_uri_that_cannot_be_shown_does_not_reach_libvirt(uri):
    with pytest.raises(ModelfleetError) as caught:
        _connection.connect(uri, 5.0)
    assert caught.value.code == "invalid_input" and caught.value.msg.isprintable()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/models/guard", "/models/guard"),
        ("//models//org/guard/", "/models/org/guard"),
        ("/models/org/.guard", "/models/org/.guard"),
        ("/models/a.b", "/models/a.b"),
        ("/models", None),
        ("/models/", None),
        ("/", None),
        ("/models/.m", None),
        ("/models/.m/0123456789abcdef-1", None),
        ("/models/.guard", None),
        ("//models//.m", None),
        ("/modelsx/guard", "/modelsx/guard"),
        ("/srv/models//guard", "/srv/models/guard"),
        ("/srv/.m", "/srv/.m"),
        ("models/guard", None),
        ("/models/../etc", None),
        ("/models/x/../.m", None),
    ],
)
def test_a_path_in_a_view_is_not_its_mount_and_not_among_its_binds(path, expected):
    if expected:
        assert _input.path_in_view("mount_path", path) == expected
        return
    with pytest.raises(ModelfleetError) as caught:
        _input.path_in_view("mount_path", path)
    assert (caught.value.code, caught.value.details["option"]) == ("invalid_input", "mount_path")
