# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""That the tests of secrets would find one: planted wherever they look, it is found."""

from __future__ import annotations

from modelfleet_lab import Host
from storage import told

WORD = "p1anted"
_UNIT = "/etc/systemd/system/lab-planted.service"
# What plants a word, by what is told then. Read from standard input: no word is in the arguments of the shell itself.
PLANTED = {
    ("processes", "command"): f"sh -c 'sleep 2; true' {WORD}-command",
    ("processes", "environment"): f"SAID={WORD}-environment runuser -u nobody -- sleep 2",
    ("journal", "log"): f"logger {WORD}-log",
    ("properties of units", "property"): "systemd-run --quiet --unit=lab-said --remain-after-exit"
    f" --setenv=SAID={WORD}-property true",
    ("files", "file"): f"printf '[Service]\\nExecStart=/bin/true\\n# {WORD}-file\\n' > {_UNIT}",
    ("mount table", "mount"): f"mkdir -p /mnt/planted && mount -t tmpfs {WORD}-mount /mnt/planted",
    ("fstab", "fstab"): f"printf '# {WORD}-fstab\\n' >> /etc/fstab",
}
_AWAY = f"rm -f {_UNIT}; systemctl stop lab-said; umount /mnt/planted; sed -i /{WORD}/d /etc/fstab"


def test_what_is_told_is_found(hosts: dict[str, Host]) -> None:
    for host in hosts.values():
        watch = told.Watch(host)
        try:
            host.run(["sh", "-e", "-s"], input="\n".join(PLANTED.values()))
            seen = {**watch.now(), **watch.ended()}
        finally:
            host.run(["sh", "-s"], input=_AWAY)
        missing = [(place, what) for place, what in PLANTED if f"{WORD}-{what}" not in seen[place]]
        assert missing == []
        assert set(told.of((WORD,), seen)) == set(seen)
        assert told.of(("never-" + WORD,), seen) == {}
