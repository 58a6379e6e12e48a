"""Ask why a call was not replayed: an assumption that failed, or a line that cannot be converted.

$ python examples/why_not.py
"""

from __future__ import annotations

import torch
from torch import Tensor

import janus_lite


class Scaler:
    """Plain Python state that a function reads."""

    def __init__(self, factor: float) -> None:
        self.factor = factor


scaler = Scaler(2.0)
history: list[float] = []


def scaled(x: Tensor) -> Tensor:
    """Depends on an attribute of an object outside."""
    return x * scaler.factor


def logged(x: Tensor) -> Tensor:
    """Hands a tensor to NumPy: the line that keeps the function imperative is named."""
    loss = x.square().mean()
    history.append(float(loss.numpy()))
    return loss


x = torch.randn(4)

fast_scaled = janus_lite.speculate(scaled)
fast_scaled(x)
scaler.factor = 3.0
assert torch.equal(fast_scaled(x), scaled(x))  # never the result for a factor of 2
report = janus_lite.explain(fast_scaled)
assert "factor == 2.0" in str(report.last_miss)
print(report)

fast_logged = janus_lite.speculate(logged)
for _ in range(2):
    assert torch.equal(fast_logged(x), logged(x))
assert len(history) == 4
report = janus_lite.explain(fast_logged)
assert [reason.code for reason in report.reasons] == ["JL0403"]
print(report)
