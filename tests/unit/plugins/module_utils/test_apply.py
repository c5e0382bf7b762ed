# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps carried out, and undone in reverse when one fails."""

from __future__ import annotations

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _opener, _plan, _sources
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit.world import World

R = b.record()
OTHER = b.record(b.second())
OLD = b.record(b.wanted(model_path="acme/guard-2.0"), tag="before")
PATH = R.mount_path

LASTING = b.record(persistence="systemd")

# Each plan: the records there are, the models that are wanted (none: the first goes), and the effects in their order.
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
            *("write_records", "bind", "bind", "attach live persistent", "attach live persistent"),
            *("verify", f"mount {PATH} /srv/ai/ocr", "write_records"),
        ],
    ),
    "set up to last": (
        [OTHER],
        [b.wanted(persistence="systemd")],
        [
            *("write_records", "bind", "attach live persistent", "verify", f"mount {PATH}"),
            *(f"write unit {PATH}", "write_records"),
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
    "take down what lasts": (
        [LASTING, OTHER],
        [],
        [
            *("write_records", f"remove unit {PATH}", f"unmount {PATH}", "detach live", "detach persistent"),
            *("unbind", "write_records"),
        ],
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
    "attach live persistent": ["detach live", "detach persistent"],
    "attach live": ["detach live"],
    "attach persistent": ["detach persistent"],
    "detach live": ["attach live"],
    "detach persistent": ["attach persistent"],
    "verify": [],
    f"mount {PATH}": [f"unmount {PATH}"],
    f"mount {PATH} /srv/ai/ocr": [f"unmount {PATH} /srv/ai/ocr"],
    f"unmount {PATH}": [f"mount {PATH}"],
    f"write unit {PATH}": [f"remove unit {PATH}"],
    f"remove unit {PATH}": [f"write unit {PATH}"],
}
# These may have had a part of their effect although they failed, so they are undone themselves.
HALVES = {"write_records", f"write unit {PATH}", f"remove unit {PATH}"}


def start(monkeypatch, name):
    """The world before a plan, and the steps of the plan."""
    records, wanted, _effects = PLANS[name]
    world = World(*records).install(monkeypatch)
    for part in PARTS.get(name, ((), ()))[0]:
        del getattr(world.state, part)[PATH if part == "guest" else R.alias]
    host, view = world.host(), world.view()
    entries = list(enumerate(wanted or [b.wanted()]))
    plans = _plan.plan_vm(host, view, entries, _plan.Terms(present=bool(wanted)))
    plans = [plan for several in plans.values() for plan in several]
    assert [plan.error for plan in plans] == [None] * len(plans)
    return world, plans


def failing(world, plans):
    failure = world.apply(plans).failure
    assert failure is not None
    return failure


def final(name):
    """The index of the first effect after which nothing is undone any more."""
    effects = PLANS[name][2]
    return effects.index("unbind") if "unbind" in effects else len(effects)


@pytest.mark.parametrize("name", PLANS)
def test_every_step_has_its_effect_in_its_order(name, monkeypatch):
    world, plans = start(monkeypatch, name)
    done = world.apply(plans)
    assert done.failure is None
    assert world.log == PLANS[name][2]
    assert done.records == world.state.records
    for mount in PLANS[name][1]:
        assert b.present(world.host(), world.view(), mount).actions == []
    if not PLANS[name][1]:
        assert world.state == World(OTHER).state


@pytest.mark.parametrize(("name", "index"), [(name, i) for name in PLANS for i in range(final(name))])
def test_when_a_step_fails_those_before_it_are_undone_in_reverse(name, index, monkeypatch):
    world, plans = start(monkeypatch, name)
    before = world.snapshot()
    world.fails = {index: "libvirt_error"}
    problem = failing(world, plans)
    effects = PLANS[name][2]
    done = [*effects[:index], *(effect for effect in effects[index : index + 1] if effect in HALVES)]
    undo = [effect for step in reversed(done) for effect in UNDO[step]]
    if name == "replace":
        # There was a bind before, so that one is put back.
        undo = ["bind" if effect == "unbind" else effect for effect in undo]
    if effects[index] == "bind":
        undo = [*({"replace": ["bind"]}.get(name, ["unbind"])), *undo]
    assert world.log[index + 1 :] == undo
    assert world.state == before
    assert problem.code == "libvirt_error"
    assert problem.details["failed_step"] in [step.action for plan in plans for step in plan.steps]
    assert "undo_failed" not in problem.details


@pytest.mark.parametrize("name", ["take down", "take down what lasts"])
def test_once_sources_are_unbound_a_failure_is_for_the_next_run_to_finish(name, monkeypatch):
    for index in range(final(name), len(PLANS[name][2])):
        world, plans = start(monkeypatch, name)
        world.fails = {index: "libvirt_error"}
        problem = failing(world, plans)
        assert problem.details["undone"] == []
        assert len(world.log) == index + 1
        assert world.state.records[R.uuid].intent == "unmounting"
        (left,) = b.absent(world.host(), world.view(), b.wanted())
        assert left.actions in (["record", "unbind_source", "forget_record"], ["record", "forget_record"])
        assert world.apply([left]).failure is None
        assert world.state == World(OTHER).state


@pytest.mark.parametrize("name", ["take down", "replace"])
def test_nothing_is_undone_when_the_guest_does_not_let_go(name, monkeypatch):
    world, plans = start(monkeypatch, name)
    world.fails = {2: "detach_timeout"}
    problem = failing(world, plans)
    assert world.log == PLANS[name][2][:3]
    assert problem.details["failed_step"] == "detach_live"
    assert "undone" not in problem.details
    # The next run sees what was intended.
    assert world.state.records[R.uuid].intent == {"take down": "unmounting", "replace": "mounting"}[name]


def test_an_undo_that_fails_stops_there_and_is_told(monkeypatch):
    world, plans = start(monkeypatch, "set up")
    world.fails = {4: "guest_mount_failed", 5: "detach_timeout"}
    problem = failing(world, plans)
    assert problem.code == "guest_mount_failed"
    assert problem.details["undone"] == []
    assert problem.details["undo_failed"]["step"] == "attach"
    assert world.log[-1] == "detach live"
    assert world.state.records[R.uuid].intent == "mounting"


def test_intent_is_written_first_and_settled_last(monkeypatch):
    world, plans = start(monkeypatch, "set up")
    seen = []
    monkeypatch.setattr(world, "verify", None)
    monkeypatch.setattr(
        "ansible_collections.modelfleet.kvm.plugins.module_utils._virtiofsd.wait_until_read_only",
        lambda *_arguments: seen.append(world.state.records[R.uuid].intent),
    )
    world.apply(plans)
    assert seen == ["mounting"]
    assert world.state.records[R.uuid].intent == "settled"


def test_a_new_record_starts_its_count(monkeypatch):
    world, plans = start(monkeypatch, "set up")
    made = world.apply(plans).records[R.uuid]
    assert made.generation == 1
    assert made.create_date == made.last_op_date and made.create_date.endswith("Z") and made.create_date[:2] == "20"
    assert world.state.records[OTHER.uuid] == OTHER


def test_a_changed_record_keeps_its_birth_and_what_it_did_not_understand(monkeypatch):
    kept = b.record(owner="ops", unknown=(("lease_until", "2027-03-01"),))
    world = World(kept).install(monkeypatch)
    plan = b.present(world.host(), world.view(), b.wanted())
    made = world.apply([plan]).records[R.uuid]
    assert (made.owner, made.create_date, made.generation) == ("default", kept.create_date, kept.generation + 1)
    assert made.last_op_date > kept.last_op_date
    assert made.unknown == kept.unknown


def test_a_model_that_cannot_be_opened_is_an_error_before_anything_is_plugged(monkeypatch):
    world, plans = start(monkeypatch, "set up")
    before = world.snapshot()
    world.missing = {"acme/guard-2.1"}
    problem = failing(world, plans)
    assert (problem.code, problem.details["failed_step"]) == ("source_missing", "bind_source")
    assert world.state == before


def test_a_source_is_put_back_although_its_storage_has_lost_it(monkeypatch):
    world, plans = start(monkeypatch, "replace")
    before = world.snapshot()
    world.missing = {"acme/guard-2.0"}
    world.fails = {5: "libvirt_error"}
    assert "undo_failed" not in failing(world, plans).details
    assert world.state == before


def test_a_source_that_cannot_be_put_back_becomes_the_empty_directory_and_is_reported(monkeypatch):
    world, plans = start(monkeypatch, "replace")
    monkeypatch.setattr(_sources, "keep", lambda *_arguments: -1)
    world.fails = {5: "libvirt_error"}
    assert failing(world, plans).details["undo_failed"]["step"] == "bind_source"
    assert world.state.binds[b.device(R).source] == ""


def test_a_file_system_error_has_a_code(monkeypatch):
    world, plans = start(monkeypatch, "set up")

    def full(_tree, source):
        raise OSError(28, "No space left on device", source)

    monkeypatch.setattr("ansible_collections.modelfleet.kvm.plugins.module_utils._sources.bind", full)
    monkeypatch.setattr(_sources, "unbind", lambda _source: None)
    problem = failing(world, plans)
    assert (problem.code, problem.details["undone"]) == ("storage_error", ["bind_source", "record"])
    assert "undo_failed" not in problem.details


def test_whatever_happens_is_undone_and_has_a_code(monkeypatch):
    world, plans = start(monkeypatch, "set up")
    before = world.snapshot()

    def hostile(*_arguments):
        raise RecursionError("nested too deeply")

    monkeypatch.setattr(world, "mount", hostile)
    problem = failing(world, plans)
    assert (problem.code, problem.details["failed_step"]) == ("internal_error", "mount_in_guest")
    assert world.state == before


def test_a_source_that_cannot_be_removed_is_an_error_with_a_code(monkeypatch):
    world, plans = start(monkeypatch, "take down")

    def busy(source):
        raise OSError(5, "Input/output error", source)

    monkeypatch.setattr("ansible_collections.modelfleet.kvm.plugins.module_utils._sources.unbind", busy)
    problem = failing(world, plans)
    assert (problem.code, problem.details["failed_step"]) == ("storage_error", "unbind_source")


def test_a_model_that_was_replaced_since_it_was_planned_with_is_not_bound(monkeypatch):
    world, plans = start(monkeypatch, "set up")
    before = world.snapshot()
    monkeypatch.setattr(_sources, "look_at", lambda *_asked: [_opener.Found((41, 1), 0, 0)])
    problem = failing(world, plans)
    assert (problem.code, problem.details["failed_step"]) == ("storage_error", "bind_source")
    assert world.state == before


@pytest.mark.parametrize(
    ("version", "able", "expected"), [(11_000_000, True, True), (10_010_000, True, False), (11_003_000, False, False)]
)
def test_read_only_is_asked_of_virtiofsd_where_libvirt_and_virtiofsd_can(version, able, expected, monkeypatch):
    world, plans = start(monkeypatch, "set up")
    world.install(monkeypatch, virtiofsd_read_only=able)
    world.apply(plans, libvirt_version=version)
    assert ["<readonly" in device for device in world.devices] == [expected]


def test_a_remount_is_not_undone(monkeypatch):
    world = World(R).install(monkeypatch)
    world.state.guest[PATH] = (R.tag, "rw")
    plans = [b.present(world.host(), world.view(), b.wanted())]
    world.fails = {2: "libvirt_error"}
    problem = failing(world, plans)
    assert world.log == ["write_records", f"remount {PATH}", *["write_records"] * 3]
    assert problem.details["undone"] == ["settle_record", "record"]
    assert world.state.guest[PATH] == (R.tag, "ro")
