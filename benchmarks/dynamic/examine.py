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

from benchmarks.baselines import Target, converted_below, reasons_of, speculative_function
from benchmarks.dynamic.kit import Construct
from benchmarks.dynamic.world import World, constructs
from benchmarks.environment import without_places
from benchmarks.equality import Comparison, Verdict, compare
from benchmarks.timing import HostStopwatch, no_garbage_collection

# After the counted calls, so many blocks of calls are timed. A program that the outside changes
# before each call has blocks of one call.
_BLOCKS = 25
_CALLS_PER_BLOCK = 8
# Calls after which the profit guard has decided, of each of several graphs.
_TRIAL_CALLS = 800
# Of the counted calls, so many may convert or miss in a program that counts as being in one graph.
_FEW = 4
Question = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What one way of running a program did.

    Attributes:
        verdict: `right`, `close` or `wrong`, with the first difference in `detail`.
        detail: where it was wrong, or what it says of itself.
        treatment: `in graph`, `specialised` (a graph per case), `descended` (what it calls is
            replayed) or `imperative`; of torch.compile `eager` when nothing was compiled, `gave up`
            when it was compiled too often.
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
        time_limit: what is promised of its time over eager's, if anything.
        ours: janus_lite.
        compiled: torch.compile.
    """

    name: str
    feature: str
    case: str
    calls: int
    limit: int
    time_limit: float | None
    ours: Side
    compiled: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """What the counted calls of a program showed.

    Attributes:
        raised: calls that raised, in both alike.
        ratios: of the times of each call that returned, by its number.
        counts: what the side counted after each call.
    """

    raised: int
    ratios: dict[int, float]
    counts: tuple[Any, ...]


class _DiffersError(Exception):
    """A call did not show what eager shows."""

    def __init__(self, comparison: Comparison) -> None:
        super().__init__(without_places(comparison.where))
        self.verdict = comparison.verdict


class _LockStep:
    """A program under eager and under another way, called in turn."""

    def __init__(self, question: Question, plan: Construct, subject: World) -> None:
        self._plain = World(*question, lambda target: target)
        self._subject = subject
        self._plan = plan
        self._turns = 0
        self._done = 0

    def count(self, count: Callable[[], Any]) -> _Counted:
        """Make the counted calls, one by one."""
        raised, ratios, counts = 0, {}, []
        with no_garbage_collection():
            for step in range(self._plan.calls):
                ratio, has_raised = self._ratio(1)
                counts.append(count())
                raised += has_raised
                if not has_raised:
                    ratios[step] = ratio
        return _Counted(raised=raised, ratios=ratios, counts=tuple(counts))

    def time(self) -> float:
        """Make more calls, in blocks; return the median ratio of their times."""
        with no_garbage_collection():
            return statistics.median(self._ratio(self._block)[0] for _ in range(_BLOCKS))

    def warm_up(self) -> None:
        """Make the counted calls, and those of trials, as they are timed later: in blocks.

        The profit guard compares what it sees; calls one by one, each after the comparison of the
        last, find other caches than calls in a row.
        """
        with no_garbage_collection():
            for _ in range(0, self._plan.calls + _TRIAL_CALLS, self._block):
                self._ratio(self._block)

    @property
    def _block(self) -> int:
        """How many calls are timed together."""
        return _CALLS_PER_BLOCK if self._plan.change is None else 1

    def _ratio(self, calls: int) -> tuple[float, bool]:
        """Return the ratio of the times of some calls of both, and whether one raised."""
        steps = range(self._done, self._done + calls)
        self._done += calls
        self._turns += 1
        pair = [self._plain, self._subject][:: 1 if self._turns % 2 else -1]
        done = {id(world): world.calls(steps, HostStopwatch()) for world in pair}
        (expected, eager_s), (found, subject_s) = done[id(self._plain)], done[id(self._subject)]
        comparison = compare(expected, found)
        if comparison.verdict is not Verdict.BITWISE:
            raise _DiffersError(comparison)
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
        time_limit=plan.time_limit,
        ours=_examine_ours(question, plan),
        compiled=_examine_compiled(question, plan),
    )


def _examine_ours(question: Question, plan: Construct) -> Side:
    import janus_lite
    from janus_lite import config

    try:
        with config.patch(profit=False):  # what the profit guard drops depends on the clock
            subject = World(*question, janus_lite.speculate)
            speculated = speculative_function(subject.subject)
            counted = _LockStep(question, plan, subject).count(lambda: speculated.stats)
        with config.patch(profit=True):  # as users have it
            other = World(*question, janus_lite.speculate)
            as_users = _LockStep(question, plan, other)
            as_users.warm_up()
            time_ratio = as_users.time()
    except _DiffersError as error:
        return Side(verdict="wrong", detail=str(error))
    reasons = (*reasons_of(speculated), *reasons_of(speculative_function(other.subject)))
    told = {each.code: without_places(f"{each.code} {each.found}") for each in reasons}
    stats = counted.counts[-1]
    return Side(
        verdict="right",
        detail="; ".join(told.values()),
        treatment=_treatment(plan, counted, is_descended=_is_descended(speculated)),
        conversions=converted_below(stats),
        hits=stats.hits,
        codes=tuple(told),
        time_ratio=time_ratio,
        failure_ratio=_failure_ratio(counted),
    )


def _is_descended(speculated: Any) -> bool:
    """Whether the function is imperative by now, and what it calls is replayed."""
    below = getattr(speculated.stats, "children", ())
    return any(stats.hits for _, stats in below)


def _treatment(plan: Construct, counted: _Counted, *, is_descended: bool) -> str:
    hits = counted.counts[-1].hits
    if hits + counted.raised >= plan.calls - _FEW:
        return "in graph"
    if is_descended:
        return "descended"
    return "specialised" if hits else "imperative"


def _failure_ratio(counted: _Counted) -> float | None:
    failed = [
        counted.ratios[step]
        for step, (old, new) in enumerate(itertools.pairwise(counted.counts), start=1)
        if new.assertion_failures > old.assertion_failures
        and new.recorded == old.recorded
        and step in counted.ratios
    ]
    return statistics.median(failed) if failed else None


def _examine_compiled(question: Question, plan: Construct) -> Side:
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
    pair = _LockStep(question, plan, World(*question, convert))
    try:
        conversions = pair.count(lambda: graphs).counts[-1]
        time_ratio = pair.time()
    except _DiffersError as error:
        verdict = "close" if error.verdict is Verdict.CLOSE else "wrong"
        return Side(verdict=verdict, detail=str(error))
    # A break is counted under the first key where it can be resumed, else under the second.
    breaks = counters["graph_break"] + counters["unimplemented"]
    has_given_up = any("limit exceeded" in reason for reason in breaks)
    treatment = "" if graphs else "eager"
    return Side(
        verdict="right",
        treatment="gave up" if has_given_up else treatment,
        conversions=conversions,
        breaks=sum(breaks.values()),
        time_ratio=time_ratio,
    )
