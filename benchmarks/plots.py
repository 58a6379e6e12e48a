"""Plots of a results file as inline SVG: what the tables say, seen at a glance."""

from __future__ import annotations

import io
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.results import Row
from benchmarks.tables import label

# Distinguishable with any colour vision (after Okabe and Ito).
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9")


def speedups(rows: Sequence[Row]) -> str:
    """Return bars of the speed-up over eager with its interval; empty without any."""
    measured = [row for row in rows if row.speedup is not None]
    if not measured:
        return ""
    figure, axes = _figure(len(measured))
    for position, row in enumerate(reversed(measured)):
        assert row.speedup is not None
        low = row.speedup - (row.speedup_low or row.speedup)
        high = (row.speedup_high or row.speedup) - row.speedup
        axes.barh(position, row.speedup, xerr=[[low], [high]], color=_colour(row, measured))
    axes.axvline(1.0, color="black", linewidth=1)
    axes.set_xlabel("times as fast as eager (right of the line is faster; bars: 95 % interval)")
    return _finished(figure, axes, measured)


def conversions(rows: Sequence[Row]) -> str:
    """Return bars of the conversion time on a logarithmic axis; empty without any."""
    measured = [row for row in rows if row.conversion_s]
    if not measured:
        return ""
    figure, axes = _figure(len(measured))
    for position, row in enumerate(reversed(measured)):
        axes.barh(position, row.conversion_s or 0.0, color=_colour(row, measured))
    axes.set_xscale("log")
    axes.set_xlabel("seconds that the first calls took beyond eager calls (logarithmic)")
    return _finished(figure, axes, measured)


def _figure(bars: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(9.0, 1.0 + 0.26 * bars), layout="constrained")
    return figure, figure.add_subplot()


def _colour(row: Row, rows: Sequence[Row]) -> str:
    variants = list(dict.fromkeys(other.variant for other in rows))
    return _COLOURS[variants.index(row.variant) % len(_COLOURS)]


def _finished(figure: Figure, axes: Axes, rows: Sequence[Row]) -> str:
    names = [f"{row.case}, {label(row.variant)}" for row in reversed(rows)]
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.margins(y=0.01)
    axes.spines[["top", "right"]].set_visible(b=False)
    text = io.StringIO()
    # Text stays text and IDs do not change from run to run, so that reports can be compared.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "benchmarks"}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return svg[svg.index("<svg") :]
