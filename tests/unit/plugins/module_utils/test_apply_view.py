# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps carried out on views, and undone in reverse when one fails."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _binder, _held, _plan, _sources, _views
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit.world import ViewWorld

WANTED, NEXT = b.viewed(), b.second(transport="view", mount_path="/models/org/ocr")
R, OTHER = b.record(WANTED), b.record(NEXT)
BY_DEVICE, NEXT_BY_DEVICE = b.viewed(transport="device"), b.second(transport="device", mount_path="/models/org/ocr")
DEVICE, OTHER_DEVICE = b.record(BY_DEVICE), b.record(NEXT_BY_DEVICE)
OLD = b.record(b.viewed(model="acme/guard-old", model_path="acme/guard-2.0"))
GUARD, OCR, BEFORE = R.model_path, OTHER.model_path, OLD.model_path
VIEW = "bind the view"
PATH, OTHER_PATH = R.mount_path, OTHER.mount_path
# The same model at a path elsewhere, in the view and by a device.
LINKED, BESIDE = b.wanted(transport="view"), b.wanted(transport="device")
LINKED_OLD = b.record(b.wanted(transport="view", model="acme/guard-old", model_path="acme/guard-2.0"))
ELSEWHERE = LINKED.mount_path

# Each plan: the records there are, the models that are wanted, those that shall go, and the effects in their order,
# each with the step that it belongs to.
PLANS = {
    "set up": (
        [],
        [WANTED],
        [],
        [
            ("record", "write_records"),
            *(("bind_source", effect) for effect in (VIEW, f"bind {GUARD}", f"show {PATH}")),
            ("attach", "attach live persistent"),
            ("verify_read_only", "verify"),
            ("mount_in_guest", "mount /models"),
            ("settle_record", "write_records"),
        ],
    ),
    "set up two": (
        [],
        [WANTED, NEXT],
        [],
        [
            ("record", "write_records"),
            *(("bind_source", effect) for effect in (VIEW, f"bind {GUARD}", f"show {PATH}")),
            *(("bind_source", effect) for effect in (f"bind {OCR}", f"show {OTHER_PATH}")),
            ("attach", "attach live persistent"),
            ("verify_read_only", "verify"),
            ("mount_in_guest", "mount /models"),
            ("settle_record", "write_records"),
        ],
    ),
    "join": (
        [OTHER],
        [WANTED],
        [],
        [
            ("record", "write_records"),
            *(("bind_source", effect) for effect in (f"bind {GUARD}", f"show {PATH}")),
            ("verify_read_only", "verify"),
            ("settle_record", "write_records"),
        ],
    ),
    "replace": (
        [OLD, OTHER],
        [WANTED],
        [],
        [
            ("record", "write_records"),
            *(("bind_source", effect) for effect in (f"bind {GUARD}", f"show {PATH}")),
            ("verify_read_only", "verify"),
            ("release_source", f"unbind {BEFORE}"),
            ("settle_record", "write_records"),
        ],
    ),
    "convert to a view": (
        [DEVICE, OTHER_DEVICE],
        [WANTED, NEXT],
        [],
        [
            ("record", "write_records"),
            ("unmount_in_guest", f"unmount {PATH} {OTHER_PATH}"),
            *[("detach_live", "detach live")] * 2,
            *[("detach_persistent", "detach persistent")] * 2,
            *(("bind_source", effect) for effect in (VIEW, f"bind {GUARD}", f"show {PATH}")),
            *(("bind_source", effect) for effect in (f"bind {OCR}", f"show {OTHER_PATH}")),
            ("attach", "attach live persistent"),
            ("verify_read_only", "verify"),
            ("mount_in_guest", "mount /models"),
            ("settle_record", "write_records"),
            *(("unbind_source", effect) for effect in (f"unbind {GUARD}", f"unbind {OCR}")),
        ],
    ),
    "convert to devices": (
        [R, OTHER],
        [BY_DEVICE, NEXT_BY_DEVICE],
        [],
        [
            ("record", "write_records"),
            ("unmount_in_guest", "unmount /models"),
            ("detach_live", "detach live"),
            ("detach_persistent", "detach persistent"),
            *(("bind_source", effect) for effect in (f"bind {GUARD}", f"bind {OCR}")),
            *[("attach", "attach live persistent")] * 2,
            ("verify_read_only", "verify"),
            ("mount_in_guest", f"mount {PATH} {OTHER_PATH}"),
            ("settle_record", "write_records"),
            *(("unbind_source", f"unbind {model} lazily") for model in (OCR, GUARD)),
            ("unbind_source", "unbind the view"),
        ],
    ),
    "set up elsewhere": (
        [],
        [LINKED, NEXT],
        [],
        [
            ("record", "write_records"),
            *(("bind_source", effect) for effect in (VIEW, f"bind {GUARD}", f"show {ELSEWHERE}")),
            *(("bind_source", effect) for effect in (f"bind {OCR}", f"show {OTHER_PATH}")),
            ("attach", "attach live persistent"),
            ("verify_read_only", "verify"),
            ("mount_in_guest", "mount /models"),
            ("link_in_guest", f"link {ELSEWHERE}"),
            ("settle_record", "write_records"),
        ],
    ),
    "join elsewhere": (
        [OTHER],
        [LINKED],
        [],
        [
            ("record", "write_records"),
            *(("bind_source", effect) for effect in (f"bind {GUARD}", f"show {ELSEWHERE}")),
            ("verify_read_only", "verify"),
            ("link_in_guest", f"link {ELSEWHERE}"),
            ("settle_record", "write_records"),
        ],
    ),
    "replace elsewhere": (
        [LINKED_OLD],
        [LINKED],
        [],
        [
            ("record", "write_records"),
            *(("bind_source", effect) for effect in (f"bind {GUARD}", f"show {ELSEWHERE}")),
            ("verify_read_only", "verify"),
            ("release_source", f"unbind {BEFORE}"),
            ("settle_record", "write_records"),
        ],
    ),
    "convert to a view elsewhere": (
        [b.record(BESIDE)],
        [LINKED],
        [],
        [
            ("record", "write_records"),
            ("unmount_in_guest", f"unmount {ELSEWHERE}"),
            ("detach_live", "detach live"),
            ("detach_persistent", "detach persistent"),
            *(("bind_source", effect) for effect in (VIEW, f"bind {GUARD}", f"show {ELSEWHERE}")),
            ("attach", "attach live persistent"),
            ("verify_read_only", "verify"),
            ("mount_in_guest", "mount /models"),
            ("link_in_guest", f"link {ELSEWHERE}"),
            ("settle_record", "write_records"),
            ("unbind_source", f"unbind {GUARD}"),
        ],
    ),
    "convert to a device elsewhere": (
        [b.record(LINKED)],
        [BESIDE],
        [],
        [
            ("record", "write_records"),
            ("unlink_in_guest", f"unlink {ELSEWHERE}"),
            ("unmount_in_guest", "unmount /models"),
            ("detach_live", "detach live"),
            ("detach_persistent", "detach persistent"),
            ("bind_source", f"bind {GUARD}"),
            ("attach", "attach live persistent"),
            ("verify_read_only", "verify"),
            ("mount_in_guest", f"mount {ELSEWHERE}"),
            ("settle_record", "write_records"),
            *(("unbind_source", effect) for effect in (f"unbind {GUARD} lazily", "unbind the view")),
        ],
    ),
    "convert to a device beside others": (
        [b.record(LINKED), OTHER],
        [BESIDE],
        [],
        [
            ("record", "write_records"),
            ("unlink_in_guest", f"unlink {ELSEWHERE}"),
            ("bind_source", f"bind {GUARD}"),
            ("attach", "attach live persistent"),
            ("verify_read_only", "verify"),
            ("mount_in_guest", f"mount {ELSEWHERE}"),
            *(("release_source", effect) for effect in (f"hide {ELSEWHERE}", f"unbind {GUARD}")),
            ("settle_record", "write_records"),
        ],
    ),
    "take one elsewhere away": (
        [b.record(LINKED), OTHER],
        [],
        [LINKED],
        [
            ("record", "write_records"),
            ("unlink_in_guest", f"unlink {ELSEWHERE}"),
            *(("release_source", effect) for effect in (f"hide {ELSEWHERE}", f"unbind {GUARD}")),
            ("forget_record", "write_records"),
        ],
    ),
    "take the last elsewhere away": (
        [b.record(LINKED)],
        [],
        [LINKED],
        [
            ("record", "write_records"),
            ("unlink_in_guest", f"unlink {ELSEWHERE}"),
            ("unmount_in_guest", "unmount /models"),
            ("detach_live", "detach live"),
            ("detach_persistent", "detach persistent"),
            *(("unbind_source", effect) for effect in (f"unbind {GUARD} lazily", "unbind the view")),
            ("forget_record", "write_records"),
        ],
    ),
    "take one of two away": (
        [R, OTHER],
        [],
        [WANTED],
        [
            ("record", "write_records"),
            *(("release_source", effect) for effect in (f"hide {PATH}", f"unbind {GUARD}")),
            ("forget_record", "write_records"),
        ],
    ),
    "take the last away": (
        [R],
        [],
        [WANTED],
        [
            ("record", "write_records"),
            ("unmount_in_guest", "unmount /models"),
            ("detach_live", "detach live"),
            ("detach_persistent", "detach persistent"),
            *(("unbind_source", effect) for effect in (f"unbind {GUARD} lazily", "unbind the view")),
            ("forget_record", "write_records"),
        ],
    ),
}


