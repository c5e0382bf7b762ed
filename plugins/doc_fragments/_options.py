# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options that several modules have, written once.

This doc fragment is private to the collection.
"""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  uri:
    description:
      - The libvirt connection URI on the KVM host.
    type: str
    default: qemu:///system
  timeout:
    description:
      - Seconds that any single wait may take, for a lock, the storage, the guest agent, the release of a device, or a
        libvirt that answers nothing at all.
    type: int
    default: 30
requirements:
  - libvirt 7.9 or later with its Python bindings (python3-libvirt) on the KVM host
  - virtiofsd and Linux 5.12 or later on the KVM host
"""

    MOUNT = r"""
options:
  vm: &vm
    description:
      - Name or UUID of the VM.
    type: str
  model: &model
    description:
      - Name of the model, with C(/) between organisation and model where it has one.
    type: str
  model_version: &model_version
    description:
      - Version of the model.
    type: str
  model_uuid: &model_uuid
    description:
      - UUID of the model. Derived from the model center, O(model_path) and O(model_version) when not given.
    type: str
  model_center: &model_center
    description:
      - Name of the model center that holds the model, as given to M(modelfleet.kvm.model_center_mount).
    type: str
  model_path: &model_path
    description:
      - Directory of the model below the model center. It is O(model) when not given.
      - Symbolic links are followed as long as they are relative and stay inside the model center.
    type: str
  mount_path: &mount_path
    description:
      - Absolute path in the guest at which the model is seen. There is at most one model per VM and path.
      - It is C(/models/) and O(model) when not given and O(state=present).
    type: str
  tag: &tag
    description:
      - The virtiofs tag, at most 36 bytes. Derived from VM, path and model when not given, always the same.
      - The view of a VM has the tag C(modelfleet), and takes no other.
    type: str
  transport: &transport
    description:
      - How the model reaches the VM.
      - V(device) gives it a virtiofs device of its own, which takes a PCIe port and is plugged into the VM.
      - V(view) shows it in the view of the VM, one device for any number of models, which the guest mounts once at
        C(/models). A model that joins a view takes no port, and below C(/models) needs nothing of the guest. At an
        O(mount_path) elsewhere the guest gets a symbolic link that leads into the view. Needs Linux 5.10 in the guest.
      - V(auto) leaves what is mounted as it is. A new model gets the view of its VM, but a device of its own when
        O(tag) is given, when O(mount_path) is elsewhere than below C(/models) and there can be no link, because
        something is there, or when the VM has no view and cannot have one,
        because it has models by device that the view would hide, because models of this run differ in O(guest) or
        O(persistence), because the guest has files or file systems of its own at C(/models), or because its kernel is
        too old. What is not known of the guest does not count. It is never a reason to refuse anything.
      - All models of a view have the same O(guest) and O(persistence), as they are mounted together.
      - A model that is mounted by one transport and asked for by the other is unmounted and mounted anew. All models of
        the VM below C(/models) change together, in one task.
    type: str
    choices: [auto, device, view]
    default: auto
  guest: &guest
    description:
      - V(agent) mounts the model in the guest through the QEMU guest agent.
      - V(none) only attaches the device, for guests that mount it themselves by its tag.
    type: str
    choices: [agent, none]
    default: agent
  persistence: &persistence
    description:
      - Whether the guest mounts the model by itself when it boots. A new start of the VM is followed by no run of ours.
      - V(systemd) writes a mount unit of our own into the guest and enables it. The guest boots without delay when the
        model is not there. The unit is removed with the mount. Needs O(guest=agent) and systemd in the guest.
      - V(none) leaves the guest as it is. After it has booted, another run mounts the model again.
      - V(auto) is V(systemd) where the guest runs systemd, and V(none) elsewhere. It is decided once, when the mount is
        made in the guest.
    type: str
    choices: [auto, systemd, none]
    default: auto
  account_uuid: &account_uuid
    description:
      - UUID of the account that the mount belongs to. It is remembered in the record.
    type: str
  owner: &owner
    description:
      - Name of who manages the mount. It is remembered in the record.
      - It is V(default) when not given and O(state=present).
      - With O(state=absent) only mounts of this owner are meant. When it is not given, those of all owners are.
    type: str
  mounts:
    description:
      - Any number of mounts in any number of VMs of the host, converged in one task.
      - Each VM is one transaction. It ends in its old state or in the new one. Its failure does not stop the others.
      - Mutually exclusive with the options of a single mount.
    type: list
    elements: dict
    suboptions:
      vm: *vm
      model: *model
      model_version: *model_version
      model_uuid: *model_uuid
      model_center: *model_center
      model_path: *model_path
      mount_path: *mount_path
      tag: *tag
      transport: *transport
      guest: *guest
      persistence: *persistence
      account_uuid: *account_uuid
      owner: *owner
"""

    PUBLISHED = r"""
options:
  model:
    description:
      - Name of the model, with C(/) between organisation and model where it has one.
    type: str
    required: true
  model_version:
    description:
      - Version of the model.
    type: str
  model_center:
    description:
      - Name of the model center that holds the model, as given to M(modelfleet.kvm.model_center_mount).
    type: str
    required: true
  model_path:
    description:
      - Directory of the model below the model center. It is O(model) when not given.
    type: str
  jobs:
    description:
      - How much of the model is read at once. Storage that is reached over a network often needs several readers before
        it gives all it can.
    type: int
    default: 4
  timeout:
    description:
      - Seconds for which the storage may be silent. However long it takes to read the model, it is given up only when
        not a byte came for so long.
    type: int
    default: 30
notes:
  - Reading a large model takes as long as the storage needs. Every ten seconds a line in the journal of the host says
    how far it is, under the identifier C(ansible-) and the full name of the module. Use C(async) where a task must not
    keep a connection open for so long.
requirements:
  - Linux 5.6 or later on the KVM host
"""
