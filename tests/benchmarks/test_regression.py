"""Comparing two runs: overlapping intervals are no difference."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.regression import compare_results, lines

pytestmark = pytest.mark.tiny


def write(path: Path, samples: dict[str, list[float]]) -> Path:
    benchmarks = [
        {"extra_info": {"row": {"id": name}}, "stats": {"data": data}}
        for name, data in samples.items()
    ]
    path.write_text(json.dumps({"benchmarks": benchmarks}))
    return path


def spread(middle: float) -> list[float]:
    return [middle * (0.95 + 0.01 * step) for step in range(11)]


def test_separate_intervals_are_a_change_and_overlapping_ones_are_not(tmp_path: Path) -> None:
    before = write(tmp_path / "a.json", {name: spread(1.0) for name in ("up", "same", "down")})
    after = write(
        tmp_path / "b.json", {"up": spread(1.5), "same": spread(1.02), "down": spread(0.5)}
    )

    changes = compare_results(before, after)

    assert [(change.id, change.verdict) for change in changes] == [
        ("up", "slower"),
        ("same", "no difference"),
        ("down", "faster"),
    ]


def test_only_a_change_beyond_doubt_and_above_the_limit_fails(tmp_path: Path) -> None:
    before = write(tmp_path / "a.json", {"up": spread(1.0), "same": spread(1.0)})
    after = write(tmp_path / "b.json", {"up": spread(1.5), "same": spread(1.02)})

    up, same = compare_results(before, after)

    assert up.is_worse_than(10.0)
    assert not up.is_worse_than(60.0)
    assert not same.is_worse_than(0.0)


def test_rows_of_one_file_only_are_left_out_and_said_so_when_none_is_left(tmp_path: Path) -> None:
    changes = compare_results(
        write(tmp_path / "a.json", {"old": spread(1.0)}),
        write(tmp_path / "b.json", {"new": spread(1.0)}),
    )

    assert changes == []
    assert lines(changes) == ["the two files have no row in common"]


def test_a_line_shows_both_medians_and_the_change(tmp_path: Path) -> None:
    before = write(tmp_path / "a.json", {"up": spread(1e-3)})
    after = write(tmp_path / "b.json", {"up": spread(2e-3)})

    (line,) = lines(compare_results(before, after))

    assert "1.00 ms" in line
    assert "2.00 ms" in line
    assert "+100.0 %" in line
    assert "slower" in line
