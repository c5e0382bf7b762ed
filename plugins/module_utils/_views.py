# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Views: the directory of read-only binds that a VM's one device shows, any number of models in it.

What virtiofsd is given is a read-only bind of a plain directory that only the host writes to. A model is bound in it,
under C(.m), and reached by a symbolic link, which is switched by rename(2), so that there is no moment without it. What
takes the place of a bind has a name of its own: a guest that still knows the old one would for a moment mix both up. As
the view is a shared mount, what is bound in it is seen by a virtiofsd that runs already.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import typing as t

from . import _identity, _mountapi, _mountinfo, _sources, _unmounter

# Gone with a reboot, as all that is bound is.
_PLAIN_DIRECTORY = "/run/modelfleet/views"
_BINDS = ".m"
_TARGET = re.compile(r"(?:\.\./)*\.m/([0-9a-f]{16}-[0-9]{1,9})\Z")


def source(vm: str) -> str:
    """What virtiofsd is given for the view of a VM."""
    return _sources.path(vm, _identity.view_uuid(vm))


def bind_path(vm: str, mount: str, number: int) -> str:
    """Where a model is bound for a mount for the n-th time."""
    return f"{source(vm)}/{_BINDS}/{_identity.token(mount)}-{number}"


def bound_at(vm: str, mount_path: str) -> str:
    """Where the model is bound that a mount path of the view shows; nothing when it shows none."""
    try:
        target = os.readlink(os.path.join(_plain(vm), _below(mount_path)))
    except OSError:
        return ""
    found = _TARGET.match(target)
    return f"{source(vm)}/{_BINDS}/{found.group(1)}" if found else ""


def of_mount(bind: str) -> str:
    """What all binds of a mount have in common, or the path itself where it is none of a view."""
    place, _slash, name = bind.rpartition("/")
    return f"{place}/{name.rpartition('-')[0]}" if place.endswith(f"/{_BINDS}") else bind


def is_view(mount: _mountinfo.Mount, vm: str) -> bool:
    """Whether what is mounted at the source of a view is one."""
    # The directory that it shows is named for the VM, on whichever file system that is.
    return os.path.basename(mount.root) == vm


def in_daemon(bind: str) -> str:
    """The mount point of a bind as the virtiofsd of its view has it, whose root the view is."""
    return f"/{_BINDS}/{os.path.basename(bind)}"


def in_guest(bind: str) -> str:
    """The mount point of a bind as a guest has it that is told of file systems below the view."""
    return f"{_identity.VIEW_PATH}{in_daemon(bind)}"


def open_view(vm: str) -> None:
    """Have the view of a VM bound, read-only and shared, with no model in it when it was not there."""
    view = next(reversed(_mountinfo.at(source(vm))), None)
    if view is not None and not is_view(view, vm):
        # The empty directory, where a view could not be had.
        close_view(vm)
    elif view is not None:
        if not _sources.enforced(view) or "shared:" not in view.propagation:
            _mountapi.restore(source(vm))
        return
    _remove_plain(vm)
    for path in (_plain(vm), os.path.join(_plain(vm), _BINDS), source(vm)):
        _make(path)
    directory = _mountapi.open_directory(_plain(vm))
    try:
        tree = _mountapi.read_only_clone(directory, shared=True)
    finally:
        os.close(directory)
    try:
        _mountapi.attach(tree, source(vm))
    finally:
        os.close(tree)


def bind(vm: str, mount: str, mount_path: str, tree: int) -> None:
    """Show a detached read-only mount at a mount path of the view, and close its descriptor.

    What was shown there before stays bound until it is released.
    """
    binds = os.path.join(_plain(vm), _BINDS)
    try:
        numbers = [int(name.rpartition("-")[2]) for name in _of_mount(vm, mount)]
        path = bind_path(vm, mount, max(numbers, default=0) + 1)
        directory = os.path.join(binds, os.path.basename(path))
        _make(directory)
        try:
            _mountapi.attach(tree, path)
        except OSError:
            os.rmdir(directory)
            raise
    finally:
        os.close(tree)
    show(vm, mount_path, path)


