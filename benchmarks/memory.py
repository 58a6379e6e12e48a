"""Measure the most tensor memory that one call holds beyond what was live before it.

Enters: a callable and its device. Leaves: bytes. Invariant: what is counted are the bytes that
torch's allocator handed out and has not got back, so the figure is exact and repeatable; the
resident size of the process, which depends on history, is never used.

Example:
    >>> peak_bytes(lambda: model(x), "cpu")
    25690112
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


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
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = fn()
    del result
    live: dict[int, int] = {}
    held = peak = 0
    for address, size in _memory_events(profiler):
        if size > 0:
            live[address] = size
            held += size
            peak = max(peak, held)
        else:
            # Not in `live`: allocated before, hence never counted.
            held -= live.pop(address, 0)
    return peak


def _memory_events(profiler: profile) -> list[tuple[int, int]]:
    """Return address and size of each allocation, and of each release with a size below zero.

    The trace is the one public place where the profiler names addresses. They are needed: it
    remembers sizes from earlier sessions and reports releases of other blocks with them.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    found = [event for event in events if event.get("name") == "[memory]"]
    found.sort(key=lambda event: float(event["ts"]))
    return [(int(event["args"]["Addr"]), int(event["args"]["Bytes"])) for event in found]
