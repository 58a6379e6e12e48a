"""Coverage must not be fooled: each way of being wrong gets its own outcome."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.architectures import BY_NAME, Built
from benchmarks.coverage import CoverageRow, Outcome, blank_row, examine_with
from benchmarks.coverage_suite import (
    has_failed,
    markdown,
    read_json,
    run_coverage,
    select,
    summary,
    write_json,
)
from benchmarks.environment import REPOSITORY, read_environment

GRU = BY_NAME["torch/gru"]


@dataclass
class StandIn:
    """Behaves as a speculated module would: runs eagerly, counts, gives reasons."""

    model: Callable[..., Any]
    replays: int = 2
    recorded: int = 1
    codes: tuple[str, ...] = ()
    calls: int = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return self.model(*args, **kwargs)

    @property
    def stats(self) -> SimpleNamespace:
        return SimpleNamespace(
            hits=self.replays,
            misses=1,
            assertion_failures=0,
            recorded=self.recorded,
            converted=self.recorded,
        )

    def explain(self) -> SimpleNamespace:
        return SimpleNamespace(reasons=[_reason(code) for code in self.codes])


def _reason(code: str) -> SimpleNamespace:
    site = "/some/where/lib/python3.12/site-packages/timm/x.py:3"
    return SimpleNamespace(code=code, found="calls <f at 0x7f12>", site=site)


class Stale(StandIn):
    """Returns the recorded output for ever: what a lost input would do."""

    first: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.first is None:
            self.first = super().__call__(*args, **kwargs)
        return self.first


class OneBitOff(StandIn):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        states, last = super().__call__(*args, **kwargs)
        return states + 1e-7, last


class Raising(StandIn):
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("planted")


def test_equal_replays_are_bitwise() -> None:
    row = examine_with(GRU, StandIn)

    assert row.outcome == Outcome.BITWISE.value
    assert row.replays == 2


@pytest.mark.parametrize(
    ("converter", "detail"),
    [(Stale, "input 2: "), (OneBitOff, "recording call: "), (Raising, "RuntimeError: planted")],
)
def test_a_difference_or_an_exception_is_wrong(
    converter: Callable[[nn.Module], StandIn], detail: str
) -> None:
    row = examine_with(GRU, converter)

    assert row.outcome == Outcome.WRONG.value
    assert row.detail.startswith(detail)


def test_equal_but_imperative_needs_a_code() -> None:
    coded = examine_with(GRU, lambda model: StandIn(model, replays=0, codes=("JL0101", "JL0101")))
    silent = examine_with(GRU, lambda model: StandIn(model, replays=1))

    assert (coded.outcome, coded.codes) == (Outcome.REASON.value, ("JL0101",))
    assert coded.detail == "calls <f> (timm/x.py:3)"
    assert silent.outcome == Outcome.SILENT.value


def test_a_second_recording_earns_a_fourth_call() -> None:
    stand_ins: list[StandIn] = []

    def convert(model: nn.Module) -> StandIn:
        stand_ins.append(StandIn(model, recorded=2))
        return stand_ins[0]

    row = examine_with(GRU, convert)

    assert stand_ins[0].calls == 4
    assert (row.outcome, row.recordings) == (Outcome.BITWISE.value, 2)


def test_a_family_that_is_not_installed_is_absent_and_not_wrong() -> None:
    def fail() -> Built:
        raise AttributeError("no such model in this version")

    row = examine_with(replace(GRU, build=fail), StandIn)

    assert row.outcome == Outcome.ABSENT.value
    assert "no such model" in row.detail


def test_a_model_that_mutates_its_inputs_is_judged_on_fresh_ones() -> None:
    class Adder(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.add_(1).clone()

    def build() -> Built:
        return Built(Adder(), GRU.build().make_inputs)

    assert examine_with(replace(GRU, build=build), StandIn).outcome == Outcome.BITWISE.value


@pytest.mark.slow
def test_a_crash_is_a_row_and_the_run_goes_on() -> None:
    architectures = [replace(GRU, name="3"), replace(GRU, name="4")]
    seen: list[CoverageRow] = []

    rows = run_coverage(architectures, seen.append, examine_one=_exit_with)

    assert [row.outcome for row in rows] == [Outcome.CRASHED.value] * 2
    assert "exit code 3" in rows[0].detail
    assert seen == rows
    assert has_failed(rows)


def _exit_with(name: str) -> CoverageRow:
    import os

    os._exit(int(name))


def rows() -> list[CoverageRow]:
    bert = BY_NAME["transformers/bert"]
    return [
        blank_row(GRU, Outcome.BITWISE),
        replace(blank_row(bert, Outcome.REASON), codes=("JL0403",)),
        blank_row(GRU, Outcome.ABSENT),
    ]


def test_the_summary_leaves_out_what_was_not_built() -> None:
    assert summary(rows()).startswith("2 architectures: ")
    assert summary(rows()).endswith("50.0 % replay bitwise")
    assert not has_failed(rows())


def test_the_table_shows_each_architecture_with_its_codes(tmp_path: Path) -> None:
    path = tmp_path / "coverage.json"

    write_json(rows(), read_environment("cpu"), path)
    environment, found = read_json(path)
    text = markdown(found, environment)

    assert found == rows()
    assert "| transformers/bert | text encoder | BertModel | reason | JL0403 | 0 |" in text


def test_selecting_by_a_part_of_the_name() -> None:
    names = {row.name for row in select("transformers/llama")}

    assert {"transformers/llama", "transformers/llama-cached"} <= names
    assert len(select(None)) == len(BY_NAME)


def test_the_committed_table_is_the_one_made_from_the_committed_rows() -> None:
    path = REPOSITORY / "benchmarks" / "results" / "cpu" / "coverage.json"

    environment, found = read_json(path)

    assert (REPOSITORY / "docs" / "coverage.md").read_text() == markdown(found, environment)
    assert not has_failed(found)
    assert json.loads(path.read_text())["summary"] == summary(found)
