# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt: one connection, its domains, and what we ask of them. Every failure leaves here as a ModelfleetError.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import time
import typing as t
import xml.etree.ElementTree as ET

from . import _connection, _input, _records
from ._errors import ModelfleetError

try:
    import libvirt
except ImportError:  # reported by _connection.connect
    libvirt = None

# libvirt waits 5 s for an unplug and then returns as if all were well; we ask the live XML ourselves.
_POLL = 0.1
_PCIE_BUSY = "guest is busy"
# QEMU's answer for a device whose unplug an earlier run has asked for.
_BEING_UNPLUGGED = "in the process of unplug"
_RESTART_BUG_FIXED = 9_002_000


SYSTEM = "qemu:///system"


class Vm:
    """One domain.

    Attributes:
        uuid: its UUID.
        name: its name.
    """

    def __init__(self, domain: t.Any, libvirt_version: int) -> None:
        self._domain = domain
        self._libvirt_version = libvirt_version
        self.uuid: str = domain.UUIDString()
        self.name: str = domain.name()

    def __str__(self) -> str:
        return self.name

    def state(self) -> str:
        """The state in libvirt's words (virDomainState): C(running), C(paused), C(shutoff), C(crashed), ..."""
        with self._errors():
            state, _reason = self._domain.state()
        return _STATES.get(state, "unknown")

    def active(self) -> bool:
        """Whether it runs, paused or not, so that it has a live XML."""
        with self._errors():
            return bool(self._domain.isActive())

    def persistent(self) -> bool:
        with self._errors():
            return bool(self._domain.isPersistent())

    def xml(self, inactive: bool = False) -> ET.Element:
        """As C(description), parsed."""
        return ET.fromstring(self.description(inactive))

    def description(self, inactive: bool = False) -> str:
        """The XML of the domain, live (or what there is when it is shut off) or persistent."""
        with self._errors():
            text: str = self._domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0)
            return text

    def attach(self, device: str, live: bool, persistent: bool, shared_memory: bool) -> None:
        """Attach a device.

        Args:
            shared_memory: whether the live XML has it, to tell libvirt's false refusal from a true one.

        Raises:
            ModelfleetError: C(attach_failed), C(libvirt_restarted).
        """
        try:
            self._domain.attachDeviceFlags(device, _flags(live, persistent))
        except libvirt.libvirtError as problem:
            falsely = live and shared_memory and "shared memory" in str(problem)
            if falsely and self._libvirt_version < _RESTART_BUG_FIXED:
                raise self._failure("libvirt_restarted", problem) from None
            raise self._failure("attach_failed", problem) from None

    def has_device(self, alias: str) -> bool:
        """Whether the live XML has a device."""
        return self.active() and _by_alias(self.xml(), alias) is not None

    def detach_live(self, aliases: t.Iterable[str], deadline: float) -> None:
        """Unplug devices, all at once, and wait until the live XML has lost them.

        Raises:
            ModelfleetError: C(detach_failed), C(detach_timeout).
        """
        end = time.monotonic() + deadline
        not_asked = list(aliases)
        waiting = set(not_asked)
        while True:
            xml = self.xml()
            # Only a domain that runs has an id; one that was stopped has nothing plugged any more.
            waiting = waiting if xml.get("id") else set()
            waiting = {alias for alias in waiting if _by_alias(xml, alias) is not None}
            not_asked = [alias for alias in not_asked if alias in waiting and not self._ask_to_unplug(alias)]
            if not waiting:
                return
            if time.monotonic() > end:
                shown = ", ".join(sorted(waiting))
                raise ModelfleetError(
                    "detach_timeout",
                    f"VM {self}: the guest has not released {shown} after {deadline:.0f} s",
                    vm=self.name,
                    aliases=sorted(waiting),
                )
            time.sleep(_POLL)

    def _ask_to_unplug(self, alias: str) -> bool:
        """Ask and do not wait (libvirt 4.4: virDomainDetachDeviceAlias); False when it must be asked again."""
        try:
            self._domain.detachDeviceAlias(alias, libvirt.VIR_DOMAIN_AFFECT_LIVE)
        except libvirt.libvirtError as problem:
            # A PCIe port refuses for about 5 s after its last plug or unplug; it can only be asked again.
            if _PCIE_BUSY in str(problem):
                return False
            if problem.get_error_code() == libvirt.VIR_ERR_DEVICE_MISSING or _BEING_UNPLUGGED in str(problem):
                return True
            raise self._failure("detach_failed", problem) from None
        return True

    def detach_persistent(self, alias: str) -> None:
        """Remove a device from the persistent XML."""
        device = _by_alias(self.xml(inactive=True), alias)
        if device is None:
            return
        try:
            self._domain.detachDeviceFlags(device, libvirt.VIR_DOMAIN_AFFECT_CONFIG)
        except libvirt.libvirtError as problem:
            raise self._failure("detach_failed", problem) from None

    def write_records(self, records: t.Iterable[_records.Record], live: bool, persistent: bool) -> None:
        """Replace the records of the domain."""
        with self._errors():
            self._domain.setMetadata(
                libvirt.VIR_DOMAIN_METADATA_ELEMENT,
                _records.to_xml(records, self.uuid),
                _records.PREFIX,
                _records.NAMESPACE,
                _flags(live, persistent),
            )

    def _failure(self, code: str, problem: t.Any) -> ModelfleetError:
        what = f"VM {self}: {problem}"
        return _connection.failure(self._domain.connect(), code, what, vm=self.name, libvirt=str(problem))

    @contextlib.contextmanager
    def _errors(self) -> t.Iterator[None]:
        try:
            yield
        except libvirt.libvirtError as problem:
            if problem.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                raise self._failure("vm_not_found", problem) from None
            raise self._failure("libvirt_error", problem) from None

    # Its definition, and a restart with it

    def definition(self) -> str:
        """The persistent XML, with the passwords that libvirt otherwise leaves out and a new definition would lose."""
        with self._errors():
            text: str = self._domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
            return text

    def define(self, definition: str) -> None:
        """Replace the persistent XML.

        Raises:
            ModelfleetError: C(define_failed).
        """
        try:
            self._domain.connect().defineXML(definition)
        except libvirt.libvirtError as problem:
            raise self._failure("define_failed", problem) from None

    def running_xml(self) -> t.Optional[ET.Element]:
        """The XML that it runs with, or goes on with from its managed save; None if it starts with the persistent."""
        with self._errors():
            if self._domain.isActive():
                return ET.fromstring(self._domain.XMLDesc(0))
            if self._domain.hasManagedSaveImage(0):
                return ET.fromstring(self._domain.managedSaveGetXMLDesc(0))
            return None

    def shut_down(self, deadline: float, by_agent: bool) -> None:
        """Ask the guest to shut down and wait until it is off.

        Args:
            by_agent: ask the agent first; libvirt waits a minute for one that is silent before it turns to ACPI.

        Raises:
            ModelfleetError: C(restart_timeout).
        """
        end = time.monotonic() + deadline
        with self._errors():
            self._domain.shutdownFlags(0 if by_agent else libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        while self.active():
            if time.monotonic() > end:
                raise ModelfleetError(
                    "restart_timeout", f"VM {self}: its guest has not shut down after {deadline:.0f} s", vm=self.name
                )
            time.sleep(_POLL)

    def start(self) -> None:
        """Start it, unless somebody else has meanwhile.

        Raises:
            ModelfleetError: C(restart_failed).
        """
        try:
            self._domain.create()
        except libvirt.libvirtError as problem:
            if not self.active():
                raise self._failure("restart_failed", problem) from None


class Host:
    """A connection to the libvirt of a host, mostly of this one.

    Attributes:
        uri: of libvirt.
        deadline: seconds that libvirt may be silent.
        version: of libvirt, as a number.
    """

    def __init__(self, uri: str, deadline: float, read_only: bool = False) -> None:
        """Connect.

        Args:
            deadline: seconds that libvirt may be silent.
            read_only: see C(_connection.connect).

        Raises:
            ModelfleetError: C(libvirt_unavailable).
        """
        self._connection = _connection.connect(uri, deadline, read_only)
        self.uri = uri
        self.deadline = deadline
        try:
            self.version: int = self._connection.getLibVersion()
        except libvirt.libvirtError as problem:
            raise _connection.unreachable(uri, problem) from None

    def vm(self, name: str) -> Vm:
        """The domain with a name or UUID.

        Raises:
            ModelfleetError: C(vm_not_found).
        """
        find = self._connection.lookupByUUIDString if _input.is_uuid(name) else self._connection.lookupByName
        try:
            return Vm(find(name), self.version)
        except libvirt.libvirtError as problem:
            if problem.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
                raise ModelfleetError(
                    "vm_not_found", f"there is no VM {_input.show(name)} on this host", vm=name
                ) from None
            raise self._failure(f"VM {_input.show(name)}: {problem}", vm=name) from None

    def vms(self) -> list[Vm]:
        """All domains of the host."""
        try:
            return [Vm(domain, self.version) for domain in self._connection.listAllDomains()]
        except libvirt.libvirtError as problem:
            raise self._failure(f"domains cannot be listed: {problem}") from None

    def uuid(self) -> str:
        """The UUID of the host, as its libvirt reports it."""
        try:
            capabilities = ET.fromstring(self._connection.getCapabilities())
        except libvirt.libvirtError as problem:
            raise self._failure(f"the capabilities cannot be read: {problem}") from None
        return capabilities.findtext("host/uuid", "")

    def _failure(self, what: str, **details: t.Any) -> ModelfleetError:
        return _connection.failure(self._connection, "libvirt_error", what, **details)


def _by_alias(root: ET.Element, alias: str) -> t.Optional[str]:
    for element in root.findall("devices/filesystem"):
        found = element.find("alias")
        if found is not None and found.get("name") == alias:
            return ET.tostring(element, encoding="unicode")
    return None


def _flags(live: bool, persistent: bool) -> int:
    return (libvirt.VIR_DOMAIN_AFFECT_LIVE if live else 0) | (libvirt.VIR_DOMAIN_AFFECT_CONFIG if persistent else 0)


# virDomainState and virErrorNumber; written out, because older bindings lack the newer names.
_STATES = {
    1: "running",
    2: "blocked",
    3: "paused",
    4: "shutdown",
    5: "shutoff",
    6: "crashed",
    7: "pmsuspended",
}