@pytest.fixture(autouse=True)
def directories(tmp_path, monkeypatch):
    monkeypatch.setattr(_views, "_PLAIN_DIRECTORY", f"{tmp_path}/run")
    monkeypatch.setattr(_sources, "VMS_DIRECTORY", f"{tmp_path}/vms")
    monkeypatch.setattr(_binder, "_LETS_GO_WITHIN", 0.01)
    monkeypatch.setattr(_binder, "_AT_THE_LATEST", 0.05)
    monkeypatch.setattr(_binder, "_POLL", 0.001)
    return tmp_path


def planned(world, wanted, gone):
    entries = list(enumerate(wanted or gone))
    plans = _plan.plan_vm(world.host(), world.view(), entries, _plan.Terms(present=bool(wanted)))
    plans = [plan for several in plans.values() for plan in several]
    assert [plan.error for plan in plans] == [None] * len(plans)
    return plans


def start(monkeypatch, name):
    """The world before a plan, and the steps of the plan."""
    records, wanted, gone, _effects = PLANS[name]
    world = ViewWorld(*records).install(monkeypatch)
    return world, planned(world, wanted, gone)


def effects(name):
    return [effect for _step, effect in PLANS[name][3]]


def final(name):
    """The index of the first effect after which nothing is undone any more."""
    return next((i for i, (step, _effect) in enumerate(PLANS[name][3]) if step == "unbind_source"), len(effects(name)))


