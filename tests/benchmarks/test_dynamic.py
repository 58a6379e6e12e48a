"""The table of dynamic Python must not be fooled: what is wrong, lost or silent says so."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import janus_lite
from benchmarks.baselines import Target
from benchmarks.dynamic.examine import DynamicRow, Question, Side, examine
from benchmarks.dynamic.table import (
    broken_promises,
    has_failed,
    markdown,
    read_json,
    run_table,
    select,
    summary,
    write_json,
)
from benchmarks.dynamic.world import World, constructs
from benchmarks.environment import REPOSITORY, read_environment
from benchmarks.equality import Verdict, compare
from benchmarks.timing import HostStopwatch

BRANCH = ("control", "branch")


def row(**changes: Any) -> DynamicRow:
    ours = Side(verdict="right", treatment="in graph", conversions=2, hits=18, time_ratio=1.0)
    return DynamicRow(
        name="control.branch",
        feature="data-dependent if",
        case="a | b",
        calls=20,
        limit=3,
        time_limit=1.1,
        ours=replace(ours, **changes),
        compiled=Side(verdict="wrong", detail="planted", breaks=2),
    )


@pytest.mark.slow
def test_a_program_is_examined_both_ways() -> None:
    found = examine(BRANCH)

    assert (found.ours.verdict, found.compiled.verdict) == ("right", "right")
    assert found.ours.hits + found.ours.conversions >= found.calls - 4
    assert found.compiled.conversions > 1
    assert found.compiled.breaks >= 1
    assert found.ours.time_ratio is not None


@pytest.mark.slow
@pytest.mark.parametrize("question", constructs(), ids=lambda question: ".".join(question))
def test_each_program_is_as_in_eager(question: Question) -> None:
    plain, other = World(*question, lambda target: target), World(*question, janus_lite.speculate)

    for step in range(12):
        expected, _ = plain.calls(range(step, step + 1), HostStopwatch())
        found, _ = other.calls(range(step, step + 1), HostStopwatch())
        assert compare(expected, found).verdict is Verdict.BITWISE, step


@pytest.mark.parametrize(
    ("question", "wrong"),
    [
        (BRANCH, lambda target: lambda *args: target(*args) * (1 + 1e-6)),
        (("control", "checked"), lambda _target: lambda x: (x * 2).tanh()),
        (("state", "argument"), lambda target: lambda x: target(x.clone())),
        (("state", "running_mean"), lambda _target: lambda o, x: x - 0.1 * x.mean(0)),
        (("state", "printing"), lambda _target: lambda x: x.tanh() * 2),
    ],
    ids=["output", "error", "argument", "state", "text"],
)
def test_every_part_of_a_call_is_compared(
    question: Question, wrong: Callable[[Target], Target]
) -> None:
    plain, other = World(*question, lambda target: target), World(*question, wrong)

    verdicts = {
        compare(
            plain.calls(range(step, step + 1), HostStopwatch())[0],
            other.calls(range(step, step + 1), HostStopwatch())[0],
        ).verdict
        for step in range(12)
    }

    assert verdicts != {Verdict.BITWISE}


@pytest.mark.slow
def test_a_crash_is_a_row_and_the_run_goes_on() -> None:
    rows = run_table([BRANCH, BRANCH], lambda _: None, examine_one=_exit)

    assert [each.ours.verdict for each in rows] == ["lost", "lost"]
    assert "exit code 3" in rows[0].ours.detail
    assert has_failed(rows)


def _exit(_question: Question) -> DynamicRow:
    os._exit(3)


def test_what_is_wrong_lost_or_silent_fails() -> None:
    assert not has_failed([row()])
    assert not has_failed([row(hits=0, codes=("JL0303",))])
    assert has_failed([row(hits=0)])
    assert has_failed([row(verdict="wrong")])


def test_what_is_not_as_promised_is_listed() -> None:
    assert broken_promises([row()]) == []
    assert broken_promises([row(conversions=4)]) == ["control.branch: 4 conversions, 3 promised"]
    assert broken_promises([row(time_ratio=1.5)]) == [
        "control.branch: 1.50x of eager's time, 1.10x promised"
    ]
    assert broken_promises([replace(row(time_ratio=1.5), time_limit=None)]) == []
    assert broken_promises([row(failure_ratio=1.3)]) == [
        "control.branch: 1.30x when an assertion fails"
    ]


def test_the_table_survives_a_file(tmp_path: Path) -> None:
    path = tmp_path / "dynamic.json"

    write_json([row(codes=("JL0408",))], read_environment("cpu"), path)
    environment, found = read_json(path)

    assert found == [row(codes=("JL0408",))]
    line = "| data-dependent if | a \\| b | in graph JL0408 | 2 of 3 | 1.00x | wrong | - | 2 | - |"
    assert line in markdown(found, environment)


def test_every_feature_has_programs() -> None:
    features = {plan.feature for plan in constructs().values()}

    assert len(features) >= 24
    assert len(select(None)) == len(constructs()) >= 70
    assert select("control.newton") == [("control", "newton")]


def test_the_committed_table_is_the_one_made_from_the_committed_rows() -> None:
    path = REPOSITORY / "benchmarks" / "results" / "cpu" / "dynamic.json"

    environment, found = read_json(path)

    assert (REPOSITORY / "docs" / "dynamic-python.md").read_text() == markdown(found, environment)
    assert not has_failed(found)
    assert json.loads(path.read_text())["summary"] == summary(found)
    assert {each.name for each in found} == {".".join(question) for question in constructs()}
