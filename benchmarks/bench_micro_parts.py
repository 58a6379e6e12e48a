"""What a replayed call is made of: the entry check, and the module tree within it."""

from __future__ import annotations

import statistics
from dataclasses import replace

import pytest
import torch

from benchmarks.baselines import VARIANTS, speculative_function
from benchmarks.cases import Case, start
from benchmarks.catalogue import CALLS
from benchmarks.conversion import case_named
from benchmarks.measure import CONVERSION_SEED, Measured, Record, Setting
from benchmarks.parts import PARTS, parts_of
from benchmarks.results import Row
from benchmarks.timing import interquartile_range, measure_alone, measure_pairs, stopwatch_for

# The two that the guard budget is stated for, and the small programs that pay most per call.
_CASES = (*CALLS, case_named("resnet50"), replace(case_named("bert_base"), is_quick=True))


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("case", _CASES, ids=lambda case: case.name)
def bench_part(identity: str, case: Case, part: str, setting: Setting, record: Record) -> None:
    """Measure one part, nothing having changed since the call before."""
    row = Row(
        id=identity,
        suite="micro",
        case=f"{case.name}: {part.replace('_', ' ')}",
        variant="janus",
        device=setting.device,
        accuracy="",
    )
    reason = VARIANTS["janus"].missing(setting.device)
    if reason:
        record(Measured(row=replace(row, accuracy=reason)))
    else:
        record(_measure(row, case, part, setting))


@torch.no_grad()
def _measure(row: Row, case: Case, part: str, setting: Setting) -> Measured:
    eager, subject = start(case, setting.device), start(case, setting.device)
    subject.apply(VARIANTS["janus"], CONVERSION_SEED)
    for _ in range(2):
        subject.outcome(CONVERSION_SEED)
    if not speculative_function(subject.target).stats.hits:
        return Measured(row=replace(row, accuracy="not replayed", detail="see the models suite"))
    chosen = parts_of(subject).get(part)
    if chosen is None:
        return Measured(row=replace(row, accuracy="few guards, checked one by one"))
    stopwatch = stopwatch_for(setting.device)
    samples = measure_alone(chosen, stopwatch, setting.plan)
    # Next to eager calls, hence with cold caches: the share that a real call pays.
    pairs = measure_pairs(eager.thunk(CONVERSION_SEED), chosen, stopwatch, setting.plan)
    percent = 100.0 / statistics.median(pairs.ratios)
    row = replace(
        row,
        accuracy="bitwise",
        median_s=statistics.median(samples),
        iqr_s=interquartile_range(samples),
        samples=len(samples),
        extra={"percent of an eager call": percent},
    )
    return Measured(row=row, samples=samples)
