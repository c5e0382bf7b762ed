# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps carried out, and undone in reverse when one fails."""

from __future__ import annotations

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _plan, _sources
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit.world import World

R = b.record()
OTHER = b.record(b.second())
OLD = b.record(b.wanted(model_path="acme/guard-2.0"), tag="before")
PATH = R.mount_path

# Each plan: the records there are, the models that are wanted (none: the first goes), and the effects, step by step.
PLANS = {
    "set up": (
        [OTHER],
        [b.wanted()],
        ["write_records", "bind", "attach live persistent", "verify", f"mount {PATH}", "write_records"],
    ),
    "set up two": (
        [],
        [b.wanted(), b.second()],
        [
            *("write_records", "bind", "attach live persistent", "verify", f"mount {PATH}", "write_records"),
            *("write_records", "bind", "attach live persistent", "verify", "mount /srv/ai/ocr", "write_records"),
        ],
    ),
    "replace": (
        [OLD, OTHER],
        [b.wanted()],
        [
            *("write_records", f"unmount {PATH}", "detach live", "detach persistent", "bind"),
            *("attach live persistent", "verify", f"mount {PATH}", "write_records"),
        ],
    ),
    "take down": (
        [R, OTHER],
        [],
        ["write_records", f"unmount {PATH}", "detach live", "detach persistent", "unbind", "write_records"],
    ),
}
# Parts of a mount that somebody took away: what is missing of it before, and the effects.
PARTS = {
    "plug again": (
        ["live", "guest"],
        ["write_records", "attach live", "verify", f"mount {PATH}", "write_records"],
    ),
    "define again": (["persistent"], ["write_records", "attach persistent", "write_records"]),
}
PLANS.update({name: ([R, OTHER], [b.wanted()], effects) for name, (_missing, effects) in PARTS.items()})
# What undoes an effect, in the order in which it is done.
UNDO = {
    "write_records": ["write_records"],
    "bind": ["unbind"],
    "unbind": ["bind"],
    "attach live persistent": ["detach live", "detach persistent"],
    "attach live": ["detach live"],
    "attach persistent": ["detach persistent"],
    "detach live": ["attach live"],
    "detach persistent": ["attach persistent"],
    "verify": [],
    f"mount {PATH}": [f"unmount {PATH}"],
    "mount /srv/ai/ocr": ["unmount /srv/ai/ocr"],
    f"unmount {PATH}": [f"mount {PATH}"],
}


def start(monkeypatch, name):
    """The world before a plan, and the steps of the plan."""
    records, wanted, _effects = PLANS[name]
    world = World(*records).install(monkeypatch)
    for part in PARTS.get(name, ((), ()))[0]:
        del getattr(world.state, part)[PATH if part == "guest" else R.alias]
    host, view = world.host(), world.view()
    plans = [_plan.plan_present(host, view, mount) for mount in wanted]
    plans = plans or _plan.plan_absent(host, view, b.wanted(), set())
    assert [plan.error for plan in plans] == [None] * len(plans)
    return world, [step for plan in plans for step in plan.steps]


def failing(world, steps):
    with pytest.raises(ModelfleetError) as caught:
        world.apply(steps)
    return caught.value


@pytest.mark.parametrize("name", PLANS)
def test_every_step_has_its_effect_in_its_order(name, monkeypatch):
    world, steps = start(monkeypatch, name)
    records = world.apply(steps)
    assert world.log == PLANS[name][2]
    assert records == world.state.records
    for mount in PLANS[name][1]:
        assert _plan.plan_present(world.host(), world.view(), mount).actions == []
    if not PLANS[name][1]:
        assert world.state == World(OTHER).state


@pytest.mark.parametrize(("name", "index"), [(name, i) for name in PLANS for i in range(len(PLANS[name][2]))])
def test_when_a_step_fails_those_before_it_are_undone_in_reverse(name, index, monkeypatch):
    world, steps = start(monkeypatch, name)
    before = world.snapshot()
    world.fails = {index: "libvirt_error"}
    problem = failing(world, steps)
    done = PLANS[name][2][:index]
    undo = [effect for step in reversed(done) for effect in UNDO[step]]
    if name == "replace":
        # There was a bind before, so that one is put back.
        undo = ["bind" if effect == "unbind" else effect for effect in undo]
    assert world.log[index + 1 :] == undo
    assert world.state == before
    assert problem.code == "libvirt_error"
    actions = [step.action for step in steps]
    assert problem.details["failed_step"] == actions[index]
    assert problem.details["undone"] == actions[:index][::-1]
    assert "undo_failed" not in problem.details


@pytest.mark.parametrize("name", ["take down", "replace"])
def test_nothing_is_undone_when_the_guest_does_not_let_go(name, monkeypatch):
    world, steps = start(monkeypatch, name)
    world.fails = {2: "detach_timeout"}
    problem = failing(world, steps)
    assert world.log == PLANS[name][2][:3]
    assert problem.details["failed_step"] == "detach_live"
    assert "undone" not in problem.details
    # The next run sees what was intended.
    assert world.state.records[R.uuid].intent == {"take down": "unmounting", "replace": "mounting"}[name]


def test_an_undo_that_fails_stops_there_and_is_told(monkeypatch):
    world, steps = start(monkeypatch, "set up")
    world.fails = {4: "guest_mount_failed", 5: "detach_timeout"}
    problem = failing(world, steps)
    assert problem.code == "guest_mount_failed"
    assert problem.details["undone"] == ["verify_read_only"]
    assert problem.details["undo_failed"]["step"] == "attach"
    assert world.log[-1] == "detach live"
    assert world.state.records[R.uuid].intent == "mounting"


