"""What one call costs where the host decides: from one operation to a loop of small ones."""

from __future__ import annotations

import pytest

from benchmarks.baselines import Variant
from benchmarks.cases import Case
from benchmarks.catalogue import CALLS
from benchmarks.measure import Record, Setting, measure


@pytest.mark.parametrize("case", CALLS, ids=lambda case: case.name)
def bench_call(
    identity: str, case: Case, variant: Variant, setting: Setting, record: Record
) -> None:
    """Measure one program, without grad."""
    record(measure(identity, "micro", case, variant, setting))
