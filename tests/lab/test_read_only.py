# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Read-only: what root in a guest can try, after it took away every protection that the guest itself has."""

from __future__ import annotations

from fleet import BOTH, BOTH_AT_LENGTH, MODELS, Fleet, device_path

PATH = "/models/llama-nano"

ATTACKS = {
    "create": f"echo x > {PATH}/new",
    "make directory": f"mkdir {PATH}/new",
    "make device": f"mknod {PATH}/sda b 8 0",
    "link": f"ln -s /etc/passwd {PATH}/new",
    "hard link": f"ln {PATH}/config.json {PATH}/new",
    "overwrite": f"echo x > {PATH}/config.json",
    "append": f"echo x >> {PATH}/config.json",
    "truncate": f"truncate -s 0 {PATH}/weights.bin",
    "delete": f"rm -f {PATH}/config.json && test ! -e {PATH}/config.json",
    "rename": f"mv {PATH}/config.json {PATH}/other.json",
    "change mode": f"chmod 4777 {PATH}/config.json",
    "change owner": f"chown 1:1 {PATH}/config.json",
    "change time": f"touch {PATH}/config.json",
}
# On the view itself, and where its models are bound; in a guest without a view there is nothing of that.
VIEW_ATTACKS = (
    "test -L /models/llama-nano && echo x > new",
    "test -L /models/llama-nano && mkdir new",
    "test -L /models/llama-nano && mknod sda b 8 0",
    "test -L /models/llama-nano && ln -s / new",
    "rm /models/llama-nano",
    "mv /models/llama-nano /models/other",
    "ln -sfn / /models/llama-nano && test -e /models/llama-nano/etc",
    "rmdir /models/.m/*",
    "mv /models/.m /models/other",
)


def listing(fleet: Fleet, host: str) -> str:
    """Everything about the model's files that an attack could change."""
    facts = "find . -printf '%p %y %m %U:%G %s %T@ %n\\n' | sort"
    contents = "find . -type f | sort | xargs -d '\\n' sha256sum"
    command = f"cd {MODELS} && {facts} && {contents}"
    return fleet.hosts[host].run(["sh", "-c", command]).stdout


@BOTH
def test_root_in_the_guest_cannot_write(fleet: Fleet) -> None:
    fleet.mount()
    for host, guest in fleet.guests.items():
        before = listing(fleet, host)
        in_view = fleet.transport == "view"
        mounted = device_path(fleet.transport, PATH)
        guest.run(["mount", "-o", "remount,rw", mounted])
        tag = guest.run(["sh", "-c", f"grep ' {mounted} ' /proc/mounts"]).stdout.split(" ", 1)[0]
        guest.run(["mkdir", "-p", "/mnt/second"])
        guest.run(["mount", "-t", "virtiofs", "-o", "rw", tag, "/mnt/second"])
        second = "/mnt/second/llama-nano" if in_view else "/mnt/second"
        attacks = [command.replace(PATH, place) for place in (PATH, second) for command in ATTACKS.values()]
        attacks += [f"cd {place} && {command}" for place in ("/models", "/models/.m") for command in VIEW_ATTACKS]
        for command in attacks:
            done = guest.run(["sh", "-c", command], check=False)
            assert done.returncode != 0, f"{host}: {command} succeeded"
        assert listing(fleet, host) == before
        guest.run(["umount", "/mnt/second"])
    fleet.unmount()


@BOTH
def test_what_the_host_mounts_below_a_model_later_is_not_in_it(fleet: Fleet) -> None:
    below = f"{MODELS}/llama-nano/below"
    for host in fleet.hosts.values():
        host.run(["mkdir", below])
    try:
        fleet.mount()
        for name, guest in fleet.guests.items():
            fleet.hosts[name].run(["mount", "-t", "tmpfs", "scratch", below])
            # Not even after the guest has taken its own protection away.
            guest.run(["mount", "-o", "remount,rw", device_path(fleet.transport, PATH)])
            assert guest.run(["touch", f"{PATH}/below/x"], check=False).returncode != 0
            assert fleet.hosts[name].run(["ls", below]).stdout == ""
        fleet.unmount()
    finally:
        for host in fleet.hosts.values():
            host.run(["umount", "-l", below], check=False)
            host.run(["rmdir", below], check=False)


@BOTH_AT_LENGTH
def test_options_that_the_guest_changed_are_set_right_again(fleet: Fleet) -> None:
    mounted = device_path(fleet.transport, PATH)
    fleet.mount()
    for guest in fleet.guests.values():
        guest.run(["mount", "-o", "remount,rw,suid,dev", mounted])
    assert all(mounts[0]["drift"] and mounts[0]["layers"]["guest"] == "wrong" for mounts in fleet.info().values())
    for result in fleet.mount().values():
        assert result["mounts"][0]["actions"] == ["record", "remount_in_guest", "settle_record"]
    for guest in fleet.guests.values():
        options = guest.run(["sh", "-c", f"grep ' {mounted} ' /proc/mounts"]).stdout.split(" ")[3].split(",")
        assert {"ro", "nosuid", "nodev"} <= set(options)
    assert not any(result["changed"] for result in fleet.mount().values())
    fleet.unmount()


@BOTH_AT_LENGTH
def test_no_way_out_of_the_model(fleet: Fleet) -> None:
    fleet.mount()
    for host, guest in fleet.guests.items():
        fleet.hosts[host].run(["ln", "-sfn", "/etc/shadow", f"{MODELS}/llama-nano/link"])
        fleet.hosts[host].run(["ln", "-sfn", "../acme", f"{MODELS}/llama-nano/sibling"])
        try:
            # Links are resolved by the guest, in its own tree.
            assert guest.run(["cat", f"{PATH}/link"], check=False).returncode != 0
            assert guest.run(["ls", f"{PATH}/sibling/embed.v2"], check=False).returncode != 0
            assert guest.run(["ls", f"{PATH}/../acme"], check=False).returncode != 0
        finally:
            fleet.hosts[host].run(["rm", f"{MODELS}/llama-nano/link", f"{MODELS}/llama-nano/sibling"])
    fleet.unmount()
