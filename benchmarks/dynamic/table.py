"""Run all programs of the table, and write what came of it.

Enters: names of programs. Leaves: `dynamic.json` under the results of the device, and
`docs/dynamic-python.md` made from it. Both are committed; neither is edited by hand.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.dynamic.examine import DynamicRow, Question, Side, examine
from benchmarks.dynamic.world import constructs
from benchmarks.environment import Environment
from benchmarks.isolation import IsolatedWorker
from benchmarks.table_file import write_table

# No program needs a tenth of it on a machine of its own.
TIME_LIMIT_S = 120.0
FAILURE_LIMIT = 1.2
PROMISED = "promised"


def select(pattern: str | None) -> list[Question]:
    """Return the programs whose file and name contain `pattern`; all without one."""
    return [each for each in constructs() if pattern is None or pattern in ".".join(each)]


def run_table(
    questions: Sequence[Question],
    on_row: Callable[[DynamicRow], None],
    *,
    examine_one: Callable[[Question], DynamicRow] = examine,
    time_limit_s: float = TIME_LIMIT_S,
) -> list[DynamicRow]:
    """Examine each program in a child process; `on_row` is told of each row."""
    rows = []
    with IsolatedWorker(examine_one) as worker:
        for question in questions:
            answer = worker.ask(question, timeout_s=time_limit_s)
            row = answer.value if not answer.failure else _lost(question, answer.failure)
            rows.append(row)
            on_row(row)
    return rows


def _lost(question: Question, failure: str) -> DynamicRow:
    plan, side = constructs()[question], Side(verdict="lost", detail=failure)
    return DynamicRow(
        name=".".join(question),
        feature=plan.feature,
        case=plan.case,
        calls=plan.calls,
        limit=plan.limit,
        time_limit=plan.time_limit,
        ours=side,
        compiled=side,
    )


def has_failed(rows: Iterable[DynamicRow]) -> bool:
    """Return whether any row breaks the promise of equal bits, or is imperative without a code."""
    return any(row.ours.verdict != "right" or is_silent(row) for row in rows)


def is_silent(row: DynamicRow) -> bool:
    """Return whether no call was replayed and nothing says why."""
    return not row.ours.hits and not row.ours.codes


def broken_promises(rows: Iterable[DynamicRow]) -> list[str]:
    """Return a line for each figure that is not what was promised for the program."""
    lines = []
    for row in rows:
        ours = row.ours
        if row.limit and ours.conversions > row.limit:
            lines.append(f"{row.name}: {ours.conversions} conversions, {row.limit} promised")
        if row.time_limit and ours.time_ratio and ours.time_ratio > row.time_limit:
            lines.append(
                f"{row.name}: {_times(ours.time_ratio)} of eager's time, "
                f"{_times(row.time_limit)} promised"
            )
        if ours.failure_ratio is not None and ours.failure_ratio > FAILURE_LIMIT:
            lines.append(f"{row.name}: {_times(ours.failure_ratio)} when an assertion fails")
    return lines


def summary(rows: Sequence[DynamicRow]) -> str:
    """Return one line that counts what was done, and who was wrong."""
    treatments = Counter(row.ours.treatment or row.ours.verdict for row in rows)
    told = ", ".join(f"{count} {treatment}" for treatment, count in treatments.most_common())
    wrong = sum(row.ours.verdict != "right" for row in rows)
    theirs = sum(row.compiled.verdict == "wrong" for row in rows)
    return f"{len(rows)} programs: {told}; {wrong} wrong here, {theirs} under torch.compile"


def write_json(rows: Sequence[DynamicRow], environment: Environment, path: Path) -> None:
    """Write the rows and where they were found."""
    write_table(rows, summary(rows), environment, path)


def read_json(path: Path) -> tuple[dict[str, Any], list[DynamicRow]]:
    """Return the environment and the rows that `write_json` wrote."""
    data = json.loads(path.read_text(encoding="utf-8"))
    sides = ("ours", "compiled")
    rows = [
        DynamicRow(**{**row, **{side: _side(row[side]) for side in sides}}) for row in data["rows"]
    ]
    return data["environment"], rows


def _side(data: dict[str, Any]) -> Side:
    return Side(**{**data, "codes": tuple(data["codes"])})


# -------------------------------------------------------------------------------------- document


def markdown(rows: Sequence[DynamicRow], environment: dict[str, Any]) -> str:
    """Return the table as a document."""
    versions = ", ".join(f"{name} {text}" for name, text in environment["versions"].items())
    promised = [row for row in rows if row.feature == PROMISED]
    others = [row for row in rows if row.feature != PROMISED]
    return "\n".join(
        (
            "# Dynamic Python",
            "",
            "Written by `python -m benchmarks run --suite dynamic`; not edited by hand.",
            "",
            "What becomes of each construct: small programs (`benchmarks/dynamic/programs/`),",
            "called 20 times with data, state or code that vary, in lock step with eager. Outputs,",
            "exceptions, arguments, state, gradients and printed text are compared after each",
            "call, bit by bit. *In graph*: all but a few calls were replayed. *Specialised*: a",
            "graph for each case that was met. *Descended*: what the function calls is replayed.",
            "*Imperative*: run as eager, with the codes shown (`docs/errors.md`). *Conversions*:",
            "graphs made during these calls, with the profit guard off. *Time*: that of eager is",
            "1; the median over 25 pairs of blocks of 8 calls with new data, of a program that was",
            "called before, with the guard on: what does not pay is dropped.",
            "",
            "torch.compile ran in the same process with the default settings and the backend that",
            "compiles nothing (its graphs run the same kernels, so that equal bits can be asked",
            "for). *Eager*: it compiled nothing. *Gave up*: more often than its limit allows.",
            "*Close*: other bits. Its graphs count every piece between two breaks.",
            "",
            f"{environment['device_name']}, {versions}, Python {environment['python']}, commit "
            f"{environment['commit']}, load {environment['load']}.",
            "",
            f"**{summary(rows)}.**",
            "",
            _HEAD,
            "|---|---|---|---|---|---|---|---|---|",
            *(_line(row, row.feature) for row in others),
            "",
            "## Promised",
            "",
            "Each has a limit of conversions over so many calls. A failed assertion may cost one",
            f"imperative call and {FAILURE_LIMIT - 1:.0%}; the time of such calls is in brackets.",
            "",
            _HEAD.replace("construct", "calls"),
            "|---|---|---|---|---|---|---|---|---|",
            *(_line(row, str(row.calls)) for row in promised),
            "",
            "## What is not as promised",
            "",
            "Conversions, times and failures above their limit. What NumPy and SciPy compute in",
            "the middle is promised no time.",
            "",
            *(f"- {line}" for line in broken_promises(rows) or ["nothing"]),
            "",
        )
    )


_HEAD = (
    "| construct | case | what we do | conversions | time "
    "| torch.compile | its graphs | its breaks | its time |"
)


def _line(row: DynamicRow, first: str) -> str:
    ours, theirs = row.ours, row.compiled
    limit = f" of {row.limit}" if row.limit else ""
    failure = f" ({_times(ours.failure_ratio)})" if ours.failure_ratio is not None else ""
    done = " ".join((ours.treatment if ours.verdict == "right" else ours.verdict, *ours.codes))
    cells = (
        first,
        row.case,
        done,
        f"{ours.conversions}{limit}",
        _times(ours.time_ratio) + failure,
        theirs.treatment or theirs.verdict,
        str(theirs.conversions) if theirs.verdict == "right" else "-",
        str(theirs.breaks),
        _times(theirs.time_ratio),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}x"
