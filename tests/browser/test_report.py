# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What somebody sees and can do who opens a report in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.modelfleet.kvm.tests.unit import fleets
from browser.chromium import Page

Write = Callable[..., Path]

# The ratio that makes a text readable for people who do not see well (WCAG 2, level AA).
CONTRAST = 4.5
# Milliseconds of work, so that it is seen within two seconds also on a slower machine.
OPENS_WITHIN = 1500
SEARCHES_WITHIN = 1000
NODES = 15000

# What lies behind an element is the first colour among those around it.
_CONTRASTS = """
(() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => parts(color).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [.2126, .7152, .0722][index], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      if ((parts(color)[3] ?? 1) > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const found = {};
  for (const node of document.querySelectorAll("body *")) {
    const read = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!read || !node.checkVisibility() || node.matches(":disabled, option, .skip")) continue;
    const [one, other] = [light(getComputedStyle(node).color), light(behind(node))].sort((a, b) => b - a);
    const ratio = (one + .05) / (other + .05);
    const name = `${node.tagName} ${node.className} in ${node.parentElement.className}`;
    found[name] = Math.min(found[name] ?? 99, ratio);
  }
  return found;
})()
"""


@pytest.fixture(scope="module")
def varied(write: Write) -> Path:
    return write("varied", *fleets.varied())


@pytest.fixture(scope="module")
def large(write: Write) -> Path:
    return write("large", fleets.large(500, 20))


@pytest.fixture(scope="module")
def hostile(write: Write) -> Path:
    return write("hostile", fleets.hostile())


def test_everything_is_shown(page: Page, varied: Path) -> None:
    page.open(varied)
    tiles = [" ".join(text.split()) for text in page.texts(".tile")]
    assert tiles == [
        "5 hosts 2 not seen",
        "10 VMs with models",
        "6 models in use",
        "13 mounts 8 in order",
        "6 drift not as recorded",
        "6 due wait for somebody",
        "6 errors see below",
    ]
    assert page.texts(".key") == ["Mounted 5", "Attached 2", "Mounting 1", "MountFailed 5"]
    assert [page.count(".vm"), page.count(".mount"), page.count(".matrix tbody tr")] == [10, 13, 5]
    assert page.texts(".matrix .silent") == ["failed", "unreachable"]
    assert [page.count(".matrix tbody button:not(th button)"), page.count(".matrix td.warn")] == [7, 4]
    layers = [" ".join(text.split()) for text in page.texts(".vm:nth-of-type(5) .layer")]
    assert layers[:4] == ["Source ✗ missing", "Persistent ✓ right", "Live ✗ missing", "Guest ✗ missing"]
    assert page.mishaps() == []


def test_what_needs_somebody_is_said_with_the_remedy(page: Page, varied: Path) -> None:
    page.open(varied)
    # Also those that are folded away.
    texts = page.run("[...document.querySelectorAll('.group')].map((node) => node.textContent)")
    groups = [" ".join(text.split()) for text in texts]
    unreachable = next(text for text in groups if "cannot be reached" in text and "libvirt" not in text)
    assert "may log in there" in unreachable and "rack-e" in unreachable and "No route to host" in unreachable
    agent = next(text for text in groups if "agent_unavailable" in text)
    assert "Install and start qemu-guest-agent" in agent and "rack-a › chat-3 › /models/mistral-small" in agent
    assert any("The VM is shut off" in text and "Start the VM; its guest mounts" in text for text in groups)
    assert any("The model center is hung" in text and "no answer within 10 seconds" in text for text in groups)
    # The worst first.
    kinds = page.run("[...document.querySelectorAll('.group')].map((node) => node.className.split(' ')[1])")
    assert kinds == sorted(kinds, key=["bad", "warn", "idle"].index)


@pytest.mark.parametrize(
    ("fragment", "vms", "mounts"),
    [
        ("", 10, 13),
        ("#q=ASR", 3, 4),
        ("#q=rack-b+e5", 1, 1),
        ("#q=agent_unavailable", 1, 1),
        ("#q=no+such+thing", 0, 0),
        # A few digits are not looked for in UUIDs.
        (f"#q={fleets.uuid_of('asr-1')[:3]}", 0, 0),
        (f"#q={fleets.uuid_of('asr-1')[:13].upper()}", 1, 1),
        ("#host=rack-a", 3, 6),
        (f"#model={fleets.uuid_of('acme/guard 2.1')}", 2, 2),
        ("#state=Attached", 2, 2),
        ("#state=error", 3, 2),
        ("#state=due", 5, 6),
        (f"#account={fleets.ACCOUNTS[0]}", 2, 2),
        ("#account=-", 7, 10),
        ("#drift=1", 5, 5),
        ("#host=rack-c&drift=1", 2, 1),
    ],
)
def test_a_link_shows_what_was_looked_for(page: Page, varied: Path, fragment: str, vms: int, mounts: int) -> None:
    page.open(varied, fragment)
    assert (page.count(".vm"), page.count(".mount")) == (vms, mounts)
    assert page.mishaps() == []


