# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet as tables."""

from __future__ import annotations

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _info
from ansible_collections.modelfleet.kvm.plugins.plugin_utils import _fleet, _fleet_read
from ansible_collections.modelfleet.kvm.tests.unit import builders as b
from ansible_collections.modelfleet.kvm.tests.unit import fleets

FOUND, LOOKED = fleets.varied()


def fleet(found, looked=None):
    return _fleet_read.fleet(found, looked or {}, "Fleet", "now")


VARIED = fleet(FOUND, LOOKED)


def test_the_fleet_at_a_glance():
    assert VARIED.summary() == {
        "hosts": 5,
        "hosts_answered": 3,
        "vms": 10,
        "models": 6,
        "mounts": 13,
        # Five mounts and a stray.
        "drift": 6,
        "due": 6,
        # Two hosts, a VM, a center, and two mounts.
        "errors": 6,
    }


def test_no_hosts():
    assert fleet({}) == _fleet.Fleet("Fleet", "now", (), (), (), (), ())
    assert set(fleet({}).summary().values()) == {0}


def test_what_the_module_returns_can_be_read():
    record = b.record()
    row = _info._mount(b.host(b.bind(record)), b.running(record), record, "host")
    (mount,) = fleet({"kvm9": fleets.result(row)}).mounts
    assert (mount.host, mount.vm, mount.model, mount.model_version) == ("kvm9", "render-4", "acme/guard", "2.1")
    assert (mount.status, mount.drift, mount.due, mount.problem) == (row["status"], row["drift"], (), None)
    assert mount.uuid == record.uuid and mount.model_center == "depot"


def test_the_tests_fleets_have_the_shape_of_what_the_module_returns():
    record = b.record()
    row = _info._mount(b.host(b.bind(record)), b.running(record), record, "host")
    made = fleets.mount("vm")
    assert set(made) == set(row)
    assert set(made["record"]) == set(row["record"])


def test_hosts_that_did_not_answer_say_why():
    hosts = {host.host: host for host in VARIED.hosts}
    assert [host.state for host in VARIED.hosts] == ["answered"] * 3 + ["failed", "unreachable"]
    failed = hosts["rack-d"].problem
    assert (failed.error_code, failed.title) == ("libvirt_unavailable", "libvirt cannot be reached")
    # The remedy stands for itself.
    assert failed.message == "libvirt does not answer at qemu:///system." and failed.remedy
    unreachable = hosts["rack-e"].problem
    assert (unreachable.error_code, unreachable.title) == ("", "The host cannot be reached")
    assert "No route to host" in unreachable.message


@pytest.mark.parametrize("result", [None, {}, {"skipped": True}])
def test_a_host_that_was_not_asked(result):
    (host,) = fleet({"rack-z": result}).hosts
    assert (host.state, host.problem.title) == ("not asked", "The host was not looked at")


@pytest.mark.parametrize(
    "result",
    [{"mounts": [{"vm": "x"}]}, {"mounts": 7}, {"mounts": ["x"]}, {"mounts": [], "errors": [None]}, "text", ["x"], 7],
)
def test_a_host_that_returns_something_else_does_not_hide_the_others(result):
    made = fleet({"bad": result, "good": fleets.result(fleets.mount("vm"))})
    assert [(host.host, host.state) for host in made.hosts] == [("bad", "failed"), ("good", "answered")]
    assert made.hosts[0].problem.error_code == "internal_error"
    assert [mount.host for mount in made.mounts] == ["good"]


def test_centers_that_cannot_be_read_do_not_hide_the_mounts_of_the_host():
    found = {"one": fleets.result(fleets.mount("vm"))}
    made = fleet(found, {"one": {"model_centers": [{"center": 7}]}})
    assert len(made.mounts) == 1 and made.centers == ()
    assert (made.hosts[0].state, made.hosts[0].problem.error_code) == ("answered", "internal_error")


def test_a_vm_that_cannot_be_read_is_there():
    unread = [vm for vm in VARIED.vms if vm.problem]
    assert [(vm.host, vm.vm, vm.problem.error_code) for vm in unread] == [("rack-c", "draw-9", "record_invalid")]


def test_a_vm_with_a_stray_device_only_is_there():
    (stray,) = VARIED.strays
    assert ("rack-c", "draw-clone") in [(vm.host, vm.vm) for vm in VARIED.vms]
    assert (stray.host, stray.vm, stray.tag) == ("rack-c", "draw-clone", "left-over")


def test_centers():
    assert [(center.host, center.model_center, center.state) for center in VARIED.centers] == [
        ("rack-a", "vault", "healthy"),
        ("rack-b", "vault", "hung"),
        ("rack-b", "attic", "healthy"),
        ("rack-c", "vault", "healthy"),
    ]
    assert VARIED.centers[0].available_bytes == 11_500_000_000_000
    assert VARIED.centers[1].total_bytes is None
    assert VARIED.centers[2].stale_users == ("asr-1",) and VARIED.centers[3].drift == ("not mounted at boot",)


def test_a_host_whose_centers_could_not_be_looked_at():
    looked = {"one": fleets.silent("libvirt_unavailable", "x"), "two": {}}
    made = fleet({"one": fleets.result(), "two": fleets.result()}, looked)
    assert [host.state for host in made.hosts] == ["answered", "answered"]
    assert [host.problem and host.problem.error_code for host in made.hosts] == ["libvirt_unavailable", None]
    assert made.summary()["errors"] == 1


def test_hosts_stand_as_people_count():
    names = ["kvm10", "kvm2", "kvm", "a", "kvm2b", "10", "9"]
    made = fleet({name: fleets.result() for name in names})
    assert [host.host for host in made.hosts] == ["9", "10", "a", "kvm", "kvm2", "kvm2b", "kvm10"]


def test_a_center_that_is_healthy_and_could_not_be_looked_at_in_full():
    center = fleets.center(error=fleets.error("libvirt_unavailable", "x"), stale_users=None)
    made = fleet({"one": fleets.result()}, {"one": fleets.centers(center)})
    assert made.centers[0].problem.error_code == "libvirt_unavailable"
    assert made.summary()["errors"] == 1
