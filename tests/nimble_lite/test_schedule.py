"""Programs: text, fork and join, views, drops."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from nimble_lite.plan.races import find_races
from nimble_lite.plan.schedule import (
    Drop,
    Launch,
    Record,
    Wait,
    happens_before,
    program_text,
    thread_scope,
)
from nimble_lite.tasks.tracing import record
from tests.nimble_lite.graphs import planned, random_graph


def two_branches(x: Tensor) -> Tensor:
    left = (x @ x).relu()
    right = (x @ x).tanh()
    return left + right


def test_a_program_reads_as_text() -> None:
    made = planned(record(two_branches, (torch.ones(64, 64),)))

    assert program_text(made.program, made.graph).splitlines() == [
        "s0 record fork",
        "s0 launch matmul",
        "s1 wait fork",
        "s1 launch matmul_1",
        "s0 launch relu",
        "s0 drop storage 1",
        "s1 launch tanh",
        "s1 drop storage 3",
        "s1 record tanh",
        "s0 wait tanh",
        "s0 launch add",
        "s0 drop storage 2",
    ]


def test_one_stream_needs_no_event() -> None:
    made = planned(record(two_branches, (torch.ones(4, 4),)), streams=1)

    assert not [step for step in made.program if isinstance(step, Record | Wait)]


def test_a_view_is_issued_on_the_stream_of_the_task_that_needs_it() -> None:
    def step(x: Tensor) -> tuple[Tensor, Tensor]:
        a = (x @ x).t()
        b = x + 1
        return a @ x, b @ x

    made = planned(record(step, (torch.ones(64, 64),)))

    launches = [(s.stream, made.graph.tasks[s.task].name) for s in made.program
                if isinstance(s, Launch)]  # fmt: skip
    index = next(i for i, (_, name) in enumerate(launches) if name == "t")
    assert launches[index + 1] == (launches[index][0], "matmul_1")


def test_a_storage_read_elsewhere_is_dropped_only_after_its_home_has_waited() -> None:
    def step(x: Tensor) -> Tensor:
        shared = x @ x
        side = (shared @ x).tanh().sum()
        main = ((shared + 1) @ x) @ x
        return main + side

    made = planned(record(step, (torch.ones(64, 64),)))
    order = happens_before(made.program)
    storage = made.graph.tasks[0].results[0][1]
    number = made.graph.values[storage].storage

    drop = next(i for i, s in enumerate(made.program) if isinstance(s, Drop)
                and s.storage == number)  # fmt: skip
    home = order.stream_of[0]
    users = [t.id for t in made.graph.kernels if number in t.touches]
    elsewhere = {order.stream_of[user] for user in users} - {home}
    assert elsewhere
    waited = [s for s in made.program[:drop] if isinstance(s, Wait) and s.stream == home]
    assert waited


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("streams", [None, 1, 3])
def test_random_programs_are_free_of_races(seed: int, streams: int | None) -> None:
    made = planned(random_graph(seed), streams=streams)

    assert find_races(made.graph, made.program, made.arena) == []


@pytest.mark.parametrize("seed", range(10))
def test_programs_for_threads_are_free_of_races_too(seed: int) -> None:
    graph = random_graph(seed)
    made = planned(graph, scope=thread_scope(graph))

    assert find_races(graph, made.program) == []


@pytest.mark.parametrize("seed", range(10))
def test_everything_but_outputs_is_dropped_before_the_end(seed: int) -> None:
    made = planned(random_graph(seed))

    dropped = {step.storage for step in made.program if isinstance(step, Drop)}
    births = {
        number
        for number, storage in enumerate(made.graph.storages)
        if storage.birth is not None and not storage.is_output
    }
    named = {meta.storage for meta in made.graph.values}
    kept = (births & named) - dropped
    # What a side stream made and the origin read last is let go with the whole environment.
    assert len(kept) <= 2 * made.plan.streams


def test_an_empty_function_has_an_empty_program() -> None:
    made = planned(record(lambda x: x, (torch.ones(2),)))

    assert made.program == ()
    assert made.arena.nbytes == 0
