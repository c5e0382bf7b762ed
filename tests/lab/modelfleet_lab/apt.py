"""Where this machine gets Debian packages from, read from apt's own configuration.

The lab knows no mirror: it asks apt which ones this machine uses for Debian, and takes the packages of any Debian
release from there.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

from .errors import LabError
from .processes import run

_ARCHIVE_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_FORMAT = "$(ORIGIN)\t$(COMPONENT)\t$(CODENAME)\t$(SITE)\t$(SOURCESENTRY)"
_PASSED_ON = re.compile(r"Acquire::(https?::|Check-|Retries)", re.IGNORECASE)


class _Target(NamedTuple):
    """One index that apt has downloaded: a Debian release's component main."""

    codename: str
    site: str
    file: Path


def _targets() -> list[_Target]:
    """Return what apt has of Debian's own component main; raises LabError when it has nothing."""
    found = []
    for line in run(["apt-get", "indextargets", "--format", _FORMAT, "Created-By: Packages"]).stdout.splitlines():
        origin, component, codename, site, entry = line.split("\t")
        if origin == "Debian" and component == "main":
            found.append(_Target(codename, site, Path(entry.rpartition(":")[0])))
    if not any("-" not in target.codename for target in found):
        raise LabError("apt knows no Debian mirror (component main); configure one, then run: apt-get update")
    return found


def sources(codename: str) -> list[str]:
    """Return sources.list lines for a Debian release such as ``trixie``.

    The release itself comes from the mirror that serves this machine's own release. Its ``-updates`` and
    ``-security`` suites are used when this machine has them configured.
    """
    targets = _targets()
    main = next(target for target in targets if "-" not in target.codename)
    suites = {codename: main.site}
    for target in targets:
        if target.codename in (codename, f"{codename}-updates", f"{codename}-security"):
            suites[target.codename] = target.site
    return [f"deb {site} {suite} main" for suite, site in suites.items()]


def collect_keys(directory: Path) -> None:
    """Copy into ``directory`` the keys that this machine trusts for its Debian mirrors, and Debian's own."""
    wanted = {_ARCHIVE_KEYS}
    for number, file in enumerate({target.file for target in _targets()}):
        text = re.sub(r"(?m)^\s*#.*\n?", "", file.read_text())
        # One-line sources say [signed-by=FILE,...], deb822 ones say "Signed-By: FILE" or carry the key itself.
        for names in re.findall(r"(?im)(?:^Signed-By:[ \t]*|\bsigned-by=)(/[^\]\n]*)", text):
            wanted.update(Path(name) for name in re.split(r"[,\s]+", names) if name.startswith("/"))
        for index, key in enumerate(re.findall(r"(?s)-----BEGIN PGP.*?-----END PGP[^\n]*", text)):
            plain = "\n".join("" if line.strip() == "." else line.strip() for line in key.splitlines())
            (directory / f"inline-{number}-{index}.asc").write_text(plain + "\n")
    wanted.update(path for path in Path("/etc/apt/trusted.gpg.d").iterdir() if path.suffix in (".asc", ".gpg"))
    for key_file in wanted:
        if key_file.exists():
            shutil.copy(key_file, directory)


def options() -> str:
    """Return this machine's apt settings that reach a mirror needs (proxies and the like), as apt.conf lines."""
    lines = run(["apt-config", "dump"]).stdout.splitlines()
    return "".join(f"{line}\n" for line in lines if _PASSED_ON.match(line))
