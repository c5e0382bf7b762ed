"""Taking down a lab: everything that bears its name, whether or not anything is remembered of it."""

from __future__ import annotations

import shutil
from pathlib import Path

from . import container, mounts, network, state
from .paths import bridge_name, lab_run_dir, machine_name, machine_prefix
from .ssh import SshFiles


def remove_host(lab: str, host: str) -> None:
    """Remove a host: its processes, control groups, mounts, files."""
    container.end(machine_name(lab, host))
    directory = state.data_dir(lab) / host
    mounts.unmount_below(directory)
    mounts.remove_tree(directory)
    shutil.rmtree(lab_run_dir(lab) / "hosts" / host, ignore_errors=True)


def remove_lab(lab: str) -> None:
    """Remove a lab: its hosts, its bridge, its files."""
    SshFiles(lab_run_dir(lab)).end_connections()
    for host in _hosts(lab):
        remove_host(lab, host)
    network.remove_bridge(bridge_name(lab))
    mounts.remove_tree(state.data_dir(lab))
    # The state goes last, so that an interrupted cleanup finds everything again.
    shutil.rmtree(lab_run_dir(lab), ignore_errors=True)


def _hosts(lab: str) -> set[str]:
    """Return the hosts of a lab that are remembered, or of which anything is left."""
    remembered = state.load(lab)
    prefix = machine_prefix(lab)
    names = {machine.removeprefix(prefix) for machine in container.running(prefix)}
    names.update(remembered.hosts if remembered else ())
    for directory in (state.data_dir(lab), lab_run_dir(lab) / "hosts"):
        names.update(_entries(directory))
    return names


def _entries(directory: Path) -> list[str]:
    """Return the names in a directory, none when there is no such directory."""
    return [path.name for path in directory.iterdir()] if directory.is_dir() else []
