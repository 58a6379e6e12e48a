"""The profit guard: what does not pay goes back to running imperatively, and says so."""

from __future__ import annotations

import random
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

import janus_lite
from janus_lite import config
from janus_lite.errors import Code
from janus_lite.runtime import profit
from janus_lite.runtime.profit import (
    IN_A_ROW,
    MOST_TURNS,
    REGION_TURNS,
    TURNS,
    WARM_UP,
    Trial,
    Verdict,
)

TRIAL = 1 + WARM_UP + 2 * TURNS * IN_A_ROW  # the recording, the warm-up, calls by turns


def speculate(function: Callable[..., Any]) -> Any:
    """`function` under speculation, with the attributes that type checkers do not know."""
    return janus_lite.speculate(function)


class Clock:
    """Lets a replay and an imperative call take as long as a test wants."""

    def __init__(self) -> None:
        self.now = 0.0
        self.replay = self.imperative = 1.0
        self.reads = 0

    def __call__(self) -> float:
        self.reads += 1
        # Readings come in pairs; the imperative calls go first.
        is_end, is_replay = self.reads % 2 == 0, (self.reads - 1) // 2 // IN_A_ROW % 2 == 1
        if is_end:
            self.now += self.replay if is_replay else self.imperative
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    """The clock of the trials of this test."""
    made = Clock()
    monkeypatch.setattr(profit, "clock", made)
    with config.patch(profit=True):
        yield made


def test_a_graph_that_is_slower_is_dropped_with_both_times(clock: Clock) -> None:
    clock.replay, clock.imperative = 20e-6, 10e-6
    speculated = speculate(lambda x: torch.relu(x) * 2)
    x = torch.randn(3)

    for _ in range(TRIAL + 3):
        assert torch.equal(speculated(x), torch.relu(x) * 2)

    assert not speculated.conversions
    (reason,) = speculated.reasons
    assert reason.code is Code.UNPROFITABLE
    assert "20.0 us" in reason.found
    assert "10.0 us" in reason.found
    assert "JL0605" in str(speculated.explain())


def test_a_graph_that_pays_stays_and_is_measured_no_more(clock: Clock) -> None:
    clock.replay, clock.imperative = 5e-6, 10e-6
    speculated = speculate(lambda x: torch.relu(x) * 2)
    x = torch.randn(3)

    for _ in range(TRIAL):
        speculated(x)
    read = clock.reads
    hits = speculated.stats.hits
    for _ in range(5):
        speculated(x)

    assert clock.reads == read
    assert speculated.stats.hits == hits + 5
    assert not speculated.reasons


def test_a_gain_within_the_noise_does_not_pay(clock: Clock) -> None:
    clock.replay, clock.imperative = 9.9e-6, 10e-6
    speculated = speculate(lambda x: x + 1)

    for _ in range(TRIAL):
        speculated(torch.ones(2))

    assert not speculated.conversions


def test_the_trial_runs_no_user_code_an_extra_time(clock: Clock) -> None:
    clock.replay, clock.imperative = 20e-6, 10e-6
    seen: list[float] = []

    def counted(x: torch.Tensor) -> torch.Tensor:
        seen.append(0.5)
        return x * 2

    speculated = speculate(counted)
    for count in range(1, TRIAL + 5):
        speculated(torch.ones(2))
        assert len(seen) == count


@pytest.mark.parametrize("replay", [5e-6, 20e-6])
def test_the_counters_tell_trial_runs_from_hits(clock: Clock, replay: float) -> None:
    clock.replay, clock.imperative = replay, 10e-6
    speculated = speculate(lambda x: x * 2)

    for _ in range(TRIAL):
        speculated(torch.ones(2))

    stats = speculated.stats
    assert stats.calls == TRIAL
    assert stats.hits == WARM_UP + TURNS * IN_A_ROW
    assert stats.fallbacks == TURNS * IN_A_ROW


def test_a_loser_is_not_recorded_again_until_reset(clock: Clock) -> None:
    clock.replay, clock.imperative = 20e-6, 10e-6
    speculated = speculate(lambda x: x * 2)
    for _ in range(TRIAL + 20):
        speculated(torch.ones(2))
    assert speculated.stats.recorded == 1

    speculated.reset()
    speculated(torch.ones(2))

    assert speculated.stats.recorded == 2


def test_another_shape_does_not_start_the_trial_of_a_loser_again(clock: Clock) -> None:
    clock.replay, clock.imperative = 20e-6, 10e-6
    speculated = speculate(lambda x: x * 2)
    for _ in range(TRIAL):
        speculated(torch.ones(2))

    for size in range(1, 6):
        assert torch.equal(speculated(torch.ones(size)), torch.ones(size) * 2)

    assert speculated.stats.recorded == 1


def test_graphs_of_the_past_go_with_the_loser(clock: Clock) -> None:
    clock.replay, clock.imperative = 20e-6, 10e-6
    state = types.SimpleNamespace(count=0)

    def counted(x: torch.Tensor) -> torch.Tensor:
        state.count += 1
        return torch.mul(x, state.count)

    speculated = speculate(counted)
    for step in range(2 * TRIAL):  # the first graph knows the count, the second takes any
        assert torch.equal(speculated(torch.ones(2)), torch.ones(2) * (step + 1))

    assert speculated.stats.recorded == 2
    assert not speculated.conversions


