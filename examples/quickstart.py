"""Speculate on a function: the first call is recorded, later ones replay it.

$ python examples/quickstart.py
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

import janus_lite


def attend(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool = False) -> Tensor:
    """Attention, written as one writes it."""
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if is_causal:
        hidden = torch.ones_like(scores, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(hidden, float("-inf"))
    return scores.softmax(-1) @ value


fast = janus_lite.speculate(attend)

for _ in range(3):
    inputs = [torch.randn(2, 4, 16) for _ in range(3)]
    assert torch.equal(fast(*inputs), attend(*inputs))

# Another flag is another assumption: this call is recorded as a second graph.
assert torch.equal(fast(*inputs, is_causal=True), attend(*inputs, is_causal=True))

report = janus_lite.explain(fast)
assert (report.stats.hits, report.stats.converted) == (2, 2)
print(report)
