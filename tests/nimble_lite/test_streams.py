"""Placement, launch order and waits."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import networkx as nx
import pytest

from nimble_lite.plan.streams import (
    StreamPlan,
    StreamProblem,
    fewest_waits,
    plan_streams,
    single_stream,
)
from tests.nimble_lite.posets import Adjacency, all_dags
from tests.nimble_lite.test_meg import random_dag


def enforced_edges(plan: StreamPlan) -> nx.DiGraph:
    """Stream order and waits: all that a device would know."""
    graph = nx.DiGraph()
    graph.add_nodes_from(plan.order)
    tails: dict[int, int] = {}
    for task in plan.order:
        stream = plan.stream_of[task]
        if stream in tails:
            graph.add_edge(tails[stream], task)
        tails[stream] = task
    graph.add_edges_from((wait.on, wait.task) for wait in plan.waits)
    return graph


def assert_safe_and_minimal(plan: StreamPlan, hazards: Adjacency) -> None:
    position = {task: index for index, task in enumerate(plan.order)}
    enforced = enforced_edges(plan)
    ordered = nx.transitive_closure_dag(enforced)
    for v, sources in enumerate(hazards):
        for u in sources:
            assert position[u] < position[v]
            assert ordered.has_edge(u, v)
    for wait in plan.waits:
        weaker = enforced.copy()
        weaker.remove_edge(wait.on, wait.task)
        # Without this wait some hazard is no longer ordered.
        assert any(
            not nx.has_path(weaker, u, v) for v, sources in enumerate(hazards) for u in sources
        )


@pytest.mark.parametrize("streams", [None, 1, 2])
def test_every_dag_of_five_nodes_is_ordered_by_the_fewest_waits(streams: int | None) -> None:
    for index, hazards in enumerate(all_dags(5)):
        if index % 3 == 0:
            plan = plan_streams(StreamProblem.from_edges(hazards), streams=streams)
            assert_safe_and_minimal(plan, hazards)


@pytest.mark.parametrize("seed", range(15))
def test_maximum_concurrency_waits_number_cover_edges_less_matching(seed: int) -> None:
    hazards = random_dag(seed, n=60, density=0.06)

    plan = plan_streams(StreamProblem.from_edges(hazards))

    assert len(plan.waits) == plan.concurrency.syncs
    assert plan.streams == plan.concurrency.streams
    assert_safe_and_minimal(plan, hazards)


@pytest.mark.parametrize("seed", range(15))
def test_waits_equal_the_transitive_reduction_for_any_placement(seed: int) -> None:
    hazards = random_dag(seed, n=50, density=0.08)
    stream_of = [(7 * v + seed) % 4 for v in range(50)]

    waits = fewest_waits(hazards, range(50), stream_of)

    full = nx.DiGraph([(u, v) for v, sources in enumerate(hazards) for u in sources])
    for stream in range(4):
        tasks = [v for v in range(50) if stream_of[v] == stream]
        full.add_edges_from(pairwise(tasks))
    reduced = nx.transitive_reduction(full).edges
    crossing = {(u, v) for u, v in reduced if stream_of[u] != stream_of[v]}
    assert {(wait.on, wait.task) for wait in waits} == crossing


@pytest.mark.parametrize("limit", [1, 2, 3, 4])
def test_a_cap_is_kept_and_never_adds_waits(limit: int) -> None:
    for seed in range(10):
        hazards = random_dag(seed, n=60, density=0.05)
        plan = plan_streams(StreamProblem.from_edges(hazards), streams=limit)
        assert plan.streams <= limit
        assert len(plan.waits) <= plan.concurrency.syncs
        assert_safe_and_minimal(plan, hazards)


def test_the_critical_path_runs_on_stream_zero_and_is_launched_first() -> None:
    hazards = ((), (), (0,), (1,), (2, 3))
    costs = (1.0, 5.0, 1.0, 5.0, 1.0)

    plan = plan_streams(StreamProblem.from_edges(hazards, cost_us=costs))

    assert [plan.stream_of[v] for v in (1, 3, 4)] == [0, 0, 0]
    assert plan.order[0] == 1


def test_input_independent_chains_are_folded_when_streams_are_capped() -> None:
    hazards: Sequence[tuple[int, ...]] = ((), (), (), (), (0, 1, 2, 3))
    costs = (50.0, 50.0, 50.0, 50.0, 50.0)
    only_first_uses_input = (False, True, True, True, False)
    problem = StreamProblem.from_edges(hazards, cost_us=costs, is_foldable=only_first_uses_input)

    assert plan_streams(problem).streams == 4
    assert plan_streams(problem, streams=3).streams == 1


def test_host_edges_order_the_launches_but_need_no_wait() -> None:
    problem = StreamProblem.from_edges(((), ()), host=((), (0,)), cost_us=(1.0, 9.0))

    plan = plan_streams(problem)

    assert plan.order == (0, 1)
    assert plan.waits == ()


def test_one_stream_keeps_the_recorded_order_and_waits_for_nothing() -> None:
    plan = single_stream(plan_streams(StreamProblem.from_edges(random_dag(3, 30, 0.1))))

    assert plan.order == tuple(range(30))
    assert (plan.streams, plan.waits) == (1, ())


def test_an_empty_graph_has_an_empty_plan() -> None:
    plan = plan_streams(StreamProblem.from_edges(()))

    assert (plan.order, plan.waits, plan.streams) == ((), (), 1)


@pytest.mark.slow
@pytest.mark.parametrize("streams", [None, 4])
def test_a_hundred_thousand_tasks_are_planned_without_recursion(streams: int | None) -> None:
    branches, n = 8, 100_000
    hazards: list[tuple[int, ...]] = [() if v < branches else (v - branches,) for v in range(n)]
    for v in range(10 * branches, n, 10 * branches):
        hazards[v] = tuple(range(v - branches, v))

    plan = plan_streams(StreamProblem.from_edges(hazards), streams=streams)

    assert len(plan.order) == n
    assert plan.concurrency.streams == branches
    assert len(plan.waits) <= plan.concurrency.syncs
