# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hostile input for the real modules of a real host. Runs on the host: thousands of tasks would take Ansible hours.

What it prints is one line of JSON: what the modules answered, and what they should not have done.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import functools
import importlib
import json
import os
import random
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

_COLLECTION = "ansible_collections.modelfleet.kvm.plugins"


class _Told(Exception):
    """The options of a module."""


class _AnsibleModule:
    def __init__(self, argument_spec: dict[str, Any], **_options: Any) -> None:
        raise _Told(argument_spec)


# The modules want Ansible's only for their main().
_BASIC = types.ModuleType("ansible.module_utils.basic")
_BASIC.AnsibleModule = _AnsibleModule  # type: ignore[attr-defined]
sys.modules[_BASIC.__name__] = _BASIC

Params = dict[str, Any]

WORDS = (
    "a model etc proc self root .. ... . ~ - -- --help -o,rw -rf * ? [a-z] $HOME $(reboot) `id` ; & | > <"
    " ' \" \\ \\040 \\x2d %% %i %n # ! ua-modelfleet- <mount/> ]]> <!-- &amp; &#10; {{7*7}} none auto null true 0 -1"
).split()
WORDS += [
    " ",
    "\t",
    "\n",
    "\r",
    "\0",
    "\x1b[2J",
    "\x7f",
    "\x85",
    "\xa0",
    "\u2028",
    "\u202e",
    "\u200b",
    "\ufeff",
    "\ufdd0",
]
WORDS += [
    "\ud800",
    "\udcff",
    "\ufffe",
    "\xe9",
    "e\u0301",
    "\u6a21\u578b",
    "\U0001f40d",
    "\U0010ffff",
    "\u0661",
    "\uff0f",
]
WORDS += ["/", "//", "/../", "/./", "/etc/", "/proc/self/root/", "/models/", "../../..", "a" * 255, "\xe9" * 200]

MOUNT = "vm model model_version model_uuid model_center model_path mount_path tag account_uuid owner".split()
CENTER = "name uuid storage_url mount_point client helper cache_dir verify_path".split()
FILTERS = "vms models model_centers accounts owners mount_paths tags statuses".split()

# Seconds that one answer may take. Each wait may take `timeout`, and this machine may be slow.
LIMIT = 60.0
TIMEOUT = 10


def module(name: str) -> Any:
    """A module of the collection."""
    return importlib.import_module(f"{_COLLECTION}.modules.{name}")


@functools.cache
def usual(name: str) -> Params:
    """All parameters of a module, as Ansible hands them over when a task says none."""
    try:
        module(name).main()
    except _Told as told:
        return {option: what.get("default") for option, what in told.args[0].items()}
    raise AssertionError(f"{name} has no options")


def util(name: str) -> Any:
    """A part of the collection's own."""
    return importlib.import_module(f"{_COLLECTION}.module_utils.{name}")


