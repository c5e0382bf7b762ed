# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds for the plans of a whole VM, whatever it has and whatever is wanted of it."""

from __future__ import annotations

import dataclasses

from hypothesis import assume, given, target
from hypothesis import strategies as st

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _devices,
    _plan,
    _records,
    _refusals,
    _sources,
    _steps,
    _wanted,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.module_utils._observed import ModelKey
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit import simulator
from ansible_collections.modelfleet.kvm.tests.unit.properties import examples

MODELS = ("guard", "ocr", "asr", "tts", "rank")
PATHS = {model: f"/srv/ai/{model}" for model in MODELS}
PATHS["rank"] = "/data/rank here"
FOREIGN_UNIT = "[Mount]\nWhat=nas:/x\n"
COVER = {"fstype": "tmpfs", "source": "cover"}


class Machine:
    """A host and one VM of it, described so that a person can read it."""

    def __init__(self, host, vm, *state):
        self.host = host
        self.vm = vm
        self._state = state

    def __repr__(self):
        return f"Machine{self._state}"


def usually(usual, *others):
    return st.sampled_from([usual] * (len(others) + 1) + list(others))


def entry(which, **changes):
    """A model as somebody may want it."""
    usual = {"model": which, "model_version": "", "model_path": which, "mount_path": PATHS[which]}
    return b.wanted(**{**usual, **changes})


@dataclasses.dataclass
class Slot:
    """What there is of one mount of a VM, layer by layer."""

    record: _records.Record
    kept: str
    live: str
    persistent: str
    bind: str
    daemon: str
    guest: str
    unit: str
    stale: bool

    def __str__(self):
        layers = {name: value for name, value in vars(self).items() if name != "record"}
        unusual = [
            f"{name} {value}"
            for name, value in layers.items()
            if value not in ("right", "everywhere", "as recorded", False)
        ]
        record = self.record
        about = [record.mount_path, record.model_name, record.tag, record.owner, record.guest, record.persistence]
        return ", ".join([*about, record.intent, *unusual])


@st.composite
def slots(draw, model):
    tag = draw(usually("", f"tag-of-{model}"))
    made_of = draw(usually(model, f"{model}-before"))
    wanted = entry(model, model=made_of, model_path=made_of, mount_path=PATHS[model], tag=tag)
    record = b.record(
        dataclasses.replace(wanted, guest=draw(usually("agent", "none"))),
        intent=draw(usually("settled", "mounting", "unmounting")),
        owner=draw(st.sampled_from(["default", "ops"])),
    )
    persistence = draw(usually("none", "systemd", "")) if record.guest == "agent" else "none"
    return Slot(
        record=dataclasses.replace(record, persistence=persistence),
        kept=draw(usually("everywhere", "live", "persistent", "nowhere")),
        live=draw(usually("right", "missing", "wrong tag", "wrong source")),
        persistent=draw(usually("right", "missing", "wrong tag", "wrong source")),
        bind=draw(usually("right", "missing", "writable", "other", "empty")),
        daemon=draw(usually("right", "dead", "stale")),
        guest=draw(usually("right", "missing", "options", "old tag", "twice", "elsewhere too", "covered", "foreign")),
        unit=draw(usually("as recorded", "missing", "wrong", "foreign")),
        stale=draw(usually(False, True)),
    )


def devices(found, which):
    made = []
    for slot in found:
        how = getattr(slot, which)
        usual = b.device(slot.record)
        if how == "wrong tag":
            usual = usual._replace(tag=f"was-{slot.record.model_path}")
        elif how == "wrong source":
            usual = usual._replace(source="/x")
        made += [usual] * (how != "missing")
    return made


def guest_mounts(slot):
    right = b.in_guest(slot.record)
    return {
        "missing": [],
        "right": [right],
        "options": [right._replace(options=b.READ_WRITE)],
        "old tag": [right._replace(source=f"was-{slot.record.model_path}")],
        "twice": [right, right._replace(mount_id=91)],
        "elsewhere too": [right, right._replace(mount_point=f"/mnt/{slot.record.model_path}")],
        "covered": [right, right._replace(**COVER)],
        "foreign": [right._replace(**COVER)],
    }[slot.guest]


def unit_of(slot):
    if slot.record.persistence != "systemd" or slot.unit == "missing":
        return None
    if slot.unit == "foreign":
        return FOREIGN_UNIT
    text = simulator.unit(slot.record)
    return text if slot.unit == "as recorded" else f"{text}# edited\n"


