# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The guest's part: its mount table read, and models mounted and unmounted, through the QEMU guest agent.

The guest is hostile. What it answers is parsed with limits and deadlines, and none of it becomes a path
or a command. Commands are argument lists; no shell is involved.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import re
import time
import typing as t

from . import (
    _guest_agent,
    _guest_links,
    _guest_places,
    _guest_unit,
    _guest_users,
    _identity,
    _mount_lines,
    _mountinfo,
)
from ._errors import ModelfleetError

OPTIONS = _mount_lines.OPTIONS
FSTYPE = _mount_lines.FSTYPE

_MOUNT_TABLE = "/proc/self/mountinfo"
_MOUNT_TABLE_MAX = 4 << 20
# Right after a hot-plug the kernel does not know the tag yet, and mount(2) fails with EINVAL.
_TOO_EARLY = re.compile(r"wrong fs type|invalid argument", re.IGNORECASE)
_APPEARS_WITHIN = 15.0
# For a question that only serves a better message.
_ASIDE = 2.0
_BUSY = re.compile(r"busy", re.IGNORECASE)
# The source of what a guest mounts by itself below a virtiofs that shows several file systems.
NO_TAG = "none"
_DEVICE = re.compile(r"[0-9]{1,10}:[0-9]{1,10}\Z")
_RELEASE = re.compile(r"([0-9]{1,3})\.([0-9]{1,3})")
# ENOTCONN of a device that was taken away, ECONNABORTED of a connection that was ended.
_DEAD = re.compile(r"not connected|connection abort", re.IGNORECASE)


