# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the info modules return for fleets of any size, for the tests of reports."""

from __future__ import annotations

import typing as t
import uuid

from ansible_collections.modelfleet.kvm.plugins.module_utils import _errors, _layers

ALL_RIGHT = ("right", "right", "right", "right")
SHUT_OFF = ("not due", "right", "not due", "not due")
MODELS = (
    ("mistral-small", "3.2"),
    ("gemma-3-27b", "1"),
    ("acme/guard", "2.1"),
    ("e5-large", ""),
    ("parakeet-tdt", "0.6"),
    ("flux-schnell", ""),
    ("phi-4", "4.0"),
)
ACCOUNTS = ("5b0f2a7e-6d1c-4e0a-9a1f-3a5c1d2e4b60", "c2d4e6f8-1a3b-4c5d-8e7f-90a1b2c3d4e5", "")

# Names that would do harm if anything but text were made of them.
HOSTILE = (
    "</script><script>hurt()</script>",
    "<img src=x onerror=hurt()>",
    "{{ hurt }}",
    "'\"><svg onload=hurt()>",
    "<!--<script>",
    "txt.\u202egnp\u202c",
    "two\nlines",
    "&lt;b&gt;\u2028\x00\x1b[31m",
    "half \ud83d a pair",
    "__proto__",
    "=1+1",
)


def uuid_of(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, ascii(text)))


def error(code: str, what: str) -> dict[str, t.Any]:
    return _errors.ModelfleetError(code, what).as_result()


def mount(
    vm: str,
    model: str = "mistral-small",
    version: str = "3.2",
    layers: tuple[str, ...] = ALL_RIGHT,
    *,
    vm_state: str = "running",
    leaving: t.Optional[tuple[str, ...]] = None,
    error: t.Optional[dict[str, t.Any]] = None,
    **record: t.Any,
) -> dict[str, t.Any]:
    """One of the mounts of a result."""
    by_layer = _layers.Layers(*layers)
    drift = not by_layer.right or leaving is not None
    settled = "MountFailed" if drift else "Attached" if by_layer.guest == "not due" else "Mounted"
    status = {"mounting": "Mounting", "unmounting": "Unmounting"}.get(record.get("intent", ""), settled)
    path = record.get("mount_path", f"/models/{model.rsplit('/', maxsplit=1)[-1]}")
    vm_uuid = uuid_of(vm)
    values: dict[str, t.Any] = {
        "uuid": uuid_of(f"{vm} {path}"),
        "vm_instance_uuid": vm_uuid,
        "model_uuid": uuid_of(f"{model} {version}"),
        "model_name": model,
        "model_version": version,
        "model_center_uuid": uuid_of("vault"),
        "model_center_name": "vault",
        "model_path": model,
        "mount_path": path,
        "tag": "modelfleet-models",
        "alias": "ua-modelfleet-1",
        "transport": "view",
        "guest": "agent",
        "persistence": "systemd",
        "read_only": True,
        "account_uuid": "",
        "owner": "default",
        "generation": 1,
        "create_date": "2026-10-02T08:15:00Z",
        "last_op_date": "2026-11-20T17:40:12Z",
        "intent": "settled",
        "revoke": "",
        "schema_version": 1,
        **record,
    }
    return {
        "vm": vm,
        "vm_state": vm_state,
        "record": values,
        "status": status,
        "source_path": f"/run/modelfleet/vms/{vm_uuid}/{model}" if vm_state == "running" else "",
        "host_uuid": uuid_of("host"),
        "layers": by_layer._asdict(),
        "leaving": _layers.Layers(*leaving)._asdict() if leaving else None,
        "drift": drift,
        "error": error,
    }


def result(*mounts: dict[str, t.Any], **more: t.Any) -> dict[str, t.Any]:
    """What a task registers for a host that answered."""
    return {"changed": False, "failed": False, "mounts": list(mounts), "strays": [], "errors": [], **more}


def stray(vm: str, tag: str = "left-over") -> dict[str, t.Any]:
    device = {"tag": tag, "alias": "ua-modelfleet-9", "source_path": "/run/modelfleet/vms/gone"}
    return {"vm": vm, "vm_instance_uuid": uuid_of(vm), **device}