def failing(world, plans, **options):
    failure = world.apply(plans, **options).failure
    assert failure is not None
    return failure


@pytest.mark.parametrize("name", PLANS)
def test_every_step_has_its_effect_in_its_order(name, monkeypatch):
    world, plans = start(monkeypatch, name)
    done = world.apply(plans)
    assert done.failure is None
    assert world.log == effects(name)
    assert done.records == world.state.records
    assert [plan.steps for plan in planned(world, *PLANS[name][1:3])] == [()] * len(plans)


AFTER = {
    "set up": ({PATH: GUARD}, [GUARD, "the view"]),
    "set up two": ({PATH: GUARD, OTHER_PATH: OCR}, [GUARD, OCR, "the view"]),
    "join": ({PATH: GUARD, OTHER_PATH: OCR}, [GUARD, OCR, "the view"]),
    "replace": ({PATH: GUARD, OTHER_PATH: OCR}, [GUARD, OCR, "the view"]),
    "convert to a view": ({PATH: GUARD, OTHER_PATH: OCR}, [GUARD, OCR, "the view"]),
    "convert to devices": ({}, [GUARD, OCR]),
    "set up elsewhere": ({ELSEWHERE: GUARD, OTHER_PATH: OCR}, [GUARD, OCR, "the view"]),
    "join elsewhere": ({ELSEWHERE: GUARD, OTHER_PATH: OCR}, [GUARD, OCR, "the view"]),
    "replace elsewhere": ({ELSEWHERE: GUARD}, [GUARD, "the view"]),
    "convert to a view elsewhere": ({ELSEWHERE: GUARD}, [GUARD, "the view"]),
    "convert to a device elsewhere": ({}, [GUARD]),
    "convert to a device beside others": ({OTHER_PATH: OCR}, [GUARD, OCR, "the view"]),
    "take one elsewhere away": ({OTHER_PATH: OCR}, [OCR, "the view"]),
    "take the last elsewhere away": ({}, []),
    "take one of two away": ({OTHER_PATH: OCR}, [OCR, "the view"]),
    "take the last away": ({}, []),
}


