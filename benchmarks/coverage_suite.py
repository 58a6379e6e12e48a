"""Run the coverage list, one architecture after the other, and write what came of it.

Enters: names of architectures. Leaves: `coverage.json` under the results of the device, and the
table `docs/coverage.md` made from it. Both are committed; neither is edited by hand.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.architectures import ARCHITECTURES, Architecture
from benchmarks.coverage import FAILURES, CoverageRow, Outcome, blank_row, examine
from benchmarks.environment import Environment
from benchmarks.isolation import IsolatedWorker
from benchmarks.table_file import write_table

# No architecture of the list needs a tenth of it; one that does is a finding.
TIME_LIMIT_S = 60.0


def run_coverage(
    architectures: Sequence[Architecture],
    on_row: Callable[[CoverageRow], None],
    *,
    examine_one: Callable[[str], CoverageRow] = examine,
    time_limit_s: float = TIME_LIMIT_S,
) -> list[CoverageRow]:
    """Examine each architecture in a child process; `on_row` is told of each row."""
    rows = []
    with IsolatedWorker(examine_one) as worker:
        for architecture in architectures:
            answer = worker.ask(architecture.name, timeout_s=time_limit_s)
            row = answer.value if not answer.failure else _lost(architecture, answer.failure)
            rows.append(row)
            on_row(row)
    return rows


def select(pattern: str | None) -> list[Architecture]:
    """Return the architectures whose name contains `pattern`; all without one."""
    return [row for row in ARCHITECTURES if pattern is None or pattern in row.name]


def has_failed(rows: Iterable[CoverageRow]) -> bool:
    """Return whether any row breaks the promise of equal bits or a coded reason."""
    return any(Outcome(row.outcome) in FAILURES for row in rows)


def summary(rows: Sequence[CoverageRow]) -> str:
    """Return one line that counts the outcomes."""
    counts = Counter(row.outcome for row in rows)
    built = [row for row in rows if row.outcome != Outcome.ABSENT.value]
    share = 100.0 * counts[Outcome.BITWISE.value] / max(1, len(built))
    parts = ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())
    return f"{len(built)} architectures: {parts}; {share:.1f} % replay bitwise"


def write_json(rows: Sequence[CoverageRow], environment: Environment, path: Path) -> None:
    """Write the rows and where they were found."""
    write_table(rows, summary(rows), environment, path)


def read_json(path: Path) -> tuple[dict[str, Any], list[CoverageRow]]:
    """Return the environment and the rows that `write_json` wrote."""
    data = json.loads(path.read_text(encoding="utf-8"))
    rows = [CoverageRow(**{**row, "codes": tuple(row["codes"])}) for row in data["rows"]]
    return data["environment"], rows


def markdown(rows: Sequence[CoverageRow], environment: dict[str, Any]) -> str:
    """Return the table as a document."""
    versions = ", ".join(f"{name} {text}" for name, text in environment["versions"].items())
    return "\n".join(
        (
            "# Coverage",
            "",
            "Written by `python -m benchmarks run --suite coverage`; not edited by hand.",
            "",
            "Each architecture is called in eval mode without grad: the first call records, the",
            "second and third have fresh inputs. *bitwise*: both replayed, and every",
            "result equals eager's in structure, dtype, shape, stride, bits. *reason*: calls ran",
            "imperatively, equal to eager, with the codes shown (`docs/errors.md`). Where a model",
            "does something in its first call only (fills a cache, warns once), the second records",
            "again, and the third and a fourth call must replay: *recordings* is 2.",
            "",
            f"{environment['device_name']}, {versions}, Python {environment['python']}, commit "
            f"{environment['commit']}.",
            "",
            f"**{summary(rows)}.**",
            "",
            *_by_kind(rows),
            "",
            "| architecture | kind | variant | outcome | codes | recordings |",
            "|---|---|---|---|---|---|",
            *(_table_line(row) for row in rows),
            "",
        )
    )


def _by_kind(rows: Sequence[CoverageRow]) -> list[str]:
    kinds = dict.fromkeys(row.kind for row in rows)
    lines = ["| kind | architectures | bitwise | reason | other |", "|---|---|---|---|---|"]
    for kind in kinds:
        counts = Counter(row.outcome for row in rows if row.kind == kind)
        bitwise, reason = counts[Outcome.BITWISE.value], counts[Outcome.REASON.value]
        total = counts.total()
        lines.append(f"| {kind} | {total} | {bitwise} | {reason} | {total - bitwise - reason} |")
    return lines


def _table_line(row: CoverageRow) -> str:
    cells = (row.name, row.kind, row.variant, row.outcome, " ".join(row.codes), str(row.recordings))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _lost(architecture: Architecture, failure: str) -> CoverageRow:
    is_timeout = failure.startswith("timed out")
    return blank_row(
        architecture, Outcome.TIMED_OUT if is_timeout else Outcome.CRASHED, detail=failure
    )
