"""A guest: a virtual machine on a host of the lab."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
import uuid as uuids
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from . import container, images
from .domain import Domain
from .errors import CommandFailed, GuestPanicked, LabError, TimedOut
from .identity import stable_uuid
from .polling import Deadline, wait_until
from .progress import say

if TYPE_CHECKING:
    from .host import Host

_MEMORY_MB = {"tiny": 96, "disk": 256}
_BOOT_SECONDS = 180.0
_SHUTDOWN_SECONDS = 60.0
_BOOTS = 3
_PING_SECONDS = 2
_EVENT_SECONDS = 3
_AGENT_SECONDS = 10
_PANIC = "Kernel panic"
_NO_DOMAIN = "failed to get domain"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Guest:
    """One guest. Host.guest makes it.

    ``kind`` is ``tiny`` (boots in seconds, forgets everything) or ``disk`` (a small Debian with systemd). ``ports``
    counts the PCIe root ports that stay free. ``shared_memory`` and ``agent`` can be left out for tests of refusals.
    The UUID is derived from lab, host and name unless one is given.
    """

    def __init__(
        self,
        host: Host,
        name: str,
        kind: str = "tiny",
        memory_mb: int | None = None,
        *,
        ports: int = 8,
        shared_memory: bool = True,
        agent: bool = True,
        uuid: str | None = None,
    ) -> None:
        """Describe a guest; nothing is done yet. Raises LabError for an unknown kind."""
        if kind not in images.GUEST_KINDS:
            raise LabError(f"there is no kind of guest {kind!r}; there are: {', '.join(images.GUEST_KINDS)}")
        self.host = host
        self.name = name
        self.kind = kind
        self.uuid = str(uuids.UUID(uuid) if uuid else stable_uuid(host.lab, host.name, name))
        self.memory_mb = memory_mb or _MEMORY_MB[kind]
        self._ports = ports
        self._shared_memory = shared_memory
        self._agent = agent
        self._disk = f"/var/lib/libvirt/images/{name}.qcow2" if kind == "disk" else None
        self._console_log = f"/var/log/libvirt/qemu/{name}-console.log"

    def __repr__(self) -> str:
        """Return the guest's host and name."""
        return f"<Guest {self.host.lab}/{self.host.name}/{self.name} {self.kind}>"

    @property
    def _where(self) -> str:
        """The guest and its host in words, for messages."""
        return f"guest {self.name} on {self.host.name}"

    def _virsh(self, *argv: str, check: bool = True, timeout: float = 60.0, input: str | None = None) -> str:
        """Run virsh on the host and return what it prints."""
        return self.host.run(["virsh", "--quiet", *argv], check=check, timeout=timeout, input=input).stdout

    # Life

    def state(self) -> str:
        """Return the state in libvirt's words (``running``, ``shut off``, ...), or ``undefined``."""
        argv = ["virsh", "--quiet", "domstate", self.name]
        done = self.host.run(argv, check=False)
        if done.returncode == 0:
            return done.stdout.strip()
        if _NO_DOMAIN in done.stderr:
            return "undefined"
        raise CommandFailed(f"host {self.host.name}", argv, done.returncode, done.stdout, done.stderr)

    def define(self) -> None:
        """Define the guest, which must be off, with a fresh disk if its kind has one."""
        image = f"{container.images_inside()}/{images.ensure(self.kind).name}"
        if self._disk:
            backing = ["-b", f"{image}/root.img", "-F", "raw"]
            self.host.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, self._disk])
        domain = Domain(
            name=self.name,
            uuid=uuids.UUID(self.uuid),
            memory_mb=self.memory_mb,
            kernel=f"{image}/vmlinuz",
            initrd=f"{image}/initrd",
            console_log=self._console_log,
            disk=self._disk,
            spare_ports=self._ports,
            shared_memory=self._shared_memory,
            agent=self._agent,
        )
        self._virsh("define", "/dev/stdin", input=domain.xml())

    def start(self) -> None:
        """Start the guest; does not wait for it to boot."""
        self._virsh("start", self.name)

    def up(self, timeout: float = _BOOT_SECONDS) -> None:
        """Define and start the guest where needed, and wait until its agent answers (if it has one).

        A guest whose kernel panics while it boots is started again, at most twice: software emulation does that now
        and then. Raises GuestPanicked when it keeps on, TimedOut when the agent does not answer in time.
        """
        if self.state() == "undefined":
            self.define()
        for attempt in range(1, _BOOTS + 1):
            if self.state() != "running":
                self.start()
            if not self._agent:
                return
            try:
                self.wait_agent(timeout)
                return
            except GuestPanicked as error:
                if attempt == _BOOTS:
                    raise
                say(f"{error}; starting it again")
                self.destroy()

    def wait_agent(self, timeout: float = _BOOT_SECONDS) -> None:
        """Wait until the guest agent answers.

        Raises GuestPanicked when the serial console shows a kernel panic, LabError when the guest ends, TimedOut after
        ``timeout`` seconds.
        """
        deadline = Deadline(timeout)

        def answers() -> bool:
            if self._agent_answers():
                return True
            self._demand_alive()
            # libvirt says when the agent connects. One that did so just before we listen is asked again soon enough.
            seconds = str(max(1, min(_EVENT_SECONDS, int(deadline.left()))))
            self._virsh("event", "--domain", self.name, "--event", "agent-lifecycle", "--timeout", seconds, check=False)
            return False

        wait_until(f"{self._where}: agent answering", timeout, answers)

    def _agent_answers(self) -> bool:
        """Ask the agent once."""
        try:
            self.agent("guest-ping", timeout=_PING_SECONDS)
        except (CommandFailed, TimedOut):
            return False
        return True

    def _demand_alive(self) -> None:
        """Raise when the guest has ended or its kernel has panicked."""
        panic = self.host.run(["grep", "-m1", "-F", _PANIC, self._console_log], check=False).stdout.strip()
        if panic:
            raise GuestPanicked(f"{self._where}: {panic}")
        if (state := self.state()) != "running":
            raise LabError(f"{self._where} is {state}, not running")

    def shutdown(self, timeout: float = _SHUTDOWN_SECONDS) -> None:
        """Have the guest shut down and wait until it is off; TimedOut when it is not after ``timeout`` seconds."""
        self._virsh("shutdown", self.name)
        wait_until(f"{self._where}: off", timeout, lambda: self.state() == "shut off")

    def reboot(self, timeout: float = _BOOT_SECONDS) -> None:
        """Have the guest reboot (the same QEMU goes on) and wait until its agent answers in the new boot."""
        before = self._boot_id()
        self._virsh("reboot", self.name)
        wait_until(f"{self._where}: down for its reboot", timeout, lambda: self._boot_id() != before)
        self.wait_agent(timeout)

    def reset(self, timeout: float = _BOOT_SECONDS) -> None:
        """Press the reset button of a guest whose agent does not answer, and wait until it does."""
        # What it printed before says nothing about the boot to come.
        self.host.run(["truncate", "--size=0", self._console_log])
        self._virsh("reset", self.name)
        self.wait_agent(timeout)

    def _boot_id(self) -> str:
        """Return what tells this boot from others, nothing when the agent is just going away."""
        try:
            return self.run(["cat", _BOOT_ID], check=False, timeout=_PING_SECONDS).stdout.strip()
        except LabError:
            return ""

    def destroy(self) -> None:
        """Turn the guest off at once; does nothing when it is off."""
        if self.state() not in ("shut off", "undefined"):
            self._virsh("destroy", self.name)

    def undefine(self) -> None:
        """Make libvirt forget the guest; its disk stays."""
        self._virsh("undefine", "--managed-save", "--snapshots-metadata", self.name)

    def remove(self) -> None:
        """Destroy the guest, undefine it and delete its files, whatever of these there is."""
        self.destroy()
        if self.state() != "undefined":
            self.undefine()
        self.host.run(["rm", "-f", self._console_log, *([self._disk] if self._disk else [])])

    # Looking at it

    def xml(self, inactive: bool = False) -> ElementTree.Element:
        """Return the domain XML: the running guest's, or with ``inactive`` that of its next start."""
        return ElementTree.fromstring(self._virsh("dumpxml", *(["--inactive"] if inactive else []), self.name))

    def console(self) -> str:
        """Return what the guest printed on its serial console since it was started."""
        return self.host.run(["cat", self._console_log], check=False).stdout

    # Talking to its agent

    def agent(
        self, command: str, arguments: dict[str, Any] | None = None, timeout: int = _AGENT_SECONDS
    ) -> dict[str, Any]:
        """Send one command to the guest agent and return its answer: ``{"return": ...}``.

        Raises CommandFailed when libvirt or the agent refuses or the agent is silent for ``timeout`` seconds.
        """
        request: dict[str, Any] = {"execute": command}
        if arguments:
            request["arguments"] = arguments
        # Through standard input, so that nothing on the way has to be quoted twice.
        script = f'virsh --quiet qemu-agent-command --timeout {timeout} {shlex.quote(self.name)} "$(cat)"'
        answer = self.host.run(["sh", "-c", script], input=json.dumps(request), timeout=timeout + 20)
        return json.loads(answer.stdout)

    def run(
        self, argv: Sequence[str], *, check: bool = True, input: str | bytes | None = None, timeout: float = 30.0
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the guest through its agent and return its outcome, as text.

        Raises CommandFailed when ``check`` and its status is not 0 (a signal counts as 128 and its number), TimedOut
        when it has not ended after ``timeout`` seconds; it may still run in the guest then. ``input`` has at most 90 kB
        (virsh takes it as an argument).
        """
        deadline = Deadline(timeout)
        arguments: dict[str, Any] = {"path": argv[0], "arg": list(argv[1:]), "capture-output": True}
        if input is not None:
            sent = input.encode() if isinstance(input, str) else input
            arguments["input-data"] = base64.b64encode(sent).decode()
        patience = max(1, min(_AGENT_SECONDS, int(timeout)))
        pid = self.agent("guest-exec", arguments, patience)["return"]["pid"]

        def ended() -> dict[str, Any] | None:
            status = self.agent("guest-exec-status", {"pid": pid}, patience)["return"]
            return status if status["exited"] else None

        try:
            status = wait_until("the end of the command", deadline.left(), ended)
        except TimedOut as error:
            raise TimedOut(f"{self._where}: {shlex.join(argv)}: no end within {timeout:g} s") from error
        stdout, stderr = (
            base64.b64decode(status.get(key, "")).decode(errors="replace") for key in ("out-data", "err-data")
        )
        code = status.get("exitcode", 128 + status.get("signal", 0))
        if check and code != 0:
            raise CommandFailed(self._where, argv, code, stdout, stderr)
        return subprocess.CompletedProcess(list(argv), code, stdout, stderr)