def test_times_that_vary_take_a_longer_trial(clock: Clock) -> None:
    speculated = speculate(lambda x: x * 2)
    lengths = random.Random(0)

    for _ in range(TRIAL):  # a replay is quicker by a tenth; calls differ by much more
        length = lengths.uniform(0.5, 1.5)
        clock.replay, clock.imperative = 9e-6 * length, 10e-6 * length
        speculated(torch.ones(2))
    (graph,) = speculated.conversions
    assert isinstance(graph.emitted.call, Trial)
    for _ in range(2 * MOST_TURNS * IN_A_ROW):
        speculated(torch.ones(2))

    assert speculated.stats.calls > TRIAL
    assert not any(isinstance(c.emitted.call, Trial) for c in speculated.conversions)


@pytest.mark.parametrize(("look_up", "is_worth"), [(1e-6, True), (5e-6, False)])
def test_looking_a_call_up_is_part_of_a_replay(
    look_up: float, is_worth: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    verdicts: list[Verdict] = []

    def takes(seconds: float) -> Callable[..., None]:
        def call(*_: Any) -> None:
            nonlocal now
            now += seconds

        return call

    monkeypatch.setattr(profit, "clock", lambda: now)
    emitted: Any = types.SimpleNamespace(call=takes(6e-6), check=lambda *_: ())
    trial = Trial(
        emitted,
        takes(10e-6),
        lambda: None,
        takes(look_up),
        lambda _, verdict: verdicts.append(verdict),
        is_region=False,
    )
    for _ in range(TRIAL):
        trial((), {})

    (verdict,) = verdicts
    assert verdict.is_worth is is_worth
    assert verdict.replay_us == pytest.approx((6e-6 + look_up) * 1e6)


def test_one_more_graph_starts_the_trials_again(clock: Clock) -> None:
    clock.replay, clock.imperative = 5e-6, 10e-6
    speculated = speculate(lambda x: x * 2)
    for _ in range(TRIAL):
        speculated(torch.ones(2))
    (first,) = speculated.conversions
    assert not isinstance(first.emitted.call, Trial)

    speculated(torch.ones(2, 2))

    assert all(isinstance(c.emitted.call, Trial) for c in speculated.conversions)
    for _ in range(TRIAL):
        assert torch.equal(speculated(torch.ones(2)), torch.ones(2) * 2)
    assert [isinstance(c.emitted.call, Trial) for c in speculated.conversions] == [True, False]


def test_a_miss_and_a_raise_end_no_trial(clock: Clock) -> None:
    clock.replay, clock.imperative = 5e-6, 10e-6

    def fragile(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x @ y

    speculated = speculate(fragile)
    square = torch.ones(2, 2)
    for _ in range(TRIAL // 2):
        speculated(square, square)
    speculated(torch.ones(1, 2), square)
    with pytest.raises(RuntimeError):
        speculated(square, torch.ones(3, 3))
    for _ in range(TRIAL):
        assert torch.equal(speculated(square, square), square @ square)

    assert not [r for r in speculated.reasons if r.code is Code.UNPROFITABLE]


def halve(x: torch.Tensor) -> torch.Tensor:
    return halve(x / 2) if x.sum() > 1 else x


@pytest.mark.parametrize(("replay", "stays"), [(10.5e-6, True), (12e-6, False)])
def test_a_function_region_is_forgiven_a_tenth(clock: Clock, replay: float, stays: bool) -> None:
    clock.replay, clock.imperative = replay, 10e-6
    speculated = speculate(halve)
    for step in range(40 + 2 * REGION_TURNS * IN_A_ROW):
        x = torch.full((2,), 2.0 ** (1 + step % 4))
        assert torch.equal(speculated(x), halve(x))

    codes = {reason.code for reason in speculated.reasons}
    assert (Code.UNPROFITABLE not in codes) is stays


def test_the_guard_can_be_turned_off() -> None:
    speculated = speculate(lambda x: x + 1)  # a replay never pays here

    for _ in range(3 * TRIAL):
        speculated(torch.ones(2))

    assert speculated.stats.hits == 3 * TRIAL - 1


def flips(x: torch.Tensor) -> torch.Tensor:
    return x * 2 if x.sum() > 0 else x - 1


def test_a_branch_that_flips_once_in_a_hundred_keeps_its_graph() -> None:
    speculated = speculate(flips)
    for step in range(300):
        x = torch.full((2,), -1.0 if step % 100 == 50 else 1.0)
        assert torch.equal(speculated(x), flips(x))

    assert speculated.stats.hits >= 297
    assert speculated.stats.assertion_failures <= 2


def takes(x: torch.Tensor) -> torch.Tensor:
    total: float = sum(x.tolist())
    return x + total


def test_a_decision_that_always_fails_is_given_up() -> None:
    speculated = speculate(takes)
    for step in range(60):
        x = torch.full((2,), float(step))
        assert torch.equal(speculated(x), takes(x))

    assert speculated.stats.recorded <= 16
    assert speculated.stats.assertion_failures <= 16
    assert Code.VALUE_VARIES in {reason.code for reason in speculated.reasons}
