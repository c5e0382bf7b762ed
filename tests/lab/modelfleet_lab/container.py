"""A host as a container: a whole Debian that systemd-nspawn boots from an overlay over an image.

Each container has a supervisor (``supervise.sh``) in a session of its own, so that it outlives whoever started it, and
so that a reboot from inside is a reboot: everything ends, and the same file system boots again.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from . import cgroups, mounts
from .paths import images_dir
from .processes import arguments, children, find, kill, run, signal_all, wait_gone, watch

_SUPERVISE = Path(__file__).with_name("supervise.sh")
_TIDY_SECONDS = 5.0

# Where systemd-nspawn keeps directories named after machines; it leaves them behind when it is killed.
_NSPAWN_RUN = Path("/run/systemd/nspawn")
_BOUND_IMAGES = "/var/lib/modelfleet-lab/images"


def images_inside() -> str:
    """Return the path below which a host sees the images of the lab."""
    return _BOUND_IMAGES


def _machine_runs_systemd() -> bool:
    """Tell whether systemd is the init system of this machine; sd_booted(3) says that this is the way to ask."""
    return Path("/run/systemd/system").is_dir()


def _devices() -> list[str]:
    """Return the devices that a host gets beside the usual ones: FUSE and the loop devices."""
    loops = (*Path("/dev").glob("loop-control"), *sorted(Path("/dev").glob("loop[0-9]*")))
    return ["/dev/fuse", *map(str, loops)]


def _nspawn(machine: str, hostname: str, root: Path, bridge: str, hosts_file: Path) -> list[str]:
    """Return the command that boots a host."""
    return [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        "--register=no",
        "--keep-unit",
        "--capability=all",
        "--console=read-only",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        f"--machine={machine}",
        f"--hostname={hostname}",
        f"--directory={root}",
        f"--network-bridge={bridge}",
        f"--bind-ro={hosts_file}:/etc/hosts",
        f"--bind-ro={images_dir()}:{_BOUND_IMAGES}",
        *(f"--bind={device}" for device in _devices()),
    ]


def _unified_hierarchy(kind: str) -> str:
    """Return whether a host shall see cgroup v2 only, as systemd-nspawn reads it.

    With v2 but all controllers on v1, libvirt 9.0 (Debian 12) finds no controller and crashes at a hot-plug.
    """
    return "0" if kind.endswith("12") and cgroups.has_v1_controllers() else "1"


def start(machine: str, kind: str, hostname: str, root: Path, bridge: str, hosts_file: Path, console: Path) -> None:
    """Boot a host; returns at once. What it prints is appended to ``console``."""
    command = _nspawn(machine, hostname, root, bridge, hosts_file)
    if _machine_runs_systemd():
        # UNTESTED: the machine the lab was made on is not run by systemd. Where it is, it owns the control groups.
        scope = ["systemd-run", "--quiet", "--scope", "--property=Delegate=yes", f"--unit={machine}"]
        supervised = [*scope, "sh", str(_SUPERVISE), "--", *command]
    else:
        groups = cgroups.create(machine)
        supervised = ["sh", str(_SUPERVISE), *map(str, groups), "--", *command]
    settings = {
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": _unified_hierarchy(kind),
        # A host may use every system call, as a real one may (systemd-nspawn forbids some of the new mount calls).
        "SYSTEMD_SECCOMP": "0",
    }
    with console.open("ab") as output:
        subprocess.run(
            ["setsid", "--fork", *supervised],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **settings},
            check=True,
        )


def _supervised(machine: str) -> list[int]:
    """Return the supervisor of a machine and its systemd-nspawn, the supervisor first."""
    wanted = f"--machine={machine}"

    def look() -> list[int]:
        return sorted(find(lambda argv: wanted in argv and "systemd-nspawn" in argv))

    # A process in the middle of execve(2), as the supervisor is right after its start, has no arguments for a moment.
    return look() or look()


def is_running(machine: str) -> bool:
    """Tell whether a machine is up, or on its way up or down."""
    return bool(_supervised(machine))


def running(prefix: str) -> set[str]:
    """Return the names of the machines that start with ``prefix`` and of which something is left."""
    option = f"--machine={prefix}"
    found = find(lambda argv: "systemd-nspawn" in argv and any(word.startswith(option) for word in argv))
    names: set[str] = set()
    for pid in found:
        names.update(word.removeprefix("--machine=") for word in arguments(pid) if word.startswith(option))
    names.update(directory.name for directory in _NSPAWN_RUN.glob(f"*/{prefix}*"))
    return names | cgroups.machines(prefix)


def shut_down(machine: str, seconds: float) -> bool:
    """Have the system of a machine shut down in order; False when it has not done so within ``seconds``."""
    return wait_gone(signal_all(_supervised(machine), signal.SIGTERM), seconds)


def end(machine: str) -> None:
    """End a machine at once, as a power cut would, and remove what it leaves; does nothing when it is gone."""
    pids = _supervised(machine)
    # The supervisor goes first, which would otherwise start the machine again where it is just rebooting.
    supervisors = [pid for pid in pids if arguments(pid)[:1] == ["sh"]]
    kill(supervisors)
    # Without its child, the machine's init, systemd-nspawn tidies up and ends.
    nspawns = [pid for pid in pids if pid not in supervisors]
    watched = watch(nspawns)
    kill([child for pid in nspawns for child in children(pid)])
    if not wait_gone(watched, _TIDY_SECONDS):
        kill(_supervised(machine))
    for directory in _NSPAWN_RUN.glob(f"*/{machine}"):
        mounts.unmount_below(directory)
        directory.rmdir()
    if _machine_runs_systemd():
        # UNTESTED, see start.
        run(["systemctl", "kill", "--signal=SIGKILL", f"{machine}.scope"], check=False)
        run(["systemctl", "reset-failed", f"{machine}.scope"], check=False)
        return
    while left := cgroups.processes(machine):
        kill(left)
    cgroups.remove(machine)
