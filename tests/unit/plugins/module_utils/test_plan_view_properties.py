# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds for the plans of a whole VM with a view, whatever is in it and whatever is wanted of it."""

from __future__ import annotations

import dataclasses

from hypothesis import assume, given
from hypothesis import strategies as st

from ansible_collections.modelfleet.kvm.plugins.module_utils import (
    _identity,
    _plan,
    _sources,
    _steps,
    _transports,
    _views,
    _wanted,
)
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.plugins.module_utils._observed import ModelKey
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit import simulator
from ansible_collections.modelfleet.kvm.tests.unit.properties import examples

MODELS = ("guard", "ocr", "asr", "tts")
IN_VIEW = {"guard": "/models/guard", "ocr": "/models/org/ocr", "asr": "/models/org/asr", "tts": "/models/tts"}
BESIDE = {model: f"/srv/ai/{model}" for model in MODELS}
HOW = {
    "view": ("view", IN_VIEW),
    "linked": ("view", BESIDE),
    "device": ("device", BESIDE),
    "below": ("device", IN_VIEW),
    "auto": ("auto", IN_VIEW),
    "auto elsewhere": ("auto", BESIDE),
}
ROOT = _views.source(b.VM)
ALIAS = b.record(b.viewed()).alias


def usually(usual, *others):
    return st.sampled_from([usual] * (len(others) + 1) + list(others))


def entry(which, how, place="", **changes):
    """A model in the view, below it or elsewhere, by a device of its own beside it, or one that a view would hide."""
    transport, path = HOW[how][0], HOW[how][1][place or which]
    usual = {"model": which, "model_version": "", "model_path": which, "mount_path": path, "transport": transport}
    return b.wanted(**{**usual, **changes})


@dataclasses.dataclass
class Machine:
    """A host and one VM of it, with a description that a person can read."""

    host: object
    vm: object
    said: list

    def __repr__(self):
        return f"Machine({self.said})"


