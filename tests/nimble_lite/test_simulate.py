"""The simulated device: order, waits, and sharing."""

from __future__ import annotations

import pytest

from nimble_lite.plan.simulate import simulate
from nimble_lite.plan.streams import StreamProblem, plan_streams, single_stream
from tests.nimble_lite.test_meg import random_dag


def test_tasks_that_fit_together_overlap_fully() -> None:
    problem = StreamProblem.from_edges(((), ()), cost_us=(4.0, 3.0))
    assert simulate(plan_streams(problem), problem, (0.5, 0.5)).makespan_us == 4.0


def test_tasks_that_fill_the_device_gain_nothing_from_two_streams() -> None:
    problem = StreamProblem.from_edges(((), ()), cost_us=(4.0, 3.0))
    assert simulate(plan_streams(problem), problem, (1.0, 1.0)).makespan_us == pytest.approx(7.0)


def test_a_wait_costs_one_sync_after_the_event() -> None:
    problem = StreamProblem.from_edges(((), (), (0, 1)), cost_us=(4.0, 3.0, 1.0), sync_us=2.0)
    timeline = simulate(plan_streams(problem), problem, (0.1, 0.1, 0.1))
    assert timeline.start_us[2] == pytest.approx(5.0)


@pytest.mark.parametrize("seed", range(8))
def test_bounds_hold_on_random_graphs(seed: int) -> None:
    hazards = random_dag(seed, n=50, density=0.06)
    costs = tuple(1.0 + (7 * v) % 5 for v in range(50))
    problem = StreamProblem.from_edges(hazards, cost_us=costs, sync_us=0.0)
    plan = plan_streams(problem)
    shares = tuple(0.05 + (v % 3) * 0.1 for v in range(50))

    timeline = simulate(plan, problem, shares)
    serial = simulate(single_stream(plan), problem, shares)

    assert timeline.makespan_us >= plan.concurrency.critical_path_us - 1e-6
    assert serial.makespan_us == pytest.approx(plan.concurrency.total_us)
    assert timeline.makespan_us <= serial.makespan_us + 1e-6
    for v, sources in enumerate(hazards):
        assert all(timeline.end_us[u] <= timeline.start_us[v] + 1e-6 for u in sources)
