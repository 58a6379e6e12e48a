"""The effect log: undeclared writes, unknown operations, barriers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from nimble_lite.tasks.alias import BARRIER_TOKEN, RNG_TOKEN, hazard_edges
from nimble_lite.tasks.tracing import record

NONE: frozenset[int] = frozenset()


@pytest.fixture(scope="module")
def lying_add() -> Iterator[None]:
    """An operation of another namespace whose schema hides that it writes its argument."""
    with torch.library._scoped_library("nimble_test", "FRAGMENT") as library:
        library.define("lying_add(Tensor x) -> Tensor")
        library.impl("lying_add", lambda x: x.add_(1).clone(), "CPU")
        library.define("honest(Tensor x) -> Tensor")
        library.impl("honest", lambda x: x * 2, "CPU")
        yield


@pytest.mark.usefixtures("lying_add")
def test_the_byte_probe_finds_the_write_of_an_unknown_operation() -> None:
    x = torch.zeros(3)

    graph = record(lambda x: torch.ops.nimble_test.lying_add(x), (x,))

    assert graph.values[0].storage in graph.tasks[0].writes
    assert x.tolist() == [0, 0, 0]


@pytest.mark.usefixtures("lying_add")
def test_an_unknown_operation_is_ordered_against_everything() -> None:
    def step(x: Tensor) -> Tensor:
        before = torch.ones(2) * 3
        y = torch.ops.nimble_test.honest(x)
        after = torch.ones(2) * 4
        return torch.add(before + y, after)

    graph = record(step, (torch.ones(2),))

    unknown = next(i for i, t in enumerate(graph.kernels) if BARRIER_TOKEN in t.tokens)
    assert graph.hazards[unknown] == tuple(range(unknown))
    assert all(unknown in graph.hazards[later] for later in range(unknown + 1, unknown + 2))


def test_the_probe_confirms_the_table_for_batch_norm() -> None:
    norm = torch.nn.BatchNorm1d(2).train()

    believed = record(norm, (torch.randn(4, 2),))
    probed = record(norm, (torch.randn(4, 2),), probe=True)

    assert [task.writes for task in probed.tasks] == [task.writes for task in believed.tasks]


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_the_probe_finds_nothing_new_in_recurrent_layers(kind: str) -> None:
    layer = getattr(torch.nn, kind)(3, 4)

    believed = record(layer, (torch.randn(5, 1, 3),))
    probed = record(layer, (torch.randn(5, 1, 3),), probe=True)

    assert [task.writes for task in probed.tasks] == [task.writes for task in believed.tasks]


def test_a_generator_of_the_function_is_a_token_and_is_restored() -> None:
    generator = torch.Generator().manual_seed(3)
    state = generator.get_state()

    graph = record(lambda x: x + torch.rand(2, generator=generator), (torch.ones(2),))

    assert RNG_TOKEN in graph.tasks[0].tokens
    assert torch.equal(generator.get_state(), state)


def test_reads_between_writes_are_ordered_both_ways() -> None:
    write, read = (NONE, frozenset({0}), frozenset[str]()), (frozenset({0}), NONE, frozenset[str]())

    assert hazard_edges([write, read, read, write, read]) == ((), (0,), (0,), (0, 1, 2), (3,))


def test_a_barrier_separates_what_is_before_from_what_is_after() -> None:
    free = (NONE, NONE, frozenset[str]())
    barrier = (NONE, NONE, frozenset({BARRIER_TOKEN}))

    edges = hazard_edges([free, free, barrier, free, barrier])

    assert edges[2] == (0, 1)
    assert edges[3] == (2,)
    assert 3 in edges[4]
