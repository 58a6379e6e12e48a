"""Chains and streams: both optima, against brute force and other algorithms."""

from __future__ import annotations

import networkx as nx
import pytest

from nimble_lite.plan import matching as matching_module
from nimble_lite.plan.matching import ChainMatching, match_chains, maximum_matching
from nimble_lite.plan.meg import Meg, minimum_equivalent_graph
from tests.nimble_lite.posets import all_orders, best_partition, bits, width
from tests.nimble_lite.test_meg import random_dag


def assert_optimal(ancestors: tuple[int, ...]) -> None:
    meg = minimum_equivalent_graph(tuple(bits(row) for row in ancestors))
    found = match_chains(meg)
    assert (meg.edge_count - found.cover_links, found.streams) == best_partition(ancestors)
    assert found.width == width(ancestors)
    assert_chains(found, meg)


def assert_chains(found: ChainMatching, meg: Meg) -> None:
    """Tasks of a stream are ordered, and `cover_links` counts the free cover edges."""
    free = 0
    for u, v in enumerate(found.next_of):
        assert v is None or meg.ancestry.reaches(u, v)
        free += v in meg.successors[u]
    assert free == found.cover_links
    followers = [v for v in found.next_of if v is not None]
    assert len(followers) == len(set(followers))
    assert max(found.stream_of(), default=-1) + 1 == found.streams


@pytest.mark.parametrize("n", range(7))
def test_every_small_order_gets_fewest_syncs_then_fewest_streams(n: int) -> None:
    for ancestors in all_orders(n):
        assert_optimal(ancestors)


@pytest.mark.slow
def test_a_sample_of_seven_task_orders_gets_both_optima() -> None:
    for index, ancestors in enumerate(all_orders(7)):
        if index % 61 == 0:
            assert_optimal(ancestors)


@pytest.mark.nightly
def test_every_seven_task_order_gets_both_optima() -> None:
    orders = list(all_orders(7))
    assert len(orders) == 96428
    for ancestors in orders:
        assert_optimal(ancestors)


@pytest.mark.parametrize("seed", range(40))
def test_larger_orders_agree_with_weighted_assignment(seed: int) -> None:
    """A cover edge weighs more than all other links together: one assignment, both optima."""
    dag = random_dag(seed, n=20 + seed, density=0.04 + 0.02 * (seed % 5))
    meg = minimum_equivalent_graph(dag)
    n = meg.n
    graph = nx.Graph()
    for v in range(n):
        for u in range(v):
            if meg.ancestry.reaches(u, v):
                graph.add_edge(("x", u), ("y", v), weight=n + 2 if u in meg.predecessors[v] else 1)
    best = sum(graph[a][b]["weight"] for a, b in nx.max_weight_matching(graph))

    found = match_chains(meg)

    links = n - found.streams
    assert found.cover_links * (n + 1) + links == best
    assert_chains(found, meg)


def test_the_fewest_syncs_may_cost_a_stream_more_than_the_width() -> None:
    """Seen in 3 of 300 random orders; the promise is syncs first, so streams follow."""
    gaps = 0
    for seed in range(120):
        dag = random_dag(seed, n=55, density=0.1)
        found = match_chains(minimum_equivalent_graph(dag))
        assert found.width is not None
        assert found.streams >= found.width
        gaps += found.streams > found.width
    assert gaps < 6


@pytest.mark.parametrize("seed", range(20))
def test_hopcroft_karp_matches_as_many_as_networkx(seed: int) -> None:
    adjacency = random_dag(seed, n=50, density=0.08)
    graph = nx.Graph()
    graph.add_nodes_from(("x", u) for u in range(50))
    graph.add_edges_from((("x", u), ("y", v)) for u, vs in enumerate(adjacency) for v in vs)
    top = [("x", u) for u in range(50)]
    oracle = nx.bipartite.maximum_matching(graph, top_nodes=top)

    matched = [v for v in maximum_matching(adjacency, 50) if v != -1]

    assert len(matched) == len(set(matched)) == len(oracle) // 2


def test_above_the_exact_limit_chains_are_still_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching_module, "EXACT_LIMIT", 3)
    fork_join_twice = ((), (0,), (0,), (1, 2), (3,), (3,), (4, 5))

    found = match_chains(minimum_equivalent_graph(fork_join_twice))

    assert (found.chains, found.streams, found.width) == (3, 2, None)
