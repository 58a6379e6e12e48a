"""The programs of JANUS's evaluation: 50 training steps must have eager's losses, bit by bit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.baselines import Variant, converted_below, speculative_function
from benchmarks.equality import Verdict, compare
from benchmarks.measure import Measured, Record, Setting, failed, reason_to_leave_out, timed_steps
from benchmarks.results import Row
from benchmarks.trainings import TRAININGS
from benchmarks.trainings.base import Trained, TrainingCase, train_both

_STEPS = 50
# What comes before is thought of as converting; a conversion that comes later is a slow step.
_STEADY_FROM = 20


@pytest.mark.parametrize("case", TRAININGS, ids=lambda case: case.name)
def bench_training(
    identity: str, case: TrainingCase, converting: Variant, setting: Setting, record: Record
) -> None:
    """Train both ways; compare every loss and all final weights, then the step times."""
    row = Row(
        id=identity,
        suite="janus",
        case=case.name,
        variant=converting.name,
        device=setting.device,
        accuracy="bitwise",
    )
    reason = case.missing() or reason_to_leave_out(case, converting, setting)
    if reason:
        record(Measured(row=replace(row, accuracy=reason)))
        return
    try:
        trained = train_both(case, converting, setting.device, _STEPS, is_quick=setting.is_quick)
        record(_measured(row, converting, trained))
    except Exception as error:
        record(Measured(row=failed(row, converting, error)))
    finally:
        converting.release()


def _measured(row: Row, variant: Variant, trained: Trained) -> Measured:
    # Rounding grows along a training: without a promise of bits, only its start says something.
    upto = None if variant.has_exact_bits else 1
    comparison = compare(trained.eager_losses[:upto], trained.losses[:upto])
    if variant.has_exact_bits and comparison.verdict is Verdict.BITWISE:
        comparison = compare(trained.eager_weights, trained.weights)
    is_broken_promise = variant.has_exact_bits and comparison.verdict is not Verdict.BITWISE
    verdict = Verdict.WRONG if is_broken_promise else comparison.verdict
    remarks = (variant.remark(target) for target in trained.targets)
    row = replace(
        row,
        accuracy=verdict.value,
        detail="; ".join(part for part in (comparison.where, *remarks) if part),
        is_like_for_like=verdict is Verdict.BITWISE,
        extra=_counts(trained) if variant.name == "janus" else {},
    )
    if verdict is Verdict.WRONG:
        return Measured(row=row)
    return timed_steps(row, trained.pairs, _STEADY_FROM)


def _counts(trained: Trained) -> dict[str, float]:
    """What all converted functions of a training did together."""
    reports = [speculative_function(target).explain() for target in trained.targets]
    stats = [report.stats for report in reports]
    return {
        "graphs": sum(len(report.graphs) for report in reports),
        "hits": sum(each.hits for each in stats),
        "failures": sum(each.assertion_failures for each in stats),
        "fallbacks": sum(each.fallbacks for each in stats),
        "conversions": sum(map(converted_below, stats)),
    }
