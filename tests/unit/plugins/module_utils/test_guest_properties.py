# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a hostile guest agent can reach: nothing but errors that have a code, within the deadline."""

from __future__ import annotations

import base64
import json
import types

from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.modelfleet.kvm.plugins.module_utils import _guest, _guest_agent, _guest_view, _plan
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit import scripted_agent
from ansible_collections.modelfleet.kvm.tests.unit.properties import HOSTILE, examples

R = b.record(persistence="systemd")
PATH = R.mount_path
DEADLINE = 5.0
# No call needs more programs in the guest than this, each of which has a deadline of its own.
PROGRAMS = 24
# Stands in every text that the guest makes up.
MARK = "said-by-the-guest"

TEXTS = st.one_of(
    HOSTILE.map(lambda text: MARK + text),
    st.sampled_from(
        [
            "umount: target is busy",
            "mount: wrong fs type",
            "Transport endpoint is not connected",
            f"cat: {MARK}: No such file or directory",
            "Permission denied",
            "systemd\n",
            f"FragmentPath=/lib/{MARK}\x1b[2J",
            f"/proc/1/mountinfo\n/proc/{'9' * 10}/mountinfo\n/proc/0x1/maps\n",
            f"l 0 /proc/77/fd/3 -> {PATH}/{MARK}\n/proc/77/comm:{MARK}\n",
        ]
    ),
)


def encoded(text):
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


def exited(code, stdout, stderr):
    return {"exited": True, "exitcode": code, "out-data": encoded(stdout), "err-data": encoded(stderr)}


COVERED = scripted_agent.ROOT + f"61 21 0:55 / {PATH} ro - {MARK}\x1b[2J{MARK * 500} {MARK * 9000} rw\n"
ELSEWHERE = scripted_agent.ROOT + f"61 21 0:55 / /{MARK * 9000}\x1b[2J ro - virtiofs {R.tag} rw\n"
LONG = scripted_agent.ROOT + "1 1 0:1 / /x rw - a b c\n" * 3000
TABLES = st.one_of(
    st.sampled_from(
        [
            scripted_agent.ROOT,
            scripted_agent.ROOT + scripted_agent.OURS,
            COVERED,
            ELSEWHERE,
            LONG,
        ]
    ),
    TEXTS.map(lambda text: scripted_agent.ROOT + text.encode("utf-8", "replace").decode()),
)
SECONDS = st.sampled_from([0.0, 0.0, 0.1, 1.0, 4.0, 60.0])
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(TEXTS, inner, max_size=2)),
    max_leaves=4,
)
KEYS = "pid exited exitcode signal out-data err-data count buf-b64 eof supported_commands id".split()
ANSWERS = st.one_of(
    JSON,
    st.dictionaries(st.sampled_from(KEYS), st.one_of(JSON, TEXTS.map(encoded))),
    st.tuples(st.integers(-1, 300), TEXTS, TEXTS).map(lambda result: exited(*result)),
)
ERRORS = st.tuples(
    st.sampled_from(["agent_unavailable", "agent_command_failed"]),
    st.one_of(TEXTS, st.sampled_from(["Command guest-exec has been disabled", "frozen", "is not allowed"])),
)
# One part of an honest answer is something else, or not there.
BENDS = st.tuples(st.integers(0, 3), st.one_of(st.just(scripted_agent.FOREVER), JSON))
# How one command is answered: as an honest agent does it, with anything, with an error, or not at all.
MOODS = st.one_of(
    st.just(("honest", None)),
    st.just(("honest", None)),
    st.tuples(st.just("bend"), BENDS),
    st.tuples(st.just("bend"), BENDS),
    st.tuples(st.just("answer"), ANSWERS),
    st.tuples(st.just("error"), ERRORS),
    st.just(("silent", None)),
)


HONEST = (("honest", None), 0.0)


