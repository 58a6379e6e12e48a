"""A replay that skips autograd's dispatch key shows nothing of it, see Note [Below autograd]."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.autograd import forward_ad

import janus_lite
from janus_lite.runtime import emit


@pytest.fixture(autouse=True)
def for_every_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit, "WITHOUT_AUTOGRAD_FROM", 0)


speculate: Any = janus_lite.speculate


def skips_autograd(speculative: Any) -> bool:
    return "without_autograd" in speculative.code()


def gradient(parameter: torch.Tensor) -> torch.Tensor:
    assert parameter.grad is not None
    return parameter.grad


def looks(tensor: torch.Tensor) -> tuple[Any, ...]:
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


def fresh(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = torch.nn.functional.linear(x, weight)
    y.view(-1)[0] = 7.0
    y[1].mul_(2.0)
    first, second = y.split(1)
    return first + second, torch.relu(y), y.T.contiguous(), y.detach().clone(), x


def views(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return torch.relu(x @ weight).T, x[:, :1]


def writes(x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, ...]:
    y = torch.nn.functional.linear(x, weight)
    return y.mul_(2.0), y + 1.0


def writes_outside(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    x.add_(1.0)
    return x @ weight


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("inside", [False, True], ids=["normal inputs", "inputs of the mode"])
@pytest.mark.parametrize("function", [fresh, views, writes, writes_outside])
def test_results_look_like_those_of_eager(function: Any, mode: Any, inside: bool) -> None:
    weight = torch.nn.Parameter(torch.randn(3, 3))
    speculative = speculate(function)

    def results(function: Any) -> list[Any]:
        torch.manual_seed(3)
        x = torch.randn(2, 3)
        with mode():
            if inside:
                x = x.clone()
            output = function(x, weight)
            tensors = output if isinstance(output, tuple) else (output,)
            return [looks(t) for t in (*tensors, x)]

    expected = results(function)
    assert results(speculative) == expected
    assert results(speculative) == expected
    assert speculative.stats.hits == 1
    assert function is not fresh or skips_autograd(speculative)


def test_gradients_outside_are_as_if_it_were_not_there() -> None:
    weight = torch.nn.Parameter(torch.randn(3, 3))
    speculative = speculate(lambda x: torch.relu(x @ weight))
    x = torch.randn(2, 3)
    with torch.no_grad():
        for _ in range(3):
            feature = speculative(x)
    assert speculative.stats.hits == 2

    (feature @ weight).sum().backward()

    assert torch.equal(gradient(weight), feature.sum(0, keepdim=True).T.expand(3, 3))


@pytest.mark.filterwarnings("ignore:`torch.jit.script`")  # torch's own, on the first dual tensor
def test_tangents_of_forward_mode_are_carried_along() -> None:
    def function(x: torch.Tensor) -> torch.Tensor:
        return torch.sin(x) * 2.0

    speculative = speculate(function)
    x, tangent = torch.randn(4), torch.randn(4)
    with torch.no_grad():
        for _ in range(3):
            speculative(x)
        assert skips_autograd(speculative)
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x, tangent)
            found, expected = (forward_ad.unpack_dual(f(dual)) for f in (speculative, function))

    assert torch.equal(found.primal, expected.primal)
    assert expected.tangent is not None
    assert torch.equal(found.tangent, expected.tangent)


def slope_of_square(x: torch.Tensor) -> torch.Tensor:
    """Runs Python of its own, with gradients on inside."""
    with torch.enable_grad():
        copy = x.detach().requires_grad_()
        return torch.autograd.grad((copy * copy).sum(), copy)[0]


library = torch.library.Library("janus_lite_tests", "FRAGMENT")
library.define("slope_of_square(Tensor x) -> Tensor")
library.impl("slope_of_square", slope_of_square, "CompositeImplicitAutograd")


def test_an_operation_in_python_stays_above() -> None:
    speculative = speculate(lambda x: torch.ops.janus_lite_tests.slope_of_square(x) + 1.0)
    x = torch.randn(3)
    with torch.no_grad():
        results = [speculative(x) for _ in range(3)]

    assert all(torch.equal(result, x * 2 + 1) for result in results)
    assert speculative.stats.hits == 2


def test_with_gradients_on_it_is_not_used() -> None:
    weight = torch.nn.Parameter(torch.randn(3, 3))
    speculative = speculate(lambda x: torch.relu(x @ weight))
    for _ in range(3):
        result = speculative(torch.randn(2, 3))

    assert not skips_autograd(speculative)
    assert result.grad_fn is not None


def test_an_error_in_the_middle_leaves_the_layer_on() -> None:
    weight = torch.nn.Parameter(torch.randn(3, 3))

    def function(index: torch.Tensor) -> torch.Tensor:
        return torch.relu(weight[index])

    speculative = speculate(function)
    with torch.no_grad():
        for _ in range(3):
            speculative(torch.tensor([0, 1]))
        assert skips_autograd(speculative)
        with pytest.raises(IndexError):
            speculative(torch.tensor([0, 9]))

    (weight * 2).sum().backward()
    assert torch.equal(gradient(weight), torch.full((3, 3), 2.0))
