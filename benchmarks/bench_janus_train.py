"""LeNet trained on real digits: the speculated loss curve must be eager's, bit by bit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.baselines import Variant
from benchmarks.cases import Case, Program
from benchmarks.digits import NEEDED_ACCURACY, Training, train_both
from benchmarks.equality import Comparison, Verdict, compare
from benchmarks.measure import Measured, Record, Setting, reason_to_leave_out, timed_steps
from benchmarks.models.lenet import LeNet
from benchmarks.results import Row

_DIGITS = Case(
    name="lenet_digits",
    build=lambda: Program(LeNet(), lambda _seed: pytest.fail("has inputs of its own")),
    is_training=True,
    is_quick=True,
)
# All shapes of batch occur in the first epoch: 42 full ones and the last, smaller one.
_CONVERTING_STEPS = 43


@pytest.mark.parametrize("case", [_DIGITS], ids=lambda case: case.name)
def bench_training(
    identity: str, case: Case, converting: Variant, setting: Setting, record: Record
) -> None:
    """Train both ways; compare every loss and all final weights, then the step times."""
    row = Row(
        id=identity,
        suite="train",
        case=case.name,
        variant=converting.name,
        device=setting.device,
        accuracy="",
    )
    reason = reason_to_leave_out(case, converting, setting)
    if reason:
        record(Measured(row=replace(row, accuracy=reason)))
        return
    training = train_both(converting, setting.device)
    remark = converting.remark(training.target)
    converting.release()
    record(_judged(row, training, remark, has_exact_bits=converting.has_exact_bits))


def _judged(row: Row, training: Training, remark: str, *, has_exact_bits: bool) -> Measured:
    eager = {"losses": training.eager_losses, "weights": training.eager_weights}
    found = {"losses": training.losses, "weights": training.weights}
    comparison = compare(eager, found)
    row = replace(
        row,
        detail="; ".join(part for part in (comparison.where, remark) if part),
        is_like_for_like=comparison.verdict is Verdict.BITWISE,
        extra={"test accuracy in percent": 100.0 * training.accuracy},
    )
    is_right = training.accuracy > NEEDED_ACCURACY and _is_accepted(
        comparison, has_exact_bits=has_exact_bits
    )
    if not is_right:
        return Measured(row=replace(row, accuracy="wrong"))
    accuracy = "bitwise" if comparison.verdict is Verdict.BITWISE else "close"
    return timed_steps(replace(row, accuracy=accuracy), training.pairs, _CONVERTING_STEPS)


def _is_accepted(comparison: Comparison, *, has_exact_bits: bool) -> bool:
    # Rounding grows along a training; without a promise of bits, the test accuracy decides.
    return comparison.verdict is Verdict.BITWISE or not has_exact_bits
