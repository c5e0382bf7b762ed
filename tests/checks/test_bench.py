# Copyright: (c) 2026, modelfleet.kvm contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the benchmark says of its measures is so, and it says nothing of what was not measured."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bench import main, reading, table
from bench.ways import DRIFT, FIRST, NOTHING, PHASES, Measure


def _measure(way: str, vms: int, phase: str, seconds: float, others: float = 0.0) -> Measure:
    return Measure(way, vms, phase, seconds + 1, seconds, 10 * vms, 500, 2000, processors=seconds / 2, others=others)


def test_of_several_rounds_the_median_counts() -> None:
    rounds = [_measure("a", 10, phase, seconds) for seconds in (9, 2, 3) for phase in (FIRST, DRIFT)]
    assert [(item.phase, item.module) for item in table.medians(rounds)] == [(FIRST, 3), (DRIFT, 3)]
    assert [item.module for item in table.medians(rounds[:4])] == [9, 9]


def test_every_measure_is_a_line_and_phases_stand_together() -> None:
    measures = [_measure(way, vms, phase, 1.0) for way in ("a", "b") for vms in (25, 10) for phase in PHASES]
    lines = table.full(measures).splitlines()
    assert lines[0].startswith("| VMs | phase")
    expected = [(str(vms), phase, way) for vms in (10, 25) for phase in PHASES for way in ("a", "b")]
    assert [tuple(cell.strip() for cell in line.split("|")[1:4]) for line in lines[2:]] == expected


def test_ratio_to_the_limit_is_of_the_time_on_the_host_and_to_the_loop_of_all_of_it() -> None:
    measures = [_measure(way, 10, FIRST, seconds) for way, seconds in (("collection", 3), ("bare program", 2))]
    measures += [_measure("loop", 10, FIRST, 39), _measure("collection, view", 10, FIRST, 1)]
    row = [cell.strip() for cell in table.ratios(measures).splitlines()[2].split("|")]
    assert row[3:-1] == ["1.50", "1.50", "10.0", "0.50", "0.33"]


def test_a_ratio_is_of_the_rounds_that_were_beside_one_another() -> None:
    rounds = [("collection", 2), ("bare program", 1), ("collection", 20), ("bare program", 20), ("collection", 30)]
    measures = [_measure(way, 10, FIRST, seconds) for way, seconds in (*rounds, ("bare program", 20))]
    assert "First converge of 10 VMs: 1.50 times" in table.goals(measures)
    disturbed = [dataclasses.replace(measures[0], others=0.5), *measures[1:]]
    assert "First converge of 10 VMs: 1.25 times" in table.goals(disturbed)


@pytest.mark.parametrize(("seconds", "verdict"), [(2, "met"), (2.1, "not met")])
def test_goals_of_views(seconds: float, verdict: str) -> None:
    measures = [_measure("collection, view", 10, FIRST, seconds), _measure("collection", 10, FIRST, 4)]
    assert f"by views: {seconds / 4:.2f} times the devices' time on the host (goal: at most 0.5, {verdict})" in (
        table.goals(measures)
    )


@pytest.mark.parametrize(("seconds", "verdict"), [(2.6, "met"), (2.7, "not met")])
def test_goal_of_the_first_converge(seconds: float, verdict: str) -> None:
    measures = [_measure("collection", 10, FIRST, seconds), _measure("bare program", 10, FIRST, 2)]
    assert f"1.3, {verdict})" in table.goals(measures)


@pytest.mark.parametrize(("seconds", "verdict"), [(2.9, "met"), (3.0, "not met")])
def test_goal_of_nothing_to_do_is_about_two_hundred_mounts(seconds: float, verdict: str) -> None:
    assert f"3 s, {verdict})" in table.goals([_measure("collection", 50, NOTHING, seconds)])
    assert table.goals([_measure("collection", 25, NOTHING, seconds)]) == ""


def test_goals_are_not_judged_when_others_disturbed() -> None:
    measures = [_measure("collection", 10, FIRST, 2), _measure("bare program", 10, FIRST, 9, others=0.5)]
    assert "not judged" in table.goals(measures)
    assert "not judged" in table.goals([_measure("collection", 50, NOTHING, 1, others=0.5)])


def test_growth_is_time_for_each_vm() -> None:
    measures = [_measure("collection", 10, DRIFT, 1), _measure("collection", 50, DRIFT, 4)]
    assert table.goals(measures) == "- Growth, one VM drifted: each VM takes 100 ms with 10, 80 ms with 50."


def test_a_busy_machine_is_told() -> None:
    measures = [_measure("collection", 10, DRIFT, 1, others=0.75), _measure("loop", 10, DRIFT, 1, others=0.1)]
    assert "before 1 of 2 phases others took up to 75%" in table.goals(measures)
    assert table.goals(measures[1:]) == ""


def test_result_replaces_the_one_in_the_document(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    document.write_text("Before.\n\n<!-- measured -->\n\nold\n\n<!-- end of measured -->\n\nAfter.\n")
    for text in ("new", "newer"):
        main.save(document, text, "measured")
    expected = "Before.\n\n<!-- measured -->\n\nnewer\n\n<!-- end of measured -->\n\nAfter.\n"
    assert document.read_text() == expected


def test_results_have_their_own_places_in_the_document(tmp_path: Path) -> None:
    document = tmp_path / "benchmarks.md"
    marks = [f"<!-- {name} -->\n<!-- end of {name} -->\n" for name in ("measured", "measured reading")]
    document.write_text("".join(marks))
    main.save(document, "fast", "measured reading")
    reading_mark = "<!-- measured reading -->\n\nfast\n\n<!-- end of measured reading -->\n"
    assert document.read_text() == marks[0] + reading_mark


def test_speeds_are_told_beside_what_the_kernel_does_by_itself() -> None:
    speeds = [
        reading.Speed("view", asked, found, rates, (0.1, 0.1, 0.1))
        for asked, found, rates in ((0, 128, (100.0, 90.0, 130.0)), (4096, 4096, (240.0, 250.0, 260.0)))
    ]
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in reading.table(speeds).splitlines()[2:]]
    assert cells == [
        ["view", "0 (128 by itself)", "100", "90, 130", "1.0"],
        ["view", "4096", "250", "240, 260", "2.5"],
    ]


def test_reads_that_others_disturbed_are_told() -> None:
    speeds = [reading.Speed("view", 0, 128, (100.0, 90.0), (0.1, 0.6))]
    assert "before 1 of 2 reads others took up to 60%" in reading.table(speeds)
