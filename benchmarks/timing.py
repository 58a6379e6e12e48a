"""Measure two callables in turn, and say what may be concluded: the only file that reads a clock.

Enters: callables. Leaves: frozen samples in seconds per call. Invariant: the two sides of a
pair are measured next to each other, in the order A B, B A, A B ..., so that a machine that
grows slower while it is measured cannot favour one of them; what is compared is the ratio
within a pair, never two medians taken at different times.

Example:
    >>> measured = measure_pairs(eager, replay, HostStopwatch(), PairPlan())
    >>> interval_of_median(measured.ratios)
    Interval(low=1.7, middle=1.8, high=1.9)
"""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch

Thunk = Callable[[], object]
Clock = Callable[[], float]


class Stopwatch(Protocol):
    """Times one block of calls in seconds, device work included."""

    def time_block(self, fn: Thunk, calls: int) -> float:
        """Return the seconds that `calls` calls of `fn` took together."""
        ...


@dataclass(frozen=True, slots=True)
class HostStopwatch:
    """Wall time of the host; for devices without a queue of their own."""

    clock: Clock = time.perf_counter

    def time_block(self, fn: Thunk, calls: int) -> float:
        """Return the seconds between the first call's start and the last call's return."""
        turns = range(calls)
        start = self.clock()
        for _ in turns:
            fn()
        return self.clock() - start


@dataclass(frozen=True, slots=True)
class CudaStopwatch:
    """Time between two events on the current stream, with an idle device before and after."""

    def time_block(self, fn: Thunk, calls: int) -> float:
        """Return the seconds from the first launch to the end of the last kernel."""
        first = torch.cuda.Event(enable_timing=True)
        last = torch.cuda.Event(enable_timing=True)
        torch.cuda.synchronize()
        first.record()
        for _ in range(calls):
            fn()
        last.record()
        torch.cuda.synchronize()
        return float(first.elapsed_time(last)) * 1e-3


def stopwatch_for(device: str) -> Stopwatch:
    """Return the stopwatch that sees all the work of `device`."""
    return CudaStopwatch() if device.startswith("cuda") else HostStopwatch()


@dataclass(frozen=True, slots=True, kw_only=True)
class PairPlan:
    """How long to measure.

    Attributes:
        budget_s: time for all pairs together; at least `min_pairs` are measured all the same.
        block_s: a block holds as many calls as fill this time, so that neither reading the clock
            nor what the other side left in the processor's caches counts; at least one.
        min_pairs: fewest pairs, for slow callables.
        max_pairs: most pairs, for fast callables.
        warmup_pairs: pairs that are run and thrown away.
    """

    budget_s: float = 2.0
    block_s: float = 20e-3
    min_pairs: int = 7
    max_pairs: int = 201
    warmup_pairs: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """Seconds per call of A and of B; entry `i` of both was measured side by side."""

    first: tuple[float, ...]
    second: tuple[float, ...]
    calls_per_block: int

    @property
    def ratios(self) -> tuple[float, ...]:
        """How many times faster B was than A, pair by pair."""
        return tuple(a / b for a, b in zip(self.first, self.second, strict=True))


@dataclass(frozen=True, slots=True)
class Interval:
    """A median and the interval that covers it."""

    low: float
    middle: float
    high: float


def time_once(fn: Thunk, stopwatch: Stopwatch) -> float:
    """Return the seconds of one single call: for first calls, which cannot be repeated."""
    return stopwatch.time_block(fn, 1)


def measure_pairs(first: Thunk, second: Thunk, stopwatch: Stopwatch, plan: PairPlan) -> Pairs:
    """Measure `first` and `second` in alternating blocks until the budget is spent.

    Both run equally many calls per block. The garbage collector rests meanwhile: a
    collection that falls into one side says nothing about either.
    """
    with no_garbage_collection():
        calls = _calls_per_block(first, second, stopwatch, plan)
        for _ in range(plan.warmup_pairs):
            stopwatch.time_block(first, calls)
            stopwatch.time_block(second, calls)
        return _alternate(
            first, second, stopwatch, calls, lambda taken, spent: _goes_on(taken, spent, plan)
        )


def measure_steps(first: Thunk, second: Thunk, stopwatch: Stopwatch, steps: int) -> Pairs:
    """Measure exactly `steps` calls of each side, in turn: for callables that move on, as training.

    Both sides see equally many calls, so that their states can be compared afterwards.
    """
    with no_garbage_collection():
        return _alternate(first, second, stopwatch, 1, lambda taken, _spent: taken < steps)


