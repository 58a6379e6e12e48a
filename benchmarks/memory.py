"""Measure the most tensor memory that one call holds beyond what was live before it.

Enters: a callable and its device. Leaves: bytes. Invariant: what is counted are the bytes that
torch's allocator handed out and has not got back, so the figure is exact and repeatable; the
resident size of the process, which depends on history, is never used.

Example:
    >>> peak_bytes(lambda: model(x), "cpu")
    25690112
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.timing import no_garbage_collection


def peak_bytes(fn: Callable[[], object], device: str) -> int:
    """Return the peak of live tensor bytes during `fn()`, over those live at its start.

    The result of `fn` counts while it is alive: it is held until the measurement ends.
    """
    return _cuda_peak(fn) if device.startswith("cuda") else _cpu_peak(fn)


def _cuda_peak(fn: Callable[[], object]) -> int:
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    result = fn()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    del result
    return peak


def _cpu_peak(fn: Callable[[], object]) -> int:
    # A collection meanwhile would free what was live before, and hide as much of the peak.
    with (
        no_garbage_collection(),
        profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler,
    ):
        result = fn()
    del result
    steps = [
        (event.start_ns(), event.nbytes())
        for event in profiler.profiler.kineto_results.events()
        if event.name() == "[memory]"
    ]
    live = peak = 0
    for _, nbytes in sorted(steps, key=lambda step: step[0]):
        live += nbytes
        peak = max(peak, live)
    return peak
