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
from ansible_run import Ansible
from engine import Unpacked
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
# What a slow kernel on a busy machine takes beyond the deadlines.
BOUND = 30


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
    """A share that is served, to a kernel that runs: a test that ended it fails alone."""
    kernel.up()
    wanted: Share = request.param
    if wanted.name not in served:
        wanted.serve(kernel.host)
        served.add(wanted.name)
    return wanted


@pytest.fixture(scope="session")
def engine(kernel: Kernel) -> Unpacked:
    """The collection's engine: modules cost a kernel as slow as this one five seconds each."""
    return Unpacked(kernel)


@pytest.fixture
def mounted(share: Share, kernel: Kernel, engine: Unpacked) -> Iterator[Share]:
    """A share that is mounted, and gone after the test."""
    (done,) = engine.centers([mount(share)])
    assert done["changed"], done
    yield share
    signal(kernel.host, share, "CONT")
    engine.centers([GONE])


EACH = pytest.mark.parametrize("share", SHARES, ids=str, indirect=True)


def center(share: Share, **more: Any) -> dict[str, Any]:
    return {"name": NAME, "timeout": 60, **share.arguments, **more}


def mount(share: Share, check: bool = False, **more: Any) -> dict[str, Any]:
    return {"params": center(share, **more), "check": check}


def shall(state: str, check: bool = False, **more: Any) -> dict[str, Any]:
    return {"params": {"name": NAME, "state": state, **more}, "check": check}


_SOURCE = """\
import os, time
from ansible_collections.modelfleet.kvm.plugins.module_utils import _mountapi, _sources
source = f"{_sources.VMS_DIRECTORY}/8d4c5a1e-7b0f-4c7e-9a35-2f1b6c0d9e77/0123456789abcdef"
"""
_BIND = f"""\
{_SOURCE}
directory = _mountapi.open_directory("{MOUNT_POINT}/acme")
_sources.bind(_mountapi.read_only_clone(directory), source)
os.close(directory)
"""
_UNBIND = f"""\
{_SOURCE}
began = time.monotonic()
_sources.unbind(source)
print(time.monotonic() - began)
"""
GONE = shall("absent", timeout=60)
LOOK = {"names": [NAME], "timeout": 5}


def state(engine: Unpacked) -> str:
    (result,) = engine.centers([LOOK])
    return result["model_centers"][0]["state"]


def signal(host: Host, share: Share, name: str) -> None:
    host.run(["systemctl", "kill", f"--signal={name}", share.server])


def left(kernel: Kernel) -> str:
    """What is left of a center."""
    seen = kernel.run(["grep", NAME, "/proc/self/mountinfo"], check=False).stdout
    places = ["/etc/systemd", "/etc/modelfleet", "/run/modelfleet/pending", "/run/systemd", "/var/lib/modelfleet"]
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


def sum_of(kernel: Kernel, path: str) -> str:
    return kernel.run(["sha256sum", f"{MOUNT_POINT}/{path}"]).stdout.lstrip("\\")[:64]


def mount_options(kernel: Kernel) -> str:
    return kernel.run(["findmnt", "--noheadings", "--output=OPTIONS", MOUNT_POINT]).stdout


@EACH
def test_from_nothing_and_back(share: Share, kernel: Kernel, ansible: Ansible, engine: Unpacked) -> None:
    secrets = ["write_credentials"] if share.secret else []
    calls = [task("model_center_mount", center(share), check) for check in (True, False, True, False)]
    results = ansible.play([*calls, task("model_center_info", {"names": [NAME]})]).results[HERE]
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
            assert sum_of(kernel, path) == checksum(path)
        refused = kernel.run(["touch", f"{MOUNT_POINT}/llama-nano/x"], check=False)
        assert "Read-only file system" in refused.stderr
        assert told(kernel, share.secret) == ""
    finally:
        away = engine.centers([shall("absent", check) for check in (True, False, True, False)])
    secrets = ["remove_credentials"] if share.secret else []
    steps = ["stop_keeper", "unmount", "disable_unit", *secrets, "remove_keeper", "remove_mount_point"]
    assert [result["actions"] for result in away] == [[*steps, "remove_unit", "reload_systemd"]] * 2 + [[], []]
    assert left(kernel) == ""


