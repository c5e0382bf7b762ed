# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Modules run as Ansible runs them, on a host that nothing of may be touched."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.testing import patch_module_args

from ansible_collections.modelfleet.kvm.plugins.module_utils import _domain, _locks, _process, _systemd


class Touched(Exception):
    """A module that should have refused its input went on to the host."""


@pytest.fixture
def untouchable(monkeypatch):
    """Make every way to the host fail."""

    def touch(*arguments, **_options):
        raise Touched(repr(arguments))

    for place, name in ((_domain, "Host"), (_locks, "held"), (_process, "run"), (_systemd, "show")):
        monkeypatch.setattr(place, name, touch)
    monkeypatch.setattr(_systemd, "mount_unit_name", touch)


@pytest.fixture
def run_module(capsys):
    """Run a module with arguments; gives back what it returned."""

    def run(module, **arguments):
        with patch_module_args(arguments), pytest.raises(SystemExit):
            module.main()
        return json.loads(capsys.readouterr().out)

    return run
