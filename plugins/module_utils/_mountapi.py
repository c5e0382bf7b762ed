# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel's mount API (Linux 5.2 to 5.12), which mount(8) before util-linux 2.39 does not use.

Why not mount(8): its C(-o bind,ro) binds first and makes the bind read-only afterwards. The bind is
copied read-write into the mount name space of a running virtiofsd at once, the later change is not.
Here a mount is complete before it can be seen anywhere.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os

# Numbers of system calls added since Linux 5.1 are the same on every architecture but alpha.
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT = 429
_SYS_OPENAT2 = 437
_SYS_MOUNT_SETATTR = 442

_AT_FDCWD = -100
_AT_EMPTY_PATH = 0x1000
_OPEN_TREE_CLONE = 1
_MOVE_MOUNT_F_EMPTY_PATH = 0x04
_MS_PRIVATE = 1 << 18
_MS_SHARED = 1 << 20
_MOUNT_ATTR_RDONLY = 0x01
_MOUNT_ATTR_NOSUID = 0x02
_MOUNT_ATTR_NODEV = 0x04
_READ_ONLY = _MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV
_RESOLVE_NO_XDEV = 0x01
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_BENEATH = 0x08
# The kernel gives up on a path with C(..) while anything on the host is renamed or mounted.
_ATTEMPTS = 20
_MNT_DETACH = 2
_UMOUNT_NOFOLLOW = 8

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


class _MountAttr(ctypes.Structure):
    _fields_ = [(field, ctypes.c_uint64) for field in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def open_directory(path: str) -> int:
    """A descriptor of a directory for looking only."""
    return os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def open_beneath(directory: int, path: str, flags: int = os.O_DIRECTORY) -> int:
    """A descriptor of a directory below another; links are followed as long as they stay below (openat2(2), Linux 5.6).

    Args:
        flags: 0 for anything, not only a directory.

    Raises:
        OSError: EXDEV when the path or a link on it leads out.
    """
    return _open(directory, path, flags, 0)


def open_in_tree(directory: int, path: str) -> int:
    """A descriptor, for looking only, of what is at a path of the tree that C(read_only_clone) makes of a directory.

    Raises:
        OSError: EXDEV when the path leads out of the tree, or into what is mounted in it.
    """
    return _open(directory, path, 0, _RESOLVE_NO_XDEV)


def _open(directory: int, path: str, flags: int, resolve: int) -> int:
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC | flags, 0, _RESOLVE_BENEATH | _RESOLVE_NO_MAGICLINKS | resolve)
    arguments = (directory, ctypes.c_char_p(os.fsencode(path)), ctypes.byref(how), ctypes.sizeof(how))
    for _attempt in range(_ATTEMPTS):
        with contextlib.suppress(BlockingIOError):
            return _call(_SYS_OPENAT2, *arguments, name=path)
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)


def read_only_clone(directory: int, shared: bool = False) -> int:
    """A detached mount of an opened directory, read-only, nosuid and nodev; it goes when its descriptor is closed.

    Only the directory's own file system is in it, none that is mounted further down. It is private at first: as a peer
    of the mount that it was cloned from it would show, writable, what anybody mounts below the directory later.

    Args:
        shared: hand what is mounted in it later to its copies in other mount name spaces, wherever it is attached.
    """
    tree = _call(
        _SYS_OPEN_TREE,
        directory,
        ctypes.c_char_p(b""),
        _OPEN_TREE_CLONE | os.O_CLOEXEC | _AT_EMPTY_PATH,
        name="open_tree",
    )
    try:
        _set_attributes(tree, "", _MountAttr(_READ_ONLY, 0, _MS_PRIVATE, 0))
        if shared:
            _set_attributes(tree, "", _MountAttr(0, 0, _MS_SHARED, 0))
    except OSError:
        os.close(tree)
        raise
    return tree


def restore(path: str) -> None:
    """Make the mount at a path again what a shared C(read_only_clone) is."""
    _set_attributes(_AT_FDCWD, path, _MountAttr(_READ_ONLY, 0, _MS_SHARED, 0))


def _set_attributes(directory: int, path: str, attributes: _MountAttr) -> None:
    _call(
        _SYS_MOUNT_SETATTR,
        directory,
        ctypes.c_char_p(os.fsencode(path)),
        _AT_EMPTY_PATH,
        ctypes.byref(attributes),
        ctypes.sizeof(attributes),
        name=path or "mount_setattr",
    )


def attach(tree: int, path: str) -> None:
    """Make a detached mount visible at a path."""
    _call(
        _SYS_MOVE_MOUNT,
        tree,
        ctypes.c_char_p(b""),
        _AT_FDCWD,
        ctypes.c_char_p(os.fsencode(path)),
        _MOVE_MOUNT_F_EMPTY_PATH,
        name=path,
    )


def unmount(path: str, lazy: bool = False) -> None:
    """Unmount what is seen at a path, following no link."""
    if _libc.umount2(os.fsencode(path), _UMOUNT_NOFOLLOW | (_MNT_DETACH if lazy else 0)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def _call(number: int, *arguments: object, name: str) -> int:
    # syscall(2) is variadic: without a type of its own an int would be passed with 32 bits.
    wide = [ctypes.c_long(argument) if isinstance(argument, int) else argument for argument in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *wide))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), name)
    return result
