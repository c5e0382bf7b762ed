# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures: one browser for all tests, out of an image of the lab, and reports of fleets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.modelfleet.kvm.plugins.filter.fleet_report import fleet_report
from browser.chromium import Browser, Page, command
from checks.node import Debian13
from modelfleet_lab import images


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Chromium in a throw-away copy of its image, which shares the directory of the tests' files."""
    place = tmp_path_factory.mktemp("browser")
    environ = dict(os.environ)
    argv = Debian13(images.ensure("browser")).command(command(place / "profile"), Path("/"), environ, ())
    running = Browser(argv, environ, place / "log")
    yield running
    running.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page as wide as a usual screen."""
    opened = browser.page()
    opened.look(1280, 900)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def write(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Write a report of what the hosts returned."""
    place = tmp_path_factory.mktemp("reports")

    def write(name: str, found: dict[str, Any], centers: dict[str, Any] | None = None) -> Path:
        path = place / f"{name}.html"
        path.write_text(fleet_report(found, model_centers=centers, made="2026-11-24 12:00 UTC"), encoding="utf-8")
        return path

    return write
