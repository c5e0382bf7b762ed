"""What the lab needs of a machine, and how to say clearly what is missing."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

from .errors import LabError
from .mounts import file_system
from .paths import cache_dir
from .processes import run

# Programs by the Debian package that has them.
_PROGRAMS = {
    "e2fsprogs": ("mke2fs",),
    "iproute2": ("ip",),
    "mmdebstrap": ("mmdebstrap",),
    "mount": ("losetup", "mount", "umount"),
    "openssh-client": ("ssh", "ssh-keygen"),
    "systemd-container": ("systemd-nspawn",),
    "util-linux": ("setpriv", "setsid", "unshare"),
}

_SPACE_GB = 4


def packages() -> list[str]:
    """Return the Debian packages that the lab needs, installed or not."""
    return sorted(_PROGRAMS)


def missing_packages() -> list[str]:
    """Return the Debian packages that the lab needs and this machine does not have."""
    return sorted(name for name, programs in _PROGRAMS.items() if not all(map(shutil.which, programs)))


def _problems() -> Iterator[str]:
    """Yield what keeps the lab from working here, one sentence each with what to do."""
    if os.geteuid() != 0:
        yield "the lab makes mounts, bridges and containers: run it as root"
        return
    if platform.machine() != "x86_64":
        yield f"the lab's guests are x86_64, this machine is {platform.machine()}: use another machine"
    if missing := missing_packages():
        yield f"programs are missing: apt-get install --no-install-recommends {' '.join(missing)}"
        return
    if not Path("/dev/fuse").exists():
        yield "/dev/fuse is missing (virtiofs needs it): modprobe fuse"
    yield from _kernel_problems()
    yield from _cache_problems()


def _kernel_problems() -> Iterator[str]:
    """Yield what the kernel, or a container around us, does not allow."""
    # In a network of its own that is gone at once, so that nothing can stay behind.
    probe = "ip link add probe0 type bridge && ip link add probe1 type veth peer name probe2"
    tried = run(["unshare", "--net", "sh", "-c", probe], check=False)
    if tried.returncode != 0:
        yield f"no bridge or veth can be made ({tried.stderr.strip()}): modprobe -a bridge veth, or allow CAP_NET_ADMIN"
    if shutil.which("modprobe"):
        run(["modprobe", "--quiet", "overlay"], check=False)
    if "\toverlay\n" not in Path("/proc/filesystems").read_text():
        yield "the kernel has no overlay file system: modprobe overlay"


def _cache_problems() -> Iterator[str]:
    """Yield why the cache directory cannot hold what the lab puts there."""
    cache = cache_dir()
    kind = file_system(cache)
    if kind in ("overlay", "tmpfs"):
        yield f"{cache} is on {kind}, which cannot carry the hosts' file systems: set MODELFLEET_LAB_CACHE to a disk"
    existing = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free < _SPACE_GB:
        yield f"{cache} has {free:.1f} GB free, the lab needs {_SPACE_GB}: set MODELFLEET_LAB_CACHE to a larger disk"


def problems() -> list[str]:
    """Return everything that keeps the lab from working on this machine; an empty list means it will work."""
    return list(_problems())


def demand() -> None:
    """Raise LabError when the lab cannot work on this machine, with everything that is in the way."""
    if found := problems():
        raise LabError("\n  ".join(["the lab cannot run on this machine:", *found]))
