"""Does an architecture record, and does its replay equal eager? One row per architecture.

Enters: a name of the coverage list. Leaves: a frozen `CoverageRow`. Invariant: eager runs on a
model of its own, built from the same seeds, so nothing that conversion does can hide in both;
inputs and random numbers are made anew for every call, because a call may change them.

Example:
    >>> examine("transformers/bert").outcome
    'bitwise'
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.architectures import BY_NAME, Architecture
from benchmarks.architectures.base import Built
from benchmarks.baselines import reasons_of, speculative_function
from benchmarks.environment import without_places
from benchmarks.equality import Comparison, Verdict, compare
from benchmarks.timing import HostStopwatch, time_once

Convert = Callable[[nn.Module], Any]
RECORDING_SEED = 1
REPLAY_SEEDS = (2, 3)
# For a model that does something in its first call only: the second then records again.
EXTRA_SEED = 4


class Outcome(Enum):
    """What came of an architecture; `value` is what tables print."""

    BITWISE = "bitwise"
    REASON = "reason"
    SILENT = "not replayed, no reason"
    WRONG = "wrong"
    CRASHED = "crashed"
    TIMED_OUT = "timed out"
    ABSENT = "not built here"


# What a run may not contain: the promise is equal bits or a coded reason.
FAILURES = (Outcome.WRONG, Outcome.CRASHED, Outcome.TIMED_OUT, Outcome.SILENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class CoverageRow:
    """One architecture and what came of it.

    Attributes:
        name: of the architecture.
        library: where it comes from.
        kind: what sort of network it is.
        variant: the member of its family that was built.
        outcome: a value of `Outcome`.
        codes: reason codes, when it did not replay.
        detail: the first difference, the exception or the first reason in words.
        recordings: calls that were recorded; 2 where the first call does what no later one does.
        replays: calls that replayed.
        eager_ms: one eager call.
        record_ms: the recording call, with all that happens for the first time.
        replay_ms: the last call.
    """

    name: str
    library: str
    kind: str
    variant: str
    outcome: str
    codes: tuple[str, ...] = ()
    detail: str = ""
    recordings: int = 0
    replays: int = 0
    eager_ms: float | None = None
    record_ms: float | None = None
    replay_ms: float | None = None


def blank_row(architecture: Architecture, outcome: Outcome, detail: str = "") -> CoverageRow:
    """Return a row without figures."""
    return CoverageRow(
        name=architecture.name,
        library=architecture.library,
        kind=architecture.kind.value,
        variant=architecture.variant,
        outcome=outcome.value,
        detail=detail,
    )


def examine(name: str) -> CoverageRow:
    """Return the row of the architecture `name`, converted by `janus_lite.speculate`."""
    import janus_lite

    torch.set_num_threads(1)
    return examine_with(BY_NAME[name], janus_lite.speculate)


def examine_with(architecture: Architecture, convert: Convert) -> CoverageRow:
    """Return the row of `architecture` under any converter; tests bring their own."""
    try:
        eager, subject = architecture.build(), architecture.build()
        with torch.no_grad():
            _, eager_s = _call(eager.model, eager, RECORDING_SEED)
    except Exception as error:
        return blank_row(architecture, Outcome.ABSENT, _in_words(error))
    row = replace(blank_row(architecture, Outcome.BITWISE), eager_ms=eager_s * 1e3)
    with torch.no_grad():
        return _examine_replays(row, eager, subject, convert)


def _examine_replays(
    row: CoverageRow, eager: Built, subject: Built, convert: Convert
) -> CoverageRow:
    try:
        converted = convert(subject.model)
        speculated = speculative_function(converted)
        seconds = []
        for seed in (RECORDING_SEED, *REPLAY_SEEDS, EXTRA_SEED):
            if seed == EXTRA_SEED and not _needs_another_call(speculated):
                break
            found, elapsed = _call(converted, subject, seed)
            expected, _ = _call(eager.model, eager, seed)
            comparison = compare(expected, found)
            if comparison.verdict is not Verdict.BITWISE:
                return _wrong(row, seed, comparison)
            seconds.append(elapsed)
    except Exception as error:  # eager did not raise: that is the finding
        return replace(row, outcome=Outcome.WRONG.value, detail=_in_words(error))
    row = replace(row, record_ms=seconds[0] * 1e3, replay_ms=seconds[-1] * 1e3)
    return _explained(row, speculated)


def _needs_another_call(speculated: Any) -> bool:
    """Whether the second call was recorded and converted, so that only the third could replay."""
    return bool(speculated.stats.recorded == 2 and speculated.stats.converted)


def _wrong(row: CoverageRow, seed: int, comparison: Comparison) -> CoverageRow:
    which = "recording call" if seed == RECORDING_SEED else f"input {seed}"
    return replace(row, outcome=Outcome.WRONG.value, detail=f"{which}: {comparison.where}")


def _explained(row: CoverageRow, speculated: Any) -> CoverageRow:
    stats = speculated.stats
    row = replace(row, recordings=stats.recorded, replays=stats.hits)
    if stats.hits == len(REPLAY_SEEDS):
        return row
    reasons = reasons_of(speculated)
    if not reasons:
        counts = f"{stats.misses} misses, {stats.assertion_failures} assertion failures"
        return replace(row, outcome=Outcome.SILENT.value, detail=counts)
    codes = tuple(reason.code for reason in reasons)
    words = without_places(f"{reasons[0].found} ({reasons[0].site})")
    return replace(row, outcome=Outcome.REASON.value, codes=codes, detail=words)


def _call(target: Callable[..., Any], built: Built, seed: int) -> tuple[Any, float]:
    """Return the result of one call on fresh inputs under equal random numbers, and its time."""
    call = built.make_inputs(seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    results: list[Any] = []
    elapsed = time_once(lambda: results.append(target(*call.args, **call.kwargs)), HostStopwatch())
    return results[0], elapsed


def _in_words(error: Exception) -> str:
    return without_places(f"{type(error).__name__}: {error}")[:300]
