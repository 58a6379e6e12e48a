"""Tables and the report: slowdowns first, losses counted, nothing loaded from elsewhere."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import plots, tables
from benchmarks.progress import describe
from benchmarks.report import write_html
from benchmarks.results import LEFT_OUT, Results, Row
from benchmarks.units import nbytes, seconds

FAST = Row(
    id="bench_x::bench[janus-fast]",
    suite="micro",
    case="fast",
    variant="janus",
    device="cpu",
    accuracy="bitwise",
    detail="3 of 4 calls replayed",
    median_s=1e-3,
    iqr_s=2e-5,
    samples=101,
    speedup=2.0,
    speedup_low=1.9,
    speedup_high=2.1,
    conversion_s=0.5,
    break_even_calls=1_000,
    peak_bytes=3 * 2**20,
    eager_peak_bytes=2 * 2**20,
)
SLOW = replace(
    FAST, case="slow", speedup=0.5, speedup_low=0.4, speedup_high=0.6, break_even_calls=None
)
MISSING = Row(
    id="bench_x::bench[compile-fast]",
    suite="micro",
    case="fast",
    variant="compile",
    device="cpu",
    accuracy="no <C++> compiler",
)
ENVIRONMENT = {
    "device_name": "a CPU",
    "threads": 1,
    "load": 0.5,
    "commit": "0123456789ab",
    "versions": {"torch": "2.14"},
}
RESULTS = Results(environment=ENVIRONMENT, rows=(FAST, SLOW, MISSING))


def printed(results: Results, width: int = 160) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    tables.print_results(results, console)
    return console.export_text()


def test_the_table_lists_slowdowns_first_and_reasons_in_full() -> None:
    text = printed(RESULTS)

    assert text.index("slow ") < text.index("fast ")
    assert "no <C++> compiler" in text
    assert "2.00x [1.90, 2.10]" in text
    assert "1,000 " in text
    assert "never" in text
    assert "3.00 MiB (1.50x)" in text


def test_a_narrow_terminal_shows_what_decides() -> None:
    text = printed(RESULTS, width=100)

    assert "2.00x [1.90, 2.10]" in text
    assert "conversion" in text
    assert "peak memory" not in text


def test_what_a_quick_run_leaves_out_is_one_line() -> None:
    left_out = [replace(MISSING, accuracy=LEFT_OUT, case=name) for name in ("a", "b")]

    assert tables.left_out_lines(left_out) == ["left out by --quick: torch.compile on a, b"]
    assert tables.suites([*left_out, FAST]) == {"micro": [FAST]}


def test_the_summary_counts_every_judgement_and_the_unclipped_mean() -> None:
    lines = tables.summary_lines(RESULTS.rows)

    assert lines == [
        "janus_lite: 1 slower, 1 faster; 2 bitwise equal to eager; geometric mean 1.00x",
        "torch.compile: 1 not run; 0 bitwise equal to eager",
    ]


def test_a_row_that_is_not_like_for_like_is_starred() -> None:
    assert tables.cells(replace(FAST, is_like_for_like=False))[1] == "janus_lite *"


def test_the_report_is_one_file_that_needs_no_network(tmp_path: Path) -> None:
    path = tmp_path / "report.html"

    write_html(RESULTS, path)

    text = path.read_text()
    assert text.count("<svg") == 2
    assert not re.search(r"<(script|link|img|iframe)\b", text)
    assert not re.search(r"""(src|href)=["'](?!#)""", text)
    assert "no &lt;C++&gt; compiler" in text


def test_plots_do_not_change_from_run_to_run() -> None:
    assert plots.speedups(RESULTS.rows) == plots.speedups(RESULTS.rows)
    assert plots.conversions([MISSING]) == ""


def test_progress_lines_name_what_matters() -> None:
    assert "2.00x (faster)" in describe(FAST)
    assert "WRONG: lost" in describe(replace(FAST, accuracy="wrong", detail="lost"))
    assert describe(MISSING).endswith("no <C++> compiler")


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (1.5, "1.50 s"), (0.0123, "12.3 ms"), (3.6e-6, "3.60 us"), (250e-9, "250 ns")],
)
def test_seconds_have_three_digits(value: float | None, text: str) -> None:
    assert seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "-"), (44, "44 B"), (2048, "2.00 KiB"), (3 * 2**30, "3.00 GiB")]
)
def test_bytes_have_binary_units(value: int | None, text: str) -> None:
    assert nbytes(value) == text