def center(name: str = "vault", state: str = "healthy", **changes: t.Any) -> dict[str, t.Any]:
    """One of the model centers of a result."""
    capacity = {"total_bytes": 40_000_000_000_000, "available_bytes": 11_500_000_000_000}
    row: dict[str, t.Any] = {
        "center": {"name": name, "storage_url": "file:///data/vault"},
        "state": state,
        "why": "" if state == "healthy" else "no answer within 10 seconds",
        "capacity": capacity if state == "healthy" else None,
        "drift": [],
        "stale_users": [],
        "error": None,
    }
    return {**row, **changes}


def centers(*found: dict[str, t.Any]) -> dict[str, t.Any]:
    return {"changed": False, "failed": False, "model_centers": list(found)}


def silent(code: str = "", msg: str = "ssh: connect to host rack-e port 22: No route to host") -> dict[str, t.Any]:
    """What a task registers for a host that cannot be reached, or where the module failed."""
    if code:
        return {"changed": False, "failed": True, **error(code, msg)}
    return {"changed": False, "unreachable": True, "msg": msg}


def varied() -> tuple[dict[str, t.Any], dict[str, t.Any]]:
    """Five hosts with one of everything that can be, and their model centers."""
    agent = error("agent_unavailable", "VM chat-3: its guest agent does not answer")
    hung = error("guest_mount_hung", "VM asr-1: /models does not answer")
    found = {
        "rack-a": result(
            mount("chat-1"),
            mount("chat-1", "acme/guard", "2.1", mount_path="/srv/guard", account_uuid=ACCOUNTS[0], owner="chat"),
            mount("chat-1", "e5-large", ""),
            mount("chat-2"),
            mount("chat-2", "acme/guard", "2.1", account_uuid=ACCOUNTS[0], owner="chat"),
            mount("chat-3", layers=("right", "right", "right", "unknown"), error=agent),
        ),
        "rack-b": result(
            mount("asr-1", "parakeet-tdt", "0.6", ("right", "right", "right", "wrong"), error=hung),
            mount("asr-2", "parakeet-tdt", "0.6", ("missing", "right", "missing", "missing")),
            mount("asr-2", "e5-large", "", ("right", "right", "right", "foreign"), mount_path="/data/e5"),
            mount("asr-3", "parakeet-tdt", "0.6", intent="mounting"),
        ),
        "rack-c": result(
            mount("draw-1", "flux-schnell", "", SHUT_OFF, vm_state="shutoff", account_uuid=ACCOUNTS[1]),
            mount("draw-2", "flux-schnell", "", guest="none", layers=("right", "right", "right", "not due")),
            mount("draw-2", "gemma-3-27b", "1", leaving=("right", "missing", "right", "missing")),
            strays=[stray("draw-clone")],
            errors=[{"vm": "draw-9", **error("record_invalid", "VM draw-9: its records are damaged")}],
        ),
        "rack-d": silent("libvirt_unavailable", "libvirt does not answer at qemu:///system"),
        "rack-e": silent(),
    }
    looked = {
        "rack-a": centers(center()),
        "rack-b": centers(center(state="hung"), center("attic", stale_users=["asr-1"])),
        "rack-c": centers(center(drift=["not mounted at boot"])),
    }
    return found, looked


def large(hosts: int, vms: int, mounts: int = 3) -> dict[str, t.Any]:
    """A fleet of any size, of which one VM in fifty is not as it should be."""
    found = {}
    for host in range(hosts):
        rows = []
        for vm in range(vms):
            for index in range(mounts):
                place = host * vms + vm
                model, version = MODELS[(host // 7 + vm + 2 * index) % len(MODELS)]
                layers = ("right", "right", "right", "missing") if index == 0 and place % 50 == 7 else ALL_RIGHT
                account = ACCOUNTS[vm % len(ACCOUNTS)]
                rows.append(mount(f"vm-{host}-{vm}", model, version, layers, account_uuid=account))
        found[f"node-{host}"] = result(*rows)
    return found


def hostile() -> dict[str, t.Any]:
    """A fleet in which whoever may name something does harm."""
    found = {}
    for name in HOSTILE:
        failed = error("record_invalid", f"VM {name}: its records are damaged ({name})")
        row = mount(name, name, name, mount_path=f"/models/{name}", owner=name, account_uuid=name, tag=name)
        found[name] = result(row, strays=[stray(name, name)], errors=[{**failed, "vm": f"other {name}"}])
    found["told"] = silent(msg="".join(HOSTILE))
    return found
