# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model center on its host: what is seen of it, and what stands in its way.

This module util is private to the collection.
"""

from __future__ import annotations

import errno
import os
import shutil
import typing as t

from . import (
    _center_files,
    _center_rivals,
    _center_state,
    _center_unit,
    _centers,
    _input,
    _keeper_file,
    _opener,
    _storage,
    _systemd,
)
from ._center_mount import View, find
from ._errors import ModelfleetError

_PROGRAMS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def observe(
    center: _centers.Center,
    wanted: bool,
    units: t.Sequence[_centers.Unit],
    deadline: float,
    secrets: t.Optional[t.Mapping[str, str]] = None,
    take_over: bool = False,
) -> View:
    """Look at a center where its mount point is.

    Args:
        wanted: whether it shall be mounted, so that its storage must be looked at.
        deadline: seconds for the storage to answer.
        secrets: the files that its client shall have, None to leave them as they are.
        take_over: whether it may take the place of somebody else's mount or unit.

    Raises:
        ModelfleetError: C(center_conflict), C(invalid_input), C(client_missing), C(cache_on_root), C(storage_missing),
            C(storage_timeout), C(storage_error).
    """
    unit = _systemd.show(_unit_name(center, wanted, units))
    ours = next((found for found in units if found.name == unit.name), None)
    if not wanted and ours is not None and ours.center.name != center.name:
        ours = None
    if not center.storage_url:
        # Nobody knows it, so nothing of it is to be found but what lies under its name.
        nothing = _center_state.Seen(_center_state.NOT_MOUNTED)
        return View(None, unit, nothing, False, has_secrets=_center_files.any_secrets(center.name))
    if wanted:
        _refuse_twins(center, ours, units)
        _require(center, deadline)
        _require_secrets(center, secrets)
        seen = _look(center, unit.name, deadline)
        if not take_over:
            _refuse_conflict(center, ours, unit, seen)
    else:
        seen = _center_state.at(center)
    rivals: tuple[_center_rivals.Rival, ...] = ()
    if wanted and not _storage.definition(center).adopted:
        rivals = tuple(_center_rivals.find(center.mount_point, [known.name for known in units]))
    timer = _systemd.show(_center_unit.timer(center))
    return View(
        ours,
        unit,
        seen,
        seen.mount is not None or _opener.look(center.mount_point, ["."], deadline)[0].identity is not None,
        keeper=_keeper_file.installed(),
        has_keeper=_keeper_file.left(),
        watched=timer.running,
        secrets=secrets is None or _center_files.secrets(center.name) == dict(secrets),
        private=not _center_files.exposed(center.name),
        pending=_center_files.is_pending(center.name),
        others=_others(center, units),
        has_secrets=_center_files.any_secrets(center.name),
        timer_left=timer.active != timer.enabled,
        rivals=rivals,
        drop_ins=_center_rivals.present(center.mount_point),
        yields=_center_rivals.wanted(center, unit.name, rivals),
    )


def _others(center: _centers.Center, units: t.Sequence[_centers.Unit]) -> bool:
    """Whether other centers need the keeper, or may: what nobody understands here may need it."""
    others = [other.center for other in units if other.center.name != center.name]
    return any(map(_needs_keeper, others)) or bool(_centers.damaged())


def _needs_keeper(center: _centers.Center) -> bool:
    try:
        return _center_unit.needs_keeper(center)
    except ModelfleetError:
        return True


def _unit_name(center: _centers.Center, wanted: bool, units: t.Sequence[_centers.Unit]) -> str:
    if wanted:
        return _center_unit.name(center)
    known = find(center.name, [unit for unit in units if unit.center == center])
    return known.name if known else _systemd.mount_unit_name(center.mount_point)


def _refuse_twins(center: _centers.Center, ours: t.Optional[_centers.Unit], units: t.Sequence[_centers.Unit]) -> None:
    taken = [
        unit.center for unit in (*([ours] if ours else []), *units) if unit.center.mount_point == center.mount_point
    ]
    other = next((found for found in taken if found.name != center.name), None)
    if other is not None:
        raise _conflict(center, f"model center '{other.name}' is mounted there")
    twin = next((unit.center for unit in units if unit.center.uuid == center.uuid), None)
    if twin is not None and twin.name != center.name:
        raise ModelfleetError("center_conflict", f"model center '{twin.name}' already has the UUID {center.uuid}")


def _refuse_conflict(
    center: _centers.Center, ours: t.Optional[_centers.Unit], unit: _systemd.Unit, seen: _center_state.Seen
) -> None:
    if _storage.definition(center).adopted:
        return
    known = [*([ours] if ours else []), *_centers.units()]
    if any(_mounts_there(found.center, center) for found in known):
        # It is ours, perhaps mounted by a unit of another kind.
        return
    fragments = [
        "" if ours else unit.fragment_path,
        _systemd.show(_systemd.mount_unit_name(center.mount_point)).fragment_path,
    ]
    defined = next((path for path in fragments if path), "")
    if defined:
        raise _conflict(center, f"{defined} mounts something there")
    if seen.mount is not None:
        raise _conflict(center, f"{seen.mount.fstype} from {seen.mount.source} is mounted there")


def _mounts_there(known: _centers.Center, center: _centers.Center) -> bool:
    """Whether a known center is this one, and what is at its place comes from us; what is adopted does not."""
    same = known.name == center.name and known.mount_point == center.mount_point
    return same and not _storage.definition(known).adopted


def _conflict(center: _centers.Center, taken: str) -> ModelfleetError:
    return ModelfleetError(
        "center_conflict",
        f"model center '{center.name}' cannot use {center.mount_point}: {taken}",
        mount_point=center.mount_point,
    )


def _require(center: _centers.Center, deadline: float) -> None:
    for need in _storage.definition(center).needs:
        if shutil.which(need.program, path=_PROGRAMS) is None:
            raise ModelfleetError(
                "client_missing",
                f"model center '{center.name}' needs the program {need.program} on this host (package {need.debian} on"
                f" Debian and Ubuntu, {need.red_hat} on RHEL and its relatives)",
                program=need.program,
                debian=need.debian,
                red_hat=need.red_hat,
            )
    if center.cache_dir and _on_root(center, deadline):
        raise ModelfleetError(
            "cache_on_root",
            f"model center '{center.name}': {center.cache_dir} is on the root file system, which the cache would fill",
            cache_dir=center.cache_dir,
        )


def _on_root(center: _centers.Center, deadline: float) -> bool:
    """Whether the cache of a center is, or would be made, on the root file system."""
    path = center.cache_dir
    while True:
        found = _opener.look(path, ["."], deadline)[0]
        if found.error == errno.ETIMEDOUT:
            raise _source_error(center, path, found.error)
        if found.identity is not None:
            return found.identity[0] == os.stat("/").st_dev
        path = os.path.dirname(path)


def _require_secrets(center: _centers.Center, given: t.Optional[t.Mapping[str, str]]) -> None:
    _storage.require_secrets(center)
    missing = [] if given is not None else _center_files.missing_secrets(center)
    if missing:
        raise _input.invalid("credentials", f"they are needed again, because {missing[0]} is not there any more")


def _look(center: _centers.Center, unit: str, deadline: float) -> _center_state.Seen:
    directory = _storage.definition(center).shows.directory
    if directory:
        source = _opener.look(directory, ["."], deadline)[0]
        if source.identity is None:
            raise _source_error(center, directory, source.error)
    return _center_state.look(center, unit, deadline)


def _source_error(center: _centers.Center, directory: str, error: int) -> ModelfleetError:
    code = {errno.ETIMEDOUT: "storage_timeout", errno.ENOENT: "storage_missing", errno.ENOTDIR: "storage_missing"}
    return ModelfleetError(
        code.get(error, "storage_error"),
        f"model center '{center.name}': {directory}: {os.strerror(error)}",
        center=center.name,
        path=directory,
    )
