"""The host images: a Debian release with systemd, sshd, libvirt, QEMU and virtiofsd, as on a real KVM host."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from .bootstrap import add_files, debian_tree, digest, in_tree
from .recipe import Recipe

_PACKAGES = (
    "dbus",
    "e2fsprogs",
    "fuse3",
    "iproute2",
    "libvirt-clients",
    "libvirt-daemon-system",
    "openssh-server",
    "python3",
    "python3-libvirt",
    "qemu-system-x86",
    "qemu-utils",
    "systemd",
    "systemd-sysv",
)

# Debian 12 has virtiofsd in qemu-system-common. The Debian 13 image is also the second Ansible control node.
_CODENAMES = {"debian12": "bookworm", "debian13": "trixie"}
_MORE_PACKAGES = {"debian12": (), "debian13": ("ca-certificates", "python3-venv", "virtiofsd")}

_ENABLED = ("ssh.service", "systemd-networkd.service", "lab-cgroups.service")

# What only costs time at boot: nobody logs in on a console, nothing waits for a network that is up at once.
_MASKED = (
    "console-getty.service",
    "systemd-networkd-wait-online.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
)


def _build(kind: str, target: Path, _needed: Mapping[str, Path]) -> None:
    """Make a host image."""
    debian_tree(target, _CODENAMES[kind], _packages(kind))
    add_files(target, "host")
    in_tree(target, "systemctl", "--quiet", "enable", *_ENABLED)
    in_tree(target, "systemctl", "--quiet", "mask", *_MASKED)
    # Each host gets its own.
    for key in (target / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    (target / "etc/machine-id").unlink(missing_ok=True)


def _packages(kind: str) -> list[str]:
    """Return the packages of a kind of host."""
    return sorted((*_PACKAGES, *_MORE_PACKAGES[kind]))


def _recipe(kind: str) -> Recipe:
    """Describe the image of a kind of host."""
    made_of = [_packages(kind), digest(__file__, "host")]
    return Recipe(kind, f"KVM host, {_CODENAMES[kind]}", made_of, partial(_build, kind))


RECIPES = tuple(_recipe(kind) for kind in _CODENAMES)
