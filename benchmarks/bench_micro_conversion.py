"""From eager to converted: first calls in fresh processes, cold and warm as rows of their own."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.baselines import Variant
from benchmarks.cases import Case
from benchmarks.conversion import case_named, measure_conversion
from benchmarks.measure import Measured, Record, Setting, reason_to_leave_out
from benchmarks.results import Row

_CASES = (case_named("resnet50"), case_named("bert_base"))


@pytest.mark.parametrize("temperature", ["cold", "warm"])
@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.name)
def bench_first_call(
    identity: str,
    case: Case,
    temperature: str,
    converting: Variant,
    setting: Setting,
    record: Record,
) -> None:
    """Measure the first call of a program: the very first ever, or with twins cached."""
    row = Row(
        id=identity,
        suite="micro",
        case=f"{case.name}_{temperature}",
        variant=converting.name,
        device=setting.device,
        accuracy="",
    )
    reason = reason_to_leave_out(case, converting, setting)
    if reason:
        record(Measured(row=replace(row, accuracy=reason)))
        return
    question = (case.name, converting.name, setting.device)
    record(measure_conversion(row, question, temperature, 1 if setting.is_quick else 3))
