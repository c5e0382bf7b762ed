"""What an image is made of and how it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Recipe:
    """One image.

    ``made_of`` is everything that decides what comes out, as plain JSON data: a change of it is another image.
    ``build`` makes the image in a directory that does not exist yet, from the images that it ``needs``.
    One ``on_demand`` is only made where it is named, not when all are.
    """

    name: str
    summary: str
    made_of: object
    build: Callable[[Path, Mapping[str, Path]], None]
    needs: tuple[str, ...] = ()
    on_demand: bool = False