def test_search_by_keyboard(page: Page, varied: Path) -> None:
    page.open(varied)
    page.key("/")
    page.type("asr-2 parakeet")
    assert page.texts(".vm h3") == ["asr-2"]
    assert page.texts("#found") == ["1 of 13 mounts, in 1 VM"]
    assert page.run("location.hash") == "#q=asr-2+parakeet"
    page.key("Escape")
    assert (page.count(".vm"), page.texts("#found"), page.run("location.hash")) == (10, [""], "")


def test_filters_agree_and_go_together(page: Page, varied: Path) -> None:
    page.open(varied)
    page.choose("f-host", "rack-b")
    page.run("document.getElementById('f-drift').click()")
    assert page.texts(".vm h3") == ["asr-1", "asr-2"]
    assert page.count(".matrix tbody tr") == 1
    page.run("document.getElementById('f-clear').click()")
    assert page.count(".vm") == 10
    # Numbers lead to what they count.
    page.run("document.querySelector('button.tile.bad').click()")
    assert sorted(page.texts(".vm h3")) == ["asr-1", "chat-3", "draw-9"]
    page.run("document.querySelector('.matrix td button').click()")
    assert page.run("location.hash").startswith("#host=rack-")


def test_details_and_matrix_by_keyboard(page: Page, varied: Path) -> None:
    page.open(varied)
    page.run("document.querySelector('.mount summary').focus()")
    page.key("Enter")
    page.wait("document.querySelector('.mount[open] dl') !== null")
    assert "2026-11-20T17:40:12Z" in page.texts(".mount[open] dl")[0]
    page.run("document.querySelector('.matrix tbody th button').focus()")
    # Past what is empty: two cells further on is the model that the host below has too.
    for _step in range(3):
        page.key("ArrowRight")
    first = page.run("document.activeElement.getAttribute('aria-label')")
    page.key("ArrowDown")
    second = page.run("document.activeElement.getAttribute('aria-label')")
    assert (first, second) == ("rack-a, e5-large: 1 mount", "rack-b, e5-large: 1 mount, 1 drifted")


def test_everything_that_can_be_pressed_is_reached_with_tab_or_arrows_and_has_a_name(page: Page, varied: Path) -> None:
    page.open(varied)
    nameless = page.run(
        "[...document.querySelectorAll('button, input, select, summary')].filter((node) => node.checkVisibility()"
        " && !node.innerText.trim() && !node.labels?.length && !node.ariaLabel).map((node) => node.outerHTML)"
    )
    assert nameless == []
    away = page.run(
        "[...document.querySelectorAll('[tabindex=\"-1\"]')].filter((node) => !node.closest('.matrix')).length"
    )
    assert away == page.count("h2[tabindex]")


