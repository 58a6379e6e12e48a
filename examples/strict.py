"""Refuse to be imperative: in a test or a benchmark a silent fallback is the wrong answer.

$ python examples/strict.py
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

import janus_lite


def timed(x: Tensor) -> Tensor:
    """Reads a clock, which no replay can answer for."""
    return x + time.perf_counter()


def quiet(x: Tensor) -> Tensor:
    """Nothing but tensors."""
    return x + 1


x = torch.ones(3)

# strict: the reason is raised, with its code, its line and what to do.
try:
    janus_lite.speculate(timed, strict=True)(x)
except janus_lite.ConversionError as error:
    print(error)
else:
    raise AssertionError("a clock is no part of a graph")

# fail_on_miss: what is converted replays, everything else raises.
fast = janus_lite.speculate(quiet, strict=True)
assert torch.equal(fast(x), quiet(x))
with janus_lite.stance("fail_on_miss"):
    assert torch.equal(fast(x), quiet(x))
    try:
        fast(torch.ones(4))
    except janus_lite.MissError as error:
        print(error)
    else:
        raise AssertionError("another shape is a miss")

# force_eager: the graphs are kept and not used.
with janus_lite.stance("force_eager"):
    assert torch.equal(fast(x), quiet(x))
