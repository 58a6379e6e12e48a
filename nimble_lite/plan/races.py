"""Prove that a program has no race before it may run.

In: a task graph, a program, optionally an arena. Out: every violation, or none.
The proof is complete for the model of streams and events: whatever two accesses to the same
bytes, at least one of them a write, are not ordered by stream order, waits, fork and join is
reported. It is computed from the recorded effects and the finished program alone; nothing that
the planner believes about hazards is used.

Example:
    >>> for violation in find_races(graph, program):
    ...     print(violation)
    read after write: relu (model.py:8) may start before conv2d (model.py:7) is complete
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nimble_lite.errors import ScheduleError
from nimble_lite.plan.arena import ArenaPlan
from nimble_lite.plan.schedule import (
    FORK,
    Drop,
    HappensBefore,
    Launch,
    Program,
    Record,
    Wait,
    argument_values,
    happens_before,
    output_values,
)
from nimble_lite.tasks.alias import BARRIER_TOKEN
from nimble_lite.tasks.graph import TaskGraph

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One broken rule.

    Attributes:
        rule: short name of the rule.
        detail: tasks, lines, bytes.
    """

    rule: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail}"


def require_race_free(graph: TaskGraph, program: Program, arena: ArenaPlan | None = None) -> None:
    """Raise NL0301 with the first violations unless the program is safe."""
    violations = find_races(graph, program, arena)
    if not violations:
        return
    shown = "\n            ".join(str(violation) for violation in violations[:_SHOWN])
    raise ScheduleError(
        "NL0301",
        what=f"a schedule breaks {len(violations)} rules of streams and memory",
        found=shown,
        hint="this is a bug of nimble_lite or of a hand-made program: please report it",
    )


def find_races(
    graph: TaskGraph, program: Program, arena: ArenaPlan | None = None
) -> list[Violation]:
    """Return every violation of host order, events, hazards, drops and arena."""
    violations = [*_check_launches(graph, program), *_check_events(program)]
    if violations:
        # Without sound launches and events, nothing is known about the order of the rest.
        return violations
    order = happens_before(program)
    violations += _check_hazards(graph, order)
    violations += _check_drops(graph, program, order)
    if arena is not None:
        violations += _check_arena(graph, order, arena)
    return violations


def _check_launches(graph: TaskGraph, program: Program) -> Iterator[Violation]:
    """Every task is launched once, after the values that it takes were made."""
    inside = {value for task in graph.tasks for _, value in task.results}
    made = set(range(len(graph.values))) - inside
    counts = [0] * len(graph.tasks)
    for step in program:
        if isinstance(step, Launch):
            task = graph.tasks[step.task]
            for value in sorted(set(argument_values(task)) - made):
                yield Violation(
                    rule="value not there",
                    detail=f"{_where(graph, task.id)} takes v{value} "
                    "before it is made or after it was dropped",
                )
            counts[task.id] += 1
            made.update(value for _, value in task.results)
        elif isinstance(step, Drop):
            made.difference_update(step.values)
    for number, count in enumerate(counts):
        # Views may be made again by every thread that needs them.
        if count == 0 or (count > 1 and not graph.tasks[number].is_zero):
            rule = "launched twice" if count else "never launched"
            yield Violation(rule=rule, detail=_where(graph, number))
    for value in output_values(graph):
        if value not in made:
            yield Violation(rule="output not there", detail=f"v{value}")


def _check_events(program: Program) -> Iterator[Violation]:
    """Waits follow records, side streams begin with the fork and end with a join."""
    recorded: set[int] = set()
    begun = {0}
    for step in program:
        match step:
            case Record(_, event):
                recorded.add(event)
            case Wait(stream, event):
                if event not in recorded:
                    yield Violation(
                        rule="wait without event",
                        detail=f"stream {stream} waits for event {event}, not recorded yet",
                    )
                if event == FORK:
                    begun.add(stream)
            case Launch() | Drop():
                pass
        if step.stream not in begun:
            yield Violation(rule="stream not forked", detail=f"stream {step.stream}: {step}")
            begun.add(step.stream)
    yield from _check_join(program)


def _check_join(program: Program) -> Iterator[Violation]:
    launches = [step for step in program if isinstance(step, Launch)]
    end = max((step.task for step in launches), default=0) + 1
    order = happens_before((*program, Launch(0, end)))
    last: dict[int, int] = {}
    for step in launches:
        if order.stream_of[step.task] == step.stream:
            last[step.stream] = step.task
    for stream, task in sorted(last.items()):
        if not order.ordered(task, end):
            yield Violation(
                rule="stream not joined", detail=f"stream {stream} is not complete at the end"
            )