@pytest.mark.parametrize("name", PLANS)
def test_what_the_view_shows_afterwards(name, monkeypatch, directories):
    world, plans = start(monkeypatch, name)
    world.apply(plans)
    assert world.shows() == AFTER[name]
    assert (directories / "run" / b.VM).exists() is ("the view" in AFTER[name][1])
    assert world.state.links == {ELSEWHERE}.intersection(AFTER[name][0])


@pytest.mark.parametrize(("name", "index"), [(name, i) for name in PLANS for i in range(final(name))])
def test_when_a_step_fails_those_before_it_are_undone_in_reverse(name, index, monkeypatch):
    world, plans = start(monkeypatch, name)
    before = world.snapshot()
    world.fails = {index: "libvirt_error"}
    problem = failing(world, plans)
    failed = PLANS[name][3][index][0]
    assert problem.details["failed_step"] == failed
    assert "undo_failed" not in problem.details
    assert world.snapshot() == before
    # A step that failed may have had a part of its effect; one that only looks has nothing to undo.
    done = [step for step, _effect in PLANS[name][3][:index] if step != "verify_read_only"]
    if failed in ("record", "bind_source", "release_source", "detach_live", "settle_record"):
        done.append(failed)
    if failed == "release_source" and world.log[index].startswith("hide "):
        done.remove(failed)
    undone = problem.details["undone"]
    assert list(dict.fromkeys(undone)) == list(dict.fromkeys(reversed(done)))


def test_a_view_that_was_opened_in_vain_is_closed_again(monkeypatch, directories):
    world, plans = start(monkeypatch, "set up two")
    world.missing = {OCR}
    problem = failing(world, plans)
    assert (problem.code, problem.details["failed_step"]) == ("source_missing", "bind_source")
    assert world.shows() == ({}, [])
    assert not (directories / "run" / b.VM).exists() and not (directories / "vms" / b.VM).exists()


@pytest.mark.parametrize(
    ("name", "index"),
    [
        (name, i)
        for name in ("take the last away", "take the last elsewhere away")
        for i in range(final(name), len(effects(name)))
    ],
)
def test_once_a_view_is_being_closed_a_failure_is_for_the_next_run_to_finish(name, index, monkeypatch):
    world, plans = start(monkeypatch, name)
    world.fails = {index: "libvirt_error"}
    problem = failing(world, plans)
    assert problem.details["undone"] == []
    assert [kept.intent for kept in world.state.records.values()] == ["unmounting"]
    assert world.apply(planned(world, [], PLANS[name][2])).failure is None
    assert (world.shows(), world.state) == (({}, []), ViewWorld().state)


@pytest.mark.parametrize(
    ("name", "index"),
    [(name, i) for name in PLANS if name.startswith("convert") for i in range(final(name), len(effects(name)))],
)
def test_what_is_left_of_the_old_transport_is_for_the_next_run(name, index, monkeypatch):
    world, plans = start(monkeypatch, name)
    world.fails = {index: "libvirt_error"}
    problem = failing(world, plans)
    assert (problem.details["failed_step"], problem.details["undone"]) == ("unbind_source", [])
    new = PLANS[name][1][0].transport
    assert {(kept.transport, kept.intent) for kept in world.state.records.values()} == {(new, "settled")}
    again = planned(world, *PLANS[name][1:3])
    assert {action for plan in again for action in plan.actions} == {"record", "settle_record", "unbind_source"}
    assert world.apply(again).failure is None
    assert world.shows() == AFTER[name]


