"""One program of the table: run it ours and torch.compile's way, each in lock step with eager.

Enters: a file and a name. Leaves: a frozen `DynamicRow`. Invariant: every call of every side is
compared with eager, those that are timed as well; a side that is wrong has no time.

Example:
    >>> examine(("control", "branch")).ours.treatment
    'in graph'
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.baselines import Target, reasons_of, speculative_function
from benchmarks.dynamic.kit import Construct
from benchmarks.dynamic.world import World, constructs
from benchmarks.environment import without_places
from benchmarks.equality import Comparison, Verdict, compare
from benchmarks.timing import HostStopwatch, no_garbage_collection

# After the counted calls, so many blocks of calls are timed. A program that the outside changes
# before each call has blocks of one call.
_BLOCKS = 25
_CALLS_PER_BLOCK = 8
# Of the counted calls, so many may convert or miss in a program that counts as being in one graph.
_FEW = 4
Question = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one way of running a program did.

    Attributes:
        verdict: `right`, `close` or `wrong`, with the first difference in `detail`.
        detail: where it was wrong, or what it says of itself.
        treatment: `in graph`, `specialised` (a graph per case) or `imperative`; of torch.compile
            `eager` when nothing was compiled, `gave up` when it was compiled too often.
        conversions: graphs made during the counted calls.
        hits: counted calls answered by a graph; ours only.
        breaks: graph breaks; torch.compile's only.
        codes: reasons why calls stayed imperative; ours only.
        time_ratio: median of this way's time / eager's, over blocks of calls after those counted.
        failure_ratio: the same over counted calls with a failed assertion and without a recording.
    """

    verdict: str
    detail: str = ""
    treatment: str = ""
    conversions: int = 0
    hits: int = 0
    breaks: int = 0
    codes: tuple[str, ...] = ()
    time_ratio: float | None = None
    failure_ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicRow:
    """One program, both ways.

    Attributes:
        name: of the program.
        feature: the row of the table that it belongs to.
        case: what of the feature it shows.
        calls: how many calls are counted.
        limit: conversions that are promised at most; 0 promises nothing.
        is_steady: it is promised to be no slower than eager.
        ours: janus_lite.
        compiled: torch.compile.
    """

    name: str
    feature: str
    case: str
    calls: int
    limit: int
    is_steady: bool
    ours: Side
    compiled: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """What calling a program in lock step with eager showed.

    Attributes:
        comparison: where the two first differed, and how much.
        raised: counted calls that raised, in both alike.
        ratios: of the times of each counted call that returned, by its number.
        steady: of the times of the blocks after the counted calls.
        counts: what the side counted after each counted call.
    """

    comparison: Comparison
    raised: int
    ratios: dict[int, float]
    steady: tuple[float, ...]
    counts: tuple[Any, ...]


class _LockStep:
    """A program under eager and under another way, called in turn."""

    def __init__(self, question: Question, subject: World) -> None:
        self._plain = World(*question, lambda target: target)
        self._subject = subject
        self._turns = 0
        self.comparison = Comparison(Verdict.BITWISE)

    def ratio(self, steps: range) -> tuple[float, bool]:
        """Return the ratio of the times of the calls of both, and whether one raised."""
        self._turns += 1
        pair = [self._plain, self._subject][:: 1 if self._turns % 2 else -1]
        done = {id(world): world.calls(steps, HostStopwatch()) for world in pair}
        (expected, eager_s), (found, subject_s) = done[id(self._plain)], done[id(self._subject)]
        self.comparison = compare(expected, found)
        return subject_s / eager_s, bool(expected.errors)


def examine(question: Question) -> DynamicRow:
    """Return the row of one program."""
    file, name = question
    plan = constructs()[question]
    torch.set_num_threads(1)
    return DynamicRow(
        name=f"{file}.{name}",
        feature=plan.feature,
        case=plan.case,
        calls=plan.calls,
        limit=plan.limit,
        is_steady=plan.is_steady,
        ours=_examine_ours(file, name, plan),
        compiled=_examine_compiled(file, name, plan),
    )


