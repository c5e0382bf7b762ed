# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A model as it is published in a model center: where it is, and what is wrong with it.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import errno
import os
import typing as t

from . import _centers, _checker, _content, _identity, _input, _observed, _opener, _steps
from ._errors import ModelfleetError


class Model(t.NamedTuple):
    """One version of a model in a model center of this host."""

    center: _centers.Center
    path: str
    version: str

    @property
    def uuid(self) -> str:
        """The UUID of it, whatever somebody who mounts it calls it."""
        return _identity.model_uuid(self.center.uuid, self.path, self.version)


def from_params(params: dict[str, t.Any], deadline: float, openers: _opener.Openers) -> Model:
    """The model that a task is about.

    Args:
        params: the module's parameters, already trimmed.
        deadline: seconds for an answer of the storage.

    Raises:
        ModelfleetError: C(invalid_input), or why there is no such model.
    """
    for option in ("model", "model_center"):
        if params[option] is None:
            raise _input.invalid(option, "it is required")
    name = _input.model_name("model", params["model"])
    center = _input.name("model_center", params["model_center"])
    path = _input.relative_path("model_path", params["model_path"] or name)
    version = _input.version("model_version", params["model_version"]) if params["model_version"] else ""
    return Model(_observed.find_model(_observed.ModelKey(center, path), deadline, openers), path, version)


def checked(plan: _steps.MountPlan, host: _observed.HostView, checks: _checker.Checks) -> _steps.MountPlan:
    """The plan of a mount, or its refusal where it would show a VM a model that is not whole."""
    if plan.after is None or not plan.shows_anew:
        return plan
    center, path = host.centers[plan.after.model_center_name], plan.after.model_path
    if _observed.ModelKey(center.name, path) not in host.models:
        # An earlier task of the same play will show it.
        return plan
    model = Model(center, path, plan.after.model_version)
    found = checks.check(center.mount_point, path, model.uuid)
    if found.problem:
        return plan.refused(refused(center.name, path, found.problem))
    if found.error:
        return plan.refused(unanswered(center, path, OSError(found.error, "")))
    return plan


@contextlib.contextmanager
def problems_told(model: Model) -> t.Iterator[None]:
    """Have what is wrong with a model, and what its storage does, be errors with a code."""
    try:
        yield
    except _content.Refused as problem:
        raise refused(model.center.name, model.path, problem.problem) from None
    except OSError as problem:
        raise unanswered(model.center, model.path, problem) from None


def refused(center: str, path: str, problem: _content.Problem) -> ModelfleetError:
    """The error for a model with a problem."""
    where = f"model center '{center}': {path}"
    if not problem.files:
        return ModelfleetError(problem.code, f"{where}: {problem.what}", center=center, path=path)
    more = f", and {len(problem.files) - 1} more" if problem.files[1:] else ""
    shown = [printable(name) for name in problem.files[: _checker.FILES]]
    return ModelfleetError(
        problem.code,
        f"{where}: {_input.show(problem.files[0])}: {problem.what}{more}",
        center=center,
        path=path,
        file=shown[0],
        files=shown,
        count=len(problem.files),
    )


def printable(name: str) -> str:
    """The name of a file as it can be printed and sent, also where it is not text."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def unanswered(center: _centers.Center, path: str, problem: OSError) -> ModelfleetError:
    """The error for storage that failed."""
    where = os.path.join(path, problem.filename) if problem.filename else path
    return _observed.source_error(center, printable(where), _opener.Found(None, problem.errno or errno.EIO))
