"""Peak memory is what the allocator says, to the byte."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.memory import peak_bytes


def allocate(*sizes: int) -> list[Tensor]:
    return [torch.empty(size, dtype=torch.uint8) for size in sizes]


def test_the_peak_counts_what_lives_at_the_same_time() -> None:
    def run() -> list[Tensor]:
        early = allocate(1_000, 3_000)
        del early[0]
        return early + allocate(500)

    assert peak_bytes(run, "cpu") == 4_000


def test_the_result_counts() -> None:
    assert peak_bytes(lambda: allocate(100, 100, 100), "cpu") == 300


def test_what_was_live_before_does_not_count() -> None:
    kept = torch.ones(1_000)

    assert peak_bytes(lambda: kept.relu_(), "cpu") == 0


def test_releasing_what_was_live_before_hides_nothing() -> None:
    # The first measurement makes the profiler remember the sizes of these very addresses.
    kept: list[Tensor] = []
    peak_bytes(lambda: kept.extend(allocate(*[4_096] * 8)), "cpu")

    def run() -> list[Tensor]:
        kept.clear()
        return allocate(1_000)

    assert peak_bytes(run, "cpu") == 1_000
