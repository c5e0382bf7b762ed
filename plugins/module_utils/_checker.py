# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Whether a model may be given to a VM, told in milliseconds, by a process that can be abandoned.

This module util is private to the collection.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import socket
import threading
import typing as t

from . import _child, _content, _manifest, _mountapi
from ._errors import ModelfleetError

# How much is looked at before a model is mounted.
NONE, STRUCTURE, MANIFEST = "none", "structure", "manifest"

# The files of a problem, each of whose characters may become six.
_MESSAGE = 192 << 10
# A header of the greatest length takes about half of it. What is made to take more is refused.
_MEMORY = 2 << 30
# Of what is wrong. Names are as long as those who wrote them wished.
_FILES, _NAME = 20, 1024


class Checked(t.NamedTuple):
    """What came of a check.

    Attributes:
        problem: why the model must not be mounted, None for no reason.
        error: errno of the storage, ETIMEDOUT when it did not answer, 0 for none.
    """

    problem: t.Optional[_content.Problem]
    error: int = 0


class Checker:
    """A child that checks models below a root. Once it did not answer in time it is asked nothing more."""

    def __init__(self, root: str) -> None:
        self._lock = threading.Lock()
        self._gave_up = False
        self._ours, self._process = _child.start(__name__)
        with contextlib.suppress(ConnectionError):
            self._ours.send(json.dumps({"root": root}).encode())

    def check(self, path: str, manifest: str, deadline: float) -> Checked:
        """Check a model.

        Args:
            manifest: the file of the manifest that it must agree with, empty for none.
            deadline: seconds for an answer.
        """
        with self._lock:
            if self._gave_up:
                return Checked(None, errno.ETIMEDOUT)
            try:
                self._ours.settimeout(deadline)
                self._ours.send(json.dumps({"path": path, "manifest": manifest}).encode())
                message = self._ours.recv(_MESSAGE)
            except (socket.timeout, ConnectionError):
                message = b""
            if not message:
                self._gave_up = True
                return Checked(None, errno.ETIMEDOUT)
        answer = json.loads(message)
        problem = answer["problem"]
        return Checked(problem and _content.Problem(problem[0], problem[1], tuple(problem[2])), answer["error"])

    def close(self) -> None:
        """End the child."""
        self._ours.close()
        self._process.kill()
        self._process.poll()


class Checks:
    """The checks of a run: each model is checked once, however many VMs get it."""

    def __init__(self, level: str, deadline: float) -> None:
        self._level = level
        self._deadline = deadline
        self._lock = threading.Lock()
        self._checkers: dict[str, tuple[Checker, threading.Lock]] = {}
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
            if root not in self._checkers:
                self._checkers[root] = Checker(root), threading.Lock()
            checker, once = self._checkers[root]
        with once:
            key = (root, path, manifest)
            if key not in self._done:
                self._done[key] = checker.check(path, manifest, self._deadline)
            return self._done[key]

    def __enter__(self) -> Checks:
        return self

    def __exit__(self, *_failure: object) -> None:
        for checker, _once in self._checkers.values():
            checker.close()


def serve(descriptor: int) -> None:
    """The child: answer the parent until it is gone."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    with socket.socket(fileno=descriptor) as connection:
        root = json.loads(connection.recv(_MESSAGE))["root"]
        while True:
            message = connection.recv(_MESSAGE)
            if not message:
                return
            checked = _checked(root, **json.loads(message))
            connection.send(json.dumps(checked._asdict()).encode())


def _checked(root: str, path: str, manifest: str) -> Checked:
    try:
        center = _mountapi.open_directory(root)
        try:
            model = _mountapi.open_beneath(center, path)
        finally:
            os.close(center)
        try:
            _content.require_structure(model)
            if manifest:
                _require_unchanged(model, manifest)
        finally:
            os.close(model)
    except _content.Refused as refused:
        return Checked(_shown(refused.problem))
    except ModelfleetError as problem:
        return Checked(_shown(_content.Problem(problem.code, problem.what)))
    except MemoryError:
        return Checked(_content.Problem("model_damaged", "it needs more memory than a model"))
    except OSError as problem:
        return Checked(None, problem.errno or errno.EIO)
    return Checked(None)


def _require_unchanged(model: int, file: str) -> None:
    kept = _manifest.load(file)
    if kept is None:
        raise _content.Refused(_content.Problem("model_unverified", "this host has no manifest of it"))
    problem = _manifest.changed(kept, dict(_content.files(model)))
    if problem is not None:
        raise _content.Refused(problem)


def _shown(problem: _content.Problem) -> _content.Problem:
    """A problem that fits into a message."""
    return problem._replace(files=tuple(name[:_NAME] for name in problem.files[:_FILES]))