@st.composite
def machines(draw):
    state = draw(usually("running", "shutoff"))
    guest, persistence = draw(usually(("agent", "none"), ("agent", "systemd"), ("none", "none")))
    how = draw(
        st.fixed_dictionaries(
            {
                "live": usually("right", "missing", "source"),
                "persistent": usually("right", "missing", "source"),
                "daemon": usually("right", "dead", "deaf"),
                "guest": usually("right", "missing", "options"),
                "unit": usually("right", "missing", "edited"),
                "view": usually(True, False),
                "left": usually("nothing", "devices", "view"),
            }
        )
    )
    binds, shown, records, hidden, said = [], [], [], set(), [state, guest, persistence, how]
    links = dict.fromkeys(BESIDE.values(), False)
    # What a change of transport that was cut short has left: devices of their own, or the view.
    left, parts = [], []
    for model in draw(st.lists(st.sampled_from(MODELS), max_size=4, unique=True)):
        transport = draw(st.sampled_from(["view", "view", "linked", "linked", "device"]))
        if how["left"] == "view":
            transport = draw(usually("below", "device", "device"))
        made_of = draw(usually(model, f"{model}-before"))
        wanted = entry(made_of, transport, model, model_path=made_of, guest=guest, persistence=persistence)
        intent, owner = draw(usually("settled", "mounting", "unmounting")), draw(usually("default", "ops"))
        # A run that was killed may owe it that what the mount had is revoked.
        revoke = draw(usually("", "strict")) if transport == "view" and intent != "settled" else ""
        kept = b.record(wanted, intent=intent, owner=owner, revoke=revoke)
        bound = (
            draw(usually("right", "missing", "writable", "other", "unseen", "left over", "not shown"))
            if kept.in_view
            else "right"
        )
        links[kept.mount_path] = kept.linked and guest == "agent" and draw(usually(True, False))
        begun = transport == "device" and how["left"] == "view" and intent != "settled"
        if transport == "below" or begun or (kept.in_view and how["left"] == "devices"):
            other = dataclasses.replace(wanted, transport="device" if kept.in_view else "view")
            left.append(b.record(other))
            if begun:
                # Where the link is still, the device is not mounted yet.
                links[kept.mount_path] = guest == "agent" and draw(st.booleans())
            # The guest has let go of what it had before all is settled.
            layers = ["live", "persistent", "bind", *["guest"] * (intent != "settled")]
            parts.append(draw(st.sets(st.sampled_from(layers))))
            if "bind" in parts[-1] and (how["view"] or kept.in_view):
                binds.append(b.bind(left[-1], made_of))
                shown.append(binds[-1])
            said.append(("left", sorted(parts[-1])))
        said.append((made_of, kept.mount_path, kept.transport, intent, owner, bound, links[kept.mount_path], revoke))
        options = b.READ_WRITE if bound == "writable" else b.READ_ONLY
        if bound != "missing" and (how["view"] or not kept.in_view):
            binds.append(b.bind(kept, "other" if bound in ("other", "left over") else made_of, options))
            if bound == "left over":
                shown.append(binds[-1])
                binds.append(b.bind(kept, made_of, number=2))
            shown += binds[-1:] * (bound != "unseen")
        records.append(kept)
        hidden.update([kept.uuid] if bound == "not shown" else [])
    in_view = [kept for kept in records if kept.in_view]
    if how["view"] and (in_view or any(kept.in_view for kept in left)):
        binds.insert(0, b.view())
        shown.insert(0, b.view())
    serving = b.served(*shown)
    if how["daemon"] == "dead" or how["live"] != "right":
        serving.pop(ROOT, None)
    elif how["daemon"] == "deaf" and ROOT in serving:
        serving[ROOT] = serving[ROOT]._replace(follows=False)

    def domain(layer):
        which = how[layer]
        found = dict.fromkeys(b.device(kept) for kept in records if not kept.in_view or which != "missing")
        found.update(dict.fromkeys(b.device(kept) for kept, where in zip(left, parts) if layer in where))
        return b.domain(
            *(
                device._replace(source="/x") if which == "source" and device.alias == ALIAS else device
                for device in found
            ),
            free_ports=20,
        )

    left_mounted = [kept for kept, where in zip(left, parts) if {"live", "guest"} <= where]
    hidden_by_view = any(kept.in_view for kept in left_mounted)
    mounts = [
        b.in_guest(kept)
        for kept in records
        if not kept.in_view
        and not links.get(kept.mount_path)
        and not (hidden_by_view and kept.mount_path in IN_VIEW.values())
    ]
    mounts += dict.fromkeys(b.in_guest(kept) for kept in left_mounted)
    if in_view and how["guest"] != "missing" and not left_mounted:
        options = b.READ_WRITE if how["guest"] == "options" else b.READ_ONLY
        mounts.append(b.in_guest(in_view[0], options=options))
    units = {**dict.fromkeys([*BESIDE.values(), *IN_VIEW.values(), "/models"])}
    for kept in (*left_mounted, *records) if persistence == "systemd" else ():
        unit = simulator.unit(kept)
        edited = kept.in_view and how["unit"] != "right"
        units[kept.device_path] = (f"{unit}# edited\n" if how["unit"] == "edited" else None) if edited else unit
    mounted = {mount.mount_point for mount in mounts if guest == "agent"}
    links = {path: there for path, there in links.items() if path in BESIDE.values() and path not in mounted}
    names = [*MODELS, *(f"{model}-before" for model in MODELS)]
    models = {ModelKey(b.CENTER.name, name): b.identity(name) for name in names}
    running = state == "running"
    vm = b.running(
        state=state,
        live=domain("live") if running else None,
        persistent=domain("persistent"),
        live_records=tuple(records) if running else (),
        persistent_records=tuple(records),
        guest=(b.ROOT, *(mounts if guest == "agent" else ())) if running else None,
        links=links if running else {},
        units=units if running else {},
        systemd=True if running else None,
    )
    host = b.host(*binds, models=models, serving=serving) if running else b.host(models=models)
    in_views = {uuid: path for uuid, path in host.in_views.items() if uuid not in hidden}
    host = dataclasses.replace(host, in_views=in_views)
    return Machine(host, vm, said)


@st.composite
def wishes(draw):
    """What a task may want of a VM, without what is refused before anybody looks at it."""
    present = draw(st.booleans())
    models = draw(st.lists(st.sampled_from(MODELS), max_size=3, unique=True))
    places = draw(usually(models, draw(st.permutations(models))))
    guest, persistence = draw(usually(("agent", "auto"), ("agent", "none"), ("agent", "systemd"), ("none", "none")))
    wanted = []
    for model, place in zip(models, places):
        transport = draw(
            st.sampled_from(["view", "view", "linked", "linked", "device", "auto", "auto elsewhere", "below"])
        )
        changes = {"guest": guest, "persistence": persistence, "owner": draw(usually("default", "ops"))}
        if not present:
            blank = draw(st.sampled_from([{}, {"mount_path": ""}, {"model": ""}, {"model": "", "mount_path": ""}]))
            changes = {**changes, "model_center": "", "owner": draw(usually("", "ops")), **blank}
        wanted.append(entry(model, transport, place, **changes))
    if present:
        try:
            _wanted.refuse_collisions(wanted)
        except ModelfleetError:
            assume(False)
    purge = present and draw(st.booleans())
    return wanted, _plan.Terms(present, strict=draw(st.booleans()), purge=purge, owner=draw(usually("default", "ops")))


def planned(host, vm, wanted, terms):
    chosen = _transports.chosen(wanted, vm) if terms.present else wanted
    plans = _plan.plan_vm(host, vm, list(enumerate(chosen)), terms)
    return [plan for several in plans.values() for plan in several]


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
    """All that there is of the mounts beside those with some UUIDs, but for the device that the others share."""
    others = [record for record in vm.records.values() if record.uuid not in uuids]
    own = [record for record in others if not record.in_view]
    paths = {host.source(record) for record in others}
    in_views = {record.uuid for record in others if record.in_view} & set(host.in_views)
    return (
        others,
        {uuid: host.in_views[uuid] for uuid in in_views},
        {mount for mount in host.mounts if mount.mount_point in paths},
        [domain and domain.device(record.alias) for record in own for domain in (vm.live, vm.persistent)],
        [mount for mount in vm.guest or () if mount.mount_point in {record.mount_path for record in own}],
        {record.mount_path: vm.links.get(record.mount_path) for record in others},
    )


