"""Random DAGs and random programs: planner, checker, recorder and fake device agree with eager."""

from __future__ import annotations

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nimble_lite.backends.cuda.capture import CudaExecutable
from nimble_lite.backends.cuda.fake import FakeDriver
from nimble_lite.backends.recorder import RecorderExecutable
from nimble_lite.plan.meg import minimum_equivalent_graph
from nimble_lite.plan.races import find_races
from nimble_lite.plan.streams import StreamProblem, plan_streams
from tests.nimble_lite.graphs import example, planned, random_graph, random_program

pytestmark = pytest.mark.slow


@st.composite
def dags(draw: st.DrawFn) -> tuple[tuple[int, ...], ...]:
    n = draw(st.integers(0, 40))
    return tuple(
        tuple(draw(st.sets(st.integers(0, v - 1), max_size=4))) if v else () for v in range(n)
    )


@settings(max_examples=60, deadline=None)
@given(dag=dags(), limit=st.none() | st.integers(1, 5))
def test_every_dependency_is_ordered_by_the_fewest_waits(
    dag: tuple[tuple[int, ...], ...], limit: int | None
) -> None:
    plan = plan_streams(StreamProblem.from_edges(dag), streams=limit)

    data = nx.DiGraph([(u, v) for v, sources in enumerate(dag) for u in sources])
    data.add_nodes_from(range(len(dag)))
    enforced = nx.DiGraph()
    enforced.add_nodes_from(range(len(dag)))
    tails: dict[int, int] = {}
    for task in plan.order:
        if plan.stream_of[task] in tails:
            enforced.add_edge(tails[plan.stream_of[task]], task)
        tails[plan.stream_of[task]] = task
    in_stream = set(enforced.edges)
    enforced.add_edges_from((wait.on, wait.task) for wait in plan.waits)
    closed = nx.transitive_closure_dag(enforced)

    assert all(closed.has_edge(u, v) for u, v in data.edges)
    reduced = set(nx.transitive_reduction(nx.compose(data, nx.DiGraph(list(in_stream)))).edges)
    assert len(plan.waits) == len(reduced - in_stream)
    assert limit is None or plan.streams <= limit


@settings(max_examples=60, deadline=None)
@given(dag=dags())
def test_the_reduction_is_the_one_networkx_finds(dag: tuple[tuple[int, ...], ...]) -> None:
    graph = nx.DiGraph([(u, v) for v, sources in enumerate(dag) for u in sources])
    graph.add_nodes_from(range(len(dag)))

    found = minimum_equivalent_graph(dag).predecessors

    edges = {(u, v) for v, sources in enumerate(found) for u in sources}
    assert edges == set(nx.transitive_reduction(graph).edges)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), length=st.integers(0, 30), streams=st.none() | st.integers(1, 4))
def test_random_programs_run_like_eager_in_any_order_and_on_the_fake_device(
    seed: int, length: int, streams: int | None
) -> None:
    """Aliasing, in-place, random, dead and constant operations."""
    made = planned(random_graph(seed, length), streams=streams)
    assert find_races(made.graph, made.program, made.arena) == []
    driver = FakeDriver(made.plan.streams)
    recorder = RecorderExecutable(made, seed=seed)
    device = CudaExecutable(made, driver)

    for run in (recorder.run, recorder.run, device.run):
        torch.manual_seed(seed)
        right = random_program(seed, length)(*example(seed + 1))
        torch.manual_seed(seed)
        found = run(example(seed + 1))
        assert all(torch.equal(a, b) for a, b in zip(found, right, strict=True))
    assert driver.races == []
