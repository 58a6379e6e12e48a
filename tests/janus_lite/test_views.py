"""Folding chains of views: the same bytes, sizes, strides, bases and writes as eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel

import janus_lite

speculate: Any = janus_lite.speculate
STEPS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "transpose": lambda t: t.transpose(0, -1),
    "permute": lambda t: t.permute(*reversed(range(t.dim()))),
    "t": lambda t: t.mT,
    "unsqueeze": lambda t: t.unsqueeze(1),
    "squeeze": lambda t: t.squeeze(),
    "flatten": lambda t: t.reshape(t.shape[0], -1),
    "split": lambda t: (
        t.reshape(2, t.shape[0] // 2, *t.shape[1:]) if t.shape[0] % 2 == 0 and t.dim() < 5 else t
    ),
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


def attend(x: torch.Tensor) -> torch.Tensor:
    q = x.view(1, 8, 2, 64).transpose(1, 2)
    attended = torch.nn.functional.scaled_dot_product_attention(q, q, q)
    return attended.transpose(1, 2).reshape(1, 8, -1) * 1.0


def test_another_kernel_may_lay_its_result_out_otherwise() -> None:
    speculative = speculate(attend)
    x = torch.randn(1, 8, 128)
    with torch.no_grad():
        for _ in range(3):
            speculative(x)
        with sdpa_kernel(SDPBackend.MATH):
            assert torch.equal(speculative(x), attend(x))
        assert torch.equal(speculative(x), attend(x))
    assert speculative.stats.hits == 4


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # torch's own, when flags are set
def test_a_convolution_without_its_library() -> None:
    convolution = torch.nn.Conv2d(3, 4, 3).eval()

    def program(x: torch.Tensor) -> Any:
        return convolution(x).permute(0, 2, 3, 1).transpose(1, 2) * 1.0

    speculative = speculate(program)
    x = torch.randn(1, 3, 8, 8).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for _ in range(3):
            speculative(x)
        with torch.backends.mkldnn.flags(enabled=False):
            assert torch.equal(speculative(x), program(x))


def test_a_tensor_turned_in_place_between_two_views() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        y = x * 2.0
        first = y.unsqueeze(0)
        y.t_()
        return first.transpose(1, 2) + y.sum()

    speculative = speculate(program)
    with torch.no_grad():
        for _ in range(3):
            x = torch.randn(3, 4)
            assert torch.equal(speculative(x), program(x))
    assert speculative.stats.hits == 2


# ----------------------------------------------------------- results that nobody has to ask


@given(
    sizes=st.lists(st.sampled_from([0, 1, 2, 5]), min_size=1, max_size=5),
    outputs=st.sampled_from([1, 3, 8]),
    order=st.randoms(use_true_random=False),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.complex64]),
    has=st.fixed_dictionaries({w: st.booleans() for w in ("bias", "grad", "library", "turned")}),
)
@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # torch's own, when flags are set
def test_linear_lays_its_result_out_row_by_row(
    sizes: list[int], outputs: int, order: Any, dtype: torch.dtype, has: dict[str, bool]
) -> None:
    dims = order.sample(range(len(sizes)), len(sizes))
    x = torch.ones(sizes, dtype=dtype).permute(dims)
    last = x.shape[-1]
    weight = torch.ones(last, outputs, dtype=dtype).t() if has["turned"] else None
    weight = torch.ones(outputs, last, dtype=dtype) if weight is None else weight
    bias = torch.ones(outputs, dtype=dtype) if has["bias"] else None
    with (
        torch.backends.mkldnn.flags(enabled=has["library"]),
        torch.set_grad_enabled(has["grad"]),
    ):
        result = torch.nn.functional.linear(x, weight.requires_grad_(has["grad"]), bias)

    assert result.stride() == torch.empty(result.shape).stride()
    assert result.storage_offset() == 0


def test_a_result_of_linear_that_is_turned_in_place_is_asked() -> None:
    def program(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        y = torch.nn.functional.linear(x, weight)
        y.t_()
        return y.unsqueeze(0).transpose(1, 2) * 1.0

    speculative = speculate(program)
    with torch.no_grad():
        for seed in range(3):
            x = torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))
            weight = torch.ones(5, 4)
            assert looks(speculative(x, weight)) == looks(program(x, weight))
    assert ".stride() ==" in speculative.code()


def test_what_a_late_view_looks_at_is_kept_until_then() -> None:
    """The first view is made with the last one, after what else reads the same tensor."""

    def program(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = x.view(3, 2)
        doubled = x * 2
        return doubled, rows.view(6) + 1

    speculative = speculate(program)
    with torch.no_grad():
        for seed in range(3):
            x = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed))
            for found, expected in zip(speculative(x * 1), program(x), strict=True):
                assert looks(found) == looks(expected)


def test_so_is_a_value_of_the_run_itself() -> None:
    def program(x: torch.Tensor) -> torch.Tensor:
        x = x * 2
        rows = x.view(3, 2)
        x.sum()
        return rows.view(6) + 1

    speculative = speculate(program)
    with torch.no_grad():
        for seed in range(3):
            x = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed))
            assert looks(speculative(x)) == looks(program(x))
    assert speculative.stats.hits == 2
