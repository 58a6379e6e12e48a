"""The training that is quoted: real images, two networks in lock step."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.architectures.base import Call
from benchmarks.baselines import VARIANTS, Target
from benchmarks.digits import EPOCHS, load_digits, steps_per_epoch, train_both

pytestmark = pytest.mark.slow


def test_the_digits_are_real_normalised_and_split() -> None:
    digits = load_digits()

    assert digits.train_images.shape == (1347, 1, 32, 32)
    assert digits.test_images.shape == (450, 1, 32, 32)
    assert digits.train_images.mean().abs() < 1e-5
    assert set(digits.test_labels.tolist()) == set(range(10))
    assert EPOCHS * steps_per_epoch(digits) == EPOCHS * 43


def test_equal_networks_have_equal_losses_and_weights() -> None:
    training = train_both(VARIANTS["eager"], "cpu", steps=5)

    assert len(training.losses) == 5
    assert training.losses == training.eager_losses
    assert all(
        torch.equal(value, training.weights[name]) for name, value in training.eager_weights.items()
    )


def test_a_change_in_the_last_digits_shows() -> None:
    def nudge(target: Target, _call: Call) -> Target:
        def nudged(images: Tensor) -> Tensor:
            logits: Tensor = target(images)
            return logits * (1 + 1e-6)

        return nudged

    training = train_both(replace(VARIANTS["eager"], prepare=nudge), "cpu", steps=3)

    weights = [torch.equal(v, training.weights[k]) for k, v in training.eager_weights.items()]
    assert not all(weights)