@pytest.mark.parametrize("name", ["convert to a view", "convert to devices"])
def test_units_come_back_when_another_transport_fails(name, monkeypatch):
    lasting = [dataclasses.replace(kept, persistence="systemd") for kept in PLANS[name][0]]
    wanted = [dataclasses.replace(mount, persistence="systemd") for mount in PLANS[name][1]]
    world = ViewWorld(*lasting).install(monkeypatch)
    world.units = ["/models", PATH, OTHER_PATH]
    before = world.snapshot()
    plans = planned(world, wanted, [])
    write, failed = world.write_unit, []

    def once(*arguments):
        if not failed:
            failed.append(True)
            raise ModelfleetError("guest_unit_failed", "made to fail")
        write(*arguments)

    monkeypatch.setattr(world, "write_unit", once)
    problem = failing(world, plans)
    assert problem.details["failed_step"] == "write_guest_unit" and "undo_failed" not in problem.details
    assert world.snapshot() == before


def test_an_empty_directory_that_a_link_took_the_place_of_is_made_again(monkeypatch):
    world, plans = start(monkeypatch, "set up elsewhere")
    world.directories = {ELSEWHERE}
    world.fails = {10: "libvirt_error"}
    assert failing(world, plans).details["failed_step"] == "settle_record"
    assert world.directories == {ELSEWHERE, "/models"} and not world.state.links


# A guest that has not let go


@pytest.mark.parametrize(("name", "model"), [("replace", BEFORE), ("take one of two away", GUARD)])
def test_a_guest_that_only_remembers_a_model_is_asked_to_let_go(name, model, monkeypatch):
    world, plans = start(monkeypatch, name)
    world.busy = {model}
    assert world.apply(plans).failure is None
    assert world.log == [
        part for effect in effects(name) for part in (["let go"] if effect == f"unbind {model}" else []) + [effect]
    ]


@pytest.mark.parametrize(("name", "model"), [("replace", BEFORE), ("take one of two away", GUARD)])
def test_a_model_that_is_in_use_stays_shown(name, model, monkeypatch):
    world, plans = start(monkeypatch, name)
    before = world.snapshot()
    world.busy, world.reluctant = {model}, True
    problem = failing(world, plans)
    assert (problem.code, problem.details["failed_step"]) == ("mount_busy", "release_source")
    assert problem.details["guest_processes"] == [{"pid": 412, "name": "vllm"}]
    assert "412 (vllm)" in problem.msg
    assert world.snapshot() == before


@pytest.mark.parametrize("patient", [True, False])
def test_a_slow_guest_in_which_nobody_uses_a_model_gets_more_time(patient, monkeypatch):
    world, plans = start(monkeypatch, "take one of two away")
    world.busy, world.reluctant = {GUARD}, True
    monkeypatch.setattr(_binder, "_LETS_GO_WITHIN", 0.0)
    monkeypatch.setattr(_binder, "_AT_THE_LATEST", 5.0 if patient else 0.0)

    def users(_path):
        world.reluctant = world.log.count("let go") < 3
        return []

    monkeypatch.setattr(world, "users", users)
    failure = world.apply(plans).failure
    assert (failure and failure.code) == (None if patient else "mount_busy")
    assert world.log.count("let go") == (4 if patient else 1)


@pytest.mark.parametrize(("name", "model"), [("replace", BEFORE), ("take one of two away", GUARD)])
def test_by_force_a_model_that_is_in_use_goes(name, model, monkeypatch):
    world, plans = start(monkeypatch, name)
    world.busy, world.reluctant = {model}, True
    assert world.apply(plans, force=True).failure is None
    assert world.shows() == AFTER[name]
    assert f"unbind {model} lazily" in world.log and "let go" not in world.log


def test_a_guest_that_mounts_by_itself_is_not_asked_to_let_go(monkeypatch):
    by_itself = [b.viewed(guest="none"), b.second(transport="view", mount_path=OTHER_PATH, guest="none")]
    world = ViewWorld(*map(b.record, by_itself)).install(monkeypatch)
    world.busy, world.reluctant = {GUARD}, True
    problem = failing(world, planned(world, [], by_itself[:1]))
    assert (problem.code, problem.details["guest_processes"]) == ("mount_busy", [])
    assert "let go" not in world.log


