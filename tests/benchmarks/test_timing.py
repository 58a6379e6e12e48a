"""The only file that reads a clock, run under a clock that does as it is told."""

from __future__ import annotations

import gc

import pytest

from benchmarks.timing import (
    Deadline,
    HostStopwatch,
    Interval,
    PairPlan,
    SampleClock,
    interquartile_range,
    interval_of_median,
    measure_alone,
    measure_pairs,
    measure_steps,
    stopwatch_for,
    time_once,
)

pytestmark = pytest.mark.tiny


class FakeMachine:
    """A clock, and calls that make it advance and note their order."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []
        self.drift = 0.0

    def clock(self) -> float:
        return self.now

    def call(self, name: str, seconds: float) -> None:
        self.order.append(name)
        self.now += seconds + self.drift * len(self.order)


def plan(pairs: int, *, block_s: float = 0.0, warmup: int = 0) -> PairPlan:
    return PairPlan(
        budget_s=0.0, block_s=block_s, min_pairs=pairs, max_pairs=pairs, warmup_pairs=warmup
    )


def test_seconds_per_call_are_exact_whatever_the_block_holds() -> None:
    machine = FakeMachine()

    pairs = measure_pairs(
        lambda: machine.call("a", 0.002),
        lambda: machine.call("b", 0.001),
        HostStopwatch(machine.clock),
        plan(3, block_s=0.01),
    )

    assert pairs.calls_per_block > 1
    assert pairs.first == pytest.approx([0.002] * 3)
    assert pairs.second == pytest.approx([0.001] * 3)
    assert pairs.ratios == pytest.approx([2.0] * 3)


def test_blocks_alternate_and_the_order_within_a_pair_swaps() -> None:
    machine = FakeMachine()

    measure_steps(
        lambda: machine.call("a", 1.0),
        lambda: machine.call("b", 1.0),
        HostStopwatch(machine.clock),
        4,
    )

    assert "".join(machine.order) == "abbaabba"


def test_a_machine_that_slows_down_favours_neither_side() -> None:
    machine = FakeMachine()
    machine.drift = 0.01

    pairs = measure_steps(
        lambda: machine.call("a", 1.0),
        lambda: machine.call("b", 1.0),
        HostStopwatch(machine.clock),
        100,
    )

    interval = interval_of_median(pairs.ratios)
    assert interval.low < 1.0 < interval.high
    assert interval.middle == pytest.approx(1.0, abs=0.005)


def test_steps_are_called_exactly_as_often_as_asked() -> None:
    machine = FakeMachine()

    measure_steps(
        lambda: machine.call("a", 1.0),
        lambda: machine.call("b", 1.0),
        HostStopwatch(machine.clock),
        7,
    )

    assert machine.order.count("a") == machine.order.count("b") == 7


def test_a_slow_callable_still_gets_the_fewest_pairs() -> None:
    machine = FakeMachine()
    slow = PairPlan(budget_s=1.0, block_s=0.0, min_pairs=7, max_pairs=99, warmup_pairs=0)

    pairs = measure_pairs(
        lambda: machine.call("a", 100.0),
        lambda: machine.call("b", 100.0),
        HostStopwatch(machine.clock),
        slow,
    )

    assert len(pairs.first) == 7


def test_the_budget_ends_the_measurement() -> None:
    machine = FakeMachine()
    budget = PairPlan(budget_s=10.0, block_s=0.0, min_pairs=2, max_pairs=1_000, warmup_pairs=0)

    pairs = measure_pairs(
        lambda: machine.call("a", 0.5),
        lambda: machine.call("b", 0.5),
        HostStopwatch(machine.clock),
        budget,
    )

    assert len(pairs.first) == 10


def test_warm_up_pairs_are_run_and_not_reported() -> None:
    machine = FakeMachine()

    pairs = measure_pairs(
        lambda: machine.call("a", 1.0),
        lambda: machine.call("b", 1.0),
        HostStopwatch(machine.clock),
        plan(3, warmup=5),
    )

    # One call of calibration, five of warm-up, three measured.
    assert machine.order.count("a") == 9
    assert len(pairs.first) == 3


def test_the_garbage_collector_rests_while_pairs_are_measured() -> None:
    states = []

    measure_alone(
        lambda: states.append(gc.isenabled()), HostStopwatch(FakeMachine().clock), plan(1)
    )

    assert states
    assert not any(states)
    assert gc.isenabled()


def test_a_raising_callable_leaves_the_garbage_collector_on() -> None:
    def fail() -> None:
        raise KeyError("planted")

    with pytest.raises(KeyError, match="planted"):
        measure_alone(fail, HostStopwatch(FakeMachine().clock), plan(1))

    assert gc.isenabled()


def test_one_call_is_timed_once() -> None:
    machine = FakeMachine()

    assert time_once(lambda: machine.call("a", 2.5), HostStopwatch(machine.clock)) == 2.5
    assert machine.order == ["a"]


@pytest.mark.parametrize(
    ("count", "cut"),
    # Ranks from a table of the binomial distribution with p = 1/2 at 95 %.
    [(6, 0), (9, 1), (12, 2), (15, 3), (20, 5), (25, 7), (100, 39)],
)
def test_interval_of_the_median_takes_the_tabulated_ranks(count: int, cut: int) -> None:
    samples = [float(value) for value in range(count)]

    interval = interval_of_median(samples)

    assert (interval.low, interval.high) == (float(cut), float(count - 1 - cut))


def test_few_samples_give_their_whole_range() -> None:
    assert interval_of_median([3.0, 1.0, 2.0]) == Interval(1.0, 2.0, 3.0)


def test_no_samples_give_no_interval() -> None:
    with pytest.raises(ValueError, match="no samples"):
        interval_of_median([])


def test_interquartile_range_of_known_samples() -> None:
    assert interquartile_range([1.0, 2.0, 3.0, 4.0, 5.0]) == 2.0
    assert interquartile_range([4.0]) == 0.0


def test_sample_clock_shows_the_samples_as_durations() -> None:
    clock = SampleClock()
    clock.load([0.25, 0.5])

    durations = []
    for _ in range(2):
        start = clock()
        clock.advance()
        durations.append(clock() - start)

    assert durations == [0.25, 0.5]


def test_a_cpu_is_timed_by_the_host() -> None:
    assert isinstance(stopwatch_for("cpu"), HostStopwatch)


def test_a_deadline_runs_down_and_stops_at_nothing() -> None:
    machine = FakeMachine()
    deadline = Deadline(10.0, machine.clock)

    machine.now = 4.0
    assert deadline.left() == 6.0
    machine.now = 11.0
    assert deadline.left() == 0.0
