"""SSH to the hosts of a lab: keys, the files that clients need, and quick commands over one kept connection.

Clients check host keys for real: the lab makes the hosts' keys and writes the known_hosts file itself.
"""

from __future__ import annotations

import shlex
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import CommandFailed, TimedOut
from .processes import find, run, signal_all, wait_gone

_CONNECT_SECONDS = 5


class SshFiles:
    """The files of a lab's run directory that SSH clients use."""

    def __init__(self, directory: Path) -> None:
        """Know the files below ``directory``; nothing is made yet."""
        self.directory = directory
        self.key = directory / "key"
        self.known_hosts = directory / "known_hosts"
        self.config = directory / "ssh_config"

    def ensure_key(self) -> str:
        """Make the key that opens all hosts of the lab, if there is none; returns its public part."""
        return _ensure_key(self.key, "modelfleet-lab")

    def host_key(self, host: str) -> Path:
        """Return the file of a host's own key."""
        return self.directory / "hosts" / host / "ssh_host_ed25519_key"

    def ensure_host_key(self, host: str) -> Path:
        """Make a host's own key, if it has none, and return its file."""
        path = self.host_key(host)
        _ensure_key(path, host)
        return path

    def write(self, addresses: Mapping[str, str]) -> None:
        """Write known_hosts and the client configuration for hosts, given as addresses by name."""
        known = []
        config = [f"# Use it as: ssh -F {self.config} HOST"]
        for host, address in addresses.items():
            public = " ".join(self.ensure_host_key(host).with_suffix(".pub").read_text().split()[:2])
            known.append(f"{host},{address} {public}\n")
            config.append(f"Host {host}\n    HostName {address}")
        config.append(
            f"""Host *
    User root
    IdentityFile {self.key}
    IdentitiesOnly yes
    UserKnownHostsFile {self.known_hosts}
    GlobalKnownHostsFile /dev/null
    StrictHostKeyChecking yes
    BatchMode yes
    LogLevel ERROR
    ConnectTimeout {_CONNECT_SECONDS}
    ServerAliveInterval 5
    ControlPath {self.directory}/hosts/%n/ssh
"""
        )
        self.known_hosts.write_text("".join(known))
        self.config.write_text("\n".join(config))

    def end_connections(self) -> None:
        """End the kept connections of the lab, and whatever else runs with its client configuration."""
        # A kept connection goes on under a title of its own, which names its socket.
        title = f"ssh: {self.directory}/"
        mine = find(lambda argv: argv[0].startswith(title) or str(self.config) in argv)
        wait_gone(signal_all(mine, signal.SIGTERM), _CONNECT_SECONDS)


def _ensure_key(path: Path, comment: str) -> str:
    """Make a key pair, if there is none, and return its public part."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
    return path.with_suffix(".pub").read_text()


def _succeeds(argv: Sequence[str]) -> bool:
    """Run a command in silence, in a session of its own, and tell whether its status is 0."""
    nothing = subprocess.DEVNULL
    done = subprocess.run(argv, check=False, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    return done.returncode == 0


class Connection:
    """Commands on one host, over one SSH connection that is kept open in the background."""

    def __init__(self, config: Path, host: str, address: str) -> None:
        """Name the host, as a client configuration has it; nothing is connected yet."""
        self._host = host
        self._address = address
        self._ssh = ["ssh", "-F", str(config)]

    def listens(self) -> bool:
        """Tell whether something accepts connections on the host's SSH port."""
        try:
            socket.create_connection((self._address, 22), timeout=1).close()
        except OSError:
            return False
        return True

    def _keep(self) -> None:
        """Open the kept connection unless it is open. When that fails, commands connect on their own."""
        if not _succeeds([*self._ssh, "-O", "check", self._host]):
            # In a session of its own, so that a Ctrl-C for the caller does not end what others share.
            _succeeds([*self._ssh, "-o", "ControlMaster=auto", "-o", "ControlPersist=300", "-N", "-f", self._host])

    def close(self) -> None:
        """Close the kept connection, if there is one."""
        run([*self._ssh, "-O", "exit", self._host], check=False)

    def command(self, argv: Sequence[str], *, terminal: bool = False) -> list[str]:
        """Return the ssh command that runs ``argv`` on the host, or a login shell when it is empty."""
        options = ["-t"] if terminal else []
        return [*self._ssh, *options, self._host, *([shlex.join(argv)] if argv else [])]

    def run(
        self, argv: Sequence[str], *, check: bool = True, input: str | bytes | None = None, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the host and return its outcome, as text.

        Raises CommandFailed when ``check`` and its status is not 0, TimedOut when it has not ended after ``timeout``
        seconds; the command may still run on the host then.
        """
        self._keep()
        sent = input.encode() if isinstance(input, str) else input or b""
        try:
            done = subprocess.run(self.command(argv), check=False, input=sent, capture_output=True, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise TimedOut(f"host {self._host}: {shlex.join(argv)}: no end within {timeout:g} s") from error
        stdout, stderr = (output.decode(errors="replace") for output in (done.stdout, done.stderr))
        if check and done.returncode != 0:
            raise CommandFailed(f"host {self._host}", argv, done.returncode, stdout, stderr)
        return subprocess.CompletedProcess(list(argv), done.returncode, stdout, stderr)
