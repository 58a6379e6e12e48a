"""Folding chains of views: the same bytes, sizes, strides, bases and writes as eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import janus_lite

speculate: Any = janus_lite.speculate
STEPS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "transpose": lambda t: t.transpose(0, -1),
    "permute": lambda t: t.permute(*reversed(range(t.dim()))),
    "t": lambda t: t.mT,
    "unsqueeze": lambda t: t.unsqueeze(1),
    "squeeze": lambda t: t.squeeze(),
    "flatten": lambda t: t.reshape(t.shape[0], -1),
    "split": lambda t: t.reshape(2, *t.shape[1:-1], -1) if t.dim() < 5 else t,
    "select": lambda t: t[1:] if t.shape[0] > 2 else t,
    "expand": lambda t: t.unsqueeze(0).expand(3, *t.shape),
    "write": lambda t: t.add_(1.0) if 0 not in t.stride() else t,
    "compute": lambda t: t * 2.0,
    "contiguous": lambda t: t.contiguous(),
}


def looks(tensor: torch.Tensor) -> tuple[Any, ...]:
    base = tensor._base
    return (
        tensor.tolist(),
        tensor.stride(),
        tensor.storage_offset(),
        tensor._version,
        None if base is None else looks(base),
    )


@given(st.lists(st.sampled_from(sorted(STEPS)), min_size=1, max_size=7), st.booleans())
def test_any_chain_looks_like_that_of_eager(names: list[str], keeps_all: bool) -> None:
    def program(x: torch.Tensor) -> Any:
        values = [x * 1.0]
        for name in names:
            step = STEPS[name]
            values.append(step(values[-1] if values[-1].dim() else x))
        return values if keeps_all else values[-1]

    speculative = speculate(program)
    with torch.no_grad():
        for seed in range(3):
            x = torch.randn(4, 2, 6, generator=torch.Generator().manual_seed(seed))
            other = x.clone()
            expected, found = program(x), speculative(other)
            pairs = zip(expected, found, strict=True) if keeps_all else [(expected, found)]
            assert all(looks(one) == looks(two) for one, two in pairs)
            assert torch.equal(x, other)
    assert speculative.stats.hits == 2, speculative.explain()


def heads(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    q = torch.nn.functional.linear(x, weight).view(2, 5, 3, 4).transpose(1, 2)
    return (q @ q.mT).transpose(1, 2).reshape(2, 5, 15)


@pytest.mark.parametrize(("grad", "folded"), [(False, 1), (True, 0)])
def test_views_fold_where_gradients_are_off(grad: bool, folded: int) -> None:
    weight = torch.nn.Parameter(torch.randn(12, 12))
    speculative = speculate(heads)
    x = torch.randn(2, 5, 12)
    with torch.set_grad_enabled(grad):
        results = [speculative(x, weight) for _ in range(3)]

    assert all(torch.equal(result, heads(x, weight)) for result in results)
    assert speculative.stats.hits == 2
    calls = [line for line in speculative.code().splitlines() if " = as_strided" in line]
    assert len(calls) == folded
