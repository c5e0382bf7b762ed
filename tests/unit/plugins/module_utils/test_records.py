# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _identity, _records
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit.builders import (
    OTHER_VM,
    VM,
    domain_xml,
    record,
    second,
    viewed,
    wanted,
)


def stored(metadata, vm=VM):
    """A domain with a metadata element of ours, in the name space that libvirt gives it."""
    inner = metadata.replace("<mounts ", f"<modelfleet:mounts xmlns:modelfleet='{_records.NAMESPACE}' ", 1)
    inner = inner.replace("</mounts>", "</modelfleet:mounts>").replace("<mount ", "<modelfleet:mount ")
    return domain_xml(more=f"<metadata>{inner}</metadata>", uuid=vm)


def damaged(kept=None, **changes):
    """A domain with one record of which some attributes were changed, or removed where None is given."""
    root = ET.fromstring(_records.to_xml([kept or record()], VM))
    for name, value in changes.items():
        if value is None:
            del root[0].attrib[name]
        else:
            root[0].set(name, value)
    return stored(ET.tostring(root, encoding="unicode"))


def test_records_come_back_as_they_were_written():
    written = (record(), record(second()))
    xml = _records.to_xml(written, VM)
    assert sorted(_records.from_domain(stored(xml), VM), key=lambda item: item.uuid) == sorted(
        written, key=lambda item: item.uuid
    )


def test_no_value_can_break_out_of_the_xml():
    nasty = """<x a='1'>&amp; "quoted" ]]> 模型 \t\n -- <!-- """
    path = "srv/<x a='1'>&amp; \"quoted\" ]]> 模型 --"
    written = record(model_name=nasty, mount_path=f"/{path}", model_path=path, owner="o'\"<&>", read_only=False)
    assert _records.from_domain(stored(_records.to_xml([written], VM)), VM) == (written,)


def test_the_order_of_records_does_not_depend_on_who_wrote_them():
    one, two = record(), record(second())
    assert _records.to_xml([one, two], VM) == _records.to_xml([two, one], VM)


def test_what_several_records_say_alike_is_written_once():
    root = ET.fromstring(_records.to_xml([record(), record(second())], VM))
    assert set(root.attrib) > {"vm", "schema_version", "model_center_name", "vm_instance_uuid", "create_date"}
    assert not any(set(root.attrib) & set(mount.attrib) for mount in root)
    assert {"uuid", "mount_path"} <= set(root[0].attrib)


def test_what_all_records_said_alike_does_not_reach_one_that_says_something_else():
    one, two, other = (
        record(),
        record(second()),
        record(second(mount_path="/srv/ai/3"), owner="somebody", account_uuid=""),
    )
    for written in ((one, two), (one, two, other), (two, other)):
        found = _records.from_domain(stored(_records.to_xml(written, VM)), VM)
        assert set(found) == set(written)


def test_no_records_are_no_element():
    assert _records.to_xml([], VM) is None


@pytest.mark.parametrize("more", ["", "<metadata/>", f"<metadata><mounts vm='{VM}'/></metadata>"])
def test_a_domain_without_our_metadata_has_no_records(more):
    assert _records.from_domain(domain_xml(more=more), VM) == ()


def test_attributes_of_a_newer_release_survive_a_round_trip():
    found = _records.from_domain(damaged(lease_until="2027-03-01", colour="<red>"), VM)
    assert found[0].unknown == (("colour", "<red>"), ("lease_until", "2027-03-01"))
    assert _records.from_domain(stored(_records.to_xml(found, VM)), VM) == found


def test_attributes_that_an_older_release_did_not_write_have_defaults():
    (found,) = _records.from_domain(damaged(account_uuid=None, model_version=None), VM)
    assert (found.account_uuid, found.model_version) == ("", "")


def test_the_records_of_another_vm_are_none_of_this_one():
    copied = stored(_records.to_xml([record()], VM), vm=OTHER_VM)
    assert _records.from_domain(copied, OTHER_VM) == ()


def test_a_newer_schema_is_left_alone():
    newer = _records.to_xml([record()], VM).replace('schema_version="1"', 'schema_version="2"')
    with pytest.raises(ModelfleetError) as caught:
        _records.from_domain(stored(newer), VM)
    assert caught.value.code == "record_conflict"
    assert caught.value.details == {"vm_instance_uuid": VM, "schema_version": 2}


@pytest.mark.parametrize("version", ["", "one", "1.0"])
def test_a_schema_version_that_is_no_number_is_damage(version):
    xml = _records.to_xml([record()], VM).replace('schema_version="1"', f'schema_version="{version}"')
    with pytest.raises(ModelfleetError) as caught:
        _records.from_domain(stored(xml), VM)
    assert caught.value.code == "record_invalid"


REQUIRED = [field.name for field in dataclasses.fields(_records.Record) if field.name != "unknown"]
REQUIRED = [name for name in REQUIRED if name not in ("account_uuid", "model_version", "persistence", "revoke")]


def refusal(domain):
    """The code with which records are refused, None when they are read."""
    try:
        _records.from_domain(domain, VM)
    except ModelfleetError as problem:
        return problem.code
    return None


def test_a_record_that_lacks_something_is_damaged():
    assert {name: refusal(damaged(**{name: None})) for name in REQUIRED} == dict.fromkeys(REQUIRED, "record_invalid")


