"""The Ansible inventory of a lab."""

from __future__ import annotations

from pathlib import Path

from .ssh import SshFiles
from .state import LabState


def text(state: LabState, files: SshFiles) -> str:
    """Return the inventory: all hosts in the group ``kvm_hosts``, reached over SSH with real host key checking."""
    arguments = (
        f"-F /dev/null -o IdentitiesOnly=yes -o UserKnownHostsFile={files.known_hosts}"
        " -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes"
    )
    lines = [
        "# Written by the lab.",
        "kvm_hosts:",
        "  vars:",
        "    ansible_user: root",
        f"    ansible_ssh_private_key_file: {files.key}",
        f"    ansible_ssh_common_args: {arguments}",
        "    ansible_python_interpreter: /usr/bin/python3",
        "  hosts:" if state.hosts else "  hosts: {}",
    ]
    for name, host in sorted(state.hosts.items()):
        lines += [f"    {name}:", f"      ansible_host: {host.address}", f"      lab_kind: {host.kind}"]
    return "\n".join(lines) + "\n"


def write(path: Path, state: LabState, files: SshFiles) -> None:
    """Write the inventory of a lab to ``path``."""
    path.write_text(text(state, files))
