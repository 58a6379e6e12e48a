"""Rows: what may be concluded, and that files give back what was written."""

from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import pytest

from benchmarks.results import (
    Judgement,
    Row,
    break_even,
    geometric_mean,
    read_results,
    row_from_dict,
    slowdowns_first,
    write_csv,
)

pytestmark = pytest.mark.tiny


def row(
    variant: str = "janus",
    *,
    accuracy: str = "bitwise",
    speedup: float = 2.0,
    speedup_low: float = 1.9,
    speedup_high: float = 2.1,
) -> Row:
    return Row(
        id=f"bench_x::bench[{variant}]",
        suite="micro",
        case="x",
        variant=variant,
        device="cpu",
        accuracy=accuracy,
        median_s=1e-3,
        speedup=speedup,
        speedup_low=speedup_low,
        speedup_high=speedup_high,
    )


@pytest.mark.parametrize(
    ("low", "high", "judgement"),
    [
        (1.01, 1.2, Judgement.FASTER),
        (0.7, 0.99, Judgement.SLOWER),
        (0.98, 1.3, Judgement.SAME),
        (1.0, 1.3, Judgement.SAME),
    ],
)
def test_an_interval_over_one_is_no_difference(
    low: float, high: float, judgement: Judgement
) -> None:
    assert row(speedup_low=low, speedup_high=high).judgement is judgement


def test_a_wrong_row_is_wrong_however_fast() -> None:
    assert row(accuracy="wrong").judgement is Judgement.WRONG


def test_a_row_without_a_time_was_not_run() -> None:
    blank = dataclasses.replace(row(accuracy="no C++ compiler on PATH"), median_s=None)

    assert blank.judgement is Judgement.NOT_RUN


def test_wrong_and_slower_rows_come_first() -> None:
    fast, slow, wrong = row(), row(speedup_low=0.5, speedup_high=0.6), row(accuracy="wrong")

    assert slowdowns_first([fast, slow, wrong]) == [wrong, slow, fast]


def test_the_geometric_mean_counts_losses() -> None:
    assert geometric_mean([row(speedup=2.0), row(speedup=0.5)]) == pytest.approx(1.0)


def test_the_geometric_mean_leaves_out_what_has_no_right_time() -> None:
    rows = [row(speedup=3.0), row(speedup=9.0, accuracy="wrong")]

    assert geometric_mean(rows) == pytest.approx(3.0)
    assert geometric_mean([]) is None


@pytest.mark.parametrize(
    ("eager_s", "variant_s", "calls"),
    [(2e-3, 1e-3, 1_000), (1e-3, 1e-3, None), (1e-3, 2e-3, None)],
)
def test_break_even_is_never_when_nothing_is_saved(
    eager_s: float, variant_s: float, calls: int | None
) -> None:
    assert break_even(1.0, eager_s, variant_s) == calls


def test_a_row_survives_json() -> None:
    original = dataclasses.replace(row(), extra={"guards": 1.5})

    assert row_from_dict(json.loads(json.dumps(dataclasses.asdict(original)))) == original


def test_results_are_read_from_the_runner_s_json(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    data = {"machine_info": {"device": "cpu"}, "rows": [dataclasses.asdict(row())]}
    path.write_text(json.dumps(data))

    results = read_results(path)

    assert results.rows == (row(),)
    assert results.environment == {"device": "cpu"}


def test_another_json_is_refused_with_what_to_name(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("{}")

    with pytest.raises(ValueError, match=r"other\.json: expected .* name such a file"):
        read_results(path)


def test_csv_has_one_line_per_row_with_units_in_the_names(tmp_path: Path) -> None:
    path = tmp_path / "run.csv"

    write_csv([row(), row("eager")], path)

    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["variant"] for line in lines] == ["janus", "eager"]
    assert lines[0]["median_s"] == "0.001"
    assert lines[0]["judgement"] == "faster"
