# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Storage whose clients are in the kernel, for real: on a second kernel, since the machine's own has not got them.

No VM can be had there, so that models are read on the host only; what lies between them and a VM is the same bind as of
any other storage.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from ansible_run import Ansible, Result
from fleet import FILES, checksum
from fleet import publish as publish_models

from modelfleet_lab import Host, Lab
from modelfleet_lab.kernel import NAME as HERE
from modelfleet_lab.kernel import Kernel
from modelfleet_lab.polling import wait_until
from storage.kernel_shares import SHARES, Share, publish
from storage.test_back_ends import MOUNT_POINT, NAME, task

pytestmark = pytest.mark.long

UNIT = "var-lib-modelfleet-centers-" + NAME.replace("-", r"\x2d") + ".mount"
GONE = {"name": NAME, "state": "absent"}
# Ansible itself on a slow kernel, and what busy machines take beyond the deadlines.
BOUND = 60


@pytest.fixture(scope="session")
def kernel() -> Iterator[Kernel]:
    """A second kernel, on a host with the models of the tests."""
    with Lab.temporary(os.environ.get("MODELFLEET_TEST_LAB", "storage") + "k") as lab:
        host = lab.up({"alpha": "kernel12"})["alpha"]
        publish_models(host)
        publish(host)
        made = Kernel(host)
        made.up()
        yield made


@pytest.fixture(scope="session")
def ansible(kernel: Kernel) -> Ansible:
    return Ansible(kernel.inventory_path())


@pytest.fixture(scope="session")
def served() -> set[str]:
    """The names of the shares that are there already."""
    return set()


@pytest.fixture
def share(request: pytest.FixtureRequest, kernel: Kernel, served: set[str]) -> Share:
    """A share that is served."""
    wanted: Share = request.param
    if wanted.name not in served:
        wanted.serve(kernel.host)
        served.add(wanted.name)
    return wanted


@pytest.fixture
def mounted(share: Share, kernel: Kernel, ansible: Ansible) -> Iterator[Share]:
    """A share that is mounted, and gone after the test."""
    ansible.module("model_center_mount", center(share))
    yield share
    signal(kernel.host, share, "CONT")
    ansible.module("model_center_mount", GONE)


EACH = pytest.mark.parametrize("share", SHARES, ids=str, indirect=True)


def center(share: Share, **more: Any) -> dict[str, Any]:
    return {"name": NAME, "timeout": 60, **share.arguments, **more}


def play(ansible: Ansible, *tasks: dict[str, Any]) -> list[Result]:
    return ansible.play(list(tasks)).results[HERE]


def each(ansible: Ansible, *calls: dict[str, Any]) -> list[Result]:
    """Every call twice, first in check mode."""
    return ansible.each("model_center_mount", list(calls))[HERE]


def info(ansible: Ansible) -> dict[str, Any]:
    (seen,) = ansible.module("model_center_info", {"names": [NAME], "timeout": 10})[HERE]["model_centers"]
    return seen


def signal(host: Host, share: Share, name: str) -> None:
    host.run(["systemctl", "kill", f"--signal={name}", share.server])


def left(kernel: Kernel) -> str:
    """What is left of a center."""
    seen = kernel.run(["grep", NAME, "/proc/self/mountinfo"], check=False).stdout
    places = ["/etc/systemd", "/etc/modelfleet", "/run/modelfleet", "/run/systemd", "/var/lib/modelfleet"]
    seen += kernel.run(["find", *places, "-name", f"*{NAME}*", "-o", "-name", UNIT], check=False).stdout
    seen += kernel.run(["systemctl", "list-units", "--all", "--plain", "--no-legend", UNIT]).stdout
    return seen + kernel.run(["pgrep", "-af", f"mount.*{NAME}"], check=False).stdout


def told(kernel: Kernel, secret: str) -> str:
    """The places in which a secret can be seen by somebody who is not root, or in a log."""
    if not secret:
        return ""
    commands = (
        "systemctl show --all '*depot*' 'modelfleet*'",
        "cat /proc/self/mountinfo /proc/self/mounts",
        "journalctl --no-pager --output=export",
        "dmesg",
        "ps -eo args | grep -v grep",
    )
    found = [c for c in commands if secret in kernel.run(["sh", "-c", c], check=False).stdout]
    places = ["/etc/systemd", "/etc/modelfleet", "/run/modelfleet", "/run/systemd", "/var/lib/modelfleet", "/root"]
    files = kernel.run(["grep", "-rlF", "--", secret, *places], check=False).stdout.splitlines()
    private = kernel.run(["find", "/etc/modelfleet", "-type", "f", "-user", "root", "-perm", "600"], check=False).stdout
    return "\n".join(found + [path for path in files if path not in private.splitlines()])


def mount_options(kernel: Kernel) -> str:
    return kernel.run(["findmnt", "--noheadings", "--output=OPTIONS", MOUNT_POINT]).stdout


