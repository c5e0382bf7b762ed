# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a back end is: how a storage URL becomes a mount, and how that is recognised again. Pure.

This module util is private to the collection.
"""

from __future__ import annotations

import os
import re
import typing as t

from .. import _input
from .._centers import Center
from .._errors import ModelfleetError
from . import _url

# For every mount, whatever the storage: what lies in it never becomes a device or a way to root. atime would write.
SAFE = ("nosuid", "nodev")

# Options that something of ours decides, that tell a secret to everybody, or that run a program.
_DENIED = frozenset(
    "ro rw suid nosuid dev nodev defaults nofail noauto auto user users nouser owner group bg remount bind rbind move"
    " password password2 pass passwd secret username credentials access_key secret_key token cookie helper uhelper"
    " ssh_command sftp_server directport lazy_umount allow_root config devname fsname subtype daemon background d f"
    " writeback update_fstab cache_dir cache_size use_cache passwd_file secretfile keyring identityfile subdir"
    " userknownhostsfile globalknownhostsfile stricthostkeychecking knownhostscommand proxycommand proxyjump"
    " localcommand dump log_file credlib credlib_opts curldbg ssl_client_cert fuse_flag option o no_check_certificate"
    " rc".split()
)
# Secrets of several lines.
_TEXTS = ("private_key", "known_hosts")
_OPTION = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}(?:=[A-Za-z0-9._:/@+%=~-]{1,512})?\Z")


class Need(t.NamedTuple):
    """A program that must be on the host, and the packages that have it."""

    program: str
    debian: str
    red_hat: str


class Shows(t.NamedTuple):
    """How a mount is recognised in the mount table, where a client's word proves nothing.

    Attributes:
        fstypes: what the type may be; one that ends in a dot stands for all that begin so.
        source: what the source must be; empty when the source says nothing. An asterisk at its beginning or end stands
            for anything.
        directory: a directory of this host that must show the same, for a bind.
        backing_file: the file that must be behind the loop device.
        device: the block device that must be mounted.
    """

    fstypes: tuple[str, ...] = ()
    source: str = ""
    directory: str = ""
    backing_file: str = ""
    device: str = ""


class Definition(t.NamedTuple):
    """How systemd mounts a center.

    Attributes:
        what, fstype, options: as systemd.mount(5) and mount(8) want them.
        command: for a client that is run in the foreground by a service, instead of the three.
        notifies: whether that client tells systemd when it is ready.
        shows: how the mount is recognised.
        needs: programs of the host.
        network: whether it waits for the network.
        environment: whether secrets reach the client by its environment.
        adopted: whether somebody else mounts it, so that it is only looked at.
        cache: the directory in which its client keeps what it has read; empty for none.
        direct: whether its client answers reads from a memory of its own, which only O_DIRECT gets past.
    """

    shows: Shows
    what: str = ""
    fstype: str = ""
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    notifies: bool = False
    needs: tuple[Need, ...] = ()
    network: bool = True
    environment: bool = False
    adopted: bool = False
    cache: str = ""
    direct: bool = False


class BackEnd:
    """The ways of one kind of storage. Each has a file of its own, which says why its options are what they are.

    Attributes:
        schemes: the schemes of its URLs.
        clients: the clients that can mount it, the first of which is taken when none is asked for; empty when there
            is only one.
        credentials: the secrets that it can use.
        caches: whether its client keeps a cache on a local disk.
        takes_options: whether there is anything to say to its client.
        proves_nothing: whether its client mounts what does not exist, so that something must be looked for.
    """

    schemes: tuple[str, ...] = ()
    clients: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    caches = False
    takes_options = True
    proves_nothing = False

    def check(self, url: _url.Url) -> _url.Url:
        """The URL in its normal form.

        Raises:
            ModelfleetError: C(invalid_input).
        """
        raise NotImplementedError

    def definition(self, url: _url.Url, center: Center) -> Definition:
        """How systemd mounts it."""
        raise NotImplementedError

    def secrets(self, url: _url.Url, center: Center, given: t.Mapping[str, str]) -> dict[str, str]:
        """The files that bring secrets to the client: their names, and what is in them."""
        raise NotImplementedError

    def refuse(self, url: _url.Url, center: Center) -> None:
        """Refuse what does not go together.

        Raises:
            ModelfleetError: C(invalid_input).
        """

    def lacks(self, center: Center) -> str:
        """What is wrong with the secrets that a center has, for people; empty for nothing."""
        return ""

    def client(self, center: Center) -> str:
        """The client that mounts it."""
        return center.client or (self.clients[0] if self.clients else "")


def access(center: Center) -> str:
    """The option that says how it is mounted."""
    return "ro" if center.read_only else "rw"


def merged(defaults: t.Iterable[str], given: t.Iterable[str]) -> tuple[str, ...]:
    """Default options, in which given ones take the place of those with the same key; new ones follow.

    An option C(KEY=default) stands for the client's own default: ours is left out.
    """
    replaced = {_key(option): option for option in given}
    kept = [replaced.pop(_key(option), option) for option in defaults]
    return tuple(option for option in (*kept, *replaced.values()) if not option.endswith("=default"))


def _key(option: str) -> str:
    key = option.partition("=")[0].replace("_", "-")
    # hard and soft, and an option and its negation, take each other's place.
    return {"softerr": "hard", "soft": "hard", "nocto": "cto", "nofsc": "fsc"}.get(key, key)


def flags(options: t.Iterable[str]) -> tuple[str, ...]:
    """Options as arguments of a program."""
    return tuple(f"--{option}" for option in options)


def check_options(options: t.Sequence[str]) -> tuple[str, ...]:
    """Options of a user's, each a C(key) or C(key=value) that can change nothing but the client's behaviour.

    Raises:
        ModelfleetError: C(invalid_input).
    """
    for index, option in enumerate(options):
        key = (option or "").partition("=")[0].lower()
        where = f"options[{index}]"
        if not option or not _OPTION.match(option):
            # Not shown: it may be a secret with a character that no option has.
            raise _input.invalid(where, "it must be a name or name=value, of letters, digits and ._:/@+%=~-")
        plain = key.replace("-", "_")
        if plain in _DENIED or plain.startswith("rc_") or re.search("passw|secret|token|access.?key", key):
            raise _input.invalid(where, f"'{key}' has an option of its own, or cannot be used: see the documentation")
    keys = [_key(option) for option in options]
    if len(set(keys)) != len(keys):
        raise _input.invalid("options", "an option stands there twice")
    return tuple(options)


def own_cache(center: Center) -> str:
    """A directory for a client that could not tell the caches of two centers apart; empty for none."""
    return os.path.join(center.cache_dir, center.name) if center.cache_dir else ""


def secret_path(center: Center, name: str) -> str:
    """Where a file with secrets of a center lies."""
    return os.path.join(directory(center.name), name)


def directory(name: str) -> str:
    """Where the files with secrets of a center lie."""
    return f"/etc/modelfleet/centers/{name}"


def environment(values: t.Mapping[str, str]) -> str:
    """The text of an environment file (systemd.exec(5))."""
    return "".join(f'{name}="{_escaped(value)}"\n' for name, value in values.items())


def _escaped(value: str) -> str:
    return "".join(f"\\{character}" if character in '"\\`$' else character for character in value)


def check_secrets(back_end: BackEnd, given: t.Mapping[str, t.Optional[str]]) -> dict[str, str]:
    """Secrets that a back end can use, without those that are empty.

    Raises:
        ModelfleetError: C(invalid_input), which shows no value.
    """
    found = {}
    for name, value in given.items():
        if not value:
            continue
        if name not in back_end.credentials:
            known = ", ".join(back_end.credentials) or "none"
            raise _input.invalid(
                "credentials", f"'{name}' is of no use to {back_end.schemes[0]}://, which takes {known}"
            )
        try:
            _input.no_control_characters("credentials", value.replace("\n", "") if name in _TEXTS else value)
        except ModelfleetError:
            raise _input.invalid(f"credentials.{name}", "it contains a control character") from None
        if len(value) > 16384:
            raise _input.invalid(f"credentials.{name}", "it is too long")
        found[name] = value
    return found
