"""First calls in fresh processes: what is asked, and what a row makes of the answers."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from benchmarks.conversion import (
    ConversionFigures,
    Question,
    case_named,
    figures_of,
    measure_conversion,
)
from benchmarks.results import Row

pytestmark = pytest.mark.slow

ROW = Row(id="i", suite="micro", case="c", variant="janus", device="cpu", accuracy="")
FIGURES = ConversionFigures(
    eager_s=0.1,
    cold_s=0.9,
    warm_s=0.5,
    second_call_s=0.1,
    eager_peak_bytes=100,
    first_call_peak_bytes=120,
    verdict="bitwise",
    second_call_hits=1,
)


def known(_question: Question) -> ConversionFigures:
    return FIGURES


def wrong(_question: Question) -> ConversionFigures:
    return replace(FIGURES, verdict="wrong", second_call_hits=0)


def lost(_question: Question) -> ConversionFigures:
    os._exit(7)


def refused(_question: Question) -> ConversionFigures:
    raise ImportError("planted")


@pytest.mark.parametrize(
    ("temperature", "seconds", "ratio"), [("cold", 0.9, 9.0), ("warm", 0.5, 5.0)]
)
def test_cold_and_warm_rows_take_their_own_figures(
    temperature: str, seconds: float, ratio: float
) -> None:
    measured = measure_conversion(ROW, ("x", "janus", "cpu"), temperature, 2, known)

    row = measured.row
    assert measured.samples == (seconds, seconds)
    assert row.conversion_s == pytest.approx(seconds - 0.1)
    assert row.extra["first call / eager call"] == pytest.approx(ratio)
    assert (row.peak_bytes, row.eager_peak_bytes) == (120, 100)
    assert "the second call replayed" in row.detail


def test_a_wrong_answer_is_a_wrong_row() -> None:
    row = measure_conversion(ROW, ("x", "janus", "cpu"), "cold", 1, wrong).row

    assert row.accuracy == "wrong"
    assert "the second call did not replay" in row.detail


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(lost, "crashed: exit code 7"), (refused, "raised ImportError: planted")],
)
def test_a_process_that_is_lost_is_the_reason(answer: object, reason: str) -> None:
    assert callable(answer)

    row = measure_conversion(ROW, ("x", "janus", "cpu"), "cold", 1, answer).row

    assert row.accuracy == reason
    assert row.median_s is None


def test_real_figures_of_a_small_model() -> None:
    figures = figures_of((case_named("lenet").name, "janus", "cpu"))

    assert figures.verdict == "bitwise"
    assert figures.second_call_hits == 1
    assert figures.cold_s > 0
    assert figures.first_call_peak_bytes >= figures.eager_peak_bytes > 0