@pytest.mark.parametrize(
    "changes",
    [
        {"generation": "many"},
        {"uuid": "nonsense"},
        {"uuid": "../../../etc"},
        {"vm_instance_uuid": OTHER_VM},
        {"vm_instance_uuid": "../.."},
        # Whoever takes this mount away would take away a device that is not ours.
        {"alias": "fs0"},
        {"alias": "ua-somebody-else"},
        {"uuid": record().uuid.upper()},
        {"tag": "--help"},
        {"mount_path": "srv/ai"},
        {"mount_path": "/srv/../etc"},
        {"model_path": "../../etc"},
        {"model_path": "/etc"},
        {"model_center_name": "../depot"},
        {"intent": "whatever"},
        {"revoke": "lazy"},
        {"create_date": "2026-01-17"},
        {"last_op_date": "yesterday"},
    ],
    ids=str,
)
def test_a_record_that_cannot_be_true_is_damaged(changes):
    assert refusal(damaged(**changes)) == "record_invalid"


@pytest.mark.parametrize(
    "changes", [{"create_date": "x"}, {"last_op_date": "x"}, {"generation": 9}, {"unknown": (("a", "b"),)}]
)
def test_when_a_record_was_written_does_not_matter(changes):
    assert record().says_the_same(record(**changes))


@pytest.mark.parametrize(
    "changes", [{"intent": "mounting"}, {"owner": "ops"}, {"tag": "guard"}, {"model_version": "2.2"}]
)
def test_what_a_record_says_does_matter(changes):
    assert not record().says_the_same(record(**changes))


def test_a_result_shows_all_but_the_unknown():
    shown = record(unknown=(("colour", "red"),)).as_dict()
    assert set(shown) == {*REQUIRED, "account_uuid", "model_version", "persistence", "revoke", "schema_version"}
    assert shown["mount_path"] == "/srv/ai/guard"
    assert shown["schema_version"] == 1


# Records of models in a view

VIEWED = record(viewed())


def test_a_record_in_a_view_shares_what_belongs_to_the_device():
    other = record(second(transport="view", mount_path="/models/org/ocr"))
    assert (VIEWED.tag, VIEWED.device_path, VIEWED.device_uuid) == ("modelfleet", "/models", _identity.view_uuid(VM))
    assert VIEWED.alias == other.alias == _identity.alias(_identity.view_uuid(VM))
    assert VIEWED.uuid != other.uuid
    assert (record().device_path, record().device_uuid) == (record().mount_path, record().uuid)


def test_records_of_both_transports_come_back_as_they_were_written():
    written = (VIEWED, record(second()))
    assert _records.from_domain(stored(_records.to_xml(written, VM)), VM) == written


@pytest.mark.parametrize(
    "changes",
    [
        # Whoever takes this mount away would take away another's device.
        {"alias": _identity.alias(VIEWED.uuid)},
        {"alias": _identity.alias(_identity.view_uuid(OTHER_VM))},
        {"alias": "ua-somebody-else"},
        {"mount_path": "/models"},
        {"mount_path": "/models/"},
        {"mount_path": "/models/.m/x"},
        {"mount_path": "/models/../etc"},
        {"mount_path": "/models/a/../../etc"},
        {"mount_path": "/"},
        {"mount_path": "models/guard"},
        {"transport": "device"},
        {"transport": "auto"},
        {"transport": "VIEW"},
        {"transport": ""},
        {"transport": "../view"},
        {"transport": None},
    ],
    ids=str,
)
def test_a_record_in_a_view_that_cannot_be_true_is_damaged(changes):
    assert refusal(damaged(VIEWED, **changes)) == "record_invalid"


@pytest.mark.parametrize("path", ["/srv/ai/guard", "/modelsx/guard", "/srv/models"])
def test_a_model_of_a_view_may_be_seen_elsewhere(path):
    kept = record(viewed(mount_path=path))
    assert _records.from_domain(stored(_records.to_xml([kept], VM)), VM) == (kept,)
    assert kept.linked and not VIEWED.linked


@pytest.mark.parametrize(
    ("mount", "changes", "may_be_in_view"),
    [
        (viewed(), {}, True),
        (viewed(transport="device"), {}, True),
        (viewed(mount_path="/srv/ai/guard"), {}, True),
        # Below the view there is no device beside it; elsewhere there is one unless a change was cut short.
        (wanted(), {}, False),
        (wanted(), {"intent": "mounting"}, True),
        (wanted(), {"intent": "unmounting"}, True),
        (wanted(mount_path="/models"), {"intent": "mounting"}, False),
        (wanted(mount_path="/models/.m"), {"intent": "mounting"}, False),
    ],
)
def test_the_device_of_a_view_may_be_that_of_a_model(mount, changes, may_be_in_view):
    kept = record(mount, **changes)
    view = [_identity.alias(_identity.view_uuid(VM))] if may_be_in_view else []
    assert kept.aliases == (_identity.alias(kept.uuid), *view)


def test_a_record_with_a_device_of_its_own_is_not_made_one_of_the_view():
    assert refusal(damaged(transport="view")) == "record_invalid"
    assert refusal(damaged(record(viewed(transport="device")), transport="view")) == "record_invalid"