def show(vm: str, mount_path: str, bind: str) -> None:
    """Have a mount path of the view lead to a bind, in the place of what it led to."""
    below = _below(mount_path)
    link = os.path.join(_plain(vm), below)
    _make_directories(_plain(vm), os.path.dirname(below))
    temporary = os.path.join(_plain(vm), f".{_identity.token(_identity.mount_uuid(vm, mount_path))}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    os.symlink("../" * below.count("/") + f"{_BINDS}/{os.path.basename(bind)}", temporary)
    os.rename(temporary, link)


def _make_directories(root: str, below: str) -> None:
    """Make directories below a root; what is a link is not followed to where another model is bound."""
    for part in below.split("/") if below else ():
        root = os.path.join(root, part)
        if os.path.islink(root):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), root)
        _make(root)


def _make(path: str) -> None:
    """Make a directory that every user of a guest may enter, whatever the umask of this process is."""
    if not os.path.isdir(path):
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o755)


def hide(vm: str, mount_path: str) -> None:
    """Have a mount path of the view lead nowhere; directories that held nothing else go as well."""
    link = os.path.join(_plain(vm), _below(mount_path))
    with contextlib.suppress(OSError):
        os.unlink(link)
    # Also those whose link a run has removed that was killed then: another model may come to their place.
    with contextlib.suppress(OSError):
        while (link := os.path.dirname(link)) != _plain(vm):
            os.rmdir(link)


def left_over(vm: str, mount: str, mount_path: str) -> list[str]:
    """Where models are bound for a mount that its mount path does not show, or does not show any more."""
    shown = bound_at(vm, mount_path)
    binds = [f"{source(vm)}/{_BINDS}/{name}" for name in _of_mount(vm, mount)]
    return [path for path in binds if path != shown]


def is_bound(bind: str) -> bool:
    """Whether a model is bound at a place of a view."""
    return bool(_mountinfo.at(bind))


def clear(vm: str, mount: str, mount_path: str) -> None:
    """Unbind what is left over of a mount, whoever still has something of it open."""
    for bind in left_over(vm, mount, mount_path):
        unbind(bind, lazy=True)


def unbind(bind: str, lazy: bool = False) -> bool:
    """Unbind a model from its view; False when the guest still knows something of it and it is not done lazily.

    Args:
        lazy: whoever has something of it open keeps that, whatever else the guest may do with it.
    """
    for mount in reversed(_mountinfo.at(bind)):
        try:
            _unmounter.take_away(mount, lazy)
        except OSError as problem:
            if problem.errno == errno.EBUSY and not lazy:
                return False
            raise
    vm = os.path.basename(os.path.dirname(os.path.dirname(os.path.dirname(bind))))
    with contextlib.suppress(OSError):
        os.rmdir(os.path.join(_plain(vm), _BINDS, os.path.basename(bind)))
    return True


def close_view(vm: str) -> None:
    """Unbind the view of a VM with all that is in it."""
    below = f"{source(vm)}/"
    for mount in reversed([mount for mount in _mountinfo.read() if mount.mount_point.startswith(below)]):
        _unmounter.take_away(mount, lazy=True)
    # The bind goes last: as long as it is there, the next run finds that there is something left to do.
    try:
        _remove_plain(vm)
    finally:
        _sources.unbind(source(vm))


def _remove_plain(vm: str) -> None:
    """Remove links and directories of what a view was made of; never a file, and nothing through a mount."""
    root = _plain(vm)
    if any(f"{mount.mount_point}/".startswith(f"{root}/") for mount in _mountinfo.read()):
        raise OSError(errno.EBUSY, "something is mounted in it", root)
    for directory, _directories, _files in os.walk(root, topdown=False):
        for entry in os.scandir(directory):
            if entry.is_symlink():
                os.unlink(entry.path)
        os.rmdir(directory)


def _plain(vm: str) -> str:
    return f"{_PLAIN_DIRECTORY}/{vm}"


def _below(mount_path: str) -> str:
    return os.path.relpath(_identity.seen_at(mount_path), _identity.VIEW_PATH)


def _of_mount(vm: str, mount: str) -> t.Iterator[str]:
    prefix = f"{_identity.token(mount)}-"
    with contextlib.suppress(FileNotFoundError):
        yield from (name for name in os.listdir(os.path.join(_plain(vm), _BINDS)) if name.startswith(prefix))
