"""Show a run while it goes on: a bar on a terminal, one line per finished row anywhere."""

from __future__ import annotations

import rich.console
import rich.progress

from benchmarks.results import Judgement, Row
from benchmarks.units import seconds

_STYLES = {
    Judgement.WRONG: "bold red",
    Judgement.SLOWER: "red",
    Judgement.FASTER: "green",
    Judgement.NOT_RUN: "dim",
}


class Progress:
    """A bar with the row in work, and the rows done so far above it."""

    def __init__(self) -> None:
        self._console = rich.console.Console(highlight=False)
        self._bar = rich.progress.Progress(
            rich.progress.BarColumn(),
            rich.progress.MofNCompleteColumn(),
            rich.progress.TimeElapsedColumn(),
            rich.progress.TextColumn("{task.description}"),
            console=self._console,
            transient=True,
        )
        self._task: rich.progress.TaskID | None = None

    def start(self, total: int) -> None:
        """Show an empty bar of `total` rows."""
        self._task = self._bar.add_task("", total=total)
        self._bar.start()

    def begin(self, name: str) -> None:
        """Say which row is being measured."""
        if self._task is not None:
            self._bar.update(self._task, description=name)

    def end(self) -> None:
        """Advance the bar by one row."""
        if self._task is not None:
            self._bar.advance(self._task)

    def line(self, text: str, style: str = "") -> None:
        """Print one line above the bar."""
        self._console.print(text, style=style, markup=False, soft_wrap=True)

    def show(self, row: Row) -> None:
        """Print one line for a finished row."""
        self.line(describe(row), _STYLES.get(row.judgement, ""))

    def stop(self) -> None:
        """Take the bar away."""
        self._bar.stop()


def describe(row: Row) -> str:
    """Return a row as one line of plain text."""
    figures = row.accuracy
    if row.median_s is not None:
        figures = f"{seconds(row.median_s):>10}  {row.accuracy}"
    if row.speedup is not None:
        figures += f"  {row.speedup:.2f}x ({row.judgement.value})"
    if row.accuracy == "wrong":
        figures = f"WRONG: {row.detail}"
    return f"{row.case:<18} {row.variant:<15} {figures}"
