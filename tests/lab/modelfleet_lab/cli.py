"""The command line of the lab."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from . import agents, images, requirements
from .errors import LabError
from .host import Host
from .lab import Lab
from .progress import step

_EXAMPLES = """\
examples:
  lab up alpha=debian12 beta=debian13     two hosts (the first time, their images are built: a minute or two)
  lab guest alpha vm1                     a guest on one of them
  lab status                              what there is
  lab shell alpha virsh list              a command on a host; without a command, a shell
  ansible all -i "$(lab inventory --path)" -m ping
  lab down                                everything is gone
"""


def _build(options: argparse.Namespace) -> None:
    """Make the images."""
    requirements.demand()
    wanted = options.image or [name for name, recipe in images.RECIPES.items() if not recipe.on_demand]
    for name, path in images.ensure_all(wanted, fresh=options.fresh).items():
        print(f"{name:10} {path}")


def _up(options: argparse.Namespace) -> None:
    """Start hosts."""
    for host in Lab(options.lab).up(dict(options.host)).values():
        print(f"{host.name:12} {host.kind:10} {host.address}")


def _down(options: argparse.Namespace) -> None:
    """Remove hosts, or the lab."""
    with step(f"taking down {', '.join(options.host) or f'lab {options.lab}'}"):
        Lab(options.lab).down(options.host or None)


def _status(options: argparse.Namespace) -> None:
    """Print the hosts and their guests."""
    hosts = Lab(options.lab).hosts()
    if not hosts:
        print(f"lab {options.lab} has no hosts")
        return
    print(f"{'HOST':12} {'KIND':10} {'ADDRESS':15} {'STATE':12} GUESTS")
    with ThreadPoolExecutor(max_workers=len(hosts)) as pool:
        for line in pool.map(_status_line, hosts.values()):
            print(line)


def _status_line(host: Host) -> str:
    """Return the line of one host."""
    state = host.state()
    guests = ", ".join(f"{name} ({what})" for name, what in host.guests().items()) if state == "running" else ""
    return f"{host.name:12} {host.kind:10} {host.address:15} {state:12} {guests or '-'}"


def _shell(options: argparse.Namespace) -> int:
    """Run a command, or a shell, on a host; returns its status."""
    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    command = Lab(options.lab).host(options.host).connection.command(options.command, terminal=terminal)
    return subprocess.run(command, check=False).returncode


def _guest(options: argparse.Namespace) -> None:
    """Define and start a guest, or remove it."""
    guest = Lab(options.lab).host(options.host).guest(options.name, options.kind, options.memory, options.ports)
    if options.remove:
        guest.remove()
        return
    with step(f"guest {guest.name} on {guest.host.name}"):
        guest.up()
        if options.agent:
            agents.replace(guest, options.agent)
    print(f"{guest.name} {guest.uuid}")


def _console(options: argparse.Namespace) -> None:
    """Print what a guest, or the host itself, printed on its console."""
    host = Lab(options.lab).host(options.host)
    if options.guest:
        print(host.guest(options.guest).console(), end="")
    else:
        print(host.console_log.read_text(errors="replace"), end="")


def _inventory(options: argparse.Namespace) -> None:
    """Print the inventory or its path."""
    path = Lab(options.lab).inventory_path()
    if not path.exists():
        raise LabError(f"lab {options.lab} is not up")
    print(path if options.path else path.read_text(), end="\n" if options.path else "")


def _requirements(options: argparse.Namespace) -> int:
    """Print what is missing on this machine; returns 1 when something is."""
    if options.packages:
        print("\n".join(requirements.packages()))
        return 0
    found = requirements.problems()
    print("\n".join(found) or "nothing is missing: the lab can run here")
    return 1 if found else 0


def _host_and_kind(text: str) -> tuple[str, str]:
    """Split NAME=KIND."""
    name, separator, kind = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=KIND, for example alpha=debian12")
    return name, kind


def _parser() -> argparse.ArgumentParser:
    """Describe the command line."""
    parser = argparse.ArgumentParser(
        prog="lab",
        description="Real KVM hosts on this machine: containers with systemd, sshd, libvirt and QEMU.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--lab", default="lab", metavar="NAME", help="which lab; several may be up (default: lab)")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, action: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
        added.set_defaults(action=action)
        return added

    kinds = ", ".join(images.HOST_KINDS)
    build = command("build", _build, "make the images that are absent (up does this too)")
    build.add_argument("image", nargs="*", metavar="IMAGE", help=", ".join(images.RECIPES))
    build.add_argument("--fresh", action="store_true", help="make them anew, with the packages of today")

    up = command("up", _up, "start hosts; those that run already are left alone")
    up.add_argument("host", nargs="+", type=_host_and_kind, metavar="NAME=KIND", help=f"kinds: {kinds}")

    down = command("down", _down, "remove hosts with all they have; without names, the whole lab")
    down.add_argument("host", nargs="*", metavar="NAME")

    command("status", _status, "show hosts and guests")

    shell = command("shell", _shell, "run a command on a host, or a shell")
    shell.add_argument("host", metavar="HOST")
    shell.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")

    guest = command("guest", _guest, "define and start a guest, and wait for its agent")
    guest.add_argument("host", metavar="HOST")
    guest.add_argument("name", metavar="NAME")
    guest.add_argument("--kind", default="tiny", choices=images.GUEST_KINDS, help="default: tiny")
    guest.add_argument("--memory", type=int, metavar="MB", help="memory (default: what the kind needs)")
    guest.add_argument("--ports", type=int, default=8, help="PCIe ports for devices plugged in later (default: 8)")
    guest.add_argument("--agent", choices=agents.KINDS, help="an agent that misbehaves in place of the guest's own")
    guest.add_argument("--remove", action="store_true", help="remove the guest instead")

    console = command("console", _console, "print the console log of a guest, or of the host itself")
    console.add_argument("host", metavar="HOST")
    console.add_argument("guest", nargs="?", metavar="GUEST")

    inventory = command("inventory", _inventory, "print the Ansible inventory of the lab")
    inventory.add_argument("--path", action="store_true", help="print the path of the file instead")

    needed = command("requirements", _requirements, "say what this machine lacks to run the lab")
    needed.add_argument("--packages", action="store_true", help="print all Debian packages that the lab needs instead")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command of the lab and return the status to exit with."""
    options = _parser().parse_args(arguments)
    try:
        return options.action(options) or 0
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("lab: interrupted; lab down removes what was started", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has enough of it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
