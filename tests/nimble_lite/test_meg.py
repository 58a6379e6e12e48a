"""The transitive reduction and the reachability oracle."""

from __future__ import annotations

import random

import networkx as nx
import pytest

from nimble_lite.errors import InternalError
from nimble_lite.plan import meg as meg_module
from nimble_lite.plan.meg import minimum_equivalent_graph
from tests.nimble_lite.posets import Adjacency, all_dags, closure, cover_edges


def random_dag(seed: int, n: int, density: float) -> Adjacency:
    rng = random.Random(seed)
    return tuple(tuple(u for u in range(v) if rng.random() < density) for v in range(n))


def edges(predecessors: Adjacency) -> set[tuple[int, int]]:
    return {(u, v) for v, sources in enumerate(predecessors) for u in sources}


def assert_reduces(dag: Adjacency) -> None:
    meg = minimum_equivalent_graph(dag)
    ancestors = closure(dag)
    assert edges(meg.predecessors) == cover_edges(ancestors)
    for v in range(len(dag)):
        for u in range(v):
            assert meg.ancestry.reaches(u, v) == bool(ancestors[v] >> u & 1)


@pytest.mark.parametrize("n", range(6))
def test_every_small_dag_is_reduced_to_its_cover_edges(n: int) -> None:
    for dag in all_dags(n):
        assert_reduces(dag)


@pytest.mark.parametrize("n", range(6))
def test_chain_clocks_agree_with_bitsets_on_every_small_dag(
    n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meg_module, "BITSET_LIMIT", -1)
    for dag in all_dags(n):
        assert_reduces(dag)


@pytest.mark.nightly
@pytest.mark.parametrize("n", [6, 7])
def test_every_dag_of_up_to_seven_nodes_is_reduced(n: int) -> None:
    for dag in all_dags(n):
        found = edges(minimum_equivalent_graph(dag).predecessors)
        assert found == cover_edges(closure(dag))


@pytest.mark.parametrize("seed", range(12))
def test_networkx_finds_the_same_reduction(seed: int) -> None:
    dag = random_dag(seed, n=40 + 5 * seed, density=0.02 + 0.03 * (seed % 4))
    oracle = nx.DiGraph(list(edges(dag)))
    oracle.add_nodes_from(range(len(dag)))

    meg = minimum_equivalent_graph(dag)

    assert edges(meg.predecessors) == set(nx.transitive_reduction(oracle).edges)
    assert edges(tuple(meg.predecessors)) == {
        (u, v) for u, targets in enumerate(meg.successors) for v in targets
    }


def test_duplicate_edges_count_once() -> None:
    assert minimum_equivalent_graph(((), (0, 0, 0))).predecessors == ((), (0,))


def test_an_edge_against_recorded_order_is_our_bug() -> None:
    with pytest.raises(InternalError, match="task 0 depends on \\[1\\]"):
        minimum_equivalent_graph(((1,), ()))


@pytest.mark.slow
def test_a_chain_of_a_hundred_thousand_tasks_needs_no_recursion() -> None:
    n = 100_000
    meg = minimum_equivalent_graph(((), *((v - 1,) for v in range(1, n))))

    assert meg.edge_count == n - 1
    assert meg.ancestry.reaches(0, n - 1)
    assert not meg.ancestry.reaches(n - 1, 0)
