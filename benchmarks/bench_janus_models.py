"""Whole models: a forward pass without grad, and a training step with backward outside."""

from __future__ import annotations

import pytest

from benchmarks.baselines import Variant
from benchmarks.cases import Case
from benchmarks.catalogue import MODELS, TRAINING_STEPS
from benchmarks.measure import Record, Setting, measure


@pytest.mark.parametrize("case", MODELS, ids=lambda case: case.name)
def bench_forward(
    identity: str, case: Case, variant: Variant, setting: Setting, record: Record
) -> None:
    """Measure a forward pass in eval mode."""
    record(measure(identity, "models", case, variant, setting))


@pytest.mark.parametrize("case", TRAINING_STEPS, ids=lambda case: case.name)
def bench_step(
    identity: str, case: Case, variant: Variant, setting: Setting, record: Record
) -> None:
    """Measure forward and backward in train mode; gradients and buffers are compared too."""
    record(measure(identity, "models", case, variant, setting))
