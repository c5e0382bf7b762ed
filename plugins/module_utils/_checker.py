# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a model may be given to a VM, told in milliseconds, by the process that looks at its model center.

This module util is private to the collection.
"""

from __future__ import annotations

import errno
import os
import resource
import threading
import typing as t

from . import _content, _manifest, _mountapi, _opener
from ._errors import ModelfleetError

# How much is looked at before a model is mounted.
NONE, STRUCTURE, MANIFEST = "none", "structure", "manifest"

# Headers of the greatest length take about half of it. What is made to take more is refused.
_MEMORY = 2 << 30
# Of what is wrong. Names are as long as those who wrote them wished.
FILES, _NAME = 20, 1024


class Checked(t.NamedTuple):
    """What came of a check.

    Attributes:
        problem: why the model must not be mounted, None for no reason.
        error: errno of the storage, ETIMEDOUT when it did not answer, 0 for none.
    """

    problem: t.Optional[_content.Problem]
    error: int = 0


class Checks:
    """The checks of a run: each model is checked once, however many VMs get it.

    Args:
        level: how much is looked at.
        deadline: seconds for the answer about a model.
    """

    def __init__(self, level: str, deadline: float, openers: _opener.Openers) -> None:
        self._level = level
        self._deadline = deadline
        self._openers = openers
        self._lock = threading.Lock()
        # Those who wait for the check of a center wait for no other's.
        self._once: dict[str, threading.Lock] = {}
        self._done: dict[tuple[str, str, str], Checked] = {}

    def check(self, root: str, path: str, model: str) -> Checked:
        """Check a model as far as the run is to.

        Args:
            root: the mount point of its center.
            model: the UUID under which its manifest is kept.
        """
        if self._level == NONE:
            return Checked(None)
        manifest = _manifest.path(model) if self._level == MANIFEST else ""
        with self._lock:
            once = self._once.setdefault(root, threading.Lock())
        with once:
            key = (root, path, manifest)
            if key not in self._done:
                self._done[key] = self._asked(root, path, manifest)
            return self._done[key]

    def _asked(self, root: str, path: str, manifest: str) -> Checked:
        found = self._openers.call(root, __name__, {"path": path, "manifest": manifest}, self._deadline)
        if found is None:
            return Checked(None, errno.ETIMEDOUT)
        code, what, *files = found["problem"] or ("", "")
        return Checked(_content.Problem(code, what, tuple(files)) if code else None, found["error"])


def answer(root: t.Union[int, OSError], path: str, manifest: str) -> _opener.Answer:
    """In the child: check a model.

    Args:
        manifest: the file of the manifest that it must agree with, empty for none.
    """
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    try:
        _require(root, path, manifest)
    except _content.Refused as refused:
        return _told(refused.problem)
    except ModelfleetError as problem:
        return _told(_content.Problem(problem.code, problem.what))
    except MemoryError:
        return _told(_content.Problem("model_damaged", "it needs more memory than a model"))
    except OSError as problem:
        return {"problem": None, "error": problem.errno or errno.EIO}
    return {"problem": None, "error": 0}


def _told(problem: _content.Problem) -> _opener.Answer:
    files = [name[:_NAME] for name in problem.files[:FILES]]
    return {"problem": [problem.code, problem.what, *files], "error": 0}


def _require(root: t.Union[int, OSError], path: str, manifest: str) -> None:
    if isinstance(root, OSError):
        raise root
    model = _mountapi.open_beneath(root, path)
    try:
        _content.require_structure(model)
        if manifest:
            _require_unchanged(model, manifest)
    finally:
        os.close(model)


def _require_unchanged(model: int, file: str) -> None:
    kept = _manifest.load(file)
    if kept is None:
        raise _content.Refused(_manifest.NONE_KEPT)
    problem = _manifest.changed(kept, dict(_content.files(model)))
    if problem is not None:
        raise _content.Refused(problem)
