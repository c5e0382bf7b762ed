# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a virtiofsd shows, by its own mount table."""

from __future__ import annotations

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _mountinfo, _views, _virtiofsd
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError
from ansible_collections.modelfleet.kvm.tests.unit import builders as b

R = b.record(b.viewed())
BIND = b.bind(R)
ROOT = "30 21 0:22 /modelfleet/views/x / ro,nosuid,nodev master:77 - tmpfs tmpfs rw\n"
MODEL = f"31 30 0:41 {BIND.root} {_views.in_daemon(BIND.mount_point)} ro,nosuid,nodev master:78 - xfs /dev/vdb rw\n"
SEEN = {_views.in_daemon(BIND.mount_point): BIND.shows}


def daemon(table):
    return _virtiofsd._daemon(_mountinfo.parse(table), 7.0)


def test_the_daemon_of_a_view_shows_what_is_bound_in_it_and_follows():
    assert daemon(ROOT + MODEL) == ({("0:22", "/modelfleet/views/x")}, 7.0, SEEN, True)


@pytest.mark.parametrize("propagation", ["shared:77 ", "", "propagate_from:2 "])
def test_a_daemon_whose_root_is_nobodys_slave_does_not_follow(propagation):
    assert not daemon(ROOT.replace("master:77 ", propagation) + MODEL).follows


def test_a_daemon_that_also_hands_on_follows():
    assert daemon(ROOT.replace("master:77", "shared:79 master:77")).follows


def test_a_model_that_could_be_written_to_is_not_shown():
    assert daemon(ROOT + MODEL.replace(" ro,", " rw,")).below == {}


def test_a_daemon_without_a_root_shows_nothing():
    assert daemon(MODEL) == (frozenset(), 7.0, {}, False)


def test_a_model_that_another_lies_over_is_not_shown():
    assert daemon(ROOT + MODEL + MODEL.replace(" ro,", " rw,")).below == {}


# What is waited for


@pytest.fixture
def on_host(monkeypatch):
    """What daemons there are, while a model is bound in the view."""
    serving = {}
    monkeypatch.setattr(_mountinfo, "read", lambda: [b.ROOT, b.view(), BIND])
    monkeypatch.setattr(_virtiofsd, "serving", lambda _pids: serving)
    return serving


def wait(bind=BIND):
    below = [(bind.mount_point, _views.in_daemon(bind.mount_point))]
    _virtiofsd.wait_until_read_only([_virtiofsd.Awaited(_views.source(b.VM), R.alias, below)], "render-4", 0.05)


def test_a_daemon_that_shows_the_view_and_the_model_is_ready(on_host):
    on_host.update(b.served(b.view(), BIND))
    wait()


@pytest.mark.parametrize(
    "served",
    [
        [],
        [b.view()],
        [b.view(), b.bind(R, "acme/guard-2.0")],
        [b.view(), b.bind(R, options=b.READ_WRITE)],
        [b.view(), b.bind(R, number=2)],
        [b.view(b.OTHER_VM), BIND],
        [b.view()._replace(root="/elsewhere"), BIND],
    ],
)
def test_what_a_daemon_does_not_show_is_given_up(served, on_host):
    on_host.update(b.served(*served))
    with pytest.raises(ModelfleetError) as caught:
        wait()
    assert caught.value.code == "not_read_only"


def test_a_model_that_is_not_bound_on_the_host_is_given_up(on_host):
    on_host.update(b.served(b.view(), BIND, b.bind(R, number=2)))
    with pytest.raises(ModelfleetError):
        wait(b.bind(R, number=2))
