"""The profit guard: a graph stays only where replaying it is quicker than running the function.

After a few replays that warm up, the calls that a new graph fits are its trial: they are answered
by turns by the function itself and by the graph, so no code of the user runs an extra time. What
loses the trial is dropped and the function runs imperatively from then on; the report shows both
medians.

Calls of function regions do not repeat the same work, since each tree is another one: their trial
is longer, compares sums and forgives more.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from janus_lite.runtime.emit import MISS, Emitted, Leave

clock: Callable[[], float] = time.perf_counter  # tests put another one in its place
WARM_UP = 4  # replays before the trial
SAMPLES = 7
REGION_SAMPLES = 24
_WORTH = 0.97
_REGION_WORTH = 1.1


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a trial showed.

    Attributes:
        is_worth: whether the graph stays.
        replay_us: the median replay.
        imperative_us: the median imperative call.
    """

    is_worth: bool
    replay_us: float
    imperative_us: float


class Trial:
    """Stands in for a graph's `call` until its trial is over.

    Args:
        emitted: the graph's generated function.
        run: calls the function imperatively.
        report: called with the trial and its verdict, once.
        is_region: the graph enters function regions.
    """

    def __init__(
        self,
        emitted: Emitted,
        run: Callable[[tuple[Any, ...], dict[str, Any]], Any],
        report: Callable[[Trial, Verdict], None],
        *,
        is_region: bool,
    ) -> None:
        self.emitted = emitted
        self._run = run
        self._report = report
        self._is_region = is_region
        self._samples = REGION_SAMPLES if is_region else SAMPLES
        self._cold = WARM_UP
        self._is_over = False
        self._replays: list[float] = []
        self._runs: list[float] = []

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer one call, by turns."""
        if self._cold > 0:
            result = self.emitted.call(args, kwargs)
            self._cold -= type(result) is not Leave
            return result
        if len(self._runs) <= len(self._replays):
            if self.emitted.check(args, kwargs) is MISS:
                return MISS
            started = clock()
            result = self._run(args, kwargs)
            self._runs.append(clock() - started)
            return result
        started = clock()
        result = self.emitted.call(args, kwargs)
        if type(result) is not Leave:
            self._replays.append(clock() - started)
            if len(self._replays) >= self._samples and not self._is_over:
                self._is_over = True
                self._report(self, self._verdict())
        return result

    def _verdict(self) -> Verdict:
        replays, runs = self._replays, self._runs
        replay, run = median(replays), median(runs)
        if self._is_region:
            is_worth = sum(replays) <= _REGION_WORTH * sum(runs)
        else:
            is_worth = replay <= _WORTH * run
        return Verdict(is_worth, replay * 1e6, run * 1e6)
