"""Programs and checks that every backend must pass: the contract of `backends.protocol`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A function with a way to make fresh inputs for it.

    Attributes:
        make: builds the function from a seed; state that it holds is new.
        inputs: fresh inputs from a seed.
    """

    name: str
    make: Callable[[], Callable[..., Any]]
    inputs: Callable[[int], tuple[Any, ...]]


def _randn(*shape: int) -> Callable[[int], tuple[Tensor, ...]]:
    def inputs(seed: int) -> tuple[Tensor, ...]:
        return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)),)

    return inputs


class Branches(nn.Module):
    """Wide, with a shared tensor that every branch reads."""

    def __init__(self, width: int = 5) -> None:
        super().__init__()
        self.branches = nn.ModuleList(nn.Linear(16, 16) for _ in range(width))

    def forward(self, x: Tensor) -> Tensor:
        shared = x.tanh()
        return torch.cat([branch(shared).relu() for branch in self.branches], dim=-1)


class Inception(nn.Module):
    """A small convolutional block of the usual shape."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.left = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.right = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Dropout())
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = torch.cat([self.left(x), self.right(x)], 1)
        pooled: Tensor = self.head(x.mean((2, 3)))
        return pooled


def _views_of_inputs() -> Callable[[Tensor], dict[str, Any]]:
    def fn(x: Tensor) -> dict[str, Any]:
        y = x + 1
        return {"x": x, "row": x[1], "y": y, "y_t": y.t(), "n": 3, "none": None}

    return fn


def _in_place_on_input() -> Callable[[Tensor], Tensor]:
    def fn(x: Tensor) -> Tensor:
        x[0].mul_(2)
        x[1].add_(x[0])
        return x.sum()

    return fn


def _buffer_written() -> nn.Module:
    class Counter(nn.Module):
        steps: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("steps", torch.zeros(()))

        def forward(self, x: Tensor) -> Tensor:
            self.steps.add_(1)
            return x * self.steps

    return Counter()


def _random() -> Callable[[Tensor], tuple[Tensor, ...]]:
    def fn(x: Tensor) -> tuple[Tensor, ...]:
        return F.dropout(x, 0.4), torch.rand_like(x), torch.randperm(7), x.bernoulli(0.5)

    return fn


def _seeded(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        torch.manual_seed(11)
        return make()

    return build


def _lstm() -> nn.Module:
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell = nn.LSTMCell(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            h = c = x.new_zeros(x.shape[1], 8)
            for step in x:
                h, c = self.cell(step, (h, c))
            return h

    return Last().eval()


def _sliced_weight() -> nn.Module:
    class Sliced(nn.Module):
        """A product with part of a parameter: its kernel depends on `requires_grad`."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(48, 16))

        def forward(self, x: Tensor) -> Tensor:
            query, _ = self.weight.split([16, 32])
            return F.linear(x.transpose(0, 1), query, torch.ones(16))

    return Sliced()


CASES = (
    Case(name="sliced weight", make=_seeded(_sliced_weight), inputs=_randn(6, 8, 16)),
    Case(
        name="decoder",
        make=_seeded(
            lambda: nn.TransformerDecoder(
                nn.TransformerDecoderLayer(16, 2, batch_first=True), 1
            ).eval()
        ),
        inputs=lambda seed: (*_randn(2, 5, 16)(seed), *_randn(2, 3, 16)(seed + 100)),
    ),
    Case(name="branches", make=_seeded(lambda: Branches().eval()), inputs=_randn(2, 16)),
    Case(name="conv eval", make=_seeded(lambda: Inception().eval()), inputs=_randn(2, 3, 9, 9)),
    Case(name="conv train", make=_seeded(lambda: Inception().train()), inputs=_randn(2, 3, 9, 9)),
    Case(
        name="attention",
        make=_seeded(lambda: nn.TransformerEncoderLayer(16, 2, batch_first=True).eval()),
        inputs=_randn(2, 5, 16),
    ),
    Case(
        name="attention train",
        make=_seeded(lambda: nn.TransformerEncoderLayer(16, 2, batch_first=True).train()),
        inputs=_randn(2, 5, 16),
    ),
    Case(name="lstm", make=_seeded(_lstm), inputs=_randn(6, 2, 8)),
    Case(name="views of inputs", make=_views_of_inputs, inputs=_randn(3, 4)),
    Case(name="in place on input", make=_in_place_on_input, inputs=_randn(2, 4)),
    Case(name="buffer written", make=_buffer_written, inputs=_randn(3)),
    Case(name="random", make=_random, inputs=_randn(32)),
    Case(name="nothing", make=lambda: lambda x: x, inputs=_randn(2)),
)


def assert_same(found: Any, right: Any) -> None:
    """Equal in structure and, for tensors, in every bit and in layout."""
    if isinstance(right, Tensor):
        assert isinstance(found, Tensor)
        assert found.dtype == right.dtype
        assert found.stride() == right.stride()
        assert found.shape == right.shape
        # Bits, not values: -0.0 is not 0.0, and NaN equals itself.
        bits = [t.detach().reshape(-1).contiguous().view(torch.uint8) for t in (found, right)]
        assert torch.equal(*bits), f"largest difference {(found - right).abs().max()}"
    elif isinstance(right, dict):
        assert list(found) == list(right)
        for key in right:
            assert_same(found[key], right[key])
    elif isinstance(right, tuple | list):
        assert len(found) == len(right)
        for a, b in zip(found, right, strict=True):
            assert_same(a, b)
    else:
        assert found == right


def state_of(fn: object) -> dict[str, Tensor]:
    """Parameters and buffers, copied."""
    if not isinstance(fn, nn.Module):
        return {}
    return {name: value.clone() for name, value in fn.state_dict().items()}
