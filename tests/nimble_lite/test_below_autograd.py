"""A serial replay below autograd's dispatch keys shows nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import TorchDispatchMode

import nimble_lite
from nimble_lite.backends import serial
from nimble_lite.backends.serial import SerialExecutable
from tests.nimble_lite.contract import assert_same


@pytest.fixture(autouse=True)
def for_every_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serial, "BELOW_AUTOGRAD_FROM", 0)


def scheduled(fn: Callable[..., Any], *inputs: Tensor) -> nimble_lite.ScheduledFunction:
    return nimble_lite.schedule(fn, inputs, backend="serial")


def is_below(function: nimble_lite.ScheduledFunction) -> bool:
    executable = function._entry.executable
    assert isinstance(executable, SerialExecutable)
    return executable.below is not None


def looks(tensor: Tensor) -> tuple[Any, ...]:
    """All that a view, a version counter or a gradient leaves to see."""
    return (
        tensor.tolist(),
        tensor.stride(),
        tensor.requires_grad,
        tensor.is_leaf,
        tensor.is_inference(),
        tensor._is_view(),
        None if tensor.is_inference() else tensor._version,
        None if tensor._base is None else tensor._base.tolist(),
    )


def fresh(x: Tensor) -> tuple[Tensor, ...]:
    y = x * 3.0
    y.view(-1)[0] = 7.0
    y[1].mul_(2.0)
    first, second = y.split(1)
    return first + second, torch.relu(y), y.T.contiguous(), y.detach().clone(), x


def views(x: Tensor) -> tuple[Tensor, ...]:
    return torch.relu(x).T, x[:, :1]


def views_made_inside(x: Tensor) -> Tensor:
    return torch.nn.functional.pixel_shuffle(x.reshape(1, 4, 1, 1) * 2, 2).squeeze(0)


def writes(x: Tensor) -> tuple[Tensor, ...]:
    y = x * 2.0
    return y.mul_(2.0), y + 1.0


def writes_outside(x: Tensor) -> Tensor:
    x.add_(1.0)
    return x * 3.0


@pytest.mark.parametrize("function", [fresh, views, views_made_inside, writes, writes_outside])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("recorded_in", [torch.no_grad, torch.inference_mode])
def test_results_look_like_those_of_eager(function: Any, mode: Any, recorded_in: Any) -> None:
    def example() -> Tensor:
        return torch.randn(2, 2, generator=torch.Generator().manual_seed(3))

    with recorded_in():
        replayed = scheduled(function, example())

    def results(call: Callable[..., Any]) -> list[Any]:
        with mode():
            x = example()
            output = call(x)
            return [looks(t) for t in (*(output if isinstance(output, tuple) else (output,)), x)]

    assert results(replayed) == results(function)
    assert is_below(replayed) == (function is fresh and recorded_in is torch.no_grad)


def test_a_buffer_that_counts_its_writes_goes_on_counting() -> None:
    layer = torch.nn.BatchNorm1d(3)
    replayed = scheduled(layer, torch.randn(4, 3))
    assert layer.num_batches_tracked is not None
    before = layer.num_batches_tracked._version

    replayed(torch.randn(4, 3))

    assert not is_below(replayed)
    assert layer.num_batches_tracked._version > before


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")  # torch's own, on the first dual tensor
def test_tangents_of_forward_mode_are_carried_along() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.sin(x) * 2.0

    x, tangent = torch.randn(4), torch.randn(4)
    replayed = scheduled(function, x)
    assert is_below(replayed)
    with torch.no_grad(), forward_ad.dual_level():
        dual = forward_ad.make_dual(x, tangent)
        found, right = (forward_ad.unpack_dual(f(dual)) for f in (replayed, function))

    assert_same(found.primal, right.primal)
    assert found.tangent is not None
    assert_same(found.tangent, right.tangent)


class Heard(TorchDispatchMode):
    """Notes the ATen operations that run inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self.names: list[str] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.names.append(str(func))
        return func(*args, **kwargs or {})


def test_a_dispatch_mode_hears_what_it_hears_in_eager() -> None:
    def function(x: Tensor) -> Tensor:
        return torch.nn.functional.linear(torch.relu(x), x, x[0])

    replayed = scheduled(function, torch.randn(3, 3))
    assert is_below(replayed)
    heard = []
    with torch.no_grad():
        for call in (replayed, function):
            with Heard() as mode:
                call(torch.randn(3, 3))
            heard.append(mode.names)

    assert heard[0] == heard[1]


library = torch.library.Library("nimble_lite_tests", "FRAGMENT")
library.define("doubled(Tensor x) -> Tensor")
library.impl("doubled", lambda x: x * 2, "CPU")


def test_an_operation_in_python_stays_above() -> None:
    replayed = scheduled(lambda x: torch.ops.nimble_lite_tests.doubled(x) + 1.0, torch.ones(3))
    x = torch.randn(3)

    assert_same(replayed(x), x * 2 + 1)
    assert not is_below(replayed)


def test_an_error_in_the_middle_leaves_the_layer_on() -> None:
    weight = torch.nn.Parameter(torch.randn(3, 3))
    replayed = scheduled(lambda index: torch.relu(weight[index]), torch.tensor([0, 1]))
    assert is_below(replayed)

    with pytest.raises(IndexError):
        replayed(torch.tensor([0, 9]))

    (weight * 2).sum().backward()
    assert_same(weight.grad, torch.full((3, 3), 2.0))


def test_autocast_stays_above() -> None:
    layer = torch.nn.Linear(3, 3)
    x = torch.randn(2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        replayed = scheduled(layer, x)
        with torch.no_grad():
            assert_same(replayed(x), layer(x))

    assert not is_below(replayed)
