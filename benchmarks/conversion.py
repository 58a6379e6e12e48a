"""What it costs to get there: the first call of a program, in a process that has seen nothing.

Enters: the name of a case and of a variant. Leaves: frozen `ConversionFigures`. Invariant: *cold*
is the very first conversion of a fresh process, with parsing, twins and compilers all unwarmed;
*warm* is a second instance of the same program in that process, so that what is cached per code
object is cached, and nothing else. Eager calls are made before either, so that torch itself is
warm.

Example:
    >>> figures_of(("resnet50", "janus", "cpu")).cold_s
    0.82
"""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from benchmarks.baselines import VARIANTS, speculative_function
from benchmarks.cases import Case, Runner, start
from benchmarks.catalogue import MODELS
from benchmarks.equality import Verdict, compare
from benchmarks.isolation import Answer, IsolatedWorker
from benchmarks.measure import CONVERSION_SEED, FRESH_SEEDS, Measured
from benchmarks.memory import peak_bytes
from benchmarks.results import Row
from benchmarks.timing import interquartile_range, stopwatch_for, time_once

_EAGER_CALLS = 7
_TIME_LIMIT_S = 300.0
Question = tuple[str, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversionFigures:
    """What one fresh process measured.

    Attributes:
        eager_s: median of eager calls.
        cold_s: preparing and first call of the first instance.
        warm_s: the same of a second instance.
        second_call_s: the call after the first, of the second instance.
        eager_peak_bytes: most tensor bytes of an eager call.
        first_call_peak_bytes: most tensor bytes of the first call of a third instance.
        verdict: how the first and the second call compare with eager.
        second_call_hits: replays after two calls; `None` for variants that do not count.
    """

    eager_s: float
    cold_s: float
    warm_s: float
    second_call_s: float
    eager_peak_bytes: int
    first_call_peak_bytes: int
    verdict: str
    second_call_hits: int | None


def case_named(name: str) -> Case:
    """Return the model of the catalogue called `name`."""
    return next(case for case in MODELS if case.name == name)


def figures_of(question: Question) -> ConversionFigures:
    """Return the figures of (case, variant, device). Call it in a fresh process."""
    name, variant, device = question
    torch.set_num_threads(1)
    case, stopwatch = case_named(name), stopwatch_for(device)
    with torch.no_grad():
        eager = start(case, device)
        call = eager.thunk(CONVERSION_SEED)
        eager_s = statistics.median([time_once(call, stopwatch) for _ in range(_EAGER_CALLS)])
        cold, _, cold_s = _converted(case, variant, device)
        warm, second_call_s, warm_s = _converted(case, variant, device)
        hits = _hits(warm, variant)
        return ConversionFigures(
            eager_s=eager_s,
            cold_s=cold_s,
            warm_s=warm_s,
            second_call_s=second_call_s,
            eager_peak_bytes=peak_bytes(call, device),
            first_call_peak_bytes=_first_call_peak(case, variant, device),
            verdict=_verdict(eager, cold, warm),
            second_call_hits=hits,
        )


def measure_conversion(
    row: Row,
    question: Question,
    temperature: str,
    processes: int,
    answer: Callable[[Question], ConversionFigures] = figures_of,
) -> Measured:
    """Return `row` with the figures of `processes` fresh processes, each asked `question`."""
    found = _ask(question, processes, answer)
    failure = next((each.failure for each in found if each.failure), None)
    if failure:
        return Measured(row=replace(row, accuracy=failure))
    return _measured(row, temperature, [each.value for each in found])


@functools.cache
def _ask(
    question: Question, processes: int, answer: Callable[[Question], ConversionFigures]
) -> tuple[Answer, ...]:
    """Ask fresh processes. Cached: one answer holds the cold figures and the warm ones."""
    found = []
    for _ in range(processes):
        with IsolatedWorker(answer) as worker:
            found.append(worker.ask(question, timeout_s=_TIME_LIMIT_S))
        if found[-1].failure:
            break
    return tuple(found)


def _measured(row: Row, temperature: str, figures: list[ConversionFigures]) -> Measured:
    firsts = tuple(each.cold_s if temperature == "cold" else each.warm_s for each in figures)
    verdicts = [each.verdict for each in figures]
    ratios = [first / each.eager_s for first, each in zip(firsts, figures, strict=True)]
    last = figures[-1]
    row = replace(
        row,
        accuracy=max(verdicts, key=[verdict.value for verdict in Verdict].index),
        median_s=statistics.median(firsts),
        iqr_s=interquartile_range(firsts),
        samples=len(firsts),
        conversion_s=max(0.0, statistics.median(firsts) - last.eager_s),
        peak_bytes=last.first_call_peak_bytes,
        eager_peak_bytes=last.eager_peak_bytes,
        detail=_what_was_timed(last),
        extra={"first call / eager call": statistics.median(ratios)},
    )
    return Measured(row=row, samples=firsts)


def _what_was_timed(figures: ConversionFigures) -> str:
    text = "median is the first call"
    if figures.second_call_hits is not None:
        did = "replayed" if figures.second_call_hits else "did not replay"
        text += f"; the second call {did}"
    return text


def _converted(case: Case, variant: str, device: str) -> tuple[Runner, float, float]:
    """Return a converted runner, its second call's time, and what preparing and the first took."""
    stopwatch = stopwatch_for(device)
    runner = start(case, device)
    prepare = time_once(lambda: runner.apply(VARIANTS[variant], CONVERSION_SEED), stopwatch)
    call = runner.thunk(CONVERSION_SEED)
    first = time_once(call, stopwatch)
    return runner, time_once(call, stopwatch), prepare + first


def _first_call_peak(case: Case, variant: str, device: str) -> int:
    runner = start(case, device)
    runner.apply(VARIANTS[variant], CONVERSION_SEED)
    return peak_bytes(runner.thunk(CONVERSION_SEED), device)


def _hits(runner: Runner, variant: str) -> int | None:
    if variant != "janus":
        return None
    hits: int = speculative_function(runner.target).stats.hits
    return hits


def _verdict(eager: Runner, *converted: Runner) -> str:
    order = list(Verdict)
    found = [
        compare(eager.outcome(seed), runner.outcome(seed)).verdict
        for runner in converted
        for seed in FRESH_SEEDS
    ]
    return max(found, key=order.index).value