class Clock:
    """Time that passes when somebody waits."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


class Hostile:
    """An agent that is honest as long as it likes, and what it was asked."""

    def __init__(self, clock, moods, table, results):
        self._clock = clock
        self._moods = moods
        self._honest = scripted_agent.Agent(table)
        # A few bytes at a time, or as much as is asked for.
        self._honest.chunk = 3 if len(moods) % 2 else 1 << 20
        self._honest.usual = lambda _command, _stdin: results[len(self.asked) % len(results)]
        self.asked = []

    def __call__(self, command, arguments, deadline):
        assert deadline <= max(1.0, DEADLINE)
        self.asked.append((command, json.loads(json.dumps(arguments))))
        (kind, what), seconds = self._moods[len(self.asked) % len(self._moods)]
        # No answer costs nothing.
        self._clock.now += 0.02 + min(seconds, deadline)
        if kind == "silent" or seconds >= deadline:
            self._clock.now += deadline
            raise ModelfleetError("agent_unavailable", "VM render-4: silence", vm="render-4")
        if kind == "error":
            raise ModelfleetError(what[0], f"VM render-4: {what[1]}", vm="render-4", libvirt=what[1])
        if kind == "answer":
            return what
        try:
            answer = self._honest(command, arguments, deadline)
        except (AssertionError, KeyError):
            # It was told of a handle or a process that it never gave.
            return {}
        return answer if kind == "honest" else bent(answer, *what)


def bent(answer, which, value):
    """An honest answer with another value in it, or without one."""
    if not isinstance(answer, dict) or not answer:
        return answer if value is scripted_agent.FOREVER else value
    answer = dict(answer)
    key = sorted(answer)[which % len(answer)]
    if value is scripted_agent.FOREVER:
        del answer[key]
    else:
        answer[key] = value
    return answer


CALLS = {
    "mounts": lambda guest: guest.mounts(),
    "stale": lambda guest: guest.stale([PATH, "/other"]),
    "require_commands": lambda guest: guest.require_commands(),
    "mount": lambda guest: guest.mount([(R.tag, PATH)]),
    "remount": lambda guest: guest.remount_read_only(PATH),
    "unmount": lambda guest: guest.unmount([(R.tag, PATH)]),
    "unmount by force": lambda guest: guest.unmount([(R.tag, PATH)], force=True),
    "places": lambda guest: guest.places([PATH, "/models/qwen"]),
    "places with ends": lambda guest: guest.places([PATH, "/models/qwen"], [], [PATH]),
    "links": lambda guest: guest.links([PATH, "/models/qwen"]),
    "link": lambda guest: guest.link([PATH, "/models/qwen"]),
    "unlink": lambda guest: guest.unlink([PATH, "/models/qwen"], [PATH]),
    "read_unit": lambda guest: guest.read_unit(PATH),
    "defined_by": lambda guest: guest.defined_by(PATH),
    "write_unit": lambda guest: guest.write_unit(R.uuid, R.tag, PATH),
    "remove_unit": lambda guest: guest.remove_unit(R.uuid, PATH),
}
OUTPUTS = TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass"))
RESULTS = st.lists(st.tuples(st.sampled_from([0, 0, 1, 32, 126, 127]), OUTPUTS, OUTPUTS), min_size=1, max_size=4)
TRANSPORTS = st.sampled_from(["device", "view"])
PLAYED = st.lists(st.tuples(MOODS, SECONDS), min_size=1, max_size=8)


def played(moods, table, results, call):
    """Let a hostile agent play, and look at all that it was asked."""
    clock = Clock()
    agent = Hostile(clock, moods, table, results)
    modules = (_guest, _guest_agent)
    real = [module.time for module in modules]
    for module in modules:
        module.time = types.SimpleNamespace(monotonic=clock.monotonic, sleep=clock.sleep)
    try:
        call(_guest.Guest("render-4", agent, DEADLINE, 4096))
    finally:
        for module, time in zip(modules, real):
            module.time = time
    assert clock.now - 1000 < PROGRAMS * (2 * DEADLINE + 2)
    for command, arguments in agent.asked:
        # What a file of ours held goes back into it; everything else comes from us.
        content = base64.b64decode(arguments.pop("input-data", "")).decode()
        assert MARK not in content or command == "guest-exec"
        assert MARK not in json.dumps([command, arguments])
        assert isinstance(arguments.get("pid", 0), int) and isinstance(arguments.get("handle", 0), int)


def presentable(problem):
    """An error that does not flood a terminal, or draw on it."""
    assert len(problem.msg) < 4000 and problem.msg.isprintable(), problem.msg[:300]


@given(name=st.sampled_from(sorted(CALLS)), moods=PLAYED, table=TABLES, results=RESULTS)
@example(name="mounts", moods=[HONEST], table=LONG, results=[(0, "", "")])
@examples(500)
def test_only_errors_with_a_code_come_out_and_in_time(name, moods, table, results):
    def call(guest):
        try:
            CALLS[name](guest)
        except ModelfleetError as problem:
            assert problem.code.startswith(("agent_", "guest_", "mount_busy", "mount_path_unusable"))

    played(moods, table, results, call)


@given(moods=PLAYED, table=TABLES, results=RESULTS, present=st.booleans(), force=st.booleans(), transport=TRANSPORTS)
@example(moods=[HONEST], table=COVERED, results=[(0, "systemd", "")], present=True, force=False, transport="device")
@example(moods=[HONEST], table=ELSEWHERE, results=[(0, "systemd", "")], present=False, force=False, transport="view")
@examples(200)
def test_plans_are_made_whatever_a_guest_says(moods, table, results, present, force, transport):
    vm = b.running(R)
    wanted = [b.wanted(persistence="auto"), b.second(persistence="systemd", transport=transport)]
    terms = _plan.Terms(present=present, force=force)

    def call(guest):
        seen = _guest_view.for_run(vm, guest, wanted, terms)
        seen = _guest_view.with_stale(b.host(b.bind(R)), seen, guest, _guest_view.concerned(seen, wanted, terms))
        for plans in _plan.plan_vm(b.host(b.bind(R)), seen, list(enumerate(wanted)), terms).values():
            for plan in plans:
                assert plan.error is None or plan.steps == ()
                assert plan.error is None or plan.error is seen.guest_error or presentable(plan.error) is None
                assert MARK not in repr([plan.after, plan.steps])

    played(moods, table, results, call)
