# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Mount units in a guest with systemd: written, removed, and never those of somebody else."""

from __future__ import annotations

import pytest

from ansible_collections.modelfleet.kvm.plugins.module_utils import _mount_lines
from ansible_collections.modelfleet.kvm.tests.unit.scripted_agent import FOREVER, Agent, failure, guest

UUID = "3d1f7a52-64f0-4a0e-9d6b-0d5a1f2c7e11"
OTHER = "90b2c6de-0f6a-4a53-8b1d-5a8e7d1c4f02"
PATH = "/srv/ai/guard"
UNIT = "srv-ai-guard.mount"
FILE = f"/etc/systemd/system/{UNIT}"
FSTAB = "# /dev/vdb /srv/ai/guard ext4\n/dev/vda1 / ext4 defaults 0 1\n"
OURS = _mount_lines.unit("guard-tag", PATH, UUID)
THEIRS = "[Mount]\nWhat=/dev/vdb\nWhere=/srv/ai/guard\n"


class SystemdGuest(Agent):
    """A guest with systemd, as far as mount units go."""

    def __init__(self, unit="", enabled=False, fragment="", fstab=FSTAB, **results):
        super().__init__(**results)
        self.files["/etc/fstab"] = fstab.encode()
        if unit:
            self.files[FILE] = unit.encode()
        self.fragment = fragment
        self.enabled = enabled
        self.loaded = unit

    def usual(self, command, stdin):
        program, *arguments = command
        if program == "tee":
            self.files[arguments[0]] = stdin
        elif program == "mv":
            self.files[arguments[2]] = self.files.pop(arguments[1])
        elif program == "rm":
            self.files.pop(arguments[1], None)
        elif program == "systemctl":
            return self.systemctl(arguments)
        return super().usual(command, stdin)

    def systemctl(self, arguments):
        verb = next(word for word in arguments if not word.startswith("-"))
        assert verb == "daemon-reload" or arguments[-2:] == ["--", UNIT]
        if verb == "daemon-reload":
            self.loaded = self.unit
        if verb == "is-enabled":
            return (0, "enabled\n") if self.enabled else (1, "disabled\n")
        if verb == "show":
            return 0, f"FragmentPath={self.fragment}\n"
        if verb in ("enable", "disable"):
            # A file that is not there cannot be enabled or disabled.
            assert self.unit
            self.enabled = verb == "enable"
        return 0, ""

    @property
    def unit(self):
        return self.files.get(FILE, b"").decode()

    def state(self):
        return self.unit, self.loaded, self.enabled, sorted(self.files)


def write(agent):
    return guest(agent).write_unit(UUID, "guard-tag", PATH)


def test_a_unit_is_written_and_enabled_once():
    agent = SystemdGuest()
    assert guest(agent).read_unit(PATH) is None
    assert write(agent) is True
    assert guest(agent).read_unit(PATH) == OURS
    assert (agent.loaded, agent.enabled) == (OURS, True)
    assert ["chmod", "0644", f"/etc/systemd/system/.modelfleet-{UUID}"] in agent.commands
    after = agent.state()
    assert write(agent) is False
    assert agent.state() == after


def test_a_unit_is_removed_and_nothing_stays():
    agent = SystemdGuest()
    before = agent.state()
    write(agent)
    assert guest(agent).remove_unit(UUID, PATH) is True
    assert agent.state() == before
    assert guest(agent).remove_unit(UUID, PATH) is False
    assert agent.state() == before


def test_a_unit_that_was_disabled_or_edited_is_put_right():
    agent = SystemdGuest(unit=OURS)
    assert write(agent) is True and agent.enabled
    agent = SystemdGuest(unit=OURS.replace("guard-tag", "edited"), enabled=True)
    assert write(agent) is True and agent.unit == agent.loaded == OURS


def test_a_unit_of_an_earlier_mount_of_ours_is_replaced():
    agent = SystemdGuest(unit=_mount_lines.unit("old-tag", PATH, OTHER), enabled=True)
    assert write(agent) is True and agent.unit == OURS


def test_a_unit_of_a_later_mount_of_ours_is_not_removed():
    agent = SystemdGuest(unit=_mount_lines.unit("new-tag", PATH, OTHER), enabled=True)
    before = agent.state()
    assert guest(agent).remove_unit(UUID, PATH) is False
    assert agent.state() == before


FOREIGN = {
    "a unit": {"unit": THEIRS},
    "a unit that mentions us": {"unit": f"{THEIRS}{OURS}"},
    "a masked unit": {"unit": "\n", "fragment": FILE},
    "an fstab line": {"fstab": f"{FSTAB}guard-tag\t{PATH}/ virtiofs ro 0 0\n"},
    "a unit of a package": {"fragment": f"/usr/lib/systemd/system/{UNIT}"},
    "a generated unit": {"fragment": f"/run/systemd/generator/{UNIT}"},
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_the_guest_defines_by_itself_is_left_alone(what):
    agent = SystemdGuest(**FOREIGN[what])
    before = agent.state()
    problem = failure(write, agent)
    assert problem.code == "guest_unit_foreign" and problem.details["guest_file"].startswith("/")
    assert agent.state() == before


def test_a_foreign_unit_is_not_removed():
    agent = SystemdGuest(unit=THEIRS)
    before = agent.state()
    assert failure(guest(agent).remove_unit, UUID, PATH).code == "guest_unit_foreign"
    assert agent.state() == before


@pytest.mark.parametrize("program", ["tee", "chmod", "mv"])
def test_a_file_that_cannot_be_written_leaves_nothing(program):
    agent = SystemdGuest(**{program: (1, "", f"{program}: Read-only file system")})
    before = agent.state()
    problem = failure(write, agent)
    assert problem.code == "guest_unit_failed" and "Read-only" in problem.msg
    assert agent.state() == before


@pytest.mark.parametrize("verb", ["daemon-reload", "enable"])
@pytest.mark.parametrize("unit", ["", _mount_lines.unit("old-tag", PATH, OTHER)])
def test_systemd_that_refuses_leaves_what_was_there(verb, unit):
    agent = SystemdGuest(unit=unit)
    before = agent.state()
    refuse = [True]

    def systemctl(command, _stdin):
        if verb in command and refuse:
            refuse.pop()
            return 1, "", "Failed: Access denied"
        return agent.systemctl(command[1:])

    agent.results["systemctl"] = systemctl
    problem = failure(write, agent)
    assert problem.code == "guest_unit_failed" and "Access denied" in problem.msg
    assert agent.state() == before


def test_a_path_that_no_unit_can_have_is_refused_before_anything_is_asked():
    agent = SystemdGuest()
    for call in (guest(agent).read_unit, lambda path: guest(agent).write_unit(UUID, "guard-tag", path)):
        with pytest.raises(Exception) as caught:
            call("/srv/" + "\u00e9" * 40)
        assert caught.value.code == "invalid_input"
    assert agent.asked == []


def test_a_guest_that_hangs_is_given_up():
    agent = SystemdGuest(systemctl=FOREVER)
    assert failure(guest(agent, deadline=0.1).write_unit, UUID, "guard-tag", PATH).code == "agent_command_failed"
