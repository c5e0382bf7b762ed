"""A second kernel on a host of kind ``kernel12``: user-mode-linux, with a systemd of its own over the host's files.

For file systems that the machine's kernel does not have: the kernel that a host shares with the machine cannot be
given modules, and this one, which is a program, brings its own. It sees the host as its neighbour on a cable of two,
and keeps nothing: what is written in it is gone when it ends. There is no libvirt in it, and it is slow.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from .errors import LabError, TimedOut
from .host import Host
from .paths import lab_run_dir
from .polling import wait_until
from .ssh import Connection, SshFiles

NAME = "kernel"
# Of the host, and of the kernel, on the cable between them.
HOST_ADDRESS, ADDRESS = "192.0.2.1", "192.0.2.2"
_UNIT, _CABLE = "lab-kernel", "kernel0"
_INIT = "/usr/local/lib/lab-kernel/init"
_MEMORY_MB = 768
_BOOT_SECONDS = 180.0
_CONSOLE_LINES = 25


class Kernel:
    """The second kernel of a host."""

    def __init__(self, host: Host) -> None:
        """Describe it; nothing is started."""
        self.host = host
        directory = lab_run_dir(host.lab)
        self._files = SshFiles(directory)
        self._config = directory / f"{NAME}.ssh_config"
        self._inventory = directory / f"{NAME}.yml"
        self.connection = Connection(self._config, NAME, ADDRESS)

    def up(self) -> None:
        """Boot it, unless it runs, and wait until its systemd has.

        Raises LabError with the end of its console when it does not come up.
        """
        if self._runs():
            return
        self._write_files()
        if self.host.run(["ip", "link", "show", _CABLE], check=False).returncode != 0:
            self.host.run(["ip", "tuntap", "add", "dev", _CABLE, "mode", "tap"])
            self.host.run(["ip", "address", "add", f"{HOST_ADDRESS}/30", "dev", _CABLE])
            self.host.run(["ip", "link", "set", _CABLE, "up"])
        # Its memory is a file, which a file system in memory must hold.
        service = ["systemd-run", "--quiet", "--collect", f"--unit={_UNIT}", "--setenv=TMPDIR=/dev/shm"]
        devices = ["con0=null,fd:1", "con=null", "ssl=null", f"eth0=tuntap,{_CABLE}"]
        root = ["root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={_INIT}"]
        own = [f"lab_address={ADDRESS}/30", "systemd.unit=lab.target", "uml_dir=/run/lab-kernel", "umid=lab"]
        self.host.run([*service, "linux.uml", f"mem={_MEMORY_MB}M", *devices, *root, *own])
        try:
            wait_until("the second kernel up", _BOOT_SECONDS, self._answers)
        except TimedOut as error:
            raise TimedOut(f"{error}{self._console_tail()}") from error

    def _answers(self) -> bool:
        if not self._runs():
            raise LabError(f"the second kernel ended instead of booting{self._console_tail()}")
        ready = ["systemctl", "is-system-running", "--wait"]
        return self.run(ready, check=False, timeout=_BOOT_SECONDS).stdout.strip() in ("running", "degraded")

    def _runs(self) -> bool:
        return self.host.run(["systemctl", "is-active", "--quiet", _UNIT], check=False).returncode == 0

    def _console_tail(self) -> str:
        return "\n".join(["\n--- end of its console", *self.console().splitlines()[-_CONSOLE_LINES:]])

    def console(self) -> str:
        """Return what it printed on its console."""
        return self.host.run(["journalctl", "--quiet", "--no-pager", "--output=cat", f"--unit={_UNIT}"]).stdout

    def run(
        self, argv: Sequence[str], *, check: bool = True, input: str | bytes | None = None, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it; like Host.run."""
        return self.connection.run(argv, check=check, input=input, timeout=timeout)

    def inventory_path(self) -> Path:
        """Return the file of an Ansible inventory that has nothing but it."""
        return self._inventory

    def _write_files(self) -> None:
        """Write what names it: it has the keys of its host, through which it is reached."""
        self._config.write_text(
            f"""Host {NAME}
    HostName {ADDRESS}
    HostKeyAlias {self.host.name}
    ProxyJump {self.host.name}
    ControlPath {self._files.directory}/{NAME}.ssh
Host *
Include {self._files.config}
"""
        )
        self._inventory.write_text(
            f"""# Written by the lab.
kvm_hosts:
  vars:
    ansible_ssh_common_args: -F {self._config}
    ansible_python_interpreter: /usr/bin/python3
  hosts:
    {NAME}: {{}}
"""
        )
