"""The private network of a lab: a bridge with one address of this machine, and no way to anywhere else.

Addresses come from 198.18.0.0/15, which is set aside for tests of networks: no real network has them.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterable

from .errors import LabError
from .processes import run

_RANGE = ipaddress.IPv4Network("198.18.0.0/15")
_SHORTEST_PREFIX = 8
_FIRST_HOST = 11
_LAST_HOST = 250


def _taken() -> list[ipaddress.IPv4Network]:
    """Return the networks that this machine has an address in or a route to.

    Default routes do not count, nor do the halves and quarters of the address space that VPNs put in their place.
    """
    networks = []
    for link in json.loads(run(["ip", "-json", "-4", "address"]).stdout):
        for address in link.get("addr_info", ()):
            networks.append(ipaddress.IPv4Network(f"{address['local']}/{address['prefixlen']}", strict=False))
    for route in json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]).stdout):
        if route["dst"] != "default":
            networks.append(ipaddress.IPv4Network(route["dst"], strict=False))
    return [network for network in networks if network.prefixlen >= _SHORTEST_PREFIX]


def choose(reserved: Iterable[str]) -> str:
    """Return a free /24 that overlaps nothing of this machine and none of the ``reserved`` networks."""
    taken = _taken() + [ipaddress.IPv4Network(one) for one in reserved]
    for network in _RANGE.subnets(new_prefix=24):
        if not any(network.overlaps(other) for other in taken):
            return str(network)
    raise LabError(f"no free /24 is left in {_RANGE}: this machine has addresses in or routes to all of it")


def host_address(network: str, used: Iterable[str]) -> str:
    """Return the first address of a lab's network that no host of it has."""
    taken = set(used)
    base = ipaddress.IPv4Network(network).network_address
    for number in range(_FIRST_HOST, _LAST_HOST + 1):
        if (address := str(base + number)) not in taken:
            return address
    raise LabError(f"network {network} has no address left for another host")


def ensure_bridge(bridge: str, network: str) -> None:
    """Make the bridge of a lab and give it the first address of its network; does nothing when it is there."""
    base = ipaddress.IPv4Network(network)
    if run(["ip", "link", "show", bridge], check=False).returncode != 0:
        run(["ip", "link", "add", bridge, "type", "bridge"])
    run(["ip", "address", "replace", f"{base.network_address + 1}/{base.prefixlen}", "dev", bridge])
    run(["ip", "link", "set", bridge, "up"])


def remove_bridge(bridge: str) -> None:
    """Remove a lab's bridge and what hangs on it, if there is one."""
    shown = run(["ip", "-json", "link", "show", "master", bridge], check=False)
    if shown.returncode != 0:
        return
    # Ends of dead hosts' virtual cables; the kernel is still removing those of hosts that ended just now.
    for link in json.loads(shown.stdout or "[]"):
        if link:
            run(["ip", "link", "delete", link["ifname"]], check=False)
    run(["ip", "link", "delete", bridge], check=False)
    if run(["ip", "link", "show", bridge], check=False).returncode == 0:
        raise LabError(f"bridge {bridge} cannot be removed")