def _run(question: Question, plan: Construct, subject: World, count: Callable[[], Any]) -> _Run:
    pair, raised = _LockStep(question, subject), 0
    ratios: dict[int, float] = {}
    counts, steady = [], []
    size = _CALLS_PER_BLOCK if plan.change is None else 1
    with no_garbage_collection():
        for step in range(plan.calls + size * _BLOCKS):
            is_counted = step < plan.calls
            if not is_counted and (step - plan.calls) % size:
                continue
            ratio, has_raised = pair.ratio(range(step, step + (1 if is_counted else size)))
            if pair.comparison.verdict is not Verdict.BITWISE:
                break
            if is_counted:
                counts.append(count())
                raised += has_raised
                ratios |= {} if has_raised else {step: ratio}
            else:
                steady.append(ratio)
    return _Run(
        comparison=pair.comparison,
        raised=raised,
        ratios=ratios,
        steady=tuple(steady),
        counts=tuple(counts),
    )


def _examine_ours(file: str, name: str, plan: Construct) -> Side:
    import janus_lite

    subject = World(file, name, janus_lite.speculate)
    speculated = speculative_function(subject.subject)
    run = _run((file, name), plan, subject, lambda: speculated.stats)
    reasons = reasons_of(speculated)
    told = "; ".join(without_places(f"{each.code} {each.found}") for each in reasons)
    if run.comparison.verdict is not Verdict.BITWISE:
        return Side(verdict="wrong", detail=without_places(run.comparison.where))
    counted = run.counts[-1]
    return Side(
        verdict="right",
        detail=told,
        treatment=_treatment(plan, run, counted),
        conversions=counted.converted,
        hits=counted.hits,
        codes=tuple(each.code for each in reasons),
        time_ratio=statistics.median(run.steady),
        failure_ratio=_failure_ratio(run),
    )


def _treatment(plan: Construct, run: _Run, counted: Any) -> str:
    if not counted.hits:
        return "imperative"
    return "in graph" if counted.hits + run.raised >= plan.calls - _FEW else "specialised"


def _failure_ratio(run: _Run) -> float | None:
    failed = [
        run.ratios[step]
        for step, (old, new) in enumerate(itertools.pairwise(run.counts), start=1)
        if new.assertion_failures > old.assertion_failures
        and new.recorded == old.recorded
        and step in run.ratios
    ]
    return statistics.median(failed) if failed else None


def _examine_compiled(file: str, name: str, plan: Construct) -> Side:
    from torch._dynamo.utils import counters

    graphs = 0

    def count_graph(gm: torch.fx.GraphModule, _inputs: list[Any]) -> Callable[..., Any]:
        nonlocal graphs
        graphs += 1
        return gm.forward

    def convert(target: Target) -> Target:
        compiled: Target = torch.compile(target, backend=count_graph)
        return compiled

    torch.compiler.reset()
    counters.clear()
    subject = World(file, name, convert)
    run = _run((file, name), plan, subject, lambda: graphs)
    # A break is counted under the first key where it can be resumed, else under the second.
    found = counters["graph_break"] + counters["unimplemented"]
    breaks = sum(found.values())
    if run.comparison.verdict is not Verdict.BITWISE:
        verdict = "close" if run.comparison.verdict is Verdict.CLOSE else "wrong"
        return Side(verdict=verdict, detail=without_places(run.comparison.where), breaks=breaks)
    has_given_up = any("limit exceeded" in reason for reason in found)
    treatment = "" if graphs else "eager"
    return Side(
        verdict="right",
        treatment="gave up" if has_given_up else treatment,
        conversions=run.counts[-1],
        breaks=breaks,
        time_ratio=statistics.median(run.steady),
    )
