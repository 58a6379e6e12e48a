"""What torch itself makes of a linear layer, asked once for each form of its operands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from math import prod
from typing import Any

import torch

from janus_lite.torch_internals import TorchDispatchMode, without_modes

Sizes = tuple[int, ...]
_DEVICES = ("cpu", "cuda")


class _Calls(TorchDispatchMode):
    """Notes which kernels run, and how their operands lie in memory; not what only looks."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch says nothing
        self.found: list[tuple[object, ...]] = []

    def __torch_dispatch__(
        self,
        func: Any,
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if not func.is_view and func is not torch.ops.aten._unsafe_view.default:
            self.found.append((func, *map(_form, args), *_named_forms(kwargs or {})))
        return result


def _form(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.stride(), value.storage_offset(), value.dtype
    return value


def _named_forms(kwargs: Mapping[str, object]) -> list[tuple[str, object]]:
    return [(name, _form(value)) for name, value in kwargs.items()]


@lru_cache(maxsize=1024)
def is_product_of_rows(
    sizes: Sizes,
    weight_sizes: Sizes,
    weight_strides: Sizes,
    dtype: torch.dtype,
    device: torch.device,
    *,
    has_bias: bool,
) -> bool:
    """Whether `linear` is one `addmm` (or `mm`) of `x`'s rows and the transposed weight.

    Both are run: they must call the same kernels with the same operands, and give the same bits in
    a tensor that is as much of a view: older releases hide that a result without a bias is one.

    Args:
        sizes: of `x`, which lies row by row.
        weight_sizes: of the weight.
        weight_strides: of the weight.
        dtype: of all operands.
        device: of all operands.
        has_bias: whether there is a bias, of one dim.
    """
    if device.type not in _DEVICES or not dtype.is_floating_point or len(weight_sizes) != 2:
        return False
    x = _filled(sizes, dtype, device)
    weight = torch.empty_strided(weight_sizes, weight_strides, dtype=dtype, device=device)
    weight.copy_(_filled(weight_sizes, dtype, device))
    bias = _filled(weight_sizes[:1], dtype, device) if has_bias else None

    def by_rows() -> torch.Tensor:
        rows = x if len(sizes) == 2 else x.view(prod(sizes[:-1]), sizes[-1])
        made = torch.mm(rows, weight.t()) if bias is None else torch.addmm(bias, rows, weight.t())
        return made if len(sizes) == 2 else made.view(*sizes[:-1], weight_sizes[0])

    def by_torch() -> torch.Tensor:
        return torch.nn.functional.linear(x, weight, bias)

    with torch.no_grad(), without_modes():
        is_alike = _facts(by_torch) == _facts(by_rows)
        return is_alike and torch.equal(by_torch(), by_rows())


def _filled(sizes: Sizes, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Values of both signs, without drawing random numbers."""
    count = torch.arange(prod(sizes), dtype=torch.float32, device=device)
    return count.sin().view(sizes).to(dtype)


def _facts(function: Callable[[], torch.Tensor]) -> list[object]:
    """Which kernels a function calls, and what its result is like but for the numbers."""
    with _Calls() as calls:
        function()
    result = function()
    return [*calls.found, tuple(result.shape), result.stride(), result._is_view()]