class Guest:
    """The inside of a running VM.

    Args:
        name: the VM's name, for messages.
        deadline: seconds that any single operation may take.
        read_ahead_kb: how far it shall read ahead in what we mount; 0 for what it does by itself.

    Attributes:
        warnings: what is not as it should be, and no reason to fail.
    """

    def __init__(self, name: str, ask: _guest_agent.Ask, deadline: float, read_ahead_kb: int = 0) -> None:
        self.warnings: list[str] = []
        self._name = name
        self._read_ahead_kb = read_ahead_kb
        self._deadline = deadline
        self._agent = _guest_agent.Agent(name, ask, deadline)
        # Seen while the run was planned, so that nobody makes them again.
        self._directories: frozenset[str] = frozenset()

    # Looking

    def mounts(self) -> list[_mountinfo.Mount]:
        """The guest's mount table.

        Raises:
            ModelfleetError: C(agent_unavailable), C(agent_restricted), C(agent_command_failed), C(guest_unsupported).
        """
        try:
            content = self._agent.read(_MOUNT_TABLE, _MOUNT_TABLE_MAX)
        except ModelfleetError as problem:
            if problem.code in ("agent_command_failed", "agent_restricted"):
                self._refuse_windows()
            raise
        mounts = _mountinfo.parse(content.decode("utf-8", "replace"))
        if _mountinfo.visible(mounts, "/") is None:
            # What could not be read must not look like a guest in which nothing is mounted.
            raise self._agent.nonsense("its mount table has no root")
        return mounts

    def stale(self, paths: t.Sequence[str]) -> frozenset[str]:
        """Those of the mounted paths behind which nobody is any more, although the mount table looks right.

        The same answer comes from a mount whose storage lost its client on the host. So the host's side is to be
        looked at first.

        Raises:
            ModelfleetError: C(guest_mount_hung) when a mount does not answer, C(agent_unavailable),
                C(agent_restricted).
        """
        # Unlike a file's attributes, which the guest keeps for a while, statfs(2) is always answered by virtiofsd.
        # One command serves all, and only when it fails is every path asked for itself.
        if not paths or self._statfs(paths).code == 0:
            return frozenset()
        return frozenset(path for path in paths if self._is_dead(path))

    def _is_dead(self, path: str) -> bool:
        done = self._statfs([path])
        # Any other error came from the other side: somebody is there.
        return done.code != 0 and _DEAD.search(done.output) is not None

    def require_commands(self) -> None:
        """Refuse a guest whose agent may not run commands, before anything is done that would have to be undone.

        Raises:
            ModelfleetError: C(agent_restricted), C(agent_unavailable), C(agent_command_failed).
        """
        # Cheaper than running something; what SELinux in the guest forbids shows only when it is tried.
        known = self._agent.ask("guest-info", {}, time.monotonic() + self._deadline).get("supported_commands")
        for command in known if isinstance(known, list) else ():
            if isinstance(command, dict) and command.get("name") == "guest-exec" and command.get("enabled") is False:
                raise ModelfleetError(
                    "agent_restricted",
                    f"VM {self._name}: guest-exec is disabled in the settings of the guest agent",
                    vm=self._name,
                    command="guest-exec",
                )

    def _statfs(self, paths: t.Sequence[str]) -> _guest_agent.Done:
        return self._agent.run(["stat", "-f", "-c", "%i", *paths], code="guest_mount_hung")

    def _refuse_windows(self) -> None:
        try:
            system = self._agent.ask("guest-get-osinfo", {}, time.monotonic() + min(self._deadline, _ASIDE))
        except ModelfleetError:
            return
        if system.get("id") == "mswindows":
            raise ModelfleetError("guest_unsupported", f"VM {self._name}: its guest runs Windows", vm=self._name)

    def places(
        self, paths: t.Sequence[str], empty: t.Sequence[str] = (), ends: t.Sequence[str] = ()
    ) -> _guest_places.Places:
        """What stands on the way to mount paths; see _guest_places.look."""
        places = _guest_places.look(self._agent, paths, empty, ends)
        self._directories |= places.directories
        return places

    def links(self, paths: t.Sequence[str]) -> dict[str, bool]:
        """Whether links of ours stand at mount paths; see _guest_links.look."""
        return _guest_links.look(self._agent, paths)

    def kernel(self) -> t.Optional[tuple[int, int]]:
        """The version of the guest's kernel; None when it does not tell one.

        Raises:
            ModelfleetError: C(agent_unavailable), C(agent_command_failed).
        """
        try:
            system = self._agent.ask("guest-get-osinfo", {}, time.monotonic() + self._deadline)
        except ModelfleetError as problem:
            if problem.code == "agent_restricted":
                return None
            raise
        release = system.get("kernel-release")
        found = _RELEASE.match(release) if isinstance(release, str) else None
        return (int(found.group(1)), int(found.group(2))) if found else None

    # Mounts

    def mount(self, wanted: t.Sequence[tuple[str, str]]) -> None:
        """Mount tags at paths, which are made when they are missing; all of them or none.

        Raises:
            ModelfleetError: C(guest_mount_failed), C(agent_unavailable), C(agent_restricted).
        """
        paths = [path for _tag, path in wanted if path not in self._directories]
        if paths:
            self._agent.require(["mkdir", "-p", *paths], "guest_mount_failed", f"{', '.join(paths)} cannot be made")
        try:
            mounts = self._mount_together(wanted)
            missing = [(tag, path) for tag, path in wanted if not is_mounted(_mountinfo.visible(mounts, path), tag)]
            tried = [self._mount_one(tag, path) for tag, path in missing]
            mounts = self.mounts() if missing else mounts
            for (tag, path), done in zip(missing, tried):
                if not is_mounted(_mountinfo.visible(mounts, path), tag):
                    raise self._agent.failure(
                        "guest_mount_failed", f"{path} was mounted, but does not show the model", done
                    )
        except ModelfleetError:
            self._take_back(wanted)
            raise
        if self._read_ahead_kb:
            self._read_ahead(filter(None, (_mountinfo.visible(mounts, path) for _tag, path in wanted)))

    def _read_ahead(self, mounts: t.Iterable[_mountinfo.Mount]) -> None:
        """Have the guest read ahead in what is mounted. A model that is read slowly is better than none."""
        devices = sorted({mount.device for mount in mounts if _DEVICE.match(mount.device)})
        files = [f"/sys/class/bdi/{device}/read_ahead_kb" for device in devices]
        if not files:
            return
        try:
            # One program for all of them, as it costs a guest more than what it does.
            self._agent.require(
                ["tee", *files],
                "guest_mount_failed",
                f"read-ahead cannot be set to {self._read_ahead_kb} KiB",
                f"{self._read_ahead_kb}\n".encode(),
            )
        except ModelfleetError as problem:
            self.warnings.append(problem.what)

    def _mount_together(self, wanted: t.Sequence[tuple[str, str]]) -> list[_mountinfo.Mount]:
        """Mount all that can be mounted with one process, which costs a guest more than the mounts do.

        Which of them failed and why is not to be told from what it says, so that is left to whoever mounts the rest.
        """
        if len(wanted) < 2:
            return []
        fstab = "".join(f"{_mount_lines.fstab(tag, path)}\n" for tag, path in wanted)
        # Not /dev/stdin, which not every guest has.
        self._agent.run(["mount", "-a", "-T", "/proc/self/fd/0"], fstab.encode())
        return self.mounts()

    def _mount_one(self, tag: str, path: str) -> _guest_agent.Done:
        """Mount, and try again as long as the guest does not know the tag yet."""
        end = time.monotonic() + min(self._deadline, _APPEARS_WITHIN)
        while True:
            done = self._agent.run(["mount", "-t", FSTYPE, "-o", ",".join(OPTIONS), tag, path])
            if done.code == 0:
                return done
            if not _TOO_EARLY.search(done.output) or time.monotonic() > end:
                raise self._agent.failure("guest_mount_failed", f"{path} cannot be mounted", done)
            time.sleep(0.1)

    def _take_back(self, tried: t.Sequence[tuple[str, str]]) -> None:
        """Unmount what of ours is to be seen, also what was mounted by a command whose answer got lost."""
        with contextlib.suppress(ModelfleetError):
            mounts = self.mounts()
            for tag, path in reversed(tried):
                if is_mounted(_mountinfo.visible(mounts, path), tag):
                    self._agent.run(["umount", path])

    def let_go(self, view: str, bind: str) -> None:
        """Have the guest forget what it knows of a model of a view, as far as nobody uses it.

        Args:
            view: where the view is mounted.
            bind: where the model stands as a mount of its own in a guest that is told of those.

        Raises:
            ModelfleetError: C(agent_unavailable), C(agent_restricted), C(agent_command_failed).
        """
        # Neither has to succeed: what still holds the model is in the way of the host, and shows there. The first does
        # nothing in a guest that is not told of file systems below the view, the second has it forget names.
        self._agent.run(["umount", bind])
        self._agent.run(_remount_command(view))

    def users(self, path: str) -> list[_guest_users.Process]:
        """The processes that use something below a path, as far as they can be found."""
        try:
            return _guest_users.of_path(self._agent, path)
        except ModelfleetError:
            # That it is in use is what matters, by whom is a help.
            return []

    def remount_read_only(self, path: str) -> None:
        """Set the options of a mount right again.

        Raises:
            ModelfleetError: C(guest_mount_failed), C(agent_unavailable), C(agent_restricted).
        """
        self._agent.require(_remount_command(path), "guest_mount_failed", f"{path} cannot be remounted read-only")

    def unmount(self, mounted: t.Sequence[tuple[str, str]], force: bool = False) -> None:
        """Unmount tags from paths; all of them or none.

        Args:
            force: whether to unmount also what is in use; then its users keep what they have open until the device
                goes, and find errors afterwards.

        Raises:
            ModelfleetError: C(mount_busy), also when a container in the guest still has it, C(guest_unmount_failed),
                C(agent_unavailable), C(agent_restricted).
        """
        done = self._agent.run(["umount", *(path for _tag, path in mounted)])
        if done.code != 0:
            self._unmount_rest(mounted, done, force)
        if not force:
            self._refuse_other_name_spaces(mounted)

    def _unmount_rest(self, mounted: t.Sequence[tuple[str, str]], done: _guest_agent.Done, force: bool) -> None:
        """Go on one by one after some could not be unmounted."""
        left = list(mounted)
        if len(mounted) > 1:
            table = self.mounts()
            left = [(tag, path) for tag, path in mounted if is_mounted(_mountinfo.visible(table, path), tag)]
        gone = [mount for mount in mounted if mount not in left]
        try:
            for tag, path in left:
                if len(mounted) > 1:
                    done = self._agent.run(["umount", path])
                if done.code != 0:
                    self._unmount_by_force(path, done, force)
                gone.append((tag, path))
        except ModelfleetError:
            with contextlib.suppress(ModelfleetError):
                if gone:
                    self.mount(gone)
            raise

    def _unmount_by_force(self, path: str, done: _guest_agent.Done, force: bool) -> None:
        if not _BUSY.search(done.output):
            raise self._agent.failure("guest_unmount_failed", f"{path} cannot be unmounted", done)
        if not force:
            raise self._busy(path, done)
        self._agent.require(["umount", "-l", path], "guest_unmount_failed", f"{path} cannot be unmounted lazily")

    def _busy(self, path: str, done: _guest_agent.Done) -> ModelfleetError:
        users = self.users(path)
        by = f"process {_guest_users.shown(users)}" if users else "no process that could be found: a mount below it?"
        return self._agent.failure(
            "mount_busy", f"{path}, used by {by}, cannot be unmounted", done, guest_processes=users
        )

    def _refuse_other_name_spaces(self, mounted: t.Sequence[tuple[str, str]]) -> None:
        # A process with a mount name space of its own, as containers have, keeps a copy that no umount here reaches.
        try:
            tags = [tag for tag, _path in mounted]
            untagged = _identity.VIEW_TAG in tags and not any(
                mount.fstype == FSTYPE and mount.source == NO_TAG for mount in self.mounts()
            )
            texts = [f" {tag} " for tag in tags] + [f" - {FSTYPE} {NO_TAG} "] * untagged
            users = _guest_users.of_other_name_spaces(self._agent, texts)
        except ModelfleetError:
            # Nobody undoes a step that failed.
            self.mount(mounted)
            raise
        if users:
            self.mount(mounted)
            shown = ", ".join(path for _tag, path in mounted)
            raise ModelfleetError(
                "mount_busy",
                f"VM {self._name}: {shown}: in use in another mount name space of the guest, a container for example,"
                f" by process {_guest_users.shown(users)}",
                vm=self._name,
                guest_processes=users,
            )

    # Models of a view that are seen elsewhere than below it

    def link(self, paths: t.Sequence[str]) -> list[str]:
        """Have links lead from mount paths to models of the view; see _guest_links.make."""
        self._directories -= set(paths)
        return _guest_links.make(self._agent, paths)

    def unlink(self, paths: t.Sequence[str], directories: t.Sequence[str] = ()) -> list[str]:
        """Undo link; see _guest_links.remove."""
        return _guest_links.remove(self._agent, paths, directories)

    # Mounts at the guest's next boot

    def read_unit(self, path: str) -> t.Optional[str]:
        """The text of the mount unit of a path; see _guest_unit.read."""
        return _guest_unit.read(self._agent, path)

    def defined_by(self, path: str) -> t.Optional[str]:
        """The file of the guest that defines a mount at a path and is not ours; see _guest_unit.foreign."""
        return _guest_unit.foreign(self._agent, path)

    def write_unit(self, uuid: str, tag: str, path: str) -> bool:
        """Have a model mounted when the guest boots; see _guest_unit.write."""
        return _guest_unit.write(self._agent, uuid, tag, path)

    def remove_unit(self, uuid: str, path: str) -> bool:
        """Undo write_unit; see _guest_unit.remove."""
        return _guest_unit.remove(self._agent, uuid, path)


def is_of_a_view(mount: _mountinfo.Mount, table: list[_mountinfo.Mount]) -> bool:
    """Whether a mount may be of a model of a view, bound elsewhere by somebody in the guest.

    A guest that is told of file systems below the view mounts each as one of its own, which carries no tag. Where no
    virtiofs with a tag lies above such a mount, nothing tells which device it is of.
    """
    if mount.fstype != FSTYPE or mount.source != NO_TAG:
        return False
    above = [other.mount_point for other in table if other.fstype == FSTYPE and other.source != NO_TAG]
    return not any(mount.mount_point.startswith(f"{path}/") for path in above)


def _remount_command(path: str) -> list[str]:
    return ["mount", "-o", ",".join(("remount", *OPTIONS)), path]


def is_mounted(mount: t.Optional[_mountinfo.Mount], tag: str) -> bool:
    """Whether a mount of a guest is the one of a tag, whatever its options."""
    return mount is not None and mount.fstype == FSTYPE and mount.source == tag
