"""What a lab remembers between commands: one small JSON file in its run directory.

It is written before the things that it names are made, so that whatever was made can be found again.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .paths import RUN_DIR, lab_data_dir, lab_run_dir

_FILE = "lab.json"


@dataclass
class HostState:
    """A host: what it was made from and where it is reached."""

    kind: str
    address: str
    image: str


@dataclass
class LabState:
    """A lab: its network, the directory of its hosts' writable layers, its hosts by name."""

    network: str
    data_dir: str
    hosts: dict[str, HostState] = field(default_factory=dict)


def load(lab: str) -> LabState | None:
    """Return what is remembered of a lab, or None when there is nothing."""
    try:
        data = json.loads((lab_run_dir(lab) / _FILE).read_text())
    except FileNotFoundError:
        return None
    hosts = {name: HostState(**host) for name, host in data.pop("hosts").items()}
    return LabState(**data, hosts=hosts)


def save(lab: str, state: LabState) -> None:
    """Remember a lab, in one step that an interruption cannot split."""
    directory = lab_run_dir(lab)
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = directory / f"{_FILE}.new"
    partial.write_text(json.dumps(asdict(state), indent=2) + "\n")
    partial.replace(directory / _FILE)


def data_dir(lab: str) -> Path:
    """Return the directory of a lab's writable layers, also when nothing is remembered of it."""
    state = load(lab)
    return Path(state.data_dir) if state else lab_data_dir(lab)


def labs() -> Iterator[str]:
    """Yield the names of all labs that something is remembered of."""
    for path in sorted(RUN_DIR.glob(f"*/{_FILE}")):
        yield path.parent.name