@st.composite
def machines(draw):
    """A host and one VM of it, in any state that they can be in."""
    found = [draw(slots(model)) for model in draw(st.lists(st.sampled_from(MODELS), max_size=5, unique=True))]
    state = draw(usually("running", "shutoff", "paused"))
    transient = state != "shutoff" and draw(usually(False, True))
    known = draw(usually(True, False))
    foreign = [_devices.Device(tag, "fs0", "/data/home", "") for tag in draw(st.sampled_from([[], ["home"], ["x"]]))]
    free = [path for path in PATHS.values() if all(slot.record.mount_path != path for slot in found)] or ["/free"]
    elsewhere = draw(usually([], [b.in_guest(b.record(), mount_point=draw(st.sampled_from(free)), **COVER)]))
    binds, bound, serving = [], {}, {}
    for slot in found if state != "shutoff" else []:
        path = {"other": "other", "empty": "empty"}.get(slot.bind, slot.record.model_path)
        bind = b.bind(slot.record, path, b.READ_WRITE if slot.bind == "writable" else b.READ_ONLY)
        if slot.bind != "missing":
            binds.append(bind)
            bound[bind.mount_point] = b.identity(path)
        if slot.daemon != "dead" and slot.live != "missing":
            serving.update(b.served(bind if slot.daemon == "right" else bind._replace(root="/stale")))
    known_models = [*MODELS, *(f"{model}-before" for model in MODELS)]
    models = {ModelKey(b.CENTER.name, model): b.identity(model) for model in known_models}
    if draw(usually(False, True)):
        models[ModelKey(b.CENTER.name, draw(st.sampled_from(MODELS)))] = ModelfleetError("source_missing", "gone")
    host = b.host(*binds, models=models, bound=bound, serving=serving, empty=b.identity("empty"))
    host = dataclasses.replace(host, prepared=draw(usually(True, False)))
    capable = {"shared_memory": draw(usually(True, False)), "free_ports": 20}
    in_live = tuple(slot.record for slot in found if slot.kept in ("everywhere", "live"))
    in_persistent = tuple(slot.record for slot in found if slot.kept in ("everywhere", "persistent"))
    guest = (b.ROOT, *elsewhere, *(mount for slot in found for mount in guest_mounts(slot)))
    vm = b.running(
        state=state,
        live=None if state == "shutoff" else b.domain(*foreign, *devices(found, "live"), **capable),
        persistent=None if transient else b.domain(*foreign, *devices(found, "persistent"), **capable),
        live_records=() if state == "shutoff" else in_live,
        persistent_records=() if transient else in_persistent,
        guest=guest if known and state == "running" else None,
    )
    said = [str(slot) for slot in found]
    if vm.guest is None:
        return Machine(host, vm, state, False, said)
    units = {
        **dict.fromkeys([*PATHS.values(), "/srv/ai/ocr/deep"]),
        **{slot.record.mount_path: unit_of(slot) for slot in found},
    }
    stale = frozenset(slot.record.mount_path for slot in found if slot.stale and slot.guest in ("right", "twice"))
    foreign_units = draw(usually({}, {PATHS["guard"]: "/etc/fstab"}))
    systemd = draw(st.booleans())
    vm = dataclasses.replace(vm, units=units, stale=stale, systemd=systemd, foreign_units=foreign_units)
    return Machine(host, vm, state, True, said)


@st.composite
def wishes(draw):
    """What a task may want of a VM, without what is refused before anybody looks at it."""
    present = draw(st.booleans())
    models = draw(st.lists(st.sampled_from(MODELS), max_size=3, unique=True))
    places = draw(usually(models, draw(st.permutations(models))))
    wanted = []
    for model, place in zip(models, places):
        changes = {
            "tag": draw(
                usually("", f"tag-of-{model}", f"tag-of-{place}", f"tag-of-{draw(st.sampled_from(MODELS))}", "home")
            ),
            "mount_path": draw(usually(PATHS[place], "/srv/ai/ocr/deep")),
            "guest": draw(usually("agent", "none")),
            "owner": draw(usually("default", "ops")),
            "persistence": draw(st.sampled_from(["auto", "systemd", "none"])),
        }
        if not present:
            blank = draw(st.sampled_from([{}, {"mount_path": ""}, {"model": ""}, {"model": "", "mount_path": ""}]))
            changes = {**changes, "model_center": "", "owner": draw(usually("", "ops")), **blank}
        if changes["guest"] == "none":
            changes["persistence"] = "none"
        wanted.append(entry(model, **changes))
    if present:
        try:
            _wanted.refuse_collisions(wanted)
        except ModelfleetError:
            assume(False)
    purge = present and draw(st.booleans())
    owner = draw(usually("default", "ops"))
    return wanted, _plan.Terms(
        present, check_mode=draw(st.booleans()), force=draw(usually(False, True)), purge=purge, owner=owner
    )


def each(plans):
    return [plan for several in plans.values() for plan in several]


def told(plans):
    """Plans as values that can be compared; two errors that say the same are two objects."""
    return {
        index: [dataclasses.replace(plan, error=plan.error and plan.error.as_result()) for plan in several]
        for index, several in plans.items()
    }


def planned(host, vm, wanted, terms):
    return _plan.plan_vm(host, vm, list(enumerate(wanted)), terms)


def concerned(vm, wanted, terms):
    """The UUIDs of the mounts that a task may touch."""
    uuids = {mount.uuid(vm.uuid) for mount in wanted} if terms.present else set()
    for record in vm.records.values():
        listed = not terms.present and any(mount.matches(record) for mount in wanted)
        purged = terms.purge and record.owner == terms.owner
        if listed or purged or record.intent != "settled":
            uuids.add(record.uuid)
    return uuids


