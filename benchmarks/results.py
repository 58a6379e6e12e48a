"""One row of a results table, and what may be concluded from it.

Enters: what `measure` found. Leaves: frozen `Row`s, to and from JSON and CSV. Invariant: a row
whose output is wrong has no figure that could be quoted; a speed-up is called one only when
its interval leaves 1 out.

Example:
    >>> [row.judgement for row in read_results(path).rows]
    [<Judgement.SLOWER: 'slower'>, <Judgement.FASTER: 'faster'>]
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

ACCURACIES = ("bitwise", "close", "wrong")
# The reason of rows that only a full run measures.
LEFT_OUT = "left out by --quick"


class Judgement(Enum):
    """What a row shows; `value` is what tables print."""

    WRONG = "wrong"
    SLOWER = "slower"
    SAME = "no difference"
    FASTER = "faster"
    BASELINE = "baseline"
    MEASURED = "measured"
    NOT_RUN = "not run"


# Tables list what went wrong first, then what got slower.
_ORDER = {
    Judgement.WRONG: 0,
    Judgement.SLOWER: 1,
    Judgement.SAME: 2,
    Judgement.FASTER: 2,
    Judgement.BASELINE: 2,
    Judgement.MEASURED: 2,
    Judgement.NOT_RUN: 3,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One case under one variant.

    Attributes:
        id: file stem and name, stable for ever.
        suite: the suite that the row belongs to.
        case: what was run.
        variant: how it was run: eager, janus, torch.compile ...
        device: `cpu` or `cuda`.
        accuracy: `bitwise`, `close` or `wrong` against eager; else the reason why not run.
        detail: where outputs differ, or what the variant says of itself.
        is_like_for_like: false when the row is no fair comparison; `detail` says why.
        median_s: median seconds of one call.
        iqr_s: distance between the quartiles of those seconds.
        samples: number of samples behind the medians.
        speedup: median over the pairs of eager time / variant time.
        speedup_low: lower end of the 95 % interval of `speedup`.
        speedup_high: upper end.
        conversion_s: what the first calls cost beyond eager calls.
        break_even_calls: calls after which conversion has paid; `None` when it never does.
        peak_bytes: most tensor bytes that one call held.
        eager_peak_bytes: the same for eager.
        extra: figures that only some benchmarks have, by name.
    """

    id: str
    suite: str
    case: str
    variant: str
    device: str
    accuracy: str
    detail: str = ""
    is_like_for_like: bool = True
    median_s: float | None = None
    iqr_s: float | None = None
    samples: int = 0
    speedup: float | None = None
    speedup_low: float | None = None
    speedup_high: float | None = None
    conversion_s: float | None = None
    break_even_calls: int | None = None
    peak_bytes: int | None = None
    eager_peak_bytes: int | None = None
    extra: dict[str, float] = dataclasses.field(default_factory=dict)

    @property
    def judgement(self) -> Judgement:
        """What the row shows. Intervals that reach over 1 show no difference."""
        if self.accuracy == "wrong":
            return Judgement.WRONG
        if self.median_s is None:
            return Judgement.NOT_RUN
        if self.speedup_low is None or self.speedup_high is None:
            return Judgement.BASELINE if self.variant == "eager" else Judgement.MEASURED
        if self.speedup_low > 1.0:
            return Judgement.FASTER
        return Judgement.SLOWER if self.speedup_high < 1.0 else Judgement.SAME


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """All rows of one run and where it ran."""

    environment: dict[str, Any]
    rows: tuple[Row, ...]


def slowdowns_first(rows: Iterable[Row]) -> list[Row]:
    """Return the rows in reading order: wrong, slower, the rest as they came, not run."""
    return sorted(rows, key=lambda row: _ORDER[row.judgement])


def geometric_mean(rows: Sequence[Row]) -> float | None:
    """Return the geometric mean of all speed-ups, losses included; `None` without any."""
    speedups = [row.speedup for row in rows if row.speedup and row.accuracy in ACCURACIES[:2]]
    if not speedups:
        return None
    return math.exp(math.fsum(math.log(value) for value in speedups) / len(speedups))


def break_even(conversion_s: float, eager_s: float, variant_s: float) -> int | None:
    """Return after how many calls the conversion has paid for itself; `None` for never."""
    saved = eager_s - variant_s
    return math.ceil(conversion_s / saved) if saved > 0 else None


def row_from_dict(data: dict[str, Any]) -> Row:
    """Return the row that `dataclasses.asdict` made `data` from."""
    return Row(**data)


def read_results(path: Path) -> Results:
    """Return what a results file of `python -m benchmarks run --json` holds.

    Raises:
        ValueError: the file is JSON of another kind.
    """
    data = json.loads(path.read_text(encoding="utf-8"))
    if "rows" not in data:
        raise ValueError(
            f"{path.name}: expected the JSON that `python -m benchmarks run --json` writes, "
            f"found keys {sorted(data)[:5]}; name such a file"
        )
    return Results(
        environment=data["machine_info"],
        rows=tuple(row_from_dict(item) for item in data["rows"]),
    )


def write_csv(rows: Iterable[Row], path: Path) -> None:
    """Write one line per row; units stand in the column names."""
    names = [field.name for field in dataclasses.fields(Row) if field.name != "extra"]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*names, "judgement", "extra"])
        for row in rows:
            cells = [getattr(row, name) for name in names]
            writer.writerow([*cells, row.judgement.value, json.dumps(row.extra)])
