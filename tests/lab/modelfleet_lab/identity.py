"""What makes a host itself, written into its file system before it boots: machine ID, address, keys."""

from __future__ import annotations

import ipaddress
import uuid
from pathlib import Path

from .ssh import SshFiles

# Names below this namespace are "<lab>/<host>" and "<lab>/<host>/<guest>".
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "lab.modelfleet.invalid")


def stable_uuid(*names: str) -> uuid.UUID:
    """Return the UUID of a host or a guest, the same in every life of its lab."""
    return uuid.uuid5(_NAMESPACE, "/".join(names))


def write(root: Path, lab: str, host: str, address: str, network: str, files: SshFiles) -> None:
    """Write a host's identity into its root file system."""
    length = ipaddress.IPv4Network(network).prefixlen
    host_key = files.ensure_host_key(host)
    for path, content, mode in (
        ("etc/machine-id", f"{stable_uuid(lab, host).hex}\n", 0o444),
        ("etc/systemd/network/10-host0.network", _network(f"{address}/{length}"), 0o644),
        ("etc/ssh/ssh_host_ed25519_key", host_key.read_text(), 0o600),
        ("etc/ssh/ssh_host_ed25519_key.pub", host_key.with_suffix(".pub").read_text(), 0o644),
        ("root/.ssh/authorized_keys", files.ensure_key(), 0o600),
    ):
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
        target.chmod(mode)


def _network(address: str) -> str:
    """Return the systemd-networkd configuration of a host's only cable."""
    return f"[Match]\nName=host0\n\n[Network]\nAddress={address}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