# A model that a guest may not read any more

REVOKED = ["record", "release_source", "revoke", "forget_record"]
PLUGGED_AGAIN = ["unmount /models by force", "detach live", "attach live", "verify", "mount /models"]


def revoking(monkeypatch, name, force=True):
    """The world before a plan with C(revoke=strict), and the steps of the plan."""
    records, wanted, gone, _effects = PLANS[name]
    world = ViewWorld(*records).install(monkeypatch)
    terms = _plan.Terms(present=bool(wanted), force=force, strict=True)
    plans = _plan.plan_vm(world.host(), world.view(), list(enumerate(wanted or gone)), terms)
    return world, [plan for several in plans.values() for plan in several]


def in_use(world, model):
    """Have a guest that keeps a model, whatever it is asked."""
    world.busy, world.reluctant = {model}, True


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize(("name", "model"), [("replace", BEFORE), ("take one of two away", GUARD)])
def test_a_model_of_which_nobody_has_anything_is_revoked_without_ado(name, model, force, monkeypatch):
    world, plans = revoking(monkeypatch, name, force)
    world.busy = {model}
    done = world.apply(plans, force=force)
    assert (done.failure, done.replugged) == (None, frozenset())
    assert [effect for effect in world.log if effect != "let go"] == effects(name)
    assert done.records == world.state.records
    assert {kept.revoke for kept in done.records.values()} == {""}


@pytest.mark.parametrize(("name", "model"), [("replace", BEFORE), ("take one of two away", GUARD)])
def test_from_a_guest_that_keeps_a_model_it_is_taken_with_the_device(name, model, monkeypatch):
    world, plans = revoking(monkeypatch, name)
    in_use(world, model)
    others = dict(world.state.records)
    done = world.apply(plans, force=True)
    assert (done.failure, done.replugged, world.held) == (None, {R.uuid}, set())
    last = world.log.index(f"unbind {model} lazily")
    assert world.log[last + 1 :] == ["write_records", *PLUGGED_AGAIN, "write_records", "write_records"]
    assert world.shows() == AFTER[name]
    assert world.state.guest == {"/models": ("modelfleet", "ro")}
    assert done.records == world.state.records
    assert done.records[OTHER.uuid].intent == "settled"
    # It has another daemon now, which is younger than the record was.
    assert done.records[OTHER.uuid].generation == others[OTHER.uuid].generation + 1


def test_a_model_in_use_is_not_revoked_without_force(monkeypatch):
    world, plans = revoking(monkeypatch, "take one of two away", force=False)
    before = world.snapshot()
    in_use(world, GUARD)
    problem = failing(world, plans)
    assert (problem.code, problem.details["failed_step"]) == ("mount_busy", "release_source")
    assert world.snapshot() == before


def test_a_model_that_a_daemon_did_not_lose_is_not_revoked_without_force(monkeypatch):
    world, plans = revoking(monkeypatch, "take one of two away", force=False)
    before = world.snapshot()
    world.held = {GUARD}
    problem = failing(world, plans)
    assert (problem.code, problem.details["failed_step"]) == ("mount_busy", "revoke")
    assert world.snapshot() == before


def test_what_a_guest_was_left_with_earlier_is_revoked_as_well(monkeypatch):
    # Nothing tells whether it is of the same model.
    world, plans = revoking(monkeypatch, "take one of two away")
    world.held = {"another"}
    assert world.apply(plans, force=True).replugged == {R.uuid}
    assert world.held == set()


