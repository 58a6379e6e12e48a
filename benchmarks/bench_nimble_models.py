"""Networks with parallel branches: scheduled ahead of time, on one stream and on many."""

from __future__ import annotations

import pytest

from benchmarks.baselines import Variant
from benchmarks.cases import Case
from benchmarks.catalogue import SCHEDULED
from benchmarks.measure import Record, Setting, measure

FAMILY = "nimble"


@pytest.mark.parametrize("case", SCHEDULED, ids=lambda case: case.name)
def bench_forward(
    identity: str, case: Case, variant: Variant, setting: Setting, record: Record
) -> None:
    """Measure a forward pass in eval mode, batch 1."""
    record(measure(identity, "nimble", case, variant, setting))