class Source:
    """Hostile values, the same ones every time."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def text(self) -> str:
        """Anything."""
        kind = self.random.random()
        if kind < 0.1:
            return self.random.choice(WORDS) * self.random.choice((2, 64, 1024, 4096))
        between = "/" if kind < 0.4 else ""
        return between.join(self.random.choices(WORDS, k=self.random.randint(0, 6)))

    def option(self, usual: str | None, hostile: float = 0.35) -> str | None:
        """What is usual, or something hostile, or for paths something strange."""
        if self.random.random() > hostile:
            return usual
        text = self.text()
        if usual is not None and usual.startswith(("/", "file:")) and self.random.random() < 0.7:
            return f"{usual}{text}"
        return text

    def mount(self, vm: str) -> Params:
        """The options of one mount of a model that there is not."""
        word = f"m{self.random.randrange(10**9)}"
        transport = self.random.choice(("device", "view"))
        root = "/models" if transport == "view" else "/srv"
        wish = {"vm": vm, "model": word, "model_center": "zoo", "mount_path": f"{root}/{word}"}
        return {
            **{name: self.option(wish.get(name), 0.2) for name in MOUNT},
            "guest": "agent",
            # All models of a view share it, so that most would be refused for that alone.
            "persistence": self.random.choice(("auto", "systemd", "none")) if transport == "device" else "auto",
            "transport": transport,
        }


class Report:
    """What the modules answered."""

    def __init__(self) -> None:
        self.answers: collections.Counter[str] = collections.Counter()
        self.faults: list[str] = []
        self.slowest = 0.0
        self.error: Any = util("_errors").ModelfleetError

    def call(self, what: str, run: Callable[[], Any], answer: Callable[[Any], list[str]]) -> None:
        """Call a module, and note the codes that it answers; anything but a code is a fault."""
        begin = time.monotonic()
        try:
            codes = answer(run())
        except self.error as problem:
            json.dumps(problem.as_result())
            codes = [problem.code]
            if len(problem.msg) > 4000:
                self.fault(what, f"a message of {len(problem.msg)} characters")
        except Exception as problem:
            codes = ["fault"]
            self.fault(what, repr(problem))
        self.answers.update(codes)
        if "internal_error" in codes:
            self.fault(what, "internal_error")
        took = time.monotonic() - begin
        self.slowest = max(took, self.slowest)
        if took > LIMIT:
            self.fault(what, f"it took {took:.0f} s")

    def fault(self, what: str, problem: str) -> None:
        """Note what should not have happened."""
        self.faults.append(f"{ascii(what)[:600]}: {problem[:400]}")


def mounts_of(outcomes: Any) -> list[str]:
    """The codes of all mounts of a result, which must be one that Ansible can return."""
    found = util("_report").mounts(outcomes)
    json.dumps([found, util("_report").diff(outcomes), util("_report").failure(outcomes)])
    return [mount["error"]["error_code"] if mount["error"] else "ok" for mount in found]


def mount_call(entries: list[Params] | None, state: str, **options: Any) -> Params:
    """All parameters of vm_model_mount."""
    return {**usual("vm_model_mount"), "timeout": TIMEOUT, "mounts": entries, "state": state, **options}


def fuzz(vm: str, seed: int, count: int) -> Report:
    """Call all modules with hostile input."""
    report, source = Report(), Source(seed)
    run = module("vm_model_mount").run
    usable: dict[tuple[str, str], list[Params]] = collections.defaultdict(list)
    for _each in range(count):
        entry, state = source.mount(vm), source.random.choice(("present", "absent"))
        together = usable[entry["transport"], state]
        params = mount_call([entry], state)
        if usable_with(together, params):
            together.append(entry)
        else:
            report.call(f"vm_model_mount {params}", functools.partial(run, params, False), mounts_of)
    # What is not refused at sight looks at the VM, which takes a while: all at once, but for each transport apart.
    for (transport, state), entries in usable.items():
        for check_mode in (True, False):
            params = mount_call(entries, state)
            report.call(f"vm_model_mount {transport} {state}", functools.partial(run, params, check_mode), mounts_of)
    options(report, source, vm, count // 10)
    centers(report, source, count // 10)
    filters(report, source, count // 20)
    return report


def usable_with(others: list[Params], params: Params) -> bool:
    """Whether the one mount of a call is not refused at sight, nor because of others."""
    try:
        util("_wanted").refuse_blanks(params)
        together = {**params, "mounts": [*others, *params["mounts"]]}
        util("_wanted").from_params(util("_input").trimmed(together), params["state"] == "present")
    except util("_errors").ModelfleetError:
        return False
    return True


def options(report: Report, source: Source, vm: str, count: int) -> None:
    """Hostile values of what is not said of one mount."""
    run = module("vm_model_mount").run
    for _each in range(count):
        hostile: Params = source.random.choice(
            (
                {"vms": [source.text()], "purge": "vm", "mounts": [], "allow_empty": True, "owner": "nobody"},
                {"uri": source.text()},
                {"owner": source.text()},
                {"timeout": source.random.choice((-1, 0, 3601, 10**30))},
                {"planned_centers": [{"name": source.text(), "uuid": source.text(), "storage_url": source.text()}]},
            )
        )
        params = mount_call([{**source.mount(vm), "vm": "no-such-vm"}], "present", **hostile)
        report.call(f"vm_model_mount {params}", functools.partial(run, params, True), mounts_of)


def centers(report: Report, source: Source, count: int) -> None:
    """Hostile model centers; their storage is never there, so that none may be mounted."""
    run = util("_center_converge").converge
    for _each in range(count):
        word = f"c{source.random.randrange(10**9)}"
        center = {"name": word, "storage_url": f"file:///no-such/{word}", "mount_point": f"/srv/{word}"}
        hostile: Params = {option: source.option(center.get(option)) for option in CENTER}
        params: Params = {**usual("model_center_mount"), **hostile, "timeout": TIMEOUT, "keep_alive": False}
        url = params["storage_url"]
        if isinstance(url, str) and not url.startswith("file:///no-such/"):
            params["storage_url"] = f"nfs://{url}"
        params["state"] = source.random.choice(("mounted", "unmounted", "absent"))
        params["options"] = source.random.choice((None, None, [], [source.text()]))
        params["credentials"] = source.random.choice((None, None, {}, {"password": source.text()}))
        check_mode = source.random.random() < 0.5
        report.call(
            f"model_center_mount {params}",
            functools.partial(run, params, check_mode),
            lambda result: ["changed" if result["changed"] else "ok"],
        )


def filters(report: Report, source: Source, count: int) -> None:
    """Hostile filters."""
    run = module("vm_model_mount_info").run
    for _each in range(count):
        params: Params = {**usual("vm_model_mount_info"), "timeout": TIMEOUT}
        params[source.random.choice(FILTERS)] = [source.text() for _each in range(source.random.randint(0, 3))]
        params["guest_processes"] = source.random.random() < 0.2
        report.call(f"vm_model_mount_info {params}", functools.partial(run, params), lambda _result: ["ok"])


# A model that is exchanged all the time

_EXCHANGE = """
import ctypes, itertools, sys
libc, model, links = ctypes.CDLL(None), sys.argv[1].encode(), [link.encode() for link in sys.argv[2:]]
for link in itertools.cycle(links):
    for _way in range(2):
        assert libc.renameat2(-100, model, -100, link, 2) == 0