def _check_hazards(graph: TaskGraph, order: HappensBefore) -> Iterator[Violation]:
    """Conflicting accesses in recorded order are ordered on the device, the same way round."""
    writer: dict[int | str, int] = {}
    readers: dict[int | str, list[int]] = {}
    barrier: int | None = None
    seen: list[int] = []
    for task in graph.kernels:
        pairs: list[tuple[str, int]] = []
        if barrier is not None:
            pairs.append(("barrier", barrier))
        if BARRIER_TOKEN in task.tokens:
            pairs += [("barrier", other) for other in seen]
            barrier, seen = task.id, []
        seen.append(task.id)
        written: frozenset[int | str] = task.writes | task.tokens
        for storage in task.reads - task.writes:
            if storage in writer:
                pairs.append(("read after write", writer[storage]))
            readers.setdefault(storage, []).append(task.id)
        for thing in written:
            if thing in writer:
                pairs.append(("write after write", writer[thing]))
            pairs += [("write after read", reader) for reader in readers.pop(thing, ())]
            writer[thing] = task.id
        for rule, other in pairs:
            if not order.ordered(other, task.id):
                yield Violation(rule=rule, detail=_pair(graph, other, task.id))


def _check_drops(graph: TaskGraph, program: Program, order: HappensBefore) -> Iterator[Violation]:
    """A drop comes where the stream that gets the bytes has waited for all their users."""
    users: dict[int, list[int]] = {}
    for task in graph.kernels:
        for number in task.touches:
            users.setdefault(number, []).append(task.id)
    probe = len(graph.tasks)
    steps: list[Launch | Record | Wait] = []
    probes: list[tuple[int, Drop]] = []
    for step in program:
        if isinstance(step, Drop):
            probes.append((probe, step))
            steps.append(Launch(step.stream, probe))
            probe += 1
        else:
            steps.append(step)
    known = happens_before(steps)
    for number, drop in probes:
        birth = graph.storages[drop.storage].birth
        if birth is None or graph.storages[drop.storage].is_output:
            yield Violation(rule="dropped too early", detail=f"storage {drop.storage} lives on")
            continue
        if order.stream_of[birth] != drop.stream:
            yield Violation(rule="dropped on a foreign stream", detail=_where(graph, birth))
        for user in users.get(drop.storage, ()):
            if not known.ordered(user, number):
                yield Violation(
                    rule="dropped too early",
                    detail=f"storage {drop.storage} of {_where(graph, birth)} "
                    f"while {_where(graph, user)} may still run",
                )


def _check_arena(graph: TaskGraph, order: HappensBefore, arena: ArenaPlan) -> Iterator[Violation]:
    """Storages that share bytes are used one after the other."""
    users: dict[int, list[int]] = {number: [] for number in arena.offsets}
    for task in graph.kernels:
        for number in task.touches:
            if number in users:
                users[number].append(task.id)
    for number in arena.offsets:
        if arena.sizes[number] < graph.storages[number].nbytes:
            yield Violation(rule="slot too small", detail=f"storage {number}")
    numbers = sorted(arena.offsets, key=lambda number: arena.offsets[number])
    starts = np.array([arena.offsets[n] for n in numbers], dtype=np.int64)
    ends = starts + np.array([arena.sizes[n] for n in numbers], dtype=np.int64)
    for index, first in enumerate(numbers):
        # Sorted by start: only the following ones can begin inside this slot.
        stop = int(np.searchsorted(starts, ends[index], side="left"))
        for second in numbers[index + 1 : stop]:
            if not _one_after_the_other(graph, order, users, first, second):
                yield Violation(
                    rule="slots overlap", detail=f"storages {first} and {second} share bytes"
                )


def _one_after_the_other(
    graph: TaskGraph,
    order: HappensBefore,
    users: dict[int, list[int]],
    first: int,
    second: int,
) -> bool:
    for early, late in ((first, second), (second, first)):
        lives_on = graph.storages[early].is_output or not users[early] or not users[late]
        if not lives_on and _all_ordered(order, users[early], users[late]):
            return True
    return False


def _all_ordered(order: HappensBefore, early: Sequence[int], late: Sequence[int]) -> bool:
    return all(order.ordered(u, v) for u in early for v in late)


def _where(graph: TaskGraph, task: int) -> str:
    return f"{graph.tasks[task].name} ({graph.tasks[task].origin})"


def _pair(graph: TaskGraph, first: int, second: int) -> str:
    return f"{_where(graph, second)} may start before {_where(graph, first)} is complete"