def measure_alone(fn: Thunk, stopwatch: Stopwatch, plan: PairPlan) -> tuple[float, ...]:
    """Return samples in seconds per call of one callable; no ratio may be built from these."""
    with no_garbage_collection():
        calls = _calls_per_block(fn, fn, stopwatch, plan)
        samples: list[float] = []
        spent = 0.0
        while _goes_on(len(samples), spent, plan):
            block = stopwatch.time_block(fn, calls)
            samples.append(block / calls)
            spent += block
    return tuple(samples)


def interval_of_median(samples: Sequence[float], *, confidence: float = 0.95) -> Interval:
    """Return the median and an interval for it that assumes no distribution.

    The interval runs between two order statistics: how many of n samples fall below the true
    median is binomial with p = 1/2. Fewer than six samples cannot give 95 %; then the
    interval is their whole range.
    """
    if not samples:
        raise ValueError("no samples: measure at least one before asking for an interval")
    ordered = sorted(samples)
    count = len(ordered)
    tail = (1.0 - confidence) / 2.0
    below, cut = 0.0, 0
    for successes in range(count // 2):
        below += math.comb(count, successes) * 0.5**count
        if below > tail:
            break
        cut = successes
    return Interval(ordered[cut], statistics.median(ordered), ordered[count - 1 - cut])


def interquartile_range(samples: Sequence[float]) -> float:
    """Return the distance between the quartiles; 0 for a single sample."""
    if len(samples) < 2:
        return 0.0
    lower, _, upper = statistics.quantiles(samples, n=4, method="inclusive")
    return upper - lower


class Deadline:
    """How much is left of a span of time that began when this was made."""

    def __init__(self, seconds: float, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    def left(self) -> float:
        """Return the seconds left; 0 when it has passed."""
        return max(0.0, self._end - self._clock())


class SampleClock:
    """A clock that shows what was measured already: hands our samples to pytest-benchmark.

    pytest-benchmark stores what its timer says. With this clock as the timer and `advance` as
    the benchmarked function, each of its rounds lasts exactly one of our samples.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._pending: Iterator[float] = iter(())

    def load(self, samples: Sequence[float]) -> None:
        """Put `samples` in, to be shown one per `advance`."""
        self._pending = iter(samples)

    def advance(self) -> None:
        """Let one sample pass."""
        self._now += next(self._pending)

    def __call__(self) -> float:
        """Return the time shown."""
        return self._now


def _alternate(
    first: Thunk,
    second: Thunk,
    stopwatch: Stopwatch,
    calls: int,
    goes_on: Callable[[int, float], bool],
) -> Pairs:
    firsts: list[float] = []
    seconds: list[float] = []
    spent = 0.0
    while goes_on(len(firsts), spent):
        a, b = _one_pair(first, second, calls, stopwatch, is_swapped=len(firsts) % 2 == 1)
        firsts.append(a / calls)
        seconds.append(b / calls)
        spent += a + b
    return Pairs(first=tuple(firsts), second=tuple(seconds), calls_per_block=calls)


def _one_pair(
    first: Thunk, second: Thunk, calls: int, stopwatch: Stopwatch, *, is_swapped: bool
) -> tuple[float, float]:
    if is_swapped:
        b = stopwatch.time_block(second, calls)
        return stopwatch.time_block(first, calls), b
    a = stopwatch.time_block(first, calls)
    return a, stopwatch.time_block(second, calls)


def _goes_on(taken: int, spent: float, plan: PairPlan) -> bool:
    return taken < plan.min_pairs or (taken < plan.max_pairs and spent < plan.budget_s)


def _calls_per_block(first: Thunk, second: Thunk, stopwatch: Stopwatch, plan: PairPlan) -> int:
    calls = 1
    while calls < 1_000_000:
        slower = max(stopwatch.time_block(first, calls), stopwatch.time_block(second, calls))
        if slower >= plan.block_s:
            break
        # Aim a little past the target, but never trust one short reading for more than 10x.
        calls = max(calls + 1, min(calls * 10, int(calls * 1.2 * plan.block_s / max(slower, 1e-9))))
    return calls


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Collect garbage now and none while the body runs."""
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