"""


@contextlib.contextmanager
def exchanged(model: str, *links: str) -> Iterator[None]:
    """Have a directory take turns with links at its path, as fast as the kernel can."""
    assert hasattr(ctypes.CDLL(None), "renameat2")
    with subprocess.Popen([sys.executable, "-c", _EXCHANGE, model, *links]) as child:
        try:
            yield
            assert child.poll() is None, "it ended"
        finally:
            child.kill()


def race(vm: str, model: str, times: int, looks: int) -> Report:
    """Mount a model that is exchanged with links out of its center, and look what the guest sees of it."""
    report = Report()
    status = os.stat(model)
    identity, files = (status.st_dev, status.st_ino), sorted(os.listdir(model))
    name = os.path.basename(model)
    with exchanged(model, f"{model}-etc", f"{model}-up"):
        for _each in range(looks):
            (found,) = util("_sources").look_at(
                "/var/lib/modelfleet/centers/zoo", [name], 10.0, clone=True, look=look()
            )
            report.answers[os.strerror(found.error) if found.error else "looked"] += 1
            if found.error == 0 and (
                found.identity != identity or sorted(os.listdir(f"/proc/self/fd/{found.tree}")) != files
            ):
                report.fault("look", f"{found}")
            util("_sources").close(found.tree)
        run = module("vm_model_mount").run
        gone = mount_call(None, "absent", vm=vm, model=name)
        for each in range(times):
            transport = ("device", "view")[each % 2]
            there = mount_call(None, "present", vm=vm, model=name, model_center="zoo", transport=transport)
            report.call("mount", functools.partial(run, there, False), mounts_of)
            seen = in_guest(vm, ["ls", "-A", f"/models/{name}/"])
            if seen not in ([], files):
                report.fault("mount", f"the guest sees {seen}")
            report.answers["seen"] += bool(seen)
            report.call("unmount", functools.partial(run, gone, False), mounts_of)
    return report


@functools.cache
def look() -> Any:
    """One opener for all looks."""
    return util("_opener").Openers().look


def in_guest(vm: str, command: list[str]) -> list[str]:
    """The lines that a command in the guest prints."""
    host = util("_domain").Host("qemu:///system", 20.0)
    ask = functools.partial(util("_agents").Agents(host).ask, host.vm(vm))
    done = util("_guest_agent").Agent(vm, ask, 20.0).run(command)
    return sorted(done.stdout.decode().split("\n")[:-1])


def main() -> None:
    """C(hostile.py fuzz VM SEED COUNT) or C(hostile.py race VM DIRECTORY TIMES LOOKS)."""
    what, vm, *rest = sys.argv[1:]
    begin = time.monotonic()
    report = fuzz(vm, *map(int, rest)) if what == "fuzz" else race(vm, rest[0], *map(int, rest[1:]))
    took = time.monotonic() - begin
    found = {"answers": report.answers, "faults": report.faults, "slowest": report.slowest, "seconds": took}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
