#!/usr/bin/python

# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: model_center_mount
short_description: Mount a model center on a KVM host
version_added: 0.1.0
description:
  - Mounts the storage that holds AI models below its mount point, persistently, through a native systemd unit.
  - The record of the model center is kept in the unit itself, so that the two cannot disagree.
  - What is mounted is compared with what was asked for, and must answer within a deadline; that a unit is active or a
    client has returned success proves nothing.
author:
  - The modelfleet.kvm contributors (@modelfleet)
extends_documentation_fragment:
  - modelfleet.kvm._attributes
  - modelfleet.kvm._attributes.action_group
requirements:
  - systemd on the KVM host
options:
  name:
    description:
      - Name of the model center, by which M(modelfleet.kvm.vm_model_mount) refers to it.
    type: str
    required: true
  uuid:
    description:
      - UUID of the model center. Derived from O(name) when it was never given, the same on every host.
    type: str
  storage_url:
    description:
      - Where the models are. Required with O(state=mounted). Special characters are written as in any URL, for example
        C(%20) for a blank.
      - C(file:///DIRECTORY) is a local or already mounted directory. File systems that are mounted below it are not
        shown.
      - C(image:///FILE) is a file system in a file, such as squashfs or erofs, C(block:///dev/DEVICE?fstype=TYPE) one
        on a disk.
      - C(nfs://HOST/EXPORT), C(glusterfs://HOST[,BACKUP]/VOLUME), C(ceph://[CLIENT@]MON[,MON]/FILESYSTEM[/DIRECTORY]),
        C(smb://[USER@]HOST/SHARE), C(sftp://USER@HOST/DIRECTORY), C(davs://[USER@]HOST[/DIRECTORY]).
      - C(s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME]).
      - C(juicefs+ENGINE://...), where C(ENGINE://...) is the URL of JuiceFS's metadata; C(?volume=NAME) and
        C(subdir=/DIRECTORY) may follow.
      - C(existing:///MOUNT_POINT) is what somebody else mounts there. It is verified and never touched.
      - C(generic://TYPE?device=DEVICE) is anything else that C(mount) knows. This is experimental.
      - Secrets must not stand in it; see O(credentials). C(docs/storage.md) describes each kind of storage.
    type: str
  credentials:
    description:
      - Secrets of the storage, which reach its client by files that only root can read, or by its environment, and are
        shown nowhere.
      - Without it an earlier run's secrets stay. An empty dictionary takes them away.
      - Files of theirs that others than root could read are protected again. When one of them is gone, the secrets are
        needed again, which is told as V(invalid_input).
    type: dict
    suboptions:
      access_key:
        description: For C(s3), and the object storage of C(juicefs).
        type: str
      secret_key:
        description: For C(s3), and the object storage of C(juicefs).
        type: str
      session_token:
        description: For C(s3), and the object storage of C(juicefs).
        type: str
      password:
        description: For C(smb), which is mounted as a guest only with C(guest) in O(options), and C(davs).
        type: str
      bearer_token:
        description: For C(davs).
        type: str
      cephx_key:
        description: For C(ceph).
        type: str
      private_key:
        description: For C(sftp), a private key without a passphrase.
        type: str
      known_hosts:
        description: For C(sftp), lines for the server as in a file C(known_hosts). It is no secret.
        type: str
      meta_password:
        description: For C(juicefs), of Redis, MySQL or PostgreSQL.
        type: str
      rsa_passphrase:
        description: For C(juicefs), of an encrypted volume.
        type: str
  options:
    description:
      - Options of the client, each C(name) or C(name=value), as its manual names them. They take the place of the
        defaults of the same name; C(name=default) leaves one of those out.
    type: list
    elements: str
  client:
    description:
      - Which client mounts it, where there are several. C(rclone) or C(s3fs) for C(s3), C(kernel) or C(fuse) for
        C(ceph). The first is taken when none is given.
    type: str
  helper:
    description:
      - Name or path of the client's program, where a vendor calls it otherwise, for example a JuiceFS of a vendor's.
    type: str
  cache_dir:
    description:
      - Directory on a local disk in which the client of C(s3), C(davs) or C(juicefs) keeps what it has read. It must
        not be on the root file system.
      - Several model centers may name the same. Each has its own below it, with JuiceFS each volume, and it stays when
        the model center is absent.
    type: str
  cache_size:
    description:
      - MiB that the cache may take.
    type: int
  verify_path:
    description:
      - Path below the mount point that must be there, a file or a directory. It is read as a proof that the storage is
        the right one and answers. Without it, any file that is found is read.
      - Symbolic links in it are followed as long as they stay below the mount point.
      - Required for C(s3) and C(davs), whose clients mount what does not exist, and for C(ceph) by C(fuse), where it is
        shown nowhere what is mounted.
    type: str
  keep_alive:
    description:
      - Let a timer of systemd look after the model center once a minute, and mount it again when its client has died or
        the host could not mount it when it booted. What was stopped in order stays stopped.
    type: bool
    default: true
  on_unhealthy:
    description:
      - What to do when the right storage is mounted and does not answer, although its client lives.
      - V(fail) fails with the code of what is wrong, V(warn) warns, V(remount) mounts it again.
      - A client that has died is always replaced.
    type: str
    choices: [fail, warn, remount]
    default: fail
  take_over:
    description:
      - Take the place of a mount or a unit of somebody else's at the mount point.
      - A line in C(/etc/fstab), and any other unit for the mount point, stays and yields. systemd does not start it as
        long as the model center is defined, and has it back when it is absent. Only a mount unit in
        C(/etc/systemd/system), whose name a model center may need itself, is replaced for good.
      - When the model center cannot be mounted, what systemd had mounted there is mounted again. Of a mount that was
        made by hand nobody knows how.
    type: bool
    default: false
  force:
    description:
      - Unmount the models of the model center from all VMs of this host first, running or not, when it must be
        unmounted or mounted again, or gets another O(uuid). Without it this is refused with C(center_in_use).
    type: bool
    default: false
  mount_point:
    description:
      - Absolute path at which the model center is mounted on the host.
      - It is C(/var/lib/modelfleet/centers/) and O(name) when not given. When it changes, the model center moves.
    type: str
  read_only:
    description:
      - Mount the model center read-only. VMs never see more than a read-only view of a model in any case.
      - What somebody else mounts (C(existing)) must be read-only where this is V(true); with V(false) it need not be.
    type: bool
    default: true
  state:
    description:
      - V(mounted) mounts it, now and at every boot.
      - V(unmounted) unmounts it, also at boot, and keeps its definition.
      - V(absent) unmounts it and removes its definition. The storage itself is not touched.
    type: str
    choices: [mounted, unmounted, absent]
    default: mounted
  timeout:
    description:
      - Seconds that any single wait may take, for a lock, for systemd or for the storage.
    type: int
    default: 30
seealso:
  - module: modelfleet.kvm.model_center_info
  - module: modelfleet.kvm.vm_model_mount
"""

EXAMPLES = r"""
- name: Mount a model center from a local directory
  modelfleet.kvm.model_center_mount:
    name: zoo
    storage_url: file:///srv/models

- name: Mount a bucket, with a cache on a disk of its own
  modelfleet.kvm.model_center_mount:
    name: bucket
    storage_url: s3://models/published?endpoint=https://s3.example.com
    credentials:
      access_key: "{{ vault_s3_access_key }}"
      secret_key: "{{ vault_s3_secret_key }}"
    cache_dir: /var/cache/models
    cache_size: 500000
    verify_path: catalogue.json

- name: Mount an NFS export with another number of connections
  modelfleet.kvm.model_center_mount:
    name: filer
    storage_url: nfs://filer.example.com/export/models
    options: [nconnect=16]

- name: Mount a JuiceFS by a client that a vendor has renamed
  modelfleet.kvm.model_center_mount:
    name: fleet
    storage_url: juicefs+redis://models@meta.example.com:6379/1?volume=models
    helper: zdfs
    credentials:
      meta_password: "{{ vault_meta_password }}"

- name: Take it away again
  modelfleet.kvm.model_center_mount:
    name: zoo
    state: absent
"""

RETURN = r"""
center:
  description: The model center as it is defined on the host, null when it is not.
  type: dict
  returned: success
  contains:
    name:
      description: Its name.
      type: str
    uuid:
      description: Its UUID.
      type: str
    storage_url:
      description: Its storage URL in the normal form.
      type: str
    mount_point:
      description: Where it is mounted.
      type: str
    read_only:
      description: Whether it is mounted read-only.
      type: bool
    options:
      description: Options of the client.
      type: list
      elements: str
    client:
      description: The client, empty for the usual one.
      type: str
    helper:
      description: The program of the client, empty for the usual one.
      type: str
    cache_dir:
      description: Where the client keeps what it has read, empty for nowhere.
      type: str
    cache_size:
      description: MiB of the cache, 0 for the client's own limit.
      type: int
    verify_path:
      description: What must be there, empty for nothing.
      type: str
    credentials:
      description: The names of the secrets that the client has.
      type: list
      elements: str
    keep_alive:
      description: Whether a timer looks after it.
      type: bool
    schema_version:
      description: Version of the record's schema.
      type: int
unit:
  description: Name of the systemd unit.
  type: str
  returned: success
actions:
  description: The steps done, or in check mode due, in their order.
  type: list
  elements: str
  returned: success
  sample: [make_mount_point, write_keeper, write_unit, reload_systemd, enable_unit, mount, start_keeper]
health:
  description: The state in which it was found, when there was nothing to do; null otherwise.
  type: str
  returned: success
  sample: healthy
unmounted:
  description: VMs from which O(force) has taken models of this center, each with C(vm), C(vm_instance_uuid), C(models).
  type: list
  elements: dict
  returned: success
error_code:
  description: Symbolic code of the failure.
  type: str
  returned: failure
msg:
  description: What went wrong, where, and what to do.
  type: str
  returned: failure
details:
  description: More about the failure, for example the last lines of the unit's journal.
  type: dict
  returned: failure
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.modelfleet.kvm.plugins.module_utils import _center_converge, _center_mount
from ansible_collections.modelfleet.kvm.plugins.module_utils._errors import ModelfleetError

CREDENTIALS = (
    "access_key bearer_token cephx_key known_hosts meta_password password private_key rsa_passphrase secret_key"
    " session_token"
).split()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "uuid": {"type": "str"},
            "storage_url": {"type": "str"},
            "credentials": {
                "type": "dict",
                "no_log": True,
                "options": {name: {"type": "str", "no_log": name != "known_hosts"} for name in CREDENTIALS},
            },
            "options": {"type": "list", "elements": "str"},
            "client": {"type": "str"},
            "helper": {"type": "str"},
            "cache_dir": {"type": "str"},
            "cache_size": {"type": "int"},
            "verify_path": {"type": "str"},
            "mount_point": {"type": "str"},
            "read_only": {"type": "bool", "default": True},
            "keep_alive": {"type": "bool", "default": True},
            "on_unhealthy": {
                "type": "str",
                "choices": [_center_mount.FAIL, _center_mount.WARN, _center_mount.REMOUNT_IT],
                "default": _center_mount.FAIL,
            },
            "take_over": {"type": "bool", "default": False},
            "force": {"type": "bool", "default": False},
            "state": {
                "type": "str",
                "choices": [_center_mount.MOUNTED, _center_mount.UNMOUNTED, _center_mount.ABSENT],
                "default": _center_mount.MOUNTED,
            },
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    try:
        result = _center_converge.converge(module.params, module.check_mode)
    except ModelfleetError as problem:
        module.fail_json(**problem.as_result())
    for warning in result.pop("warnings"):
        module.warn(warning)
    if not module._diff:
        del result["diff"]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
