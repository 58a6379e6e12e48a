"""The checker and the adversary against schedules broken on purpose."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from nimble_lite.backends.recorder import Delay, Move, RecorderExecutable
from nimble_lite.errors import NimbleError, ScheduleError
from nimble_lite.plan.arena import serial_arena
from nimble_lite.plan.planner import Schedule
from nimble_lite.plan.races import find_races, require_race_free
from nimble_lite.plan.schedule import Drop, Launch, Wait
from tests.nimble_lite.graphs import VISIBLE_KINDS, example, planned, random_graph, random_program
from tests.nimble_lite.mutants import Mutant, mutants

SEEDS = range(5)
RUNS = 100
VISIBLE = frozenset(
    {"wait dropped", "wait redirected", "slots overlapped", "lifetime shortened", "hazard omitted"}
)
"""Faults that change values; the others break a rule of CUDA that the recorder need not have."""


def visible_schedule(seed: int) -> Schedule:
    return planned(random_graph(seed, length=20, kinds=VISIBLE_KINDS))


def expected(seed: int) -> tuple[Tensor, ...]:
    return random_program(seed, 20, VISIBLE_KINDS)(*example(seed))


def is_caught_by_runs(made: Schedule, mutant: Mutant, seed: int) -> bool:
    """Whether some adversarial order gives other bits, an error, or a stop."""
    right = expected(seed)
    executable = RecorderExecutable(made, program=mutant.program, arena=mutant.arena)
    for _ in range(RUNS):
        try:
            found = executable.run(example(seed))
        except (NimbleError, IndexError):
            return True
        if not all(torch.equal(a, b) for a, b in zip(found, right, strict=True)):
            return True
    return False


@pytest.mark.slow
def test_every_mutant_is_killed_by_the_checker_and_nearly_all_by_the_adversary() -> None:
    total: Counter[str] = Counter()
    unseen: Counter[str] = Counter()
    for seed in SEEDS:
        made = visible_schedule(seed)
        for mutant in mutants(made, seed):
            total[mutant.kind] += 1
            assert find_races(made.graph, mutant.program, mutant.arena), mutant.kind
            if mutant.kind in VISIBLE and not is_caught_by_runs(made, mutant, seed):
                unseen[mutant.kind] += 1

    visible = sum(total[kind] for kind in VISIBLE)
    assert set(total) == VISIBLE | {"join dropped", "fork dropped", "dropped early"}
    assert visible >= 298
    assert sum(unseen.values()) <= 0.05 * visible, (total, unseen)


@pytest.mark.slow
def test_serial_lifetimes_are_flagged_and_give_wrong_values() -> None:
    flagged = wrong = 0
    for seed in SEEDS:
        made = visible_schedule(seed)
        arena = serial_arena(made.graph)
        mutant = Mutant(kind="serial", program=made.program, arena=arena)
        is_flagged = bool(find_races(made.graph, made.program, arena))
        is_wrong = is_caught_by_runs(made, mutant, seed)
        assert is_flagged or not is_wrong
        flagged += is_flagged
        wrong += is_wrong
    assert flagged >= 4
    assert wrong >= 0.95 * flagged


@pytest.mark.parametrize("seed", range(6))
def test_a_targeted_delay_exposes_a_dropped_wait_at_once(seed: int) -> None:
    made = visible_schedule(seed)
    right = expected(seed)
    caught = total = 0
    for index, step in enumerate(made.program):
        if isinstance(step, Wait) and step.event >= 0:
            program = made.program[:index] + made.program[index + 1 :]
            late = RecorderExecutable(
                made, program=program, opponent=Delay(Move(step.event, is_end=True))
            )
            found = late.run(example(seed))
            total += 1
            caught += not all(torch.equal(a, b) for a, b in zip(found, right, strict=True))
    assert caught >= 0.9 * total


def test_the_message_names_both_tasks_and_their_lines() -> None:
    made = visible_schedule(0)
    index = next(i for i, s in enumerate(made.program) if isinstance(s, Wait) and s.event >= 0)
    broken = made.program[:index] + made.program[index + 1 :]

    with pytest.raises(ScheduleError, match="NL0301") as caught:
        require_race_free(made.graph, broken)

    assert "may start before" in str(caught.value)
    assert "graphs.py:" in str(caught.value)


def test_launches_must_be_complete_unique_and_in_host_order() -> None:
    made = visible_schedule(1)
    launch = next(s for s in made.program if isinstance(s, Launch))

    missing = tuple(s for s in made.program if s != launch)
    assert "never launched" in {v.rule for v in find_races(made.graph, missing)}
    assert "value not there" in {v.rule for v in find_races(made.graph, missing)}
    twice = (*made.program, launch)
    assert "launched twice" in {v.rule for v in find_races(made.graph, twice)}


def test_a_wait_for_an_event_that_is_recorded_later_is_flagged_and_stops_the_recorder() -> None:
    made = visible_schedule(2)
    wait = next(s for s in made.program if isinstance(s, Wait) and s.event >= 0)
    stuck = (Wait(wait.stream, wait.event), *made.program)
    unrecorded = (*made.program, Wait(0, 10_000))

    assert "wait without event" in {v.rule for v in find_races(made.graph, stuck)}
    with pytest.raises(ScheduleError, match="never recorded"):
        RecorderExecutable(made, program=unrecorded).run(example(2))


def test_dropping_an_output_or_on_a_foreign_stream_is_flagged() -> None:
    made = visible_schedule(3)
    output = next(n for n, s in enumerate(made.graph.storages) if s.is_output)
    drop = next(s for s in made.program if isinstance(s, Drop) and s.stream == 1)
    elsewhere = tuple(Drop(0, s.storage, s.values) if s == drop else s for s in made.program)

    lost = (*made.program, Drop(0, output, ()))
    assert "dropped too early" in {v.rule for v in find_races(made.graph, lost)}
    rules = {v.rule for v in find_races(made.graph, elsewhere)}
    assert "dropped on a foreign stream" in rules


def test_a_slot_smaller_than_its_storage_is_flagged() -> None:
    made = visible_schedule(4)
    number = next(iter(made.arena.sizes))
    small = replace(made.arena, sizes={**made.arena.sizes, number: 8})
    assert "slot too small" in {v.rule for v in find_races(made.graph, made.program, small)}
