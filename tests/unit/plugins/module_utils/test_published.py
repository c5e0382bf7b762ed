# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which models are looked at before they are mounted, and what is refused because of it."""

from __future__ import annotations

import errno

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _checker, _identity, _published
from ansible_collections.modelfleet.kvm.plugins.module_utils._content import Problem
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

R = b.record()
IN_VIEW = b.viewed()
V = b.record(IN_VIEW)
OTHER = b.wanted(model_version="2.2", model_path="acme/guard-2.2")
OTHER_THERE = b.host(b.bind(R), models={**b.host().models, (b.CENTER.name, OTHER.model_path): (1, 2)})


class Checks:
    """Answers every question alike, and remembers it."""

    def __init__(self, problem=None, error=0):
        self.asked = []
        self._answer = _checker.Checked(problem, error)

    def check(self, root, path, model):
        self.asked.append((root, path, model))
        return self._answer


PLANS = {
    "new": (b.present(b.host(), b.running(), b.wanted()), True),
    "new, shut off": (b.present(b.host(), b.shut_off(), b.wanted()), True),
    "new in a view that is there, shut off": (
        b.present(b.host(), b.shut_off(b.record(b.viewed(model_path="ocr", mount_path="/models/ocr"))), IN_VIEW),
        True,
    ),
    "all right": (b.present(b.host(b.bind(R)), b.running(R), b.wanted()), False),
    "all right in the view": (b.present(b.host(b.bind(V)), b.running(V), IN_VIEW), False),
    "bound no more": (b.present(b.host(), b.running(V), IN_VIEW), True),
    "device gone": (b.present(b.host(b.bind(R)), b.running(R, live=b.domain()), b.wanted()), True),
    "unmounted in the guest": (b.present(b.host(b.bind(R)), b.running(R, guest=(b.ROOT,)), b.wanted()), False),
    "only the record changes": (b.present(b.host(b.bind(R)), b.running(R), b.wanted(owner="chat")), False),
    "another version": (b.present(OTHER_THERE, b.running(R), OTHER), True),
    "another version, shut off": (b.present(OTHER_THERE, b.shut_off(R), OTHER), True),
    "away": (b.absent(b.host(b.bind(R)), b.running(R), b.wanted())[0], False),
    "refused already": (b.present(b.host(prepared=False), b.running(), b.wanted()), False),
}


@pytest.mark.parametrize("case", PLANS)
def test_a_model_is_looked_at_where_a_vm_gets_to_see_it(case):
    plan, looked_at = PLANS[case]
    checks = Checks()
    assert _published.checked(plan, OTHER_THERE, checks) is plan
    assert bool(checks.asked) is looked_at, plan.actions


def test_it_is_looked_at_where_its_center_is_and_by_its_version():
    checks = Checks()
    _published.checked(PLANS["new"][0], b.host(), checks)
    uuid = _identity.model_uuid(b.CENTER.uuid, "acme/guard-2.1", "2.1")
    assert checks.asked == [(b.CENTER.mount_point, "acme/guard-2.1", uuid)]


def test_a_model_that_an_earlier_task_will_show_is_not_looked_at():
    host = b.host(models={}, planned=frozenset((b.CENTER.name,)))
    plan = b.present(host, b.running(), b.wanted(), check_mode=True)
    checks = Checks()
    assert plan.steps
    assert _published.checked(plan, host, checks) is plan
    assert checks.asked == []


TORN = Problem("model_damaged", "it is torn", ("a", "b"))


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"problem": TORN}, "model_damaged"),
        ({"problem": Problem("model_unverified", "nobody did")}, "model_unverified"),
        ({"error": errno.ETIMEDOUT}, "storage_timeout"),
        ({"error": errno.EIO}, "storage_error"),
        ({"error": errno.ENOENT}, "source_missing"),
    ],
)
def test_a_model_that_is_not_whole_is_refused_and_nothing_is_done(answer, code):
    plan = PLANS["another version"][0]
    refused = _published.checked(plan, OTHER_THERE, Checks(**answer))
    assert refused.error.code == code
    assert (refused.steps, refused.after, refused.before) == ((), None, R)
    assert refused.layers is None and refused.leaving is None
    assert all(getattr(refused, name) == getattr(plan, name) for name in ("wanted", "vm_uuid", "vm_name", "origin"))
