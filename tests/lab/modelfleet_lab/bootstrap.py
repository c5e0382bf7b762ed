"""Making a directory tree out of Debian packages and files of ours."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import apt
from .processes import run

_FILES = Path(__file__).parent / "files"
_SECONDS = 1800.0

# mmdebstrap mounts things into the tree and starts many processes. In namespaces of its own all of that is gone when we
# are killed, and nothing can be deleted through a mount that was left behind.
_CONTAINED = (
    *("setpriv", "--pdeathsig", "KILL"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"),
)

# Documentation and translations are a third of the size of an image, and nobody reads them here.
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*")


def debian_tree(target: Path, codename: str, packages: Sequence[str], *, variant: str = "minbase") -> None:
    """Fill the new directory ``target`` with a Debian release and packages.

    ``variant`` is one of mmdebstrap's: ``minbase`` installs, ``extract`` only unpacks the packages and what they
    depend on. Raises CommandFailed with mmdebstrap's words.
    """
    # Beside the tree, where what is left of an interrupted build is looked for.
    with tempfile.TemporaryDirectory(prefix=f"{target.name}-", dir=target.parent) as scratch:
        keys = Path(scratch, "keys")
        keys.mkdir()
        apt.collect_keys(keys)
        settings = Path(scratch, "apt.conf")
        settings.write_text(apt.options())
        # apt gives up its rights to the user _apt before it reads these.
        for path in (Path(scratch), keys):
            path.chmod(0o755)
        run(
            [
                *_CONTAINED,
                "mmdebstrap",
                "--quiet",
                "--format=directory",
                f"--variant={variant}",
                f"--include={','.join(packages)}",
                f"--keyring={keys}",
                f"--aptopt={settings}",
                *(f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT),
                codename,
                str(target),
                *apt.sources(codename),
            ],
            timeout=_SECONDS,
        )
    # What belongs to the building machine does not stay in the image.
    for name in ("etc/apt/apt.conf.d/99mmdebstrap", "etc/hostname", "etc/resolv.conf"):
        (target / name).unlink(missing_ok=True)


def in_tree(root: Path, *argv: str) -> str:
    """Run a command of the tree ``root`` inside it and return what it prints."""
    return run(["chroot", str(root), "/usr/bin/env", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *argv]).stdout


def add_files(root: Path, name: str) -> None:
    """Copy our file tree ``files/<name>`` over ``root``."""
    shutil.copytree(_FILES / name, root, symlinks=True, dirs_exist_ok=True)


def digest(program: str, *names: str) -> str:
    """Return a digest of a source file of ours and of our file trees ``names``: their names, modes and contents."""
    total = hashlib.sha256(Path(program).read_bytes())
    for name in names:
        for path in sorted((_FILES / name).rglob("*")):
            if path.is_file():
                mode = "x" if path.stat().st_mode & 0o100 else "-"
                total.update(f"{path.relative_to(_FILES)}\0{mode}\0".encode() + path.read_bytes() + b"\0")
    return total.hexdigest()
