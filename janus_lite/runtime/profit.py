"""The profit guard: a graph stays only where replaying it is quicker than running the function.

After a few replays that warm up, the calls that a new graph fits are its trial: they are answered
by turns by the function itself and by the graph, so no code of the user runs an extra time. It goes
on until the means are further apart than chance explains, or long enough. What loses the trial is
dropped and the function runs imperatively from then on; the report shows both means.

Calls of function regions do not repeat the same work, since each tree is another one: their trial
is longer, and a tenth is forgiven.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from janus_lite.runtime.emit import MISS, Emitted, Leave

clock: Callable[[], float] = time.perf_counter  # tests put another one in its place
WARM_UP = 4  # replays before the trial
TURNS = 5  # of each way, at the least
REGION_TURNS = 10
MOST_TURNS = 20
# Calls in a turn. The first, which finds the other way's code and data in the caches, is left out.
IN_A_ROW = 3
_WORTH = 0.97
_REGION_WORTH = 1.1
_OUTLIERS = 0.1  # of the times, the longest; something else ran then
_SURE = 2.0  # standard errors


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a trial showed.

    Attributes:
        is_worth: whether the graph stays.
        replay_us: the mean replay.
        imperative_us: the mean imperative call.
    """

    is_worth: bool
    replay_us: float
    imperative_us: float


class Trial:
    """Stands in for a graph's `call` until its trial is over.

    Args:
        emitted: the graph's generated function.
        run: calls the function imperatively.
        count_run: called before each such call.
        look_up: called with the trial and a call's arguments: finds the graph, as each call does.
        report: called with the trial and its verdict, once.
        is_region: the graph enters function regions.
    """

    def __init__(
        self,
        emitted: Emitted,
        run: Callable[..., Any],
        count_run: Callable[[], object],
        look_up: Callable[[Trial, tuple[Any, ...], dict[str, Any]], None],
        report: Callable[[Trial, Verdict], None],
        *,
        is_region: bool,
    ) -> None:
        self.emitted = emitted
        self._run = run
        self._count_run = count_run
        self._look_up = look_up
        self._report = report
        self._is_region = is_region
        self._turns = REGION_TURNS if is_region else TURNS
        self._cold = WARM_UP
        self._is_over = False
        self._replays: list[float] = []
        self._runs: list[float] = []

    @property
    def is_untouched(self) -> bool:
        """Whether no call has come yet."""
        return self._cold == WARM_UP

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Answer one call, by turns."""
        if self._cold > 0:
            result = self.emitted.call(args, kwargs)
            self._cold -= type(result) is not Leave
            return result
        if len(self._runs) // IN_A_ROW <= len(self._replays) // IN_A_ROW:
            if self.emitted.check(args, kwargs) is MISS:
                return MISS
            self._count_run()
            started = clock()
            result = self._run(*args, **kwargs)
            self._runs.append(clock() - started)
            return result
        started = clock()
        self._look_up(self, args, kwargs)
        result = self.emitted.call(args, kwargs)
        if type(result) is not Leave:
            self._replays.append(clock() - started)
            turns, rest = divmod(len(self._replays), IN_A_ROW)
            if rest == 0 and turns >= self._turns and not self._is_over:
                self._decide(is_last=turns >= MOST_TURNS)
        return result

    def _decide(self, *, is_last: bool) -> None:
        """Report the verdict, once it is clear."""
        limit = _REGION_WORTH if self._is_region else _WORTH
        replay, replay_error = _mean(self._replays)
        run, run_error = _mean(self._runs)
        is_clear = abs(replay - limit * run) > _SURE * (replay_error**2 + run_error**2) ** 0.5
        if is_clear or is_last:
            self._is_over = True
            self._report(self, Verdict(replay <= limit * run, replay * 1e6, run * 1e6))


def _mean(times: list[float]) -> tuple[float, float]:
    """The mean of the calls that count, and its standard error."""
    counted = sorted(time for number, time in enumerate(times) if number % IN_A_ROW)
    counted = counted[: len(counted) - int(_OUTLIERS * len(counted))]
    return mean(counted), stdev(counted) / len(counted) ** 0.5
