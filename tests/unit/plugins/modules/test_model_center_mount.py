# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _center_input, _identity
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.modules import model_center_mount
from ansible_collections.modelfleet.kvm.tests.unit.builders import CENTER

URL = "file:///data/depot"


@pytest.mark.parametrize(
    ("given", "option"),
    [
        ({"name": "depot"}, "storage_url"),
        ({"name": "depot", "storage_url": " \n"}, "storage_url"),
        ({"name": " ", "storage_url": URL}, "name"),
        ({"name": "../depot", "storage_url": URL}, "name"),
        ({"name": "../depot", "state": "absent"}, "name"),
        ({"name": "depot", "storage_url": "/data/depot"}, "storage_url"),
        ({"name": "depot", "storage_url": "file:///etc"}, "storage_url"),
        ({"name": "depot", "storage_url": "file:///etc", "state": "unmounted"}, "storage_url"),
        ({"name": "depot", "storage_url": URL, "uuid": "1"}, "uuid"),
        ({"name": "depot", "storage_url": URL, "mount_point": "mnt"}, "mount_point"),
        ({"name": "depot", "storage_url": URL, "mount_point": "/usr/lib/x"}, "mount_point"),
        ({"name": "depot", "storage_url": URL, "mount_point": "/mnt/x\\"}, "mount_point"),
        ({"name": "depot", "storage_url": URL, "mount_point": "/mnt/" + "\xe9" * 64}, "mount_point"),
        ({"name": "depot", "storage_url": URL, "timeout": 0}, "timeout"),
    ],
)
@pytest.mark.parametrize("check", [True, False])
def test_bad_input_is_refused_before_anything_is_touched(given, option, check, untouchable, run_module):
    result = run_module(model_center_mount, **given, _ansible_check_mode=check)
    assert (result["failed"], result["error_code"]) == (True, "invalid_input")
    assert result["details"]["option"] == option
    assert not result.get("changed")


@pytest.mark.parametrize("given", [{}, {"name": "depot", "state": "present"}, {"name": "depot", "colour": "red"}])
def test_what_no_option_is_or_takes_is_refused(given, untouchable, run_module):
    assert run_module(model_center_mount, **given)["failed"] is True


PARAMS = {
    **dict.fromkeys(
        "uuid mount_point credentials options client helper cache_dir cache_size verify_path".split(),
    ),
    "name": "depot",
    "storage_url": URL,
    "read_only": True,
    "keep_alive": True,
    "state": "mounted",
}


def wanted(known=None, **given):
    return _center_input.wanted({**PARAMS, **given}, known).center


@pytest.mark.parametrize("place", ["", "/vms", "/vms/x", "/empty"])
def test_a_center_does_not_hide_what_is_ours(place):
    with pytest.raises(ModelfleetError) as caught:
        wanted(mount_point=f"/var/lib/modelfleet{place}")
    assert caught.value.code == "invalid_input"


def test_what_is_not_given_has_a_default():
    center = wanted()
    assert center.mount_point == "/var/lib/modelfleet/centers/depot"
    assert center.uuid == _identity.center_uuid("depot")
    assert center.read_only


def test_what_is_given_is_taken_in_its_normal_form():
    center = wanted(uuid=CENTER.uuid.upper(), mount_point="/mnt//depot/", storage_url="file:///data//depot/")
    assert center == CENTER


def test_a_center_that_goes_is_looked_for_where_it_is():
    known = dataclasses.replace(CENTER, mount_point="/mnt/elsewhere")
    center = wanted(known, storage_url=None, state="absent")
    assert (center.mount_point, center.storage_url) == ("/mnt/elsewhere", known.storage_url)


def test_a_center_that_is_not_known_goes_from_nowhere():
    center = wanted(storage_url=None, state="absent")
    assert (center.mount_point, center.storage_url) == ("/var/lib/modelfleet/centers/depot", "")
