"""A lab: named hosts on a private network of this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from . import cleanup, images, inventory, network, requirements, state, watchdog
from .errors import LabError
from .host import Host
from .locks import locked
from .paths import RUN_DIR, bridge_name, check_host_name, check_lab_name, lab_data_dir, lab_run_dir
from .progress import step
from .ssh import SshFiles
from .state import HostState, LabState

_LOCK_SECONDS = 600.0


class Lab:
    """One lab, known by its name. It stays until it is taken down; see temporary for one that does not."""

    def __init__(self, name: str = "lab") -> None:
        """Name a lab, which may or may not be up; raises LabError when the name cannot be used."""
        self.name = check_lab_name(name)
        self.run_dir = lab_run_dir(name)
        self._files = SshFiles(self.run_dir)

    @classmethod
    @contextlib.contextmanager
    def temporary(cls, name: str) -> Iterator[Lab]:
        """Give a lab that is taken down when the block, or the process, ends, however it ends.

        What an earlier lab of that name left is taken down first. Raises TimedOut when another process keeps using it.
        """
        lab = cls(name)
        with watchdog.guarding(lab.name):
            lab.down()
            try:
                yield lab
            finally:
                lab.down()

    def _lock(self) -> contextlib.AbstractContextManager[None]:
        """Keep other processes from changing this lab at the same time."""
        return locked(RUN_DIR / f"{self.name}.lock", f"lab {self.name}", _LOCK_SECONDS)

    def up(self, hosts: Mapping[str, str]) -> dict[str, Host]:
        """Start hosts, given as kinds by name, and return them by name; those that run already are left alone.

        Raises LabError when something is missing on this machine, a host exists with another kind, or one does not
        come up (the others are started all the same).
        """
        for name, kind in hosts.items():
            check_host_name(name)
            if kind not in images.HOST_KINDS:
                raise LabError(f"host {name}: there is no kind {kind!r}; there are: {', '.join(images.HOST_KINDS)}")
        requirements.demand()
        found = images.ensure_all([*hosts.values(), "tiny"])
        with self._lock():
            current = self._register({name: (kind, found[kind]) for name, kind in hosts.items()})
            network.ensure_bridge(bridge_name(self.name), current.network)
            started = {name: Host(self.name, name, current) for name in hosts}
            with ThreadPoolExecutor(max_workers=max(1, len(started))) as pool:
                waiting = [pool.submit(_start, host) for host in started.values()]
        for future in waiting:
            future.result()
        return started

    def _register(self, hosts: Mapping[str, tuple[str, Path]]) -> LabState:
        """Put new hosts, given as kind and image by name, on record, and write the files that name the hosts."""
        with locked(RUN_DIR / "network.lock", "the choice of a network", _LOCK_SECONDS):
            current = state.load(self.name)
            if current is None:
                others = (state.load(other) for other in state.labs())
                chosen = network.choose(other.network for other in others if other)
                current = LabState(chosen, str(lab_data_dir(self.name)))
            for name, (kind, image) in hosts.items():
                known = current.hosts.get(name)
                if known and known.kind != kind:
                    raise LabError(f"host {name} exists and is {known.kind}, not {kind}; take it down first")
                if not known:
                    # The new host shall not find files of an older one that a crash of this machine left.
                    cleanup.remove_host(self.name, name)
                    address = network.host_address(current.network, (h.address for h in current.hosts.values()))
                    current.hosts[name] = HostState(kind, address, str(image))
            state.save(self.name, current)
        self._write_files(current)
        return current

    def _write_files(self, current: LabState) -> None:
        """Write what names the hosts: SSH files, the inventory, the hosts' own /etc/hosts."""
        addresses = {name: host.address for name, host in current.hosts.items()}
        self._files.ensure_key()
        self._files.write(addresses)
        inventory.write(self.inventory_path(), current, self._files)
        # Written in place: running hosts have this very file bound over their own.
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
        (self.run_dir / "etc-hosts").write_text("\n".join(lines) + "\n")

    def down(self, names: Iterable[str] | None = None) -> None:
        """Remove hosts with all they have, or the whole lab when no names are given.

        Does nothing for what is not there, and finds what a crashed run left.
        """
        with self._lock():
            if names is None:
                cleanup.remove_lab(self.name)
                return
            current = state.load(self.name)
            for name in names:
                cleanup.remove_host(self.name, check_host_name(name))
                if current:
                    current.hosts.pop(name, None)
            if current:
                state.save(self.name, current)
                self._write_files(current)

    def _state(self) -> LabState:
        """Return what is remembered; raises LabError when the lab is not up."""
        current = state.load(self.name)
        if current is None:
            raise LabError(f"lab {self.name} is not up; see: lab up --help")
        return current

    def hosts(self) -> dict[str, Host]:
        """Return all hosts of the lab by name, running or not."""
        current = state.load(self.name)
        return {name: Host(self.name, name, current) for name in sorted(current.hosts)} if current else {}

    def host(self, name: str) -> Host:
        """Return one host; raises LabError when the lab has none of that name."""
        current = self._state()
        if name not in current.hosts:
            raise LabError(
                f"lab {self.name} has no host {name!r}; it has: {', '.join(sorted(current.hosts)) or 'none'}"
            )
        return Host(self.name, name, current)

    def inventory_path(self) -> Path:
        """Return the file of the lab's Ansible inventory; it is there while the lab is up."""
        return self.run_dir / "inventory.yml"


def _start(host: Host) -> None:
    """Start a host and say so."""
    if host.is_running():
        host.start()
        return
    with step(f"starting host {host.name} ({host.kind}, {host.address})"):
        host.start()