@EACH
def test_from_nothing_and_back(share: Share, kernel: Kernel, ansible: Ansible) -> None:
    wish, secrets = center(share), ["write_credentials"] if "credentials" in share.arguments else []
    calls = [task("model_center_mount", wish, check) for check in (True, False, True, False)]
    results = play(ansible, *calls, task("model_center_info", {"names": [NAME]}))
    try:
        assert [result.get("msg") for result in results] == [None] * 5
        steps = ["make_mount_point", *secrets, "write_keeper", "write_unit", "reload_systemd", "enable_unit", "mount"]
        assert [result["actions"] for result in results[:4]] == [[*steps, "start_keeper"]] * 2 + [[], []]
        assert results[3]["health"] == "healthy"
        (seen,) = results[4]["model_centers"]
        assert (seen["state"], seen["drift"], seen["daemon"], seen["keeper"]) == ("healthy", [], [], True), seen
        assert (seen["mount"]["fstype"], seen["mount"]["source"]) == share.shown
        assert (seen["mount"]["read_only"], seen["mount"]["depth"]) == (True, 1), seen
        assert {"nosuid", "nodev"} <= set(seen["mount"]["options"])
        assert seen["capacity"]["total_bytes"] > 0
        for path in FILES:
            assert kernel.run(["sha256sum", f"{MOUNT_POINT}/{path}"]).stdout.lstrip("\\")[:64] == checksum(path)
        refused = kernel.run(["touch", f"{MOUNT_POINT}/llama-nano/x"], check=False)
        assert "Read-only file system" in refused.stderr
        assert told(kernel, share.secret) == ""
    finally:
        away = each(ansible, GONE, GONE)
    secrets = ["remove_credentials"] if secrets else []
    steps = ["stop_keeper", "unmount", "disable_unit", "remove_unit", *secrets, "remove_keeper", "reload_systemd"]
    assert [result["actions"] for result in away] == [[*steps, "remove_mount_point"]] * 2 + [[], []]
    assert left(kernel) == ""


@EACH
def test_options_change_and_what_fails_is_undone(mounted: Share, kernel: Kernel, ansible: Ansible) -> None:
    assert mounted.option not in mount_options(kernel)
    other = center(mounted, options=[mounted.option])
    results = each(ansible, other, other)
    assert [item.get("actions") for item in results] == [["write_unit", "reload_systemd", "remount"]] * 2 + [[], []]
    assert mounted.option in mount_options(kernel)
    for what, (changes, code) in mounted.wrong.items():
        *_check, failed = each(ansible, {**other, **changes})
        assert failed.get("error_code") == code, (what, failed)
        # It is mounted as it was before.
        again = play(ansible, task("model_center_mount", other), task("model_center_info", {"names": [NAME]}))
        assert (again[0]["actions"], again[1]["model_centers"][0]["state"]) == ([], "healthy"), (what, again)
        assert mounted.option in mount_options(kernel)
    away = {"name": NAME, "state": "unmounted"}
    results = each(ansible, away, away, other)
    assert [item["actions"] for item in results[:4]] == [["stop_keeper", "unmount", "disable_unit"]] * 2 + [[], []]
    assert [item["actions"] for item in results[4:]] == [["enable_unit", "mount", "start_keeper"]] * 2


@EACH
def test_what_is_wrong_has_its_code_and_leaves_nothing(share: Share, kernel: Kernel, ansible: Ansible) -> None:
    tasks = [task("model_center_mount", center(share, **changes)) for changes, _code in share.wrong.values()]
    run = ansible.play(tasks)
    assert run.seconds < len(tasks) * BOUND / 2
    for (what, (_changes, code)), result in zip(share.wrong.items(), run.results[HERE], strict=True):
        assert (result.get("error_code"), result["changed"]) == (code, False), (what, result)
        assert not share.secret or share.secret not in str(result)
    assert left(kernel) == ""
    assert told(kernel, share.secret) == ""


@EACH
def test_a_server_that_is_frozen_at_once(share: Share, kernel: Kernel, ansible: Ansible) -> None:
    signal(kernel.host, share, "STOP")
    try:
        run = ansible.play([task("model_center_mount", center(share, timeout=10))])
    finally:
        signal(kernel.host, share, "CONT")
    (result,) = run.results[HERE]
    assert result["error_code"] in ("storage_timeout", "center_mount_failed"), result
    assert run.seconds < 10 + BOUND
    assert left(kernel) == ""


@EACH
def test_a_frozen_server_hangs_nobody_and_heals(mounted: Share, kernel: Kernel, ansible: Ansible) -> None:
    signal(kernel.host, mounted, "STOP")
    looked = ansible.play([task("model_center_info", {"names": [NAME], "timeout": 5})])
    assert looked.seconds < 5 + BOUND
    (seen,) = looked.results[HERE][0]["model_centers"]
    assert seen["state"] in ("hung", "unreachable"), seen
    wishes = [center(mounted, timeout=5, on_unhealthy=what) for what in ("fail", "warn")]
    ran = ansible.play([task("model_center_mount", wish) for wish in wishes])
    assert ran.seconds < 2 * 5 + BOUND
    failed, warned = ran.results[HERE]
    assert failed["error_code"] in ("storage_timeout", "storage_unreachable"), failed
    assert (warned.get("msg"), warned["changed"]) == (None, False)
    signal(kernel.host, mounted, "CONT")
    wait_until("it answers again", 90, lambda: info(ansible)["state"] == "healthy")
    assert play(ansible, task("model_center_mount", center(mounted)))[0]["actions"] == []


@EACH
def test_it_goes_away_from_a_frozen_server(mounted: Share, kernel: Kernel, ansible: Ansible) -> None:
    signal(kernel.host, mounted, "STOP")
    run = ansible.play([task("model_center_mount", {**GONE, "timeout": 30})])
    assert run.results[HERE][0].get("msg") is None, run.results
    assert run.seconds < 2 * 30 + BOUND
    assert left(kernel) == ""


@EACH
def test_a_server_that_starts_again(mounted: Share, kernel: Kernel, ansible: Ansible) -> None:
    kernel.host.run(["systemctl", "stop", mounted.server])
    assert info(ansible)["state"] in ("hung", "unreachable")
    mounted.again(kernel.host)
    wait_until("it answers again", 120, lambda: info(ansible)["state"] == "healthy")
    path = "acme/embed.v2/model.safetensors"
    assert kernel.run(["sha256sum", f"{MOUNT_POINT}/{path}"]).stdout[:64] == checksum(path)
