"""The arena: bounds, sharing, and safety for every order."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nimble_lite.plan.arena import ALIGNMENT, plan_arena, serial_arena
from nimble_lite.plan.races import find_races
from nimble_lite.plan.schedule import happens_before
from nimble_lite.tasks.tracing import record
from tests.nimble_lite.graphs import planned, random_graph


def test_a_chain_needs_two_slots_and_its_output() -> None:
    def chain(x: Tensor) -> Tensor:
        for _ in range(10):
            x = x + 1
        return x

    arena = planned(record(chain, (torch.ones(256),))).arena

    assert arena.no_reuse_bytes == 10 * 1024
    assert arena.serial_bytes == arena.nbytes == 2 * 1024


def test_slots_are_aligned() -> None:
    arena = planned(record(lambda x: (x + 1) * 2, (torch.ones(3),))).arena

    assert all(offset % ALIGNMENT == 0 for offset in arena.offsets.values())


@pytest.mark.parametrize("seed", range(20))
def test_an_arena_is_no_larger_than_no_reuse_and_no_smaller_than_what_lives(seed: int) -> None:
    made = planned(random_graph(seed))
    arena = made.arena

    live = max(
        (sum(arena.sizes.get(s, 0) for s in task.touches | task.births)
         for task in made.graph.kernels),
        default=0,
    )  # fmt: skip
    assert live <= arena.nbytes <= arena.no_reuse_bytes
    assert live <= arena.serial_bytes <= arena.no_reuse_bytes


@pytest.mark.parametrize("seed", range(20))
def test_one_stream_gets_exactly_the_serial_arena(seed: int) -> None:
    graph = random_graph(seed)
    made = planned(graph, streams=1)

    assert plan_arena(graph, happens_before(made.program)).nbytes == serial_arena(graph).nbytes


def test_serial_lifetimes_on_several_streams_are_flagged() -> None:
    flagged = 0
    for seed in range(30):
        made = planned(random_graph(seed))
        if made.plan.streams > 1:
            rules = {v.rule for v in find_races(made.graph, made.program, serial_arena(made.graph))}
            assert rules <= {"slots overlap"}
            flagged += bool(rules)
    assert flagged >= 24


def test_outputs_keep_their_bytes_to_the_end() -> None:
    graph = record(lambda x: (x + 1, (x * 2) * 3), (torch.ones(256),))
    made = planned(graph, streams=1)

    first = graph.values[graph.tasks[0].results[0][1]].storage
    others = [n for n in made.arena.offsets if n != first]
    start = made.arena.offsets[first]
    assert all(abs(made.arena.offsets[n] - start) >= 1024 for n in others)