@EACH
def test_options_change_and_what_fails_is_undone(mounted: Share, kernel: Kernel, engine: Unpacked) -> None:
    def twice(*wishes: dict[str, Any]) -> list[Any]:
        calls = [{**wish, "check": check} for wish in wishes for check in (True, False)]
        return [result.get("actions", result) for result in engine.centers(calls)]

    assert mounted.option not in mount_options(kernel)
    other = mount(mounted, options=[mounted.option])
    assert twice(other, other) == [["write_unit", "reload_systemd", "remount"]] * 2 + [[], []]
    assert mounted.option in mount_options(kernel)
    for what, (changes, code) in mounted.wrong.items():
        options = [mounted.option, *changes.get("options", [])]
        failed, again, seen = engine.centers([mount(mounted, **{**changes, "options": options}), other, LOOK])
        assert failed.get("error_code") == code, (what, failed)
        # It is mounted as it was before.
        assert (again.get("actions"), seen["model_centers"][0]["state"]) == ([], "healthy"), (what, again, seen)
        assert mounted.option in mount_options(kernel)
    away = shall("unmounted")
    assert twice(away, away) == [["stop_keeper", "unmount", "disable_unit"]] * 2 + [[], []]
    assert twice(other) == [["enable_unit", "mount", "start_keeper"]] * 2


@EACH
def test_what_is_wrong_has_its_code_and_leaves_nothing(share: Share, kernel: Kernel, engine: Unpacked) -> None:
    for what, (changes, code) in share.wrong.items():
        (result,) = engine.centers([mount(share, **changes)])
        assert result.get("error_code") == code, (what, result)
        assert result["seconds"] < BOUND, (what, result)
        assert not share.secret or share.secret not in str(result), what
        assert left(kernel) == "", what
    assert told(kernel, share.secret) == ""


@EACH
def test_a_server_that_is_frozen_before_the_mount(share: Share, kernel: Kernel, engine: Unpacked) -> None:
    signal(kernel.host, share, "STOP")
    try:
        (result,) = engine.centers([mount(share, timeout=10)])
    finally:
        signal(kernel.host, share, "CONT")
    assert result["error_code"] == "storage_timeout", result
    assert result["seconds"] < 10 + BOUND, result
    wait_until("nothing is left", BOUND, lambda: left(kernel) == "")


@EACH
def test_a_frozen_server_hangs_nobody_and_heals(mounted: Share, kernel: Kernel, engine: Unpacked) -> None:
    signal(kernel.host, mounted, "STOP")
    fail, warn = (mount(mounted, on_unhealthy=what, timeout=5) for what in ("fail", "warn"))
    seen, failed, warned = engine.centers([LOOK, fail, warn])
    assert seen["model_centers"][0]["state"] in ("hung", "unreachable"), seen
    assert failed["error_code"] in ("storage_timeout", "storage_unreachable"), failed
    assert (warned.get("msg"), warned["changed"]) == (None, False)
    assert max(result["seconds"] for result in (seen, failed, warned)) < 5 + BOUND
    signal(kernel.host, mounted, "CONT")
    wait_until("it answers again", 90, lambda: state(engine) == "healthy")
    assert engine.centers([mount(mounted)])[0]["actions"] == []


@EACH
def test_a_frozen_server_keeps_nobody_from_unmounting(mounted: Share, kernel: Kernel, engine: Unpacked) -> None:
    signal(kernel.host, mounted, "STOP")
    again, gone = engine.centers([mount(mounted, on_unhealthy="remount", timeout=10), GONE])
    assert again["error_code"] == "storage_timeout", again
    assert gone.get("msg") is None, gone
    assert max(again["seconds"], gone["seconds"]) < 10 + BOUND, (again, gone)
    # A client in the middle of a mount gives up after its own time.
    wait_until("nothing is left", 2 * BOUND, lambda: left(kernel) == "")


@pytest.mark.parametrize("share", [share for share in SHARES if share.name == "nfs"], ids=str, indirect=True)
def test_the_last_model_of_a_frozen_server_is_taken_away(mounted: Share, kernel: Kernel, engine: Unpacked) -> None:
    """With it goes the session with the server, which is not waited for."""
    engine.program(_BIND)
    signal(kernel.host, mounted, "STOP")
    try:
        kernel.run(["umount", "--lazy", MOUNT_POINT])
        assert float(engine.program(_UNBIND)) < BOUND
        assert "0123456789abcdef" not in kernel.run(["cat", "/proc/self/mountinfo"]).stdout
    finally:
        signal(kernel.host, mounted, "CONT")


# Samba's own unit does not end in time while a client is connected, so that it cannot be started again here.
@pytest.mark.parametrize("share", [share for share in SHARES if share.name != "smb"], ids=str, indirect=True)
def test_a_server_that_starts_again(mounted: Share, kernel: Kernel, engine: Unpacked) -> None:
    signal(kernel.host, mounted, "KILL")
    assert state(engine) in ("hung", "unreachable")
    ending = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active,deactivating", mounted.server]
    wait_until("the server has ended", BOUND, lambda: kernel.host.run(ending).stdout == "")
    mounted.again(kernel.host)
    wait_until("it answers again", 120, lambda: state(engine) == "healthy")
    path = "acme/embed.v2/model.safetensors"
    assert sum_of(kernel, path) == checksum(path)
