"""Guest agents that do not do what they should, in the place of a tiny guest's own.

``blocked`` is the real agent with what RHEL refuses. The others are simulated by a script inside the guest.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .errors import LabError
from .polling import wait_until

if TYPE_CHECKING:
    from .guest import Guest

KINDS = ("blocked", "windows", "silent", "garbage", "flood", "flow", "slow", "liar")

_SCRIPT = Path(__file__).parent / "files/agents/guest-agent"
_PLACE = "/usr/sbin/guest-agent"
_SECONDS = 60.0
_SAYS = "guest agent:"
_CHANNEL = "devices/channel/target[@name='org.qemu.guest_agent.0']"


def replace(guest: Guest, kind: str) -> None:
    """Put an agent of a kind in the place of the agent of a running tiny guest, until the guest is restarted.

    Raises LabError for an unknown kind or another kind of guest. Nothing can be run in the guest afterwards.
    """
    if kind not in KINDS or guest.kind != "tiny":
        raise LabError(f"{guest}: there is no agent {kind!r} for it; tiny guests can have: {', '.join(KINDS)}")
    script = _SCRIPT.read_text().replace("@KIND@", kind)
    # The agent cannot report its own end, so that it comes a moment later.
    install = f"cat >{_PLACE}; (sleep 1; killall qemu-ga) >/dev/null 2>&1 </dev/null &"
    guest.run(["sh", "-c", install], input=script)
    there = f"{_SAYS} {kind}"
    wait_until(f"{guest}: {there}", _SECONDS, lambda: there in guest.console() and _connected(guest))


def _connected(guest: Guest) -> bool:
    """Tell whether something in the guest has the agent's channel open."""
    target = guest.xml().find(_CHANNEL)
    return target is not None and target.get("state") == "connected"
