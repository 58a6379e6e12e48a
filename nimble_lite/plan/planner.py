"""Choose a plan for a graph and finish it: the only way to a `Schedule`.

In: a `TaskGraph` and what the user asked for. Out: a `Schedule` that has passed the race check.
Multi-stream is chosen, not assumed. For `"auto"` two gates stand before any measurement:

* structural: the slack (work off the critical path) must exceed what the waits cost;
* simulated: the fluid simulation must end earlier than on one stream, by a margin.

What a device measures afterwards (`nimble_lite.api`) has the last word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nimble_lite import config
from nimble_lite.errors import ScheduleError
from nimble_lite.plan.arena import ArenaPlan, plan_arena
from nimble_lite.plan.races import require_race_free
from nimble_lite.plan.schedule import (
    Drop,
    Program,
    Scope,
    Wait,
    build_program,
    happens_before,
    program_text,
    stream_problem,
)
from nimble_lite.plan.simulate import Timeline, simulate
from nimble_lite.plan.streams import StreamPlan, StreamProblem, plan_streams, single_stream
from nimble_lite.tasks.cost import DeviceProfile, estimate
from nimble_lite.tasks.graph import TaskGraph

Streams = int | Literal["auto", "max"]

MARGIN = 0.03
"""Part of the simulated time that several streams must save to be chosen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One plan that `"auto"` looked at."""

    label: str
    streams: int
    waits: int
    simulated_us: float
    verdict: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """Everything that a backend needs, checked.

    Attributes:
        graph: what to run.
        scope: which tasks were placed on streams, and their edges.
        plan: streams, order and waits.
        program: the steps.
        arena: offsets for the recorder, bytes for the report.
        timeline: simulated start and end of each placed task.
        candidates: what was compared, the chosen one last.
        profile: device that costs were estimated for.
    """

    graph: TaskGraph
    scope: Scope
    plan: StreamPlan
    program: Program
    arena: ArenaPlan
    timeline: Timeline
    candidates: tuple[Candidate, ...]
    profile: DeviceProfile

    def summary(self) -> dict[str, int | float | str | None]:
        """Figures of the schedule, by name."""
        bounds = self.plan.concurrency
        return {
            "operations": len(self.graph.tasks),
            "tasks": len(self.graph.kernel_tasks),
            "cover_edges": bounds.cover_edges,
            "matching": bounds.matching,
            "chains": bounds.chains,
            "width": bounds.width,
            "max_streams": bounds.streams,
            "max_syncs": bounds.syncs,
            "streams": self.plan.streams,
            "syncs": sum(isinstance(step, Wait) and step.event >= 0 for step in self.program),
            "drops": sum(isinstance(step, Drop) for step in self.program),
            "arena_bytes": self.arena.nbytes,
            "serial_bytes": self.arena.serial_bytes,
            "no_reuse_bytes": self.arena.no_reuse_bytes,
            "critical_path_us": round(bounds.critical_path_us, 1),
            "serial_us": round(bounds.total_us, 1),
            "simulated_us": round(self.timeline.makespan_us, 1),
            "replay_floor_us": round(len(self.scope.members) * self.profile.launch_us, 1),
            "device": self.profile.name,
        }

    def __str__(self) -> str:
        return program_text(self.program, self.graph)


def make_schedule(
    graph: TaskGraph, scope: Scope, profile: DeviceProfile, streams: Streams
) -> Schedule:
    """Plan, build and check.

    Args:
        graph: what to run.
        scope: tasks to place on streams.
        profile: device to estimate for.
        streams: `"auto"`, `"max"` or the most streams to use.

    Raises:
        ScheduleError: NL0302 for another value of `streams`, NL0303 when even one stream does
            not fit the memory budget, NL0301 should the check fail.
    """
    costs = estimate(graph, profile)
    problem = stream_problem(graph, scope, costs, profile.sync_us)
    share = dict(zip(graph.kernel_tasks, (cost.device_share for cost in costs), strict=True))
    shares = [share.get(task, 0.01) for task in scope.members]
    plan, candidates = _choose(problem, shares, streams)
    schedule = _finish(graph, scope, profile, plan, candidates, problem, shares)
    budget = config.current().memory_budget
    while budget and schedule.arena.nbytes > budget:
        if plan.streams == 1:
            raise ScheduleError(
                "NL0303",
                what="no schedule fits the memory budget",
                found=f"{schedule.arena.nbytes:,} bytes on one stream",
                expected=f"at most {budget:,} bytes (memory_budget)",
                hint="raise the budget or schedule parts of the function",
            )
        plan = plan_streams(problem, streams=plan.streams - 1)
        schedule = _finish(graph, scope, profile, plan, candidates, problem, shares)
    require_race_free(graph, schedule.program, schedule.arena)
    return schedule


def _finish(
    graph: TaskGraph,
    scope: Scope,
    profile: DeviceProfile,
    plan: StreamPlan,
    candidates: tuple[Candidate, ...],
    problem: StreamProblem,
    shares: Sequence[float],
) -> Schedule:
    program = build_program(graph, scope, plan)
    return Schedule(
        graph=graph,
        scope=scope,
        plan=plan,
        program=program,
        arena=plan_arena(graph, happens_before(program)),
        timeline=simulate(plan, problem, shares),
        candidates=candidates,
        profile=profile,
    )


def _choose(
    problem: StreamProblem, shares: Sequence[float], streams: Streams
) -> tuple[StreamPlan, tuple[Candidate, ...]]:
    if streams == "max":
        plan = plan_streams(problem)
        return plan, (_candidate(plan, problem, shares, "asked for"),)
    if streams == "auto":
        return _gate(problem, shares)
    if isinstance(streams, bool) or not isinstance(streams, int) or streams < 1:
        raise ScheduleError(
            "NL0302",
            what="streams has no such value",
            found=repr(streams),
            expected='"auto", "max" or a positive number',
            hint='leave it out: "auto" chooses',
        )
    plan = plan_streams(problem, streams=streams)
    return plan, (_candidate(plan, problem, shares, "asked for"),)


def _gate(
    problem: StreamProblem, shares: Sequence[float]
) -> tuple[StreamPlan, tuple[Candidate, ...]]:
    """Let several streams in only where structure and simulation both say that they gain."""
    cap = config.current().stream_cap
    widest = plan_streams(problem, streams=cap)
    one = single_stream(widest)
    seen = [_candidate(one, problem, shares, "")]
    limit = seen[0].simulated_us * (1 - MARGIN)
    bounds = widest.concurrency
    slack = bounds.total_us - bounds.critical_path_us
    best, best_us = one, limit
    for count in range(2, min(cap, bounds.streams) + 1):
        plan = widest if count == cap else plan_streams(problem, streams=count)
        cost = problem.sync_us * (len(plan.waits) + 2 * (plan.streams - 1))
        if plan.streams == 1:
            verdict = "nothing but chains too small for a stream"
        elif slack < cost:
            verdict = f"refused: {slack:.0f} us of slack, waits cost {cost:.0f} us"
        else:
            verdict = "simulated"
        candidate = _candidate(plan, problem, shares, verdict)
        seen.append(candidate)
        if verdict == "simulated" and candidate.simulated_us < best_us:
            best, best_us = plan, candidate.simulated_us * (1 - MARGIN)
    return best, (*seen, _candidate(best, problem, shares, "chosen"))


def _candidate(
    plan: StreamPlan, problem: StreamProblem, shares: Sequence[float], verdict: str
) -> Candidate:
    return Candidate(
        label=plan.label,
        streams=plan.streams,
        waits=len(plan.waits),
        simulated_us=simulate(plan, problem, shares).makespan_us,
        verdict=verdict,
    )
