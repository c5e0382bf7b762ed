# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is due, and why."""

from __future__ import annotations

import pytest

from ansible_collections.modelfleet.kvm.plugins.plugin_utils import _fleet_due
from ansible_collections.modelfleet.kvm.tests.unit import fleets

RUN = "Run modelfleet.kvm.mount again; it repairs what is not right."
CASES = {
    "nothing": (fleets.mount("vm"), []),
    "the guest mounts it": (fleets.mount("vm", layers=("right", "right", "right", "not due"), guest="none"), []),
    "missing": (
        fleets.mount("vm", layers=("right", "missing", "right", "wrong")),
        [(RUN, "Device in the persistent XML: missing."), (RUN, "Mount in the guest: wrong.")],
    ),
    "foreign": (
        fleets.mount("vm", layers=("right", "right", "right", "foreign")),
        [
            (
                "Take away what is there, then run modelfleet.kvm.mount again.",
                "Mount in the guest: something else is there.",
            )
        ],
    ),
    "not known": (
        fleets.mount("vm", layers=("unknown", "right", "right", "right")),
        [("See that it can be looked at, then look again.", "Source on the host: unknown.")],
    ),
    # The error says all that there is to say.
    "could not be looked at": (
        fleets.mount("vm", layers=("right", "right", "right", "unknown"), error=fleets.error("agent_unavailable", "x")),
        [],
    ),
    "only a restart helps": (
        fleets.mount("vm", layers=("right", "right", "right", "wrong"), error=fleets.error("guest_mount_hung", "x")),
        [("Stop the VM and start it again.", "A mount in the guest does not answer.")],
    ),
    "left of another transport": (
        fleets.mount("vm", leaving=("right", "missing", "right", "missing")),
        [(RUN, "Something of another transport is left.")],
    ),
    "records that differ": (
        {**fleets.mount("vm"), "drift": True},
        [(RUN, "The live and the persistent XML do not have the same record.")],
    ),
    "mounting": (
        fleets.mount("vm", layers=("right", "missing", "missing", "missing"), intent="mounting"),
        [("Run modelfleet.kvm.mount again; it finishes the mount.", "The run that mounted it was cut short.")],
    ),
    "unmounting": (
        fleets.mount("vm", intent="unmounting"),
        [("Unmount it again; that finishes it.", "The run that unmounted it was cut short.")],
    ),
    "revoked": (
        fleets.mount("vm", revoke="strict"),
        [
            (
                "Run again with revoke=strict.",
                "The host may still serve what was taken away from it, and revoke=strict was asked for.",
            )
        ],
    ),
    "shut off": (
        fleets.mount("vm", layers=fleets.SHUT_OFF, vm_state="shutoff"),
        [("Start the VM; its guest mounts the model when it boots.", "The VM is shut off.")],
    ),
    "shut off, without a unit": (
        fleets.mount("vm", layers=fleets.SHUT_OFF, vm_state="shutoff", persistence="none"),
        [("Start the VM; then run modelfleet.kvm.mount again.", "The VM is shut off.")],
    ),
    "shut off, and not ours in the guest": (
        fleets.mount("vm", layers=fleets.SHUT_OFF, vm_state="shutoff", guest="none"),
        [],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_due(name):
    mount, expected = CASES[name]
    assert list(_fleet_due.due(mount)) == [_fleet_due.Due(*due) for due in expected]