@pytest.mark.parametrize("policy", [True, False])
def test_nothing_of_a_hostile_name_runs(page: Page, hostile: Path, tmp_path: Path, policy: bool) -> None:
    path = hostile
    if not policy:
        # The page must not need its policy.
        path = tmp_path / "bare.html"
        text, count = re.subn(r"<meta http-equiv[^>]*>", "", hostile.read_text(encoding="utf-8"))
        assert count == 1
        path.write_text(text, encoding="utf-8")
    page.open(path)
    page.run("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    page.run("new Promise((resolve) => setTimeout(resolve, 100))")
    assert page.mishaps() == []
    assert [page.count(tag) for tag in ("script", "img", "svg", "iframe", "b script")] == [2, 0, 0, 0, 0]
    assert page.run("typeof hurt") == "undefined"
    assert page.run("document.title") == "Model fleet"


def test_hostile_names_are_seen_as_they_are(page: Page, hostile: Path) -> None:
    page.open(hostile)
    spelled = {"\u202e": "\\u202e", "\u202c": "\\u202c", "\n": "\\u000a", "\u2028": "\\u2028", "\x00": "\\u0000"}
    spelled.update({"\x1b": "\\u001b", "\ud83d": "\\ud83d"})
    expected = ["".join(spelled.get(character, character) for character in name) for name in fleets.HOSTILE]
    shown = page.run("[...document.querySelectorAll('.vm h3')].map((node) => node.textContent)")
    assert sorted(name for name in shown if not name.startswith("other ")) == sorted(expected)
    # They are looked for as they were written, and chosen as filters.
    for name in fleets.HOSTILE:
        page.choose("f-host", name)
        if "\ud83d" not in name:
            assert page.count(".mount") == 1, name
    page.run("document.getElementById('f-clear').click()")
    page.choose("f-q", "<IMG")
    assert page.count(".mount") == 1


def test_the_policy_holds(page: Page, varied: Path) -> None:
    page.open(varied)
    page.run(
        "(() => { const script = document.createElement('script'); script.textContent = 'window.ran = 1';"
        " document.body.append(script); })()"
    )
    page.run("(() => { document.body.setAttribute('onclick', 'window.ran = 2'); document.body.click(); })()")
    page.run(
        "(() => { const image = new Image(); image.src = 'https://198.51.100.1/x'; document.body.append(image); })()"
    )
    assert page.run("window.ran") is None
    assert any("Content Security Policy" in mishap for mishap in page.mishaps())


def test_a_large_fleet_opens_at_once(page: Page, large: Path) -> None:
    before = page.worked()
    page.open(large)
    seen = page.run("new Promise((done) => requestAnimationFrame(() => setTimeout(() => done(performance.now()))))")
    worked = page.worked() - before
    # What is seen on the clock depends on what else the machine does.
    print(f"opened with {worked:.0f} ms of work, seen after {seen:.0f} ms, {large.stat().st_size / 1e6:.1f} MB")
    assert 50 < worked < OPENS_WITHIN
    assert page.texts(".tile")[1].split()[0] == "10,000"
    assert page.run("document.querySelectorAll('*').length") < NODES
    assert page.mishaps() == []


def test_a_large_fleet_is_searched_and_scrolled(page: Page, large: Path) -> None:
    page.open(large)
    shown = page.count(".vm")
    page.run("document.querySelector('.vm-list + .next').scrollIntoView()")
    page.wait(f"document.querySelectorAll('.vm').length > {shown}")
    # The first search also collects the texts of all rows.
    before = page.worked()
    page.run("want({ q: 'vm-499-19' })")
    worked = page.worked() - before
    print(f"searched with {worked:.0f} ms of work")
    assert worked < SEARCHES_WITHIN
    assert page.texts(".vm h3") == ["vm-499-19"]
    page.choose("f-q", "")
    page.run("document.getElementById('f-drift').click()")
    assert page.texts("#found") == ["200 of 30,000 mounts, in 200 VMs"]
    assert page.run("document.querySelectorAll('*').length") < NODES


def test_an_empty_fleet(page: Page, write: Write) -> None:
    page.open(write("empty", {}))
    assert [text.split()[0] for text in page.texts(".tile")] == ["0"] * 7
    assert page.texts(".notice") == ["There are no hosts in this report."]
    assert page.mishaps() == []


def test_a_fleet_without_a_fault(page: Page, write: Write) -> None:
    page.open(write("right", {"rack-a": fleets.result(fleets.mount("chat-1"))}))
    assert page.texts("#attention-heading") == ["Nothing needs anybody"]
    assert page.count(".group") == 0


@pytest.mark.parametrize("name", ["varied", "hostile"])
def test_it_fits_on_a_phone(page: Page, request: pytest.FixtureRequest, name: str) -> None:
    page.look(390, 844)
    page.open(request.getfixturevalue(name))
    assert page.run("document.documentElement.scrollWidth") <= 390
    assert not page.run("document.getElementById('f-more').checkVisibility()")
    page.run("document.getElementById('f-toggle').click()")
    assert page.run("document.getElementById('f-more').checkVisibility()")
    small = page.run(
        "[...document.querySelectorAll('.filters button, .filters select, .filters input[type=search], .tile')]"
        ".filter((node) => node.checkVisibility() && node.getBoundingClientRect().height < 36).length"
    )
    assert small == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read(page: Page, varied: Path, scheme: str) -> None:
    page.look(1280, 900, scheme)
    page.open(varied)
    page.run("document.querySelectorAll('details').forEach((node) => { node.open = true; })")
    contrasts = page.run(_CONTRASTS)
    assert len(contrasts) > 30
    assert {name: round(ratio, 2) for name, ratio in contrasts.items() if ratio < CONTRAST} == {}
    back = page.run("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", back))) > 380) == (scheme == "light")


def test_it_is_printed_in_full_and_on_white(page: Page, write: Write) -> None:
    page.look(1280, 900, "dark")
    page.open(write("printed", fleets.large(12, 10)))
    assert page.count(".vm") < 120
    page.run(
        "addEventListener('beforeprint', () => { window.printed = ["
        " document.querySelectorAll('.vm').length, document.querySelectorAll('.matrix tbody tr').length]; })"
    )
    paper = page.paper()
    assert page.run("window.printed") == [120, 12]
    assert paper.startswith(b"%PDF") and len(re.findall(rb"/Type\s*/Page\b", paper)) > 5
    # What is on the screen is as it was.
    assert page.count(".vm") < 120
    page.look(1280, 900, "dark", media="print")
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.run("document.getElementById('f-q').checkVisibility()")
