# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Measures a Python program of the host without touching it: Python imports this file by itself when it starts.

The file that BENCH_MEASURES names gets a line of JSON: the seconds that the process lived, what it asked libvirt, and
with BENCH_PROFILE where its threads spent their time.

Why a profiler of our own: cProfile knows nothing of threads, and most of the time here is spent waiting in several.
"""

from __future__ import annotations

import atexit
import collections
import importlib.machinery
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType, ModuleType
from typing import Any

_EXTENSIONS = ("libvirtmod", "libvirtmod_qemu")
# What the library answers by itself, without asking libvirtd.
_LOCAL = (
    "virConnectRef",
    "virConnectSetKeepAlive",
    "virDomainFree",
    "virDomainGetConnect",
    "virDomainGetID",
    "virDomainGetName",
    "virDomainGetUUID",
    "virEvent",
    "virGet",
    "virInitialize",
    "virRegister",
    "virResetLastError",
)
_INTERVAL = 0.005
# Frames that say nothing: threads that wait for work or for each other, the way to the program, and this file.
_SILENT = frozenset(("threading", "thread", "queue", "_base", "<stdin>", "_loader", "<frozen runpy>", "sitecustomize"))

_calls: collections.Counter[str] = collections.Counter()
_seconds: collections.defaultdict[str, float] = collections.defaultdict(float)


class _Finder:
    """Lets an extension module be imported as ever, and then wraps its functions."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in _EXTENSIONS:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_wrap(module: ModuleType) -> None:
                execute(module)
                for key, function in vars(module).copy().items():
                    if key.startswith("vir") and callable(function) and not key.startswith(_LOCAL):
                        setattr(module, key, _counted(key, function))

            setattr(spec.loader, "exec_module", execute_and_wrap)  # noqa: B010
        return spec


def _counted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            with _lock:
                _calls[name] += 1
                _seconds[name] += time.perf_counter() - began

    return call


_lock = threading.Lock()


class _Sampler(threading.Thread):
    """Looks every few milliseconds what every thread is in; waiting counts as well as working."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.everywhere: collections.defaultdict[str, float] = collections.defaultdict(float)
        self.main: collections.defaultdict[str, float] = collections.defaultdict(float)
        self.itself: collections.defaultdict[str, float] = collections.defaultdict(float)

    def run(self) -> None:
        before = time.perf_counter()
        while True:
            time.sleep(_INTERVAL)
            now = time.perf_counter()
            for thread, frame in sys._current_frames().items():
                functions = [] if thread == self.ident else _functions(frame)
                for function in set(functions):
                    self.everywhere[function] += now - before
                    if thread == threading.main_thread().ident:
                        self.main[function] += now - before
                if functions:
                    self.itself[functions[0]] += now - before
            before = now

    def lines(self) -> list[tuple[str, float, float, float]]:
        """The functions, those in which most time was spent first."""
        ordered = sorted(self.everywhere.copy().items(), key=lambda item: -item[1])
        return [(name, seconds, self.main[name], self.itself[name]) for name, seconds in ordered]


def _functions(frame: FrameType | None) -> list[str]:
    """The functions that a thread is in, the innermost first; nothing for a thread that waits for work."""
    found = []
    while frame is not None:
        file = os.path.basename(frame.f_code.co_filename).removesuffix(".py")
        if file.startswith(("<frozen importlib", "<frozen zipimport")):
            found.append("(importing)")
        elif file not in _SILENT:
            found.append(f"{file}.{getattr(frame.f_code, 'co_qualname', frame.f_code.co_name)}")
        frame = frame.f_back
    return found


def _age() -> float:
    """Seconds since this process began."""
    with open("/proc/self/stat", encoding="utf-8") as file:
        ticks = int(file.read().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def _write(path: str, sampler: _Sampler | None) -> None:
    if not _calls:
        return
    times = os.times()
    line: dict[str, Any] = {
        "seconds": _age(),
        "cpu": times.user + times.system + times.children_user + times.children_system,
        "calls": {name: [count, _seconds[name]] for name, count in _calls.most_common()},
    }
    if sampler is not None:
        line["profile"] = sampler.lines()
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _begin() -> None:
    path = os.environ.get("BENCH_MEASURES")
    if not path:
        return
    sys.meta_path.insert(0, _Finder())
    sampler = None
    if os.environ.get("BENCH_PROFILE"):
        sampler = _Sampler()
        sampler.start()
    atexit.register(_write, path, sampler)


_begin()