@pytest.mark.parametrize("answer", ["lies", "fails", "is silent"])
def test_a_guest_is_not_asked_for_leave(answer, monkeypatch):
    world, plans = revoking(monkeypatch, "take one of two away")
    in_use(world, GUARD)

    def fail(*_arguments, **_options):
        raise ModelfleetError("guest_unmount_failed", "no")

    monkeypatch.setattr(world, "let_go", fail)
    monkeypatch.setattr(world, "unmount", fail)
    if answer != "fails":
        monkeypatch.setattr(world, "mounts", fail if answer == "is silent" else lambda: [b.ROOT])
    # What libvirt allows in earnest.
    world.state.guest.clear()
    mounted = []
    monkeypatch.setattr(world, "mount", mounted.append)
    if answer == "fails":
        monkeypatch.setattr(world, "mounts", lambda: [b.ROOT, b.in_guest(R)])
    done = world.apply(plans, force=True)
    assert (done.failure, done.replugged, world.held) == (None, {R.uuid}, set())
    assert mounted == ([[("modelfleet", "/models")]] if answer == "fails" else [])
    # Where nobody can see to it that it is mounted, the next run shall.
    assert done.records[OTHER.uuid].intent == ("mounting" if answer == "is silent" else "settled")
    assert bool(world.warnings) is (answer == "is silent")


def test_the_next_run_carries_on_when_the_guest_does_not_release_the_device(monkeypatch):
    world, plans = revoking(monkeypatch, "take one of two away")
    in_use(world, GUARD)
    detach = world.detach_live

    def ignored(aliases, _deadline):
        raise ModelfleetError("detach_timeout", "VM render-4: the guest has not released it", aliases=aliases)

    monkeypatch.setattr(world, "detach_live", ignored)
    problem = failing(world, plans, force=True)
    assert (problem.code, problem.details["failed_step"]) == ("detach_timeout", "revoke")
    assert f"the guest may read what it has open of {PATH}" in problem.msg
    assert world.state.guest == {"/models": ("modelfleet", "ro")}
    found = {kept.model_path: (kept.intent, kept.revoke) for kept in world.state.records.values()}
    assert found == {GUARD: ("unmounting", "strict"), OCR: ("mounting", "")}
    # Also one that was asked for something else, and may not plug the device again.
    plans = planned(world, [NEXT], [])
    assert [plan.actions for plan in plans] == [["settle_record"], REVOKED]
    assert failing(world, plans).code == "mount_busy"
    monkeypatch.setattr(world, "detach_live", detach)
    assert world.apply(plans, force=True).replugged == {R.uuid}
    assert (world.shows(), world.held) == (AFTER["take one of two away"], set())


def test_a_daemon_that_outlives_its_device_is_told(monkeypatch):
    world, plans = revoking(monkeypatch, "take one of two away")
    in_use(world, GUARD)
    monkeypatch.setattr(_held, "wait_until_ended", lambda *_arguments: False)
    problem = failing(world, plans, force=True)
    assert (problem.code, problem.details["undone"]) == ("not_revoked", [])
    assert world.state.records[R.uuid].strict


class Killed(BaseException):
    """The end of a run, in which nothing is undone."""


@pytest.mark.parametrize(("name", "model"), [("replace", BEFORE), ("take one of two away", GUARD)])
@pytest.mark.parametrize("again", [True, False])
def test_a_run_that_is_killed_is_finished_by_the_next(name, model, again, monkeypatch):
    for index in itertools.count():
        world, plans = revoking(monkeypatch, name)
        in_use(world, model)
        effect = world._effect

        def killed(what, world=world, effect=effect, index=index):
            if len(world.log) >= index:
                raise Killed
            effect(what)

        with monkeypatch.context() as patch:
            patch.setattr(world, "_effect", killed)
            try:
                world.apply(plans, force=True)
                break
            except Killed:
                pass
        # Whether it is asked for the same, or for something else once that is known to be owed.
        same = again or not any(kept.strict for kept in world.state.records.values())
        asked = PLANS[name][1:3] if same else ([NEXT], [])
        terms = _plan.Terms(present=bool(asked[0]), force=True, strict=same)
        plans = _plan.plan_vm(world.host(), world.view(), list(enumerate(asked[0] or asked[1])), terms)
        assert world.apply([plan for several in plans.values() for plan in several], force=True).failure is None
        assert (world.shows(), world.held) == (AFTER[name], set()), index
        assert {(kept.intent, kept.revoke) for kept in world.state.records.values()} == {("settled", "")}
        assert world.state.guest == {"/models": ("modelfleet", "ro")}
        assert len(world.state.live) == len(world.state.persistent) == 1
    assert index > 10