def untouched(host, vm, uuids):
    """All that there is beside the mounts with some UUIDs."""
    others = {record.uuid: record for record in vm.records.values() if record.uuid not in uuids}
    aliases = {record.alias for record in others.values()}
    tags = {record.tag for record in others.values()}
    sources = {_sources.path(vm.uuid, uuid) for uuid in others}
    return (
        others,
        [
            device
            for domain in (vm.live, vm.persistent)
            for device in (domain.devices if domain else ())
            if device.alias in aliases or not device.ours
        ],
        [mount for mount in host.mounts if mount.mount_point in sources or mount == b.ROOT],
        {source: daemon for source, daemon in host.serving.items() if source in sources},
        [mount for mount in vm.guest or () if mount.fstype != "virtiofs" or mount.source in tags],
        {record.mount_path: vm.units.get(record.mount_path) for record in others.values()},
    )


def missed(host, vm, plan):
    """What is not as a plan wanted it, seen without the planner's own eyes."""
    mount = plan.after or plan.before
    source, device = b.device(mount).source, b.device(mount)
    there = {
        "source": host.bind(source) and host.bound.get(source),
        "live": vm.live and vm.live.device(mount.alias),
        "persistent": vm.persistent and vm.persistent.device(mount.alias),
        "guest": [kept.source for kept in vm.guest or () if kept.mount_point == mount.mount_path],
        "record": mount.uuid in vm.records and vm.records[mount.uuid].intent,
    }
    if plan.after is None:
        gone = {"source": None, "live": None, "persistent": None, "record": False}
        there["guest"] = mount.tag in there["guest"]
        return {what: found for what, found in there.items() if found != gone.get(what, False)}
    wanted = {
        "source": b.identity(mount.model_path) if vm.live else None,
        "live": device if vm.live else None,
        "persistent": device if vm.persistent else None,
        "guest": [mount.tag] if vm.guest is not None and mount.guest == "agent" else there["guest"],
        "record": "settled",
    }
    return {what: (found, wanted[what]) for what, found in there.items() if found != wanted[what]}


MACHINES, WISHES = machines(), wishes()


@given(machine=MACHINES, wish=WISHES)
@examples(300)
def test_plans_are_pure_and_in_order(machine, wish):
    host, vm = machine.host, machine.vm
    wanted, terms = wish
    before = repr((host, vm, wanted))
    plans = planned(host, vm, wanted, terms)
    assert repr((host, vm, wanted)) == before
    assert told(plans) == told(planned(host, vm, wanted, terms))
    assert set(plans) - {-1} == set(range(len(wanted)))
    may_touch = concerned(vm, wanted, terms)
    seen = set()
    for plan in each(plans):
        mount = plan.after or plan.before
        assert plan.error is None or plan.steps == ()
        assert mount is None or (mount.uuid in may_touch and mount.uuid not in seen)
        seen.update([mount.uuid] if mount else [])
        assert {step.record.vm_instance_uuid for step in plan.steps} <= {vm.uuid}
        if plan.origin == _steps.STRAY:
            strays = {stray.alias for stray in vm.strays}
            assert plan.error or [step.record.alias in strays for step in plan.steps] == [True]
            continue
        assert {step.record.uuid for step in plan.steps} <= {mount and mount.uuid}
        if plan.steps:
            assert plan.actions == sorted(plan.actions, key=_steps.ORDER.index)
            assert plan.actions == [_steps.SETTLE] or plan.actions[0] == _steps.RECORD
            assert plan.actions[-1] == (_steps.SETTLE if plan.after else _steps.FORGET)
            assert len(set(plan.actions)) == len(plan.actions)


@given(machine=MACHINES, wish=WISHES)
@examples(700)
def test_plans_that_are_carried_out_are_enough_and_touch_nothing_else(machine, wish):
    host, vm = machine.host, machine.vm
    wanted, terms = wish
    # Force is there to break the rule that nothing is taken away that is in use.
    terms = dataclasses.replace(terms, force=False)
    plans = planned(host, vm, wanted, terms)
    # As the run does it: when something that was listed cannot be had, nothing is done.
    assume(not any(plan.error and plan.origin == _steps.LISTED for plan in each(plans)))
    assume(_refusals.too_few_ports(vm, each(plans)) is None)
    steps = [_steps.Step(batch.action, record) for batch in _steps.batches(each(plans)) for record in batch.records]
    target(float(len(steps)))
    after = simulator.run(host, vm, steps)
    assert untouched(*after, concerned(vm, wanted, terms)) == untouched(host, vm, concerned(vm, wanted, terms))
    for plan in each(plans):
        if plan.error is None and (plan.after or plan.before):
            assert missed(*after, plan) == {}
    models = [(record.model_uuid, record.model_version) for record in after[1].records.values()]
    assert len(set(models)) == len(models)
    again = each(planned(*after, wanted, terms))
    assert [plan.actions for plan in again if plan.steps] == []
    failed = {plan.before.uuid for plan in each(plans) if plan.error and plan.before}
    assert {plan.before.uuid for plan in again if plan.error and plan.before} <= failed
