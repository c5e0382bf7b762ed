# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage URLs, and the back end of C(file://)."""

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _storage
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit.builders import CENTER

# A URL as people write it, its normal form, and the directory that it means.
GOOD = [
    ("file:///data/depot", "file:///data/depot", "/data/depot"),
    ("FILE:///data/depot", "file:///data/depot", "/data/depot"),
    ("file://localhost/data/depot", "file:///data/depot", "/data/depot"),
    ("file:///data//depot/", "file:///data/depot", "/data/depot"),
    ("file:///data/big models", "file:///data/big%20models", "/data/big models"),
    ("file:///data/big%20models", "file:///data/big%20models", "/data/big models"),
    ("file:///data/100%25", "file:///data/100%25", "/data/100%"),
    ("file:///data/what%3F%23", "file:///data/what%3F%23", "/data/what?#"),
    ("file:///data/模型", "file:///data/%E6%A8%A1%E5%9E%8B", "/data/模型"),
    ("file:///data/..depot", "file:///data/..depot", "/data/..depot"),
    ("file:///devices", "file:///devices", "/devices"),
]


def refusal(url):
    """The error for a URL, None when it is taken."""
    try:
        _storage.check(url)
    except ModelfleetError as problem:
        return problem
    return None


@pytest.mark.parametrize(("url", "normal", "directory"), GOOD)
def test_a_url_has_a_normal_form_and_means_a_directory(url, normal, directory):
    assert _storage.check(url) == normal
    assert _storage.check(normal) == normal
    assert _storage.directory(normal) == directory


@pytest.mark.parametrize(("read_only", "access"), [(True, "ro"), (False, "rw")])
def test_a_directory_is_bound_without_devices_and_setuid(read_only, access):
    center = dataclasses.replace(CENTER, storage_url="file:///data/big%20models", read_only=read_only)
    mount = _storage.definition(center)
    assert (mount.what, mount.fstype) == ("/data/big models", "none")
    assert mount.options == ("bind", access, "nosuid", "nodev")


BAD = {
    "another scheme": ["nfs4://depot/models", "http://depot/models", "ssh://depot/models"],
    "no scheme": ["", "/data/depot", "file:/data/depot", "data", "://data"],
    "a host": ["file://depot/data", "file://data", "file://user:word@localhost/data"],
    "a query or fragment": ["file:///data?x=1", "file:///data#x", "file:///data?x#y"],
    "no directory": ["file://", "file:///", "file:////", "file://localhost"],
    "dots": ["file:///data/..", "file:///data/../etc", "file:///data/%2e%2e/etc", "file:///./data"],
    "control characters": [
        "file:///da\nta",
        "file:///da\tta",
        "file:///data/%0a",
        "file:///a%00b",
        "file:///%E2%80%A8",
    ],
    "not unicode": ["file:///data/%FF", "file:///data/%C0%AF"],
    "not a URL": ["file://[/data", "file://[::1/data"],
    "too long": ["file:///" + "a/" * 2048, "file:///" + "a" * 300],
    "protected": [
        "/etc",
        "/etc/ssl",
        "/proc/1",
        "/sys",
        "/dev/shm",
        "/boot",
        "/var/lib/modelfleet",
        "/run/modelfleet/x",
    ],
    # A unit file loses blanks at the end of a line, and goes on in the next after a backslash.
    "not for a unit": ["file:///data/%20", "file:///data%20", "file:///data/x%5C", "file:///data/x\\"],
}
BAD["protected"] = [f"file://{path}" for path in BAD["protected"]]
BAD["protected"] += ["file:////etc", "file:///%65tc", "file:///etc/", "file://localhost/etc"]


@pytest.mark.parametrize("why", BAD)
def test_urls_that_cannot_be_used_are_refused(why):
    found = {url: refusal(url) for url in BAD[why]}
    assert [url for url, problem in found.items() if problem is None] == []
    assert {(problem.code, problem.details["option"]) for problem in found.values()} == {
        ("invalid_input", "storage_url")
    }


@pytest.mark.parametrize("url", ["nfs4://admin:hunter2@depot/x", "file://admin:hunter2@depot/x", "hunter2"])
def test_a_refusal_does_not_tell_a_password(url):
    problem = refusal(url)
    assert "hunter2" not in problem.msg + str(problem.details)