def test_intent_is_written_first_and_settled_last(monkeypatch):
    world, steps = start(monkeypatch, "set up")
    seen = []
    monkeypatch.setattr(world, "verify", None)
    monkeypatch.setattr(
        "ansible_collections.modelfleet.kvm.plugins.module_utils._virtiofsd.wait_until_read_only",
        lambda *_arguments: seen.append(world.state.records[R.uuid].intent),
    )
    world.apply(steps)
    assert seen == ["mounting"]
    assert world.state.records[R.uuid].intent == "settled"


def test_a_new_record_starts_its_count(monkeypatch):
    world, steps = start(monkeypatch, "set up")
    made = world.apply(steps)[R.uuid]
    assert made.generation == 1
    assert made.create_date == made.last_op_date and made.create_date.endswith("Z") and made.create_date[:2] == "20"
    assert world.state.records[OTHER.uuid] == OTHER


def test_a_changed_record_keeps_its_birth_and_what_it_did_not_understand(monkeypatch):
    kept = b.record(owner="ops", unknown=(("lease_until", "2027-03-01"),))
    world = World(kept).install(monkeypatch)
    plan = _plan.plan_present(world.host(), world.view(), b.wanted())
    made = world.apply(plan.steps)[R.uuid]
    assert (made.owner, made.create_date, made.generation) == ("default", kept.create_date, kept.generation + 1)
    assert made.last_op_date > kept.last_op_date
    assert made.unknown == kept.unknown


def test_a_model_that_cannot_be_opened_is_an_error_before_anything_is_plugged(monkeypatch):
    world, steps = start(monkeypatch, "set up")
    before = world.snapshot()
    world.missing = {"acme/guard-2.1"}
    problem = failing(world, steps)
    assert (problem.code, problem.details["failed_step"]) == ("source_missing", "bind_source")
    assert world.state == before


def test_a_source_is_put_back_although_its_storage_has_lost_it(monkeypatch):
    world, steps = start(monkeypatch, "take down")
    before = world.snapshot()
    world.missing = {"acme/guard-2.1"}
    world.fails = {5: "libvirt_error"}
    assert "undo_failed" not in failing(world, steps).details
    assert world.state == before


def test_a_source_that_cannot_be_put_back_becomes_the_empty_directory_and_is_reported(monkeypatch):
    world, steps = start(monkeypatch, "take down")
    monkeypatch.setattr(_sources, "keep", lambda _source, _deadline: -1)
    world.fails = {5: "libvirt_error"}
    assert failing(world, steps).details["undo_failed"]["step"] == "unbind_source"
    assert world.state.binds[b.device(R).source] == ""


def test_a_file_system_error_has_a_code(monkeypatch):
    world, steps = start(monkeypatch, "set up")

    def full(_tree, source):
        raise OSError(28, "No space left on device", source)

    monkeypatch.setattr("ansible_collections.modelfleet.kvm.plugins.module_utils._sources.bind", full)
    monkeypatch.setattr(_sources, "unbind", lambda _source: None)
    problem = failing(world, steps)
    assert (problem.code, problem.details["undone"]) == ("storage_error", ["record"])
    assert "undo_failed" not in problem.details


def test_whatever_happens_is_undone_and_has_a_code(monkeypatch):
    world, steps = start(monkeypatch, "set up")
    before = world.snapshot()

    def hostile(*_arguments):
        raise RecursionError("nested too deeply")

    monkeypatch.setattr(world, "mount", hostile)
    problem = failing(world, steps)
    assert (problem.code, problem.details["failed_step"]) == ("internal_error", "mount_in_guest")
    assert world.state == before


def test_a_source_that_cannot_be_removed_is_an_error_with_a_code(monkeypatch):
    world, steps = start(monkeypatch, "take down")
    before = world.snapshot()

    def busy(source):
        raise OSError(5, "Input/output error", source)

    monkeypatch.setattr("ansible_collections.modelfleet.kvm.plugins.module_utils._sources.unbind", busy)
    problem = failing(world, steps)
    assert (problem.code, problem.details["failed_step"]) == ("storage_error", "unbind_source")
    assert world.state == before


@pytest.mark.parametrize(
    ("version", "able", "expected"), [(11_000_000, True, True), (10_010_000, True, False), (11_003_000, False, False)]
)
def test_read_only_is_asked_of_virtiofsd_where_libvirt_and_virtiofsd_can(version, able, expected, monkeypatch):
    world, steps = start(monkeypatch, "set up")
    world.install(monkeypatch, virtiofsd_read_only=able)
    world.apply(steps, libvirt_version=version)
    assert ["<readonly" in device for device in world.devices] == [expected]


def test_a_remount_is_not_undone(monkeypatch):
    world = World(R).install(monkeypatch)
    world.state.guest[PATH] = (R.tag, "rw")
    steps = _plan.plan_present(world.host(), world.view(), b.wanted()).steps
    world.fails = {2: "libvirt_error"}
    problem = failing(world, steps)
    assert world.log == ["write_records", f"remount {PATH}", "write_records", "write_records"]
    assert problem.details["undone"] == ["remount_in_guest", "record"]
    assert world.state.guest[PATH] == (R.tag, "ro")
