"""Estimate how long a plan takes on a device: an event-driven, fluid simulation.

In: a `StreamPlan`, costs, the fraction of the device that each task can fill.
Out: start and end of each task in microseconds.
Model: a stream runs its tasks in order; a wait costs `sync_us` after the event; tasks that
together ask for more than the whole device share it in proportion. Nothing here reads a clock,
so equal plans give equal estimates.

Example:
    >>> from nimble_lite.plan.streams import StreamProblem, plan_streams
    >>> problem = StreamProblem.from_edges(((), ()), cost_us=(4.0, 4.0))
    >>> simulate(plan_streams(problem), problem, (0.5, 0.5)).makespan_us
    4.0
    >>> simulate(plan_streams(problem), problem, (1.0, 1.0)).makespan_us
    8.0
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from nimble_lite.plan.streams import StreamPlan, StreamProblem

_EPSILON_US = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Estimated start and end of each task."""

    start_us: tuple[float, ...]
    end_us: tuple[float, ...]

    @property
    def makespan_us(self) -> float:
        """End of the last task."""
        return max(self.end_us, default=0.0)


def simulate(plan: StreamPlan, problem: StreamProblem, device_share: Sequence[float]) -> Timeline:
    """Run the plan on a device that is shared by whatever runs at the same time.

    Args:
        plan: stream, order and waits of each task.
        problem: costs, as if each task ran alone.
        device_share: part of the device that each task fills when alone, in (0, 1].

    Returns:
        Start and end of each task.
    """
    run = _Run(plan, problem, device_share)
    while run.step():
        continue
    return Timeline(start_us=tuple(run.start), end_us=tuple(run.end))


class _Run:
    """State of one simulation: the running tasks and how much work each still has."""

    def __init__(
        self, plan: StreamPlan, problem: StreamProblem, device_share: Sequence[float]
    ) -> None:
        n = len(plan.stream_of)
        self.now = 0.0
        self.start = [0.0] * n
        self.end = [float("inf")] * n
        self._cost = problem.cost_us
        self._share = device_share
        self._sync_us = problem.sync_us
        self._queues: list[deque[int]] = [deque() for _ in range(plan.streams)]
        for task in plan.order:
            self._queues[plan.stream_of[task]].append(task)
        self._waits: list[list[int]] = [[] for _ in range(n)]
        for wait in plan.waits:
            self._waits[wait.task].append(wait.on)
        self._running: dict[int, tuple[int, float]] = {}

    def step(self) -> bool:
        """Advance to the next moment at which a task starts or ends."""
        wake = self._start_ready()
        if not self._running:
            if wake is None:
                return False
            self.now = wake
            return True
        rate = 1.0 / max(1.0, sum(self._share[task] for task, _ in self._running.values()))
        advance = min(left for _, left in self._running.values()) / rate
        if wake is not None:
            advance = min(advance, wake - self.now)
        self.now += advance
        self._work_off(advance * rate)
        return True

    def _start_ready(self) -> float | None:
        """Start the head of each idle stream; return when the next blocked one may start."""
        wake: float | None = None
        for stream, queue in enumerate(self._queues):
            if stream in self._running or not queue:
                continue
            task = queue[0]
            ready = max((self.end[u] + self._sync_us for u in self._waits[task]), default=0.0)
            if ready <= self.now + _EPSILON_US:
                queue.popleft()
                self.start[task] = self.now
                self._running[stream] = (task, self._cost[task])
            elif ready != float("inf"):
                wake = ready if wake is None else min(wake, ready)
        return wake

    def _work_off(self, work: float) -> None:
        for stream, (task, left) in list(self._running.items()):
            if left - work <= _EPSILON_US:
                del self._running[stream]
                self.end[task] = self.now
            else:
                self._running[stream] = (task, left - work)
