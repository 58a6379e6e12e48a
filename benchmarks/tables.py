"""Print results: one table per suite, what went wrong or slower first, and a summary."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.baselines import VARIANTS
from benchmarks.results import (
    LEFT_OUT,
    Judgement,
    Results,
    Row,
    geometric_mean,
    slowdowns_first,
)
from benchmarks.units import nbytes, seconds

COLUMNS = (
    "case",
    "variant",
    "median",
    "IQR",
    "speed-up [95 %]",
    "judgement",
    "conversion",
    "break-even",
    "peak memory",
    "accuracy",
)


# A narrow terminal shows what decides; the files have all columns.
_ONLY_WHEN_WIDE = ("IQR", "break-even", "peak memory")
_WIDE = 155


def cells(row: Row) -> tuple[str, ...]:
    """Return a row as text, one entry per column."""
    return (
        row.case,
        label(row.variant) + ("" if row.is_like_for_like else " *"),
        seconds(row.median_s),
        seconds(row.iqr_s) if row.samples > 1 else "-",
        speedup(row),
        row.judgement.value,
        seconds(row.conversion_s),
        break_even(row),
        memory(row),
        row.accuracy,
    )


def label(variant: str) -> str:
    """Return what tables call a variant."""
    return VARIANTS[variant].label if variant in VARIANTS else variant


def speedup(row: Row) -> str:
    """Return the speed-up with its interval."""
    if row.speedup is None:
        return "-"
    return f"{row.speedup:.2f}x [{row.speedup_low:.2f}, {row.speedup_high:.2f}]"


def break_even(row: Row) -> str:
    """Return after how many calls conversion has paid."""
    if row.conversion_s is None:
        return "-"
    return "never" if row.break_even_calls is None else f"{row.break_even_calls:,}"


def memory(row: Row) -> str:
    """Return the peak of one call and its ratio to eager's."""
    text = nbytes(row.peak_bytes)
    if row.peak_bytes and row.eager_peak_bytes:
        text += f" ({row.peak_bytes / row.eager_peak_bytes:.2f}x)"
    return text


def suites(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows by suite in reading order, without those that a quick run leaves out."""
    shown = [row for row in rows if row.accuracy != LEFT_OUT]
    names = dict.fromkeys(row.suite for row in shown)
    return {name: slowdowns_first(row for row in shown if row.suite == name) for name in names}


def left_out_lines(rows: Sequence[Row]) -> list[str]:
    """Return per variant the programs that a quick run leaves out."""
    left_out = [row for row in rows if row.accuracy == LEFT_OUT]
    return [
        f"{LEFT_OUT}: {label(variant)} on "
        + ", ".join(row.case for row in left_out if row.variant == variant)
        for variant in dict.fromkeys(row.variant for row in left_out)
    ]


def summary_lines(rows: Sequence[Row]) -> list[str]:
    """Return per variant how many rows did what, and the unclipped geometric mean."""
    lines = []
    for variant in dict.fromkeys(row.variant for row in rows if row.variant != "eager"):
        mine = [row for row in rows if row.variant == variant]
        counts = dict.fromkeys(Judgement, 0)
        for row in mine:
            counts[row.judgement] += 1
        told = ", ".join(f"{count} {kind.value}" for kind, count in counts.items() if count)
        mean = geometric_mean(mine)
        bitwise = sum(row.accuracy == "bitwise" and row.median_s is not None for row in mine)
        text = f"{label(variant)}: {told}; {bitwise} bitwise equal to eager"
        lines.append(text + (f"; geometric mean {mean:.2f}x" if mean else ""))
    return lines


def notes(rows: Sequence[Row]) -> list[str]:
    """Return what rows say of themselves: differences, starred reasons, replays."""
    return [
        f"{row.case}, {label(row.variant)}: {'; '.join(parts)}"
        for row in rows
        if (parts := [row.detail] * bool(row.detail) + _figures(row))
    ]


def _figures(row: Row) -> list[str]:
    return [f"{name} {value:.4g}" for name, value in row.extra.items()]


def print_results(results: Results, console: Console) -> None:
    """Print tables, notes and summary."""
    environment = results.environment
    for suite, rows in suites(results.rows).items():
        console.print(_table(suite, rows, is_wide=console.width >= _WIDE))
    for line in notes(results.rows) + left_out_lines(results.rows):
        console.print(f"  {line}", style="dim", markup=False, highlight=False)
    versions = " ".join(f"{name} {text}" for name, text in environment["versions"].items())
    console.print(
        f"{environment['device_name']}, {environment['threads']} thread, {versions}, "
        f"commit {environment['commit']}, load {environment['load']}",
        highlight=False,
    )
    for line in summary_lines(results.rows):
        console.print(line, style="bold", highlight=False)


def _table(suite: str, rows: Sequence[Row], *, is_wide: bool) -> Table:
    table = Table(title=f"suite {suite}", box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    chosen = [at for at, name in enumerate(COLUMNS) if is_wide or name not in _ONLY_WHEN_WIDE]
    for at in chosen:
        table.add_column(
            COLUMNS[at],
            justify="left" if at < 2 else "right",
            no_wrap=COLUMNS[at] != "accuracy",
            min_width=8,
        )
    for row in rows:
        texts = cells(row)
        table.add_row(*(texts[at] for at in chosen), style=_style(row))
    return table


def _style(row: Row) -> str:
    styles = {
        Judgement.WRONG: "bold red",
        Judgement.SLOWER: "red",
        Judgement.NOT_RUN: "dim",
        Judgement.BASELINE: "dim",
    }
    return styles.get(row.judgement, "")
