"""Where ways through a function are said to meet."""

from __future__ import annotations

import torch

from janus_lite.record.recorder import record


def test_an_if_that_was_left_early_does_not_end_at_a_later_one() -> None:
    def step(x: torch.Tensor) -> torch.Tensor:
        for is_asked in (True, False):
            if is_asked and x.sum() > 0:
                x = x * 2
                continue
            x = x + 1
        return x

    _, trace = record(step, (torch.ones(3),), {})

    assert [mark.label.rpartition(" ")[2] for mark in trace.marks] == ["returns"]
