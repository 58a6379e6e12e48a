"""Compare two results files: what changed between two commits on one device.

Enters: two files of `python -m benchmarks run --json`. Leaves: one `Change` per ID in both.
Invariant: samples taken at different times are never called different while the intervals of
their medians overlap.

Example:
    >>> compare_results(Path("before.json"), Path("after.json"))[0].verdict
    'no difference'
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.timing import Interval, interval_of_median
from benchmarks.units import seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One row before and after."""

    id: str
    before: Interval
    after: Interval

    @property
    def verdict(self) -> str:
        """Return `faster`, `slower` or, where the intervals overlap, `no difference`."""
        if self.after.low > self.before.high:
            return "slower"
        return "faster" if self.after.high < self.before.low else "no difference"

    @property
    def percent(self) -> float:
        """How much longer a call takes now, in percent of before."""
        return 100.0 * (self.after.middle / self.before.middle - 1.0)

    def is_worse_than(self, percent: float) -> bool:
        """Return whether the row got slower, beyond doubt and by more than `percent`."""
        return self.verdict == "slower" and self.percent > percent


def compare_results(before: Path, after: Path) -> list[Change]:
    """Return the changes of all rows that both files hold, the worst first."""
    old, new = _samples(before), _samples(after)
    changes = [
        Change(id=name, before=interval_of_median(old[name]), after=interval_of_median(new[name]))
        for name in old
        if name in new
    ]
    return sorted(changes, key=lambda change: -change.percent)


def lines(changes: Sequence[Change]) -> list[str]:
    """Return a table as lines of text."""
    if not changes:
        return ["the two files have no row in common"]
    width = max(len(change.id) for change in changes)
    return [
        f"{change.id:<{width}}  {seconds(change.before.middle):>9} -> "
        f"{seconds(change.after.middle):>9}  {change.percent:+7.1f} %  {change.verdict}"
        for change in changes
    ]


def _samples(path: Path) -> dict[str, list[float]]:
    data = json.loads(path.read_text(encoding="utf-8"))
    return {item["extra_info"]["row"]["id"]: item["stats"]["data"] for item in data["benchmarks"]}