def test_a_guest_that_mounts_by_itself_is_not_asked_when_a_model_is_revoked(monkeypatch):
    by_itself = [b.viewed(guest="none"), b.second(transport="view", mount_path=OTHER_PATH, guest="none")]
    world = ViewWorld(*map(b.record, by_itself)).install(monkeypatch)
    in_use(world, GUARD)
    world.state.guest.clear()
    plans = b.absent(world.host(), world.view(), by_itself[0], force=True, strict=True)
    done = world.apply(plans, force=True)
    assert (done.failure, done.replugged) == (None, {R.uuid})
    assert not any("mount" in effect.split() for effect in world.log)
    assert done.records[OTHER.uuid].intent == "settled"


# A model that comes back from a fault


def test_what_was_bound_wrong_is_unbound_after_all_is_settled(monkeypatch):
    world = ViewWorld(R, OTHER).install(monkeypatch)
    wrong = _views.bound_at(b.VM, PATH)
    world.state.binds[wrong] = "empty"
    world.busy, world.reluctant = {"empty"}, True
    assert world.apply(planned(world, [WANTED], [])).failure is None
    assert world.log == [
        *("write_records", f"bind {GUARD}", f"show {PATH}", "verify", "write_records", "unbind empty lazily")
    ]
    assert world.shows() == AFTER["join"]


def test_what_cannot_be_unbound_after_all_is_settled_undoes_nothing(monkeypatch):
    world = ViewWorld(R, OTHER).install(monkeypatch)
    world.state.binds[_views.bound_at(b.VM, PATH)] = "empty"
    world.fails = {5: "libvirt_error"}
    problem = failing(world, planned(world, [WANTED], []))
    assert (problem.code, problem.details["failed_step"]) == ("storage_error", "retire_source")
    assert problem.details["undone"] == []
    assert world.shows()[0] == {PATH: GUARD, OTHER_PATH: OCR}


def test_a_model_that_cannot_be_bound_again_is_told(monkeypatch):
    world, plans = start(monkeypatch, "replace")
    monkeypatch.setattr(_sources, "keep", lambda *_arguments: -1)
    world.fails = {5: "libvirt_error"}
    assert failing(world, plans).details["undo_failed"]["step"] == "release_source"


def test_the_device_of_a_view_is_plugged_again_for_all_of_its_models(monkeypatch):
    world = ViewWorld(R, OTHER).install(monkeypatch)
    world.state.live.clear()
    world.state.guest.clear()
    assert world.apply(planned(world, [WANTED, NEXT], [])).failure is None
    assert world.log == ["write_records", "attach live", "verify", "mount /models", "write_records"]


# The one unit of a view

LASTING = [b.viewed(persistence="systemd"), b.second(transport="view", mount_path=OTHER_PATH, persistence="systemd")]


def test_the_unit_of_a_view_is_put_back_when_the_last_model_stays(monkeypatch):
    world = ViewWorld(b.record(LASTING[0])).install(monkeypatch)
    before = world.snapshot()
    plans = planned(world, [], LASTING[:1])
    world.fails = {3: "libvirt_error"}
    problem = failing(world, plans)
    assert world.log[1:4] == ["remove unit /models", "unmount /models", "detach live"]
    assert problem.details["undone"] == ["detach_live", "unmount_in_guest", "remove_guest_unit", "record"]
    assert world.snapshot() == before


def test_the_first_model_of_a_view_that_fails_leaves_no_unit(monkeypatch):
    world = ViewWorld().install(monkeypatch)
    world.state.units = {"/models": None}
    plans = planned(world, LASTING[:1], [])
    world.fails = {8: "libvirt_error"}
    assert failing(world, plans).details["failed_step"] == "settle_record"
    assert world.log[7] == "write unit /models"
    assert world.state.units == {}


def test_a_model_that_fails_to_join_leaves_the_others_their_unit(monkeypatch):
    world = ViewWorld(b.record(LASTING[1])).install(monkeypatch)
    world.state.units["/models"] += "# edited\n"
    plans = planned(world, LASTING[:1], [])
    world.fails = {5: "libvirt_error"}
    assert failing(world, plans).details["failed_step"] == "settle_record"
    assert world.log[4] == "write unit /models"
    assert "/models" in world.state.units
