"""The guest images.

``tiny`` is a kernel and an initramfs of a few megabytes (busybox and the guest agent) that boots in seconds and forgets
everything. ``disk`` is the same and the root file system of a small Debian with systemd, to which that initramfs
switches.

The kernel is Debian 12's also on Debian 13 hosts: under software emulation newer ones were seen to panic now and then.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from .bootstrap import add_files, debian_tree, digest, in_tree
from .mounts import remove_tree
from .processes import run
from .recipe import Recipe

_CODENAME = "bookworm"
_BOOTED = ("vmlinuz", "initrd")

_TINY_PACKAGES = ("busybox-static", "kmod", "linux-image-cloud-amd64", "psmisc", "qemu-guest-agent")
_TINY_PROGRAMS = ("usr/sbin/qemu-ga", "bin/fuser")
_MODULES = ("autofs4", "overlay", "virtio_blk", "virtio_console", "virtio_pci", "virtiofs")

_DISK_PACKAGES = ("dbus", "kmod", "procps", "psmisc", "qemu-guest-agent", "systemd", "systemd-sysv", "udev")
_DISK_SIZE = "1G"
# Software emulation is slow: what nobody needs in a test is not started.
_DISK_MASKED = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@.service",
    "modprobe@.service",
    "serial-getty@.service",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-binfmt.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-sysusers.service",
    "systemd-update-utmp.service",
)


def _copy(tree: Path, target: Path, names: Iterable[str]) -> None:
    """Copy files of ``tree``, links followed, to the same places below ``target``."""
    for name in names:
        destination = target / name
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(tree / name, destination)


def _libraries(tree: Path, program: str) -> list[str]:
    """Return the shared libraries that a program of ``tree`` is started with, the loader itself included."""
    loader = "lib64/ld-linux-x86-64.so.2"
    listed = in_tree(tree, f"/{loader}", "--list", f"/{program}").splitlines()
    return [loader] + [line.split()[2].lstrip("/") for line in listed if "=>" in line]


def _copy_modules(tree: Path, target: Path) -> None:
    """Copy the kernel modules that guests need, with what these need, and index them; ``target`` lies in ``tree``."""
    (release,) = (tree / "lib/modules").iterdir()
    in_tree(tree, "depmod", release.name)
    needed = {}
    for line in (release / "modules.dep").read_text().splitlines():
        module, _, others = line.partition(":")
        needed[Path(module).stem] = [module, *others.split()]
    base = release.relative_to(tree)
    _copy(tree, target, (f"{base}/{file}" for name in _MODULES for file in needed[name]))
    _copy(tree, target, (f"{base}/{file}" for file in ("modules.order", "modules.builtin")))
    in_tree(tree, "depmod", "--basedir", f"/{target.relative_to(tree)}", release.name)


def _pack(tree: Path, content: Path, target: Path) -> None:
    """Pack the directory ``content`` as an initramfs, with the static busybox of ``tree``."""
    script = 'set -o pipefail; cd "$1" && "$0" find . | "$0" cpio -o -H newc | "$0" gzip'
    busybox = str(tree / "bin/busybox")
    with target.open("wb") as output:
        subprocess.run([busybox, "sh", "-c", script, busybox, str(content)], check=True, stdout=output)


def _build_tiny(target: Path, _needed: Mapping[str, Path]) -> None:
    """Make ``vmlinuz``, ``initrd`` and, for other images, ``lib/modules``."""
    target.mkdir()
    tree = target / "tree"
    debian_tree(tree, _CODENAME, _TINY_PACKAGES, variant="extract")
    content = tree / "initrd-content"
    for name in ("dev", "proc", "sys", "run", "tmp", "mnt", "root", "var", "bin", "etc", "sbin", "usr/bin", "usr/sbin"):
        (content / name).mkdir(parents=True)
    (content / "var/run").symlink_to("../run")
    _copy(tree, content, ("bin/busybox",))
    for applet in in_tree(tree, "busybox", "--list-full").split():
        link = content / applet
        if not link.exists():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to("/bin/busybox")
    for program in _TINY_PROGRAMS:
        _copy(tree, content, (program, *_libraries(tree, program)))
    _copy_modules(tree, content)
    add_files(content, "tiny")
    _pack(tree, content, target / "initrd")
    (kernel,) = (tree / "boot").glob("vmlinuz-*")
    kernel.rename(target / "vmlinuz")
    (content / "lib/modules").rename(target / "modules")
    remove_tree(tree)
    for file in _BOOTED:
        (target / file).chmod(0o644)


def _build_disk(target: Path, needed: Mapping[str, Path]) -> None:
    """Make ``root.img``, the root file system of a guest with a disk, beside copies of what starts it."""
    target.mkdir()
    for file in _BOOTED:
        shutil.copy(needed["tiny"] / file, target)
    tree = target / "tree"
    debian_tree(tree, _CODENAME, _DISK_PACKAGES)
    shutil.copytree(needed["tiny"] / "modules", tree / "usr/lib/modules")
    add_files(tree, "disk")
    in_tree(tree, "systemctl", "--quiet", "mask", *_DISK_MASKED)
    # Empty: known from the kernel command line, and not a first boot, at which systemd would do a lot.
    (tree / "etc/machine-id").write_text("")
    run(["mke2fs", "-q", "-t", "ext4", "-d", str(tree), str(target / "root.img"), _DISK_SIZE], timeout=300)
    remove_tree(tree)


RECIPES = (
    Recipe("tiny", "guest that boots in seconds", digest(__file__, "tiny"), _build_tiny),
    Recipe("disk", "guest with a disk and systemd", digest(__file__, "disk"), _build_disk, needs=("tiny",)),
)
