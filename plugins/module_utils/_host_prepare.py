# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A KVM host made able: our directories, the libvirt hook, and a libvirt that knows of it.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import re
import typing as t

from . import _domain, _hook, _hook_file, _observed, _sources, _storage, _systemd, _virtiofsd
from ._errors import ModelfleetError

# Steps, in the words that results show.
MAKE_DIRECTORIES = "make_directories"
WRITE_HOOK = "write_hook"
RELOAD_LIBVIRT = "reload_libvirt"
REMOVE_HOOK = "remove_hook"

# Remembers that libvirt was told of the hook; it looks for hooks when it starts and when it is reloaded, not later.
_TOLD = f"{_sources.STATE_DIRECTORY}/hook-known"
_DAEMONS = ("libvirtd.service", "virtqemud.service")
# What the hook is made of: C(_hook) and all that it imports.
_PARTS = """
    _center_seen _centers _child _devices _errors _hook _identity _input _mountapi _mountinfo _opener _process _records
    _sources _systemd _unmounter _views
""".split()

_LINUX = (5, 12)
_LIBVIRT = 7_009_000


def hook() -> bytes:
    """The hook of this release."""
    return _hook_file.content(_source, [*_PARTS, *_storage.parts()])


def _source(name: str) -> str:
    module = importlib.import_module(f".{name}", _hook.__package__)
    try:
        return inspect.getsource(module)
    except OSError:
        # An empty file has no source to inspect.
        return ""


def require(uri: str, deadline: float) -> None:
    """Refuse a host that lacks what everything else needs.

    Raises:
        ModelfleetError: C(host_unsupported), C(libvirt_unavailable).
    """
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    if not found or (int(found.group(1)), int(found.group(2))) < _LINUX:
        raise ModelfleetError(
            "host_unsupported", f"Linux {os.uname().release} is too old: mounts that are born read-only need 5.12"
        )
    version = _domain.Host(uri, deadline).version
    if version < _LIBVIRT:
        raise ModelfleetError(
            "host_unsupported", f"libvirt {version} is too old: plugging virtiofs needs 7.9.0 (7009000)"
        )
    binary = _virtiofsd.binary()
    if not os.access(binary, os.X_OK):
        raise ModelfleetError("host_unsupported", f"virtiofsd is not installed: {binary} cannot be executed")


def refuse_in_use(uri: str, deadline: float) -> None:
    """Refuse to remove the hook while VMs need it: they would not start, or over a plain directory of the host.

    Raises:
        ModelfleetError: C(hook_in_use), C(libvirt_unavailable).
    """
    names = []
    for vm in _domain.Host(uri, deadline).vms():
        view = _observed.observe_vm(vm)
        domains = (view.live, view.persistent)
        if any(device.ours for domain in domains if domain is not None for device in domain.devices):
            names.append(vm.name)
    if names:
        raise ModelfleetError("hook_in_use", f"{len(names)} VMs have models, {names[0]} among them", vms=sorted(names))


def plan(present: bool) -> list[str]:
    """The steps that are due on this host."""
    installed = _hook_content()
    if not present:
        return [] if installed is None else [REMOVE_HOOK]
    steps = [MAKE_DIRECTORIES] if _sources.missing_directories() else []
    if installed != hook() or not _hook_file.installed():
        steps.append(WRITE_HOOK)
    if installed is None or not os.path.exists(_TOLD):
        steps.append(RELOAD_LIBVIRT)
    return steps


def _hook_content() -> t.Optional[bytes]:
    try:
        with open(_hook_file.PATH, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def apply(steps: list[str]) -> None:
    """Carry out the steps.

    Raises:
        ModelfleetError: C(host_unsupported), C(systemd_error).
    """
    for step in steps:
        _EFFECTS[step]()


def _write_hook() -> None:
    if _hook_content() is None:
        _forget_told()
    _hook_file.write(hook())


def _remove_hook() -> None:
    _forget_told()
    os.unlink(_hook_file.PATH)


def _reload_libvirt() -> None:
    # A reload, not a restart: libvirt before 9.2 cannot plug virtiofs into VMs that ran while it was
    # restarted, and a reload makes it look for hooks as well (virHookCall, VIR_HOOK_DAEMON_OP_RELOAD).
    for daemon in _systemd.active_units(*_DAEMONS):
        _systemd.call("reload", daemon)
    with open(_TOLD, "w", encoding="ascii"):
        pass


def _forget_told() -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_TOLD)


_EFFECTS: dict[str, t.Callable[[], None]] = {
    MAKE_DIRECTORIES: _sources.make_directories,
    WRITE_HOOK: _write_hook,
    REMOVE_HOOK: _remove_hook,
    RELOAD_LIBVIRT: _reload_libvirt,
}
