"""The image cache: each image is a read-only directory whose name says what it is made of.

An image is built under another name and renamed when it is complete, so that a half-built one is never used.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from . import image_browser, image_guests, image_hosts, image_kernel, image_storage
from .errors import LabError
from .locks import locked
from .mounts import remove_tree, table
from .paths import images_dir
from .progress import say, step
from .recipe import Recipe

_BUILD_SECONDS = 3600.0

_HOSTS = (*image_hosts.RECIPES, *image_storage.RECIPES, *image_kernel.RECIPES)
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for recipe in (*_HOSTS, *image_guests.RECIPES, *image_browser.RECIPES)
}
HOST_KINDS = tuple(recipe.name for recipe in _HOSTS)
GUEST_KINDS = tuple(recipe.name for recipe in image_guests.RECIPES)


def path(name: str) -> Path:
    """Return where the image ``name`` is or will be; raises LabError for a name that no recipe has."""
    if name not in RECIPES:
        raise LabError(f"there is no image {name!r}; there are: {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    needed = {other: path(other).name for other in recipe.needs}
    text = json.dumps([recipe.made_of, needed], sort_keys=True)
    return images_dir() / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _in_use(image: Path) -> bool:
    """Tell whether a host stands on the image, or, for a guest's image, whether any host may have such guests."""
    used = image if image.name.startswith(HOST_KINDS) else images_dir()
    return any(f"lowerdir={used}" in mount.options for mount in table() if mount.kind == "overlay")


def _remove_outdated(name: str, current: Path) -> None:
    """Remove what earlier recipes and interrupted builds of an image left, where no host uses it."""
    for old in images_dir().glob(f"{name}-*"):
        if old != current and not _in_use(old):
            say(f"removing outdated image {old.name}")
            # Something of an interrupted build may still be writing there; then the next build removes it.
            with contextlib.suppress(OSError):
                remove_tree(old)


def ensure(name: str, *, fresh: bool = False) -> Path:
    """Return the directory of the image ``name``, built first when it is absent or a ``fresh`` one is asked for.

    The directory is read-only by agreement: whoever needs to write puts an overlay on it or copies from it.
    Raises LabError when a fresh build is asked for while a host uses the image.
    """
    image = path(name)
    if image.is_dir() and not fresh:
        return image
    recipe = RECIPES[name]
    needed = {other: ensure(other) for other in recipe.needs}
    images_dir().mkdir(parents=True, exist_ok=True)
    images_dir().chmod(0o755)
    with locked(images_dir() / f".{name}.lock", f"the build of image {name}", _BUILD_SECONDS):
        if image.is_dir():
            if not fresh:
                return image
            if _in_use(image):
                raise LabError(f"image {name} is in use by a running lab; see: lab status, lab down")
            remove_tree(image)
        _remove_outdated(name, image)
        partial = images_dir() / f"{name}-building-{os.getpid()}"
        with step(f"building image {name} ({recipe.summary})"):
            try:
                recipe.build(partial, needed)
                # Whatever the umask: QEMU, which reads guests' images, is not root.
                partial.chmod(0o755)
                partial.rename(image)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    return image


def ensure_all(names: Iterable[str], *, fresh: bool = False) -> dict[str, Path]:
    """Ensure several images, building them side by side; returns their directories by name. Raises like path."""
    wanted = set(names)
    # An unknown name is refused before anything is built.
    for name in wanted:
        path(name)
    building: dict[str, Future[Path]] = {}

    def build(name: str) -> Path:
        for needed in wanted.intersection(RECIPES[name].needs):
            building[needed].result()
        return ensure(name, fresh=fresh)

    with ThreadPoolExecutor(max_workers=max(1, len(wanted))) as pool:
        # In the order of the recipes, in which an image comes after those that it needs.
        for name in RECIPES:
            if name in wanted:
                building[name] = pool.submit(build, name)
    return {name: future.result() for name, future in building.items()}
