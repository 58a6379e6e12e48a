"""Random programs with control flow on data: speculated equals plain after every call."""

from __future__ import annotations

import ast
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import janus_lite
from janus_lite.runtime import emit
from tests.property.region_fuzz import Summary, describe, main, programs, run_all
from tests.property.region_lockstep import Verdict, run, shrink
from tests.property.region_programs import make

# Under several test processes each of them runs its programs one after another.
WORKERS = 1 if "PYTEST_XDIST_WORKER" in os.environ else 2
LARGE_EVERY = 20
DAILY_BATCHES = (range(100), range(100, 200))
NIGHTLY_BATCHES = range(10)
PROGRAMS_PER_BATCH = 300
# Programs of the daily test, of the nights and of the planted bugs differ.
NIGHTLY_FROM, PLANTED_FROM = 100_000, 50_000


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seeds", DAILY_BATCHES, ids=["first", "second"])
def test_random_programs_equal_eager(seeds: range) -> None:
    chosen = programs(seeds, large_every=LARGE_EVERY)

    summary = Summary(verdicts=tuple(run_all(chosen, WORKERS)))

    assert not summary.wrong, "\n".join(describe(verdict) for verdict in summary.wrong)
    assert summary.hits > 0.4, summary
    assert len(summary.verdicts) == len(seeds)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("batch", NIGHTLY_BATCHES)
def test_many_random_programs_equal_eager(batch: int) -> None:
    first = NIGHTLY_FROM + batch * PROGRAMS_PER_BATCH
    chosen = programs(range(first, first + PROGRAMS_PER_BATCH))
    as_users = batch % 2 == 1

    summary = Summary(verdicts=tuple(run_all(chosen, WORKERS, drops_unprofitable=as_users)))

    assert not summary.wrong, "\n".join(describe(verdict) for verdict in summary.wrong)
    assert as_users or summary.hits > 0.4, summary


def test_a_day_is_two_hundred_programs_and_a_night_three_thousand() -> None:
    assert sum(map(len, DAILY_BATCHES)) >= 200
    assert len(NIGHTLY_BATCHES) * PROGRAMS_PER_BATCH >= 3000


# ------------------------------------------------------------------------------------ generator


def test_a_seed_makes_the_same_program_again() -> None:
    assert make(7) == make(7)
    assert make(7, is_large=True) == make(7, is_large=True)
    assert make(7).text != make(8).text


def test_the_programs_hold_every_construct() -> None:
    trees = [ast.parse(p.text) for p in programs(range(200), large_every=LARGE_EVERY)]
    found = {type(node) for tree in trees for node in ast.walk(tree)}
    loops_with_else = [
        node
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.For | ast.While) and node.orelse
    ]

    wanted = {
        *(ast.If, ast.While, ast.For, ast.Break, ast.Continue, ast.Return, ast.IfExp, ast.BoolOp),
        *(ast.Match, ast.Raise, ast.With, ast.Try, ast.NamedExpr, ast.AugAssign, ast.ListComp),
        *(ast.Tuple, ast.GeneratorExp, ast.Compare, ast.Global, ast.FunctionDef),
    }
    assert wanted <= found
    assert loops_with_else


@pytest.mark.parametrize("is_large", [False, True])
def test_a_program_is_as_long_as_its_size_says(is_large: bool) -> None:
    for seed in range(30):
        program = make(seed, is_large=is_large)
        name = "forward" if program.is_module else "step"
        found = (n for n in ast.walk(ast.parse(program.text)) if isinstance(n, ast.FunctionDef))
        lines = ast.unparse(next(n for n in found if n.name == name)).splitlines()
        assert len(lines) >= (40 if is_large else 5)


# --------------------------------------------------------------------------------- planted bugs


def found_in(folder: Path, count: int = 40) -> Verdict | None:
    """The first program that differs."""
    for program in programs(range(PLANTED_FROM, PLANTED_FROM + count), large_every=0):
        verdict = run(program, folder)
        if verdict.difference is not None:
            return verdict
    return None


@pytest.mark.slow
def test_a_forgotten_assertion_is_found_and_shrunk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(emit, "is_equal", lambda *_: "True")

    verdict = found_in(tmp_path)

    assert verdict is not None
    small = shrink(verdict.program, lambda p: run(p, tmp_path).difference is not None)
    assert len(small.text) < len(verdict.program.text)
    assert run(small, tmp_path).difference is not None


def test_a_call_that_changes_no_state_is_found(tmp_path: Path) -> None:
    text = make(0).text.split("def step")[0]
    text += "def step(o, x, xs, n):\n    if x.sum() > 0:\n        o.count += 1\n    return x * n\n"
    program = replace(make(0), text=text, is_module=False)

    def forgetful(subject: Any) -> Any:
        def call(o: Any, *args: Any) -> Any:
            before = o.count
            try:
                return subject(o, *args)
            finally:
                o.count = before

        return janus_lite.speculate(call)

    assert run(program, tmp_path).difference is None
    found = run(program, tmp_path, forgetful).difference
    assert found is not None
    assert "state" in found


def test_a_program_that_does_not_end_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tests.property.region_lockstep.LIMIT_S", 0.5)
    text = make(0).text.split("def step")[0]
    text += "def step(o, x, xs, n):\n    while True:\n        x = x * 0.5\n"
    program = replace(make(0), text=text, is_module=False)

    verdict = run(program, tmp_path)

    assert verdict.difference is not None
    assert "does not end" in verdict.difference


def test_the_command_says_what_it_found(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["--seed", "3", "--workers", "1"])

    text = capsys.readouterr().out
    assert code == 0
    assert "1 programs, 80 calls: 1 right, 0 wrong, 0 silent" in text
    assert make(3).text in text
