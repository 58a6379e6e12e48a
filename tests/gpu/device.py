"""What every GPU test needs: the device, models on it, comparison of everything bit by bit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map_only

from benchmarks.architectures import BY_NAME, Call
from benchmarks.equality import Verdict, compare

DEVICE = torch.device("cuda")


def on_device(value: Any) -> Any:
    """`value` with every tensor on the device."""
    return tree_map_only(torch.Tensor, lambda tensor: tensor.to(DEVICE), value)


def twice(name: str) -> tuple[nn.Module, nn.Module, Callable[[int], Call]]:
    """Two equal models of the catalogue on the device, and the maker of their inputs."""
    architecture = BY_NAME[name]
    first, make_inputs = architecture.build()
    second, _ = architecture.build()

    def make(seed: int) -> Call:
        call = make_inputs(seed)
        return Call(on_device(call.args), on_device(call.kwargs))

    return first.to(DEVICE), second.to(DEVICE), make


def normal(seed: int, *shape: int) -> torch.Tensor:
    """`f32[*shape]`, the same on every machine."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator).to(DEVICE)


def assert_bitwise(found: Any, expected: Any) -> None:
    """Same structure, types, dtypes, devices, strides and bits."""
    comparison = compare(expected, found)
    assert comparison.verdict is Verdict.BITWISE, comparison.where
