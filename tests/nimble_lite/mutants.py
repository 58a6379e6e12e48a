"""Schedules broken on purpose, one fault at a time."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from nimble_lite.plan.arena import ArenaPlan
from nimble_lite.plan.planner import Schedule
from nimble_lite.plan.schedule import (
    FORK,
    Drop,
    HappensBefore,
    Launch,
    Program,
    Record,
    Scope,
    Wait,
    build_program,
    happens_before,
    stream_problem,
)
from nimble_lite.plan.streams import plan_streams
from nimble_lite.tasks.cost import H100, estimate


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A schedule with one fault."""

    kind: str
    program: Program
    arena: ArenaPlan


def mutants(made: Schedule, seed: int) -> Iterator[Mutant]:
    """Every dropped, redirected and moved wait, and a sample of the faults in memory."""
    for program in _without_each_wait(made.program):
        yield Mutant(kind="wait dropped", program=program, arena=made.arena)
    for program in _redirected(made.program, random.Random(seed)):
        yield Mutant(kind="wait redirected", program=program, arena=made.arena)
    for program in _without_each_join(made.program):
        yield Mutant(kind="join dropped", program=program, arena=made.arena)
    for arena in _overlapped(made, random.Random(seed)):
        yield Mutant(kind="slots overlapped", program=made.program, arena=arena)
    for arena in _shortened(made, random.Random(seed)):
        yield Mutant(kind="lifetime shortened", program=made.program, arena=arena)
    for program in _without_war_edges(made):
        yield Mutant(kind="hazard omitted", program=program, arena=made.arena)
    for program in _without_each_fork(made.program):
        yield Mutant(kind="fork dropped", program=program, arena=made.arena)
    for program in _early_drops(made.program):
        yield Mutant(kind="dropped early", program=program, arena=made.arena)


def _waits(program: Program) -> list[int]:
    return [i for i, step in enumerate(program) if isinstance(step, Wait) and step.event >= 0]


def _without_each_wait(program: Program) -> Iterator[Program]:
    for index in _waits(program):
        yield program[:index] + program[index + 1 :]


def _redirected(program: Program, rng: random.Random) -> Iterator[Program]:
    """The wait names an event recorded before the right one: legal, but too early."""
    records = {step.event: i for i, step in enumerate(program) if isinstance(step, Record)}
    for index in _waits(program):
        step = program[index]
        if isinstance(step, Wait):
            older = [event for event, at in records.items() if at < records[step.event]]
            wrong = Wait(step.stream, rng.choice(older))
            yield (*program[:index], wrong, *program[index + 1 :])


def _without_each_join(program: Program) -> Iterator[Program]:
    for index, step in enumerate(program):
        if isinstance(step, Wait) and step.event < FORK:
            yield program[:index] + program[index + 1 :]


def _without_each_fork(program: Program) -> Iterator[Program]:
    for index, step in enumerate(program):
        if isinstance(step, Wait) and step.event == FORK:
            yield program[:index] + program[index + 1 :]


def _early_drops(program: Program) -> Iterator[Program]:
    """Each drop right after the first launch on its stream: earlier than its last user."""
    for index, step in enumerate(program):
        if isinstance(step, Drop):
            births = [
                i for i, s in enumerate(program[:index])
                if isinstance(s, Launch) and s.stream == step.stream
            ]  # fmt: skip
            if births and births[-1] < index - 1:
                at = births[-1]
                yield (*program[:at], step, *program[at:index], *program[index + 1 :])


def _overlapped(made: Schedule, rng: random.Random) -> Iterator[ArenaPlan]:
    """Two storages that may be alive together get the same offset."""
    order = happens_before(made.program)
    users = _users(made)
    numbers = [n for n in made.arena.offsets if users[n] and not made.graph.storages[n].is_output]
    pairs = [
        (a, b)
        for a in numbers
        for b in numbers
        if a < b and made.arena.offsets[a] != made.arena.offsets[b]
        and not _ordered(order, users[a], users[b])
        and not _ordered(order, users[b], users[a])
    ]  # fmt: skip
    for a, b in rng.sample(pairs, min(4, len(pairs))):
        yield replace(made.arena, offsets={**made.arena.offsets, b: made.arena.offsets[a]})


def _shortened(made: Schedule, rng: random.Random) -> Iterator[ArenaPlan]:
    """A storage is given up one user too early, and another one moves in."""
    order = happens_before(made.program)
    users = _users(made)
    numbers = [n for n in made.arena.offsets if users[n] and not made.graph.storages[n].is_output]
    pairs = []
    for a in numbers:
        for last in users[a][1:]:
            rest = [user for user in users[a] if user != last]
            pairs += [
                (a, b) for b in numbers
                if b != a and _ordered(order, rest, users[b])
                and not _ordered(order, [last], users[b])
                and not _ordered(order, users[b], users[a])
            ]  # fmt: skip
    for a, b in rng.sample(pairs, min(4, len(pairs))):
        yield replace(made.arena, offsets={**made.arena.offsets, b: made.arena.offsets[a]})


def _without_war_edges(made: Schedule) -> Iterator[Program]:
    """Plan again with one hazard left out; only plans that then lack the order are faulty."""
    scope = made.scope
    for v, sources in enumerate(scope.hazards):
        task = made.graph.tasks[scope.members[v]]
        for u in sources:
            other = made.graph.tasks[scope.members[u]]
            is_war = bool(other.reads & task.writes) and not other.writes & task.reads
            if not is_war:
                continue
            hazards = list(scope.hazards)
            hazards[v] = tuple(w for w in sources if w != u)
            weaker = Scope(members=scope.members, hazards=tuple(hazards), host=scope.host)
            problem = stream_problem(made.graph, weaker, estimate(made.graph, H100), 1.0)
            program = build_program(made.graph, weaker, plan_streams(problem))
            if not happens_before(program).ordered(other.id, task.id):
                yield program


def _users(made: Schedule) -> dict[int, list[int]]:
    users: dict[int, list[int]] = {number: [] for number in made.arena.offsets}
    for task in made.graph.kernels:
        for number in task.touches:
            if number in users:
                users[number].append(task.id)
    return users


def _ordered(order: HappensBefore, early: list[int], late: list[int]) -> bool:
    return all(order.ordered(u, v) for u in early for v in late)
