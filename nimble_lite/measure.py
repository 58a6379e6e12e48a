"""Run candidates against each other on this machine and name the fastest.

In: callables. Out: medians. Invariant: what the candidates write (arguments, buffers, random
state) is put back, so measuring is invisible.

Candidates are run in turns, so that a slow second of the machine hits all of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median

import torch

from nimble_lite.tasks.alias import bytes_of
from nimble_lite.tasks.graph import TaskGraph

BUDGET_S = 0.4
LEAST_ROUNDS = 5
MOST_ROUNDS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Median time of each candidate and the one to keep.

    Attributes:
        median_us: by name.
        rounds: runs of each.
        chosen: name of the fastest.
    """

    median_us: Mapping[str, float]
    rounds: int
    chosen: str


def fastest(
    candidates: Mapping[str, Callable[[], object]], synchronize: Callable[[], None]
) -> Measurement:
    """Measure all candidates in turns; the first named wins a tie.

    Args:
        candidates: by name; each is run once before anything is timed.
        synchronize: waits until the device is idle; called before each reading of the clock.
    """
    samples: dict[str, list[float]] = {name: [] for name in candidates}
    for run in candidates.values():
        run()
    synchronize()
    begin = time.perf_counter()
    rounds = 0
    while rounds < LEAST_ROUNDS or (
        rounds < MOST_ROUNDS and time.perf_counter() - begin < BUDGET_S
    ):
        for name, run in candidates.items():
            start = time.perf_counter()
            run()
            synchronize()
            samples[name].append(time.perf_counter() - start)
        rounds += 1
    medians = {name: median(times) * 1e6 for name, times in samples.items()}
    return Measurement(
        median_us=medians, rounds=rounds, chosen=min(medians, key=lambda name: medians[name])
    )


@contextmanager
def undisturbed(graph: TaskGraph, inputs: Sequence[torch.Tensor]) -> Iterator[None]:
    """Put back every byte that the graph writes outside itself, and the random state."""
    written = {number for task in graph.tasks for number in task.writes}
    values = [graph.values[constant.value].storage for constant in graph.constants]
    outside = [
        constant.tensor
        for constant, storage in zip(graph.constants, values, strict=True)
        if storage in written
    ]
    kept = [(tensor, bytes_of(tensor).clone()) for tensor in (*outside, *inputs)]
    devices = [graph.device] if graph.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad():
        try:
            yield
        finally:
            for tensor, copy in kept:
                bytes_of(tensor).copy_(copy)
