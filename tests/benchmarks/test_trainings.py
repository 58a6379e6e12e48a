"""The programs of JANUS's evaluation: losses and weights are eager's, bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from benchmarks.architectures.base import Call
from benchmarks.baselines import VARIANTS, Target, Variant, speculative_function
from benchmarks.equality import Verdict, compare
from benchmarks.trainings import TRAININGS
from benchmarks.trainings.base import Trained, TrainingCase, train_both
from benchmarks.trainings.texts import encode, load_text

STEPS = 6
BY_NAME = {case.name: case for case in TRAININGS}


def train(case: TrainingCase, variant: Variant, steps: int = STEPS) -> Trained:
    return train_both(case, variant, "cpu", steps, is_quick=True)


def verdicts(trained: Trained) -> tuple[Verdict, Verdict]:
    losses = compare(trained.eager_losses, trained.losses)
    weights = compare(trained.eager_weights, trained.weights)
    return losses.verdict, weights.verdict


@pytest.mark.slow
@pytest.mark.parametrize("case", TRAININGS, ids=lambda case: case.name)
def test_a_speculated_training_is_eager_s_bit_by_bit(case: TrainingCase) -> None:
    if case.missing():
        pytest.skip(str(case.missing()))

    trained = train(case, VARIANTS["janus"])

    assert verdicts(trained) == (Verdict.BITWISE, Verdict.BITWISE)
    assert len(trained.losses) == STEPS
    functions = [speculative_function(target) for target in trained.targets]
    assert all(f.stats.hits or f.reasons or f.stats.recorded == f.stats.calls for f in functions)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lstm", "an"])
def test_a_change_in_the_last_digits_shows(name: str) -> None:
    def nudge(target: Target, _call: Call) -> Callable[..., Any]:
        return lambda *args: target(*args) * (1 + 1e-6)

    trained = train(BY_NAME[name], replace(VARIANTS["eager"], prepare=nudge), steps=3)

    assert Verdict.BITWISE not in verdicts(trained)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lenet", "lstm", "lm"])
def test_the_programs_learn(name: str) -> None:
    trained = train(BY_NAME[name], VARIANTS["eager"], steps=40)

    losses = torch.stack([each[0] for each in trained.losses])
    assert losses[-5:].mean() < 0.95 * losses[:5].mean()


@pytest.mark.slow
def test_the_trainings_share_no_random_numbers() -> None:
    once, again = (train(BY_NAME["lm"], VARIANTS["eager"], steps=3) for _ in range(2))

    assert compare(once.eager_losses, again.losses).verdict is Verdict.BITWISE


def test_the_text_is_long_and_its_symbols_are_ranked() -> None:
    numbers = encode(list(load_text()), 30)

    assert len(numbers) > 300_000
    assert set(numbers.tolist()) == set(range(30))
    assert (numbers == 1).sum() >= (numbers == 2).sum() >= (numbers == 29).sum()
