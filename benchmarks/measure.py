"""Measure one case under one variant: right first, then how fast.

Enters: a case, a variant, a setting. Leaves: a `Measured` row with its raw samples. Invariant:
no time is reported for a variant whose output is wrong; a variant that cannot run leaves a row
that says why.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from benchmarks.baselines import Variant
from benchmarks.cases import Case, Runner, start
from benchmarks.equality import Comparison, Verdict, compare, worst
from benchmarks.memory import peak_bytes
from benchmarks.results import LEFT_OUT, Row, break_even
from benchmarks.timing import (
    PairPlan,
    Pairs,
    interquartile_range,
    interval_of_median,
    measure_alone,
    measure_pairs,
    stopwatch_for,
    time_once,
)
from benchmarks.trainings.base import TrainingCase

# The seed of the calls that convert, and of those that are timed.
CONVERSION_SEED = 1
# Fresh inputs, seen by no earlier call: a replay of stale data cannot pass.
FRESH_SEEDS = (2, 3)
# Every variant here is in its steady state from the third call on; the first does the work.
_CONVERTING_CALLS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How thoroughly, and where."""

    device: str
    is_quick: bool
    plan: PairPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A row and the samples behind it, in seconds per call."""

    row: Row
    samples: tuple[float, ...] = ()
    eager_samples: tuple[float, ...] = ()


Record = Callable[[Measured], None]


def measure(identity: str, suite: str, case: Case, variant: Variant, setting: Setting) -> Measured:
    """Return the row of `case` under `variant`."""
    row = Row(
        id=identity,
        suite=suite,
        case=case.name,
        variant=variant.name,
        device=setting.device,
        accuracy="bitwise",
    )
    reason = reason_to_leave_out(case, variant, setting)
    if reason:
        return Measured(row=replace(row, accuracy=reason))
    with torch.set_grad_enabled(case.is_training):
        if variant.name == "eager":
            return _measure_eager(row, case, setting)
        try:
            return _measure_variant(row, case, variant, setting)
        finally:
            variant.release()


def reason_to_leave_out(
    case: Case | TrainingCase, variant: Variant, setting: Setting
) -> str | None:
    """Return why a row is not run here; `None` when it can be."""
    is_slow_to_convert = variant.name.startswith("compile")
    if setting.is_quick and is_slow_to_convert and not case.is_compiled_in_quick:
        return LEFT_OUT
    if case.is_random and not variant.has_random_numbers:
        return "draws other random numbers than eager: no comparison"
    return variant.missing(setting.device)


def _measure_eager(row: Row, case: Case, setting: Setting) -> Measured:
    runner = start(case, setting.device)
    thunk = runner.thunk(CONVERSION_SEED)
    samples = measure_alone(thunk, stopwatch_for(setting.device), setting.plan)
    peak = peak_bytes(thunk, setting.device)
    return Measured(row=replace(_timed(row, samples), peak_bytes=peak), samples=samples)


def _timed(row: Row, samples: tuple[float, ...]) -> Row:
    return replace(
        row,
        median_s=statistics.median(samples),
        iqr_s=interquartile_range(samples),
        samples=len(samples),
    )


def _measure_variant(row: Row, case: Case, variant: Variant, setting: Setting) -> Measured:
    eager, subject = start(case, setting.device), start(case, setting.device)
    try:
        first_calls = _convert(subject, variant, setting)
    except Exception as error:
        return Measured(row=failed(row, variant, error))
    for _ in range(_CONVERTING_CALLS):
        eager.outcome(CONVERSION_SEED)
    comparison = _compare_on_fresh_inputs(eager, subject)
    row = _judged(row, variant, comparison, variant.remark(subject.target))
    if row.accuracy == "wrong":
        return Measured(row=row)
    return _measure_speed(row, eager, subject, first_calls, setting)


def _convert(subject: Runner, variant: Variant, setting: Setting) -> list[float]:
    stopwatch = stopwatch_for(setting.device)
    prepare = time_once(lambda: subject.apply(variant, CONVERSION_SEED), stopwatch)
    call = subject.thunk(CONVERSION_SEED)
    seconds = [prepare]
    for _ in range(_CONVERTING_CALLS):
        torch.manual_seed(CONVERSION_SEED)
        seconds.append(time_once(call, stopwatch))
    return [seconds[0] + seconds[1], *seconds[2:]]


def timed_steps(row: Row, pairs: Pairs, steady_from: int) -> Measured:
    """Return `row` with the figures of a training's steps; those before `steady_from` convert."""
    firsts, seconds = pairs.first[steady_from:], pairs.second[steady_from:]
    eager_s, subject_s = statistics.median(firsts), statistics.median(seconds)
    early = zip(pairs.first[:steady_from], pairs.second[:steady_from], strict=True)
    conversion_s = max(0.0, sum(b - a for a, b in early))
    speedup = interval_of_median(pairs.ratios[steady_from:])
    row = replace(
        _timed(row, seconds),
        speedup=speedup.middle,
        speedup_low=speedup.low,
        speedup_high=speedup.high,
        conversion_s=conversion_s,
        break_even_calls=break_even(conversion_s, eager_s, subject_s) if speedup.low > 1 else None,
    )
    return Measured(row=row, samples=seconds, eager_samples=firsts)


def failed(row: Row, variant: Variant, error: Exception) -> Row:
    """Return `row` for a variant that raised; a broken promise when it promises bits."""
    message = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
    if variant.has_exact_bits:
        return replace(row, accuracy="wrong", detail=f"raised where eager does not: {message}")
    return replace(row, accuracy=f"failed: {message[:120]}")


def _compare_on_fresh_inputs(eager: Runner, subject: Runner) -> Comparison:
    return worst([compare(eager.outcome(seed), subject.outcome(seed)) for seed in FRESH_SEEDS])


def _judged(row: Row, variant: Variant, comparison: Comparison, remark: str) -> Row:
    is_broken_promise = variant.has_exact_bits and comparison.verdict is not Verdict.BITWISE
    verdict = Verdict.WRONG if is_broken_promise else comparison.verdict
    detail = "; ".join(part for part in (comparison.where, remark) if part)
    is_like_for_like = verdict is Verdict.BITWISE  # other numerics buy speed that eager cannot have
    return replace(row, accuracy=verdict.value, detail=detail, is_like_for_like=is_like_for_like)


def _measure_speed(
    row: Row, eager: Runner, subject: Runner, first_calls: list[float], setting: Setting
) -> Measured:
    run_eager, run_subject = eager.thunk(CONVERSION_SEED), subject.thunk(CONVERSION_SEED)
    pairs = measure_pairs(run_eager, run_subject, stopwatch_for(setting.device), setting.plan)
    speedup = interval_of_median(pairs.ratios)
    eager_s, subject_s = statistics.median(pairs.first), statistics.median(pairs.second)
    conversion_s = sum(max(0.0, call - eager_s) for call in first_calls)
    row = replace(
        _timed(row, pairs.second),
        speedup=speedup.middle,
        speedup_low=speedup.low,
        speedup_high=speedup.high,
        conversion_s=conversion_s,
        break_even_calls=break_even(conversion_s, eager_s, subject_s) if speedup.low > 1 else None,
        peak_bytes=peak_bytes(run_subject, setting.device),
        eager_peak_bytes=peak_bytes(run_eager, setting.device),
    )
    return Measured(row=row, samples=pairs.second, eager_samples=pairs.first)
