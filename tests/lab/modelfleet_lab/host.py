"""A host of a lab: a container that runs libvirt, reached over SSH like any KVM host."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from . import container, identity, mounts
from .errors import LabError, TimedOut
from .guest import Guest
from .paths import bridge_name, lab_run_dir, machine_name
from .polling import wait_until
from .ssh import Connection, SshFiles
from .state import LabState

# systemd gives up on a service that does not stop after 90 s (a libvirtd that is told to stop while it starts is one).
_BOOT_SECONDS = 180.0
_SHUTDOWN_SECONDS = 120.0
_CONSOLE_LINES = 25
# What systemd sends to a terminal beside text: colours, movements.
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]|[\x00-\x09\x0b-\x1f]")
_BOOT_ID = "/proc/sys/kernel/random/boot_id"

# Answers once systemd has finished booting (whether or not all went well) and libvirt answers requests.
_READY = f"systemctl is-system-running --wait >/dev/null; virsh --quiet list >/dev/null && cat {_BOOT_ID}"


class Host:
    """One host. Lab.up and Lab.host make it."""

    def __init__(self, lab: str, name: str, state: LabState) -> None:
        """Describe a host that a lab has on record; nothing is started."""
        own = state.hosts[name]
        self.lab = lab
        self.name = name
        self.kind = own.kind
        self.address = own.address
        self.machine = machine_name(lab, name)
        self._network = state.network
        self._image = Path(own.image)
        self._data = Path(state.data_dir) / name
        self._run_dir = lab_run_dir(lab)
        self._files = SshFiles(self._run_dir)
        self.connection = Connection(self._files.config, name, self.address)

    def __repr__(self) -> str:
        """Return the host's lab, name, kind and address."""
        return f"<Host {self.lab}/{self.name} {self.kind} {self.address}>"

    @property
    def console_log(self) -> Path:
        """The file with what the host printed on its console, all boots after each other."""
        return self._run_dir / "hosts" / self.name / "console.log"

    def is_running(self) -> bool:
        """Tell whether the host is up, or on its way up or down."""
        return container.is_running(self.machine)

    def state(self) -> str:
        """Return ``running``, ``unreachable`` (up, but nothing listens for SSH) or ``stopped``."""
        if not self.is_running():
            return "stopped"
        return "running" if self.connection.listens() else "unreachable"

    def start(self) -> None:
        """Boot the host and wait until its libvirt answers; when it runs already, only make sure that it answers.

        Raises LabError with the end of the console log when it does not come up.
        """
        if not self.is_running():
            # What a crashed run left of this machine would be in the way.
            container.end(self.machine)
            root = mounts.mount_overlay(self._image, self._data)
            identity.write(root, self.lab, self.name, self.address, self._network, self._files)
            hosts_file = self._run_dir / "etc-hosts"
            container.start(
                self.machine, self.kind, self.name, root, bridge_name(self.lab), hosts_file, self.console_log
            )
        self._wait_boot(other_than="")

    def _wait_boot(self, other_than: str) -> None:
        """Wait until the host answers in a boot ``other_than`` the one with this boot ID."""

        def answers() -> bool:
            if not self.is_running():
                raise LabError(f"host {self.name} ended instead of booting{self._console_tail()}")
            if not self.connection.listens():
                return False
            try:
                boot_id = self.run(["sh", "-c", _READY], check=False, timeout=_BOOT_SECONDS).stdout.strip()
            except TimedOut:
                return False
            return boot_id not in ("", other_than)

        try:
            wait_until(f"host {self.name} up, with libvirt answering", _BOOT_SECONDS, answers)
        except TimedOut as error:
            raise TimedOut(f"{error}{self._console_tail()}") from error

    def _console_tail(self) -> str:
        """Return the end of the console log, to be added to an error's text."""
        if not self.console_log.exists():
            return ""
        text = _CONTROL.sub("", self.console_log.read_text(errors="replace"))
        lines = [line for line in text.splitlines() if line.strip()]
        return "\n".join([f"\n--- end of {self.console_log}", *lines[-_CONSOLE_LINES:]])

    def stop(self) -> None:
        """Shut the host down in order (its guests are asked to shut down first); its files stay."""
        self.connection.close()
        if self.is_running() and not container.shut_down(self.machine, _SHUTDOWN_SECONDS):
            raise TimedOut(f"host {self.name} not shut down within {_SHUTDOWN_SECONDS:g} s{self._console_tail()}")
        container.end(self.machine)

    def crash(self) -> None:
        """End the host at once, as a power cut would; its files stay."""
        container.end(self.machine)
        self.connection.close()

    def reboot(self) -> None:
        """Reboot the host from inside and wait until it answers again."""
        before = self.read(_BOOT_ID).strip()
        # The connection may end before the command's status arrives.
        self.run(["systemctl", "reboot"], check=False)
        self.connection.close()
        self._wait_boot(other_than=before)

    def run(
        self, argv: Sequence[str], *, check: bool = True, input: str | bytes | None = None, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host over SSH and return its outcome, as text.

        Raises CommandFailed, with both outputs in its text, when ``check`` and its status is not 0; TimedOut when it
        has not ended after ``timeout`` seconds.
        """
        return self.connection.run(argv, check=check, input=input, timeout=timeout)

    def write(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file of the host, and the directories that it needs."""
        self.run(["install", "-D", f"--mode={mode:o}", "/dev/stdin", path], input=content)

    def read(self, path: str) -> str:
        """Return the text of a file of the host."""
        return self.run(["cat", path]).stdout

    def guests(self) -> dict[str, str]:
        """Return the states of all guests that libvirt knows, in its words, by name."""
        lines = self.run(["virsh", "--quiet", "list", "--all"]).stdout.splitlines()
        return {name: state for _, name, state in (line.split(None, 2) for line in lines)}

    def guest(
        self,
        name: str,
        kind: str = "tiny",
        memory_mb: int | None = None,
        ports: int = 8,
        *,
        shared_memory: bool = True,
        agent: bool = True,
        uuid: str | None = None,
    ) -> Guest:
        """Return a guest of this host; see Guest for the arguments. Nothing is done to it yet."""
        return Guest(self, name, kind, memory_mb, ports=ports, shared_memory=shared_memory, agent=agent, uuid=uuid)
