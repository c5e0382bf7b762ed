# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The error catalogue: every failure of the collection is raised from here.

This module util is private to the collection.
"""

from __future__ import annotations

import typing as t


class Entry(t.NamedTuple):
    """What a code means: a title, the usual cause, and what to do about it."""

    title: str
    cause: str
    remedy: str


# Codes are symbolic, stable and never reused; they stand in alphabetical order. Chinese texts are in
# docs/zh/errors.toml. `make docs` writes the pages in docs/ again.
CATALOGUE: dict[str, Entry] = {
    "agent_command_failed": Entry(
        "The guest agent could not run a command",
        "The QEMU guest agent answered with an error, or the command failed inside the guest.",
        "Read the details; run the command inside the guest to see what it says.",
    ),
    "agent_restricted": Entry(
        "The guest agent may not do what is needed",
        "The agent is configured to refuse running commands or opening files, as in RHEL and its relatives, or SELinux"
        " in the guest keeps it from running programs.",
        "Allow guest-exec, guest-exec-status and guest-file-* in the guest's qemu-ga settings and SELinux, or use"
        " guest=none; docs/operations.md has the exact settings.",
    ),
    "agent_unavailable": Entry(
        "The guest agent does not answer",
        "qemu-guest-agent is not installed, not running, or the VM has no agent channel.",
        "Install and start qemu-guest-agent in the guest, or use guest=none and mount by hand.",
    ),
    "attach_failed": Entry(
        "The virtiofs device could not be attached",
        "libvirt or QEMU refused the device.",
        "Read the message of libvirt in the details and the log of the VM's virtiofsd on the host.",
    ),
    "cache_on_root": Entry(
        "The cache would fill the disk of the system",
        "cache_dir is on the root file system of the host.",
        "Mount a disk of its own for the cache and name a directory on it, or leave cache_dir out.",
    ),
    "center_conflict": Entry(
        "The mount point belongs to something else",
        "Another file system, another systemd unit, or another model center uses this mount point or name.",
        "Choose another mount point, or remove what is there.",
    ),
    "center_in_use": Entry(
        "VMs use the model center",
        "Unmounting it, or mounting it again, would take the models away from VMs of this host.",
        "Unmount its models first (state=absent of modelfleet.kvm.vm_model_mount), or use force=true, which does that.",
    ),
    "center_mount_failed": Entry(
        "The model center could not be mounted",
        "systemd could not start the mount unit, or what it mounted is not the wanted storage.",
        "Read the details and the journal of the unit.",
    ),
    "center_not_mounted": Entry(
        "The model center is not mounted",
        "Nothing is mounted at its mount point, or something else is, which the message names, so that no model can be"
        " taken from it.",
        "Mount it with modelfleet.kvm.model_center_mount, then run again.",
    ),
    "center_shadowed": Entry(
        "Something hides the mount point",
        "Another file system is mounted at a directory above the mount point, so that nobody sees the model center.",
        "Unmount what the message names, or choose another mount point.",
    ),
    "center_unknown": Entry(
        "There is no such model center on this host",
        "No mount unit of this collection carries the name.",
        "Define it with modelfleet.kvm.model_center_mount first, or correct the name.",
    ),
    "center_unreadable": Entry(
        "The record of a model center cannot be read",
        "Its unit was edited, or written by a newer release that knows more.",
        "Use the release that wrote it; or disable, stop and remove the unit by hand, and define the center anew.",
    ),
    "client_missing": Entry(
        "The client of the storage is not installed",
        "A program that mounts this kind of storage is not on the host.",
        "Install the package that the message names, or name the program with helper.",
    ),
    "controller_unsupported": Entry(
        "The control node lacks something that is needed",
        "The inventory plugin asks libvirt from the control node, and the Python that it does so with has no"
        " bindings of libvirt.",
        "Install python3-libvirt there, or name a Python that has the module libvirt in the option python.",
    ),
    "define_failed": Entry(
        "The VM's XML could not be changed",
        "libvirt refused the new definition of the VM, or took it without all that it needs.",
        "Read the message of libvirt in the details; the VM has the definition that libvirt accepted last.",
    ),
    "detach_failed": Entry(
        "The virtiofs device could not be detached",
        "libvirt or QEMU refused to remove the device.",
        "Read the message of libvirt in the details.",
    ),
    "detach_timeout": Entry(
        "The guest did not release the virtiofs device",
        "The device was asked to go, but is still in the live XML of the VM at the deadline.",
        "Run again: the removal carries on. A guest that is paused or hung must run, or the VM be restarted.",
    ),
    "duplicate_mount": Entry(
        "Two entries claim the same place",
        "Two entries, or an entry and what is mounted already, have the same mount path, tag, or model and version.",
        "Keep one of them. What is mounted and shall move is unmounted first.",
    ),
    "fleet_stopped": Entry(
        "The run was stopped before this host's turn",
        "More hosts had failed than modelfleet_max_fail_percentage allows, or a model center that was to be evacuated"
        " is in use on another host, or another host or VM could not be looked at.",
        "Look at the hosts that failed, then run again.",
    ),
    "guest_mount_failed": Entry(
        "The guest could not mount the model",
        "The mount command failed inside the guest, or what is mounted is not what was asked for.",
        "Read the guest's own message in the details; the guest needs a kernel with virtiofs (5.4 or later).",
    ),
    "guest_mount_hung": Entry(
        "A mount in the guest does not answer",
        "The storage behind it does not answer, or its virtiofsd ended while a request was under way.",
        "Check the storage on the host. When that answers, only stopping and starting the VM heals the mount.",
    ),
    "guest_unit_failed": Entry(
        "The mount unit in the guest could not be changed",
        "systemd in the guest refused, or its /etc cannot be written.",
        "Read the guest's own message in the details, or mount without persistence in the guest.",
    ),
    "guest_unit_foreign": Entry(
        "The guest defines this mount by itself",
        "An fstab line, or a mount unit that is not of modelfleet.kvm, names the same path in the guest.",
        "Remove it in the guest, or mount without persistence in the guest.",
    ),
    "guest_unmount_failed": Entry(
        "The guest could not unmount the model",
        "The umount command failed inside the guest for a reason other than being in use.",
        "Read the guest's own message in the details.",
    ),
    "guest_unsupported": Entry(
        "The guest cannot do what was asked for",
        "The guest runs Windows, whose agent cannot mount virtiofs at a path, or persistence=systemd was asked of a"
        " guest that does not run systemd.",
        "Use persistence=none where systemd is missing. For Windows use guest=none, and mount the tag in the guest with"
        " the virtiofs service of virtio-win.",
    ),
    "hook_in_use": Entry(
        "VMs of this host need the hook",
        "VMs have devices of modelfleet.kvm whose sources only the hook can bring back.",
        "Unmount their models first (state=absent of modelfleet.kvm.vm_model_mount).",
    ),
    "host_not_prepared": Entry(
        "The KVM host is not prepared",
        "The libvirt hook that brings the sources back before a VM starts is missing or out of date.",
        "Run modelfleet.kvm.kvm_host_prepare (role modelfleet.kvm.kvm_host) on this host first.",
    ),
    "host_unreachable": Entry(
        "A KVM host cannot be asked",
        "Ansible cannot connect to the host, or its libvirt does not answer, so nobody knows what runs there.",
        "See that Ansible reaches the host and that libvirt answers there, then run again.",
    ),
    "host_unsupported": Entry(
        "The KVM host lacks something that is needed",
        "The kernel, libvirt or virtiofsd of the host is missing or too old.",
        "Install what the message names.",
    ),
    "internal_error": Entry(
        "Something happened that modelfleet.kvm does not know",
        "A fault of modelfleet.kvm, or of what it works with.",
        "Report it with the details; other VMs of the run are not concerned.",
    ),
    "invalid_input": Entry(
        "An option has a value that cannot be used",
        "A name, path, tag, UUID or URL is malformed or not allowed.",
        "Correct the option that the message names.",
    ),
    "libvirt_error": Entry(
        "libvirt reported an error",
        "A call to libvirt failed for a reason that has no code of its own.",
        "Read the message of libvirt in the details.",
    ),
    "libvirt_restarted": Entry(
        "libvirt before 9.2 cannot attach after it was restarted",
        "libvirtd was restarted while this VM ran. Before 9.2.0 it then claims that the VM lacks shared memory.",
        "Stop and start the VM. modelfleet.kvm.vm_model_prepare keeps this from happening, and so does libvirt 9.2.",
    ),
    "libvirt_unavailable": Entry(
        "libvirt cannot be reached",
        "The Python bindings are not installed on the host, or the libvirt daemon does not run, or it answered nothing"
        " at all within the timeout.",
        "Install python3-libvirt on the KVM host, and see that libvirtd or virtqemud runs and that virsh gets answers.",
    ),
    "lock_timeout": Entry(
        "Another run is busy with the same VM or model center",
        "The lock was not released within the deadline.",
        "Wait for the other run to end, then run again.",
    ),
    "manifest_invalid": Entry(
        "The manifest of a model cannot be used",
        "The file on the host that the message names is damaged, was written by a newer release, or cannot be written.",
        "See what is wrong with the file. Without it, the next run of modelfleet.kvm.model_verify makes it anew.",
    ),
    "model_damaged": Entry(
        "A file of the model is not what it should be",
        "It is torn, or differs from the manifest, or something writes to it. Downloads and copies that were cut short"
        " leave such files.",
        "Publish the files that the details name again. If they are right as they are, make the manifest anew (renew of"
        " modelfleet.kvm.model_verify).",
    ),
    "model_incomplete": Entry(
        "A file of the model is missing",
        "The index of the model or its manifest names a file that a VM would not find below the model's directory."
        " Links that lead out of that directory lead nowhere in a VM.",
        "Publish the files that the details name, or the model with its links resolved, then run again.",
    ),
    "model_unverified": Entry(
        "Nobody has verified this model on this host",
        "There is no manifest of it, or files were written after that was made.",
        "Run modelfleet.kvm.model_verify on this host, then run again.",
    ),
    "mount_busy": Entry(
        "The model is in use in the guest",
        "A process in the guest has files of the model open or its working directory there.",
        "Stop the process that uses the model, then run again.",
    ),
    "mount_path_in_use": Entry(
        "Something else is mounted at the mount path",
        "A file system that is not this model is mounted at the path in the guest.",
        "Choose another mount_path, or unmount the foreign file system in the guest.",
    ),
    "mount_path_unusable": Entry(
        "The mount path cannot be used in the guest",
        "A symbolic link, or a file that is no directory, stands in the guest where the mount path leads. Where a link"
        " of ours shall stand at the path, for a model of a view, it is a directory that is not empty.",
        "Choose another mount_path, or make room there in the guest.",
    ),
    "no_free_pci_port": Entry(
        "The VM has too few free PCIe ports",
        "Each device needs a free pcie-root-port, and root ports cannot be added to a running VM.",
        "Give the VM more with modelfleet.kvm.vm_model_prepare and restart it, or unmount another model.",
    ),
    "no_kvm_hosts": Entry(
        "The run has no KVM hosts",
        "The inventory has no hosts that match modelfleet_hosts, or --limit leaves all of them out.",
        "Name KVM hosts in the limit as well, for example --limit 'llm_serving:kvm_hosts'.",
    ),
    "no_room_for_model": Entry(
        "There is no room to keep the model",
        "The host has less memory available, or the cache of the client is smaller, than the model needs.",
        "Free memory, or allow more of it (reserve_mb, evict_mb), or give the client a larger cache (cache_size).",
    ),
    "no_shared_memory": Entry(
        "The VM runs without shared memory",
        "virtiofs needs guest memory that is shared with the host, and that is fixed when a VM starts.",
        "Prepare the VM with modelfleet.kvm.vm_model_prepare, then stop and start it.",
    ),
    "not_read_only": Entry(
        "Read-only could not be enforced on the host",
        "The virtiofsd of the device is dead, or does not show its source as read-only in its own mount table.",
        "The device was taken back. Read virtiofsd's log of the VM on the host.",
    ),
    "not_revoked": Entry(
        "The host still serves a model that was taken away",
        "The device of the VM's view was unplugged, and the virtiofsd behind it goes on.",
        "Read the VM's log of virtiofsd on the host and end the processes in the details; then run again. Stopping the"
        " VM ends them as well.",
    ),
    "not_root": Entry(
        "This needs root",
        "Mounts, units and libvirt's processes cannot be seen or changed by other users.",
        "Connect as root or use become.",
    ),
    "nothing_done": Entry(
        "No step of the playbook was run for this host",
        "The tags of the run (--tags, --skip-tags) leave out all that the playbook does.",
        "Correct the tags; docs/playbooks.md lists those of each playbook.",
    ),
    "program_timeout": Entry(
        "A program of the host did not end",
        "systemctl, virtiofsd or another program of the host ran into its deadline.",
        "Look at what the program waits for on the host, then run again.",
    ),
    "record_conflict": Entry(
        "The VM's records were written by a newer release",
        "The schema version in the VM's metadata is newer than this release understands.",
        "Use the newer release of modelfleet.kvm; nothing was changed.",
    ),
    "record_invalid": Entry(
        "The VM's records cannot be read",
        "The metadata of modelfleet.kvm in the domain XML is damaged.",
        "Repair or remove the modelfleet metadata with 'virsh edit', then run again.",
    ),
    "restart_failed": Entry(
        "The VM could not be started again",
        "It was shut down for its restart, and libvirt could not start it.",
        "The VM is off. Read the message of libvirt in the details, then start it.",
    ),
    "restart_timeout": Entry(
        "The guest did not shut down",
        "It was asked to shut down, and still runs at the deadline. A VM is never ended by force.",
        "Shut the guest down from inside and run again, or allow it more time. Its XML is prepared.",
    ),
    "source_missing": Entry(
        "The model is not there",
        "The directory does not exist below the model center.",
        "Publish the model, or correct model_path.",
    ),
    "source_outside_center": Entry(
        "The model's path leaves its model center",
        "The path, or a symbolic link on it, leads to the root of the center or out of it.",
        "Give the path of a directory below the model center; links must be relative and stay inside.",
    ),
    "storage_error": Entry(
        "The storage answered with an error",
        "The file system behind the model center failed: its client died, or its server refused.",
        "Repair the storage or mount the model center again, then run again.",
    ),
    "storage_missing": Entry(
        "The storage of the model center is not there",
        "What storage_url names does not exist on this host.",
        "Correct storage_url, or make the directory.",
    ),
    "storage_timeout": Entry(
        "The storage does not answer",
        "Looking at the model or the model center took longer than the deadline.",
        "Check the storage behind the model center; nothing hangs on the host because of this run.",
    ),
    "storage_unreachable": Entry(
        "The client of the storage has lost its servers",
        "It runs, and says that it is not connected. It heals by itself when the servers come back.",
        "Check the servers and the network. on_unhealthy=remount mounts it again nevertheless.",
    ),
    "storage_wrong": Entry(
        "What is mounted is not the wanted storage",
        "It answers, but verify_path is not there.",
        "Correct storage_url or verify_path.",
    ),
    "systemd_error": Entry(
        "systemd refused",
        "A call to systemctl failed.",
        "Read the details and the journal of the unit.",
    ),
    "tag_in_use": Entry(
        "The VM has another device with this tag",
        "A filesystem device that is not this mount's already uses the tag.",
        "Choose another tag, or leave it out.",
    ),
    "task_failed": Entry(
        "A task of the playbook failed",
        "Ansible itself refused or could not run a task: a variable of a role is missing or malformed, or Python is"
        " missing on the host.",
        "Read the message of Ansible; correct the variable or the host that it names.",
    ),
    "too_many_models": Entry(
        "The view of a VM would have too many models",
        "A view holds 1000 models at most; their records are kept in the XML of the VM.",
        "Unmount models that are not needed, or give some a device of their own (transport=device).",
    ),
    "transport_conflict": Entry(
        "The transports of a VM's mounts do not go together",
        "A model would be hidden by the view of the VM, because it is not in it and lies where that is mounted, or the"
        " models of one view differ in guest or persistence.",
        "List the models that the message is about in the same task, with the transport, guest and persistence of the"
        " others, or unmount them first.",
    ),
    "vm_ambiguous": Entry(
        "More than one VM can be meant",
        "KVM hosts of the run have different VMs of this name, several have it shut off, or two hosts of the inventory"
        " mean the same VM.",
        "Name the VM by its UUID in model_vm, or say in kvm_host where it is; remove what a migration left behind.",
    ),
    "vm_not_found": Entry(
        "There is no such VM on this host",
        "No domain has this name or UUID.",
        "Correct the name, or run on the host where the VM is.",
    ),
    "vm_runs_twice": Entry(
        "The VM runs on more than one KVM host",
        "It is being migrated at this moment, or it was started on two hosts, which destroys its disks.",
        "Wait for the migration to end and run again. Otherwise stop one of the two at once.",
    ),
    "vm_state": Entry(
        "The VM is in a state in which this cannot be done",
        "A VM must be running or shut off for its mounts to be changed, and running to be restarted.",
        "Resume, start or stop the VM, then run again.",
    ),
    "vm_transient": Entry(
        "The VM is transient",
        "A VM without a persistent definition has nothing that a preparation could be kept in.",
        "Define the VM in libvirt with virsh define, or prepare the XML that it is created from.",
    ),
}

# Nothing but a new start of the VM heals these.
HEALED_BY_RESTART = frozenset(("guest_mount_hung", "libvirt_restarted", "no_free_pci_port", "no_shared_memory"))


class ModelfleetError(Exception):
    """A failure with a code of the catalogue.

    Args:
        code: a key of `CATALOGUE`.
        what: what went wrong and where, one clause without a full stop.
        details: data for programs and people, free of secrets.
    """

    def __init__(self, code: str, what: str, **details: t.Any) -> None:
        self.code = code
        self.what = what
        self.details = details
        super().__init__(self.msg)

    @property
    def msg(self) -> str:
        """One sentence that says what and where, and one that says what to do."""
        return f"{self.what.rstrip('.')}. {CATALOGUE[self.code].remedy}"

    def as_result(self) -> dict[str, t.Any]:
        """The shape in which every module reports a failure."""
        return {"error_code": self.code, "msg": self.msg, "details": self.details}


def internal(problem: Exception, where: str) -> ModelfleetError:
    """Any failure as one with a code, so that it stays with the VM that it happened to."""
    if isinstance(problem, ModelfleetError):
        return problem
    origin = problem.__traceback__
    while origin is not None and origin.tb_next is not None:
        origin = origin.tb_next
    line = f"{origin.tb_frame.f_code.co_name}:{origin.tb_lineno}" if origin else ""
    return ModelfleetError("internal_error", f"{where}: {type(problem).__name__}: {problem}", origin=line)
