"""The image with a browser without windows, for the tests of what people look at."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from .bootstrap import debian_tree, digest
from .recipe import Recipe

# Fonts, since pages are looked at as pictures too.
_PACKAGES = ("chromium-headless-shell", "fonts-dejavu-core", "fonts-liberation")


def _build(target: Path, _needed: Mapping[str, Path]) -> None:
    """Make the image."""
    debian_tree(target, "trixie", _PACKAGES)


RECIPES = (Recipe("browser", "Chromium, trixie", [_PACKAGES, digest(__file__)], _build),)