def missed(host, vm, plan):
    """What of a model in a view is not as a plan wanted it, seen without the planner's own eyes."""
    mount = plan.after or plan.before
    bound = host.in_views.get(mount.uuid, "")
    daemon = host.serving.get(ROOT)
    kept = vm.records.get(mount.uuid)
    there = {
        "bind": host.bind(bound) and host.bind(bound).shows,
        "binds": len([other for other in host.mounts if simulator.is_of(other, mount)]),
        "daemon": daemon and daemon.below.get(_views.in_daemon(bound)),
        "record": kept and kept.intent,
        "link": vm.links.get(mount.mount_path, False),
    }
    if plan.after is None:
        return {what: found for what, found in there.items() if found}
    shows = b.bind(mount).shows if vm.live else None
    wanted = {"bind": shows, "binds": 1 if vm.live else 0, "daemon": shows, "record": "settled"}
    wanted["link"] = vm.live is not None and mount.mount_path in BESIDE.values()
    if mount.guest != "agent":
        # Whether there is one is the guest's business.
        wanted["link"] = there["link"]
    for where, domain in (("live", vm.live), ("persistent", vm.persistent)):
        there[where] = domain and domain.device(mount.alias)
        wanted[where] = domain and b.device(mount)
    if vm.live and mount.guest == "agent":
        there["guest"] = [other for other in vm.guest if other.mount_point == "/models"]
        wanted["guest"] = [b.in_guest(mount)]
        there["unit"], wanted["unit"] = vm.units["/models"], None
        if mount.persistence == "systemd":
            wanted["unit"] = simulator.unit(mount)
    return {what: (found, wanted[what]) for what, found in there.items() if found != wanted[what]}


def left(host, vm, plan):
    """What there is of the transport that a mount does not have, or of both when it goes."""
    mount = plan.after or plan.before
    aliases, sources = [], []
    if mount.in_view or plan.after is None:
        aliases, sources = [_identity.alias(mount.uuid)], [_sources.path(vm.uuid, mount.uuid)]
    others = any(record.in_view for record in vm.records.values())
    if not mount.in_view and mount.mount_path in IN_VIEW.values() and not others:
        aliases, sources = [*aliases, ALIAS], [*sources, ROOT]
    if not mount.in_view or plan.after is None:
        sources += [found.mount_point for found in host.mounts if simulator.is_of(found, mount)]
        sources += [mount.mount_path] * vm.links.get(mount.mount_path, False)
    domains = [domain for domain in (vm.live, vm.persistent) if domain]
    devices = [alias for alias in aliases for domain in domains if domain.device(alias)]
    return devices + [source for source in sources if host.bind(source) or vm.links.get(source)]


@given(machine=machines(), wish=wishes())
@examples(600)
def test_plans_that_are_carried_out_are_enough_and_touch_nothing_else(machine, wish):
    host, vm = machine.host, machine.vm
    wanted, terms = wish
    before = repr((host, vm, wanted))
    plans = planned(host, vm, wanted, terms)
    assert repr((host, vm, wanted)) == before
    for plan in plans:
        assert plan.error is None or plan.steps == ()
        assert plan.actions == sorted(plan.actions, key=_steps.ORDER.index)
        assert len(set(plan.actions)) == len(plan.actions)
    # As the run does it: when something that was listed cannot be had, nothing is done.
    assume(not any(plan.error and plan.origin == _steps.LISTED for plan in plans))
    steps = [_steps.Step(batch.action, record) for batch in _steps.batches(plans) for record in batch.records]
    after = simulator.run(host, vm, steps)
    assert untouched(*after, concerned(vm, wanted, terms)) == untouched(host, vm, concerned(vm, wanted, terms))
    for plan in plans:
        mount = plan.after or plan.before
        if plan.error is None and mount and mount.in_view:
            assert missed(*after, plan) == {}
        if plan.error is None and mount:
            assert left(*after, plan) == []
            owed = plan.before is not None and plan.before.strict
            if vm.live and _steps.DETACH_LIVE not in plan.actions:
                released = _steps.RELEASE in plan.actions and (terms.strict or owed)
                assert (_steps.REVOKE in plan.actions) >= released
    assert [plan.actions for plan in planned(*after, wanted, terms) if plan.steps] == []
    there = [record for record in after[1].records.values() if record.in_view or record.mount_path in IN_VIEW.values()]
    if steps and not there and not any(plan.error for plan in plans):
        domains = [domain for domain in (after[1].live, after[1].persistent) if domain]
        assert not any(domain.device(ALIAS) for domain in domains)
        assert after[0].bind(ROOT) is None or not any(record.in_view for record in vm.records.values())
