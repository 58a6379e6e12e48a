"""Operations of a replay that overwrite what nobody reads any more."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import janus_lite
from janus_lite.program.in_place import _VARIANTS

Function = Callable[[Any, Any], Any]
# One for each function that has a variant: of a value of the run, and of an argument.
FUNCTIONS: dict[str, Function] = {
    name: lambda t, y, name=name: getattr(torch, name)(t)
    for name in "neg abs square sqrt rsqrt reciprocal exp log sin cos erf relu tanh sigmoid".split()
} | {
    "add": lambda t, y: torch.add(t, y, alpha=3),
    "sub": lambda t, y: torch.sub(t, y, alpha=2),
    "subtract": torch.subtract,
    "mul": torch.mul,
    "multiply": torch.multiply,
    "div": torch.div,
    "divide": lambda t, y: torch.divide(t, y, rounding_mode="floor"),
    "true_divide": torch.true_divide,
    "pow": torch.pow,
    "__add__": lambda t, y: t + y,
    "__sub__": lambda t, y: t - y,
    "__mul__": lambda t, y: t * y,
    "__truediv__": lambda t, y: t / y,
    "gelu": lambda t, y: F.gelu(t, approximate="tanh"),
    "silu": lambda t, y: F.silu(t),
    "mish": lambda t, y: F.mish(t),
    "hardswish": lambda t, y: F.hardswish(t),
    "hardsigmoid": lambda t, y: F.hardsigmoid(t),
}
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
SPECIAL = [0.0, -0.0, torch.inf, -torch.inf, torch.nan, 1e-40, 3e38, -1.0, 0.5, 2.0]


def numbers(dtype: torch.dtype, sizes: tuple[int, ...], seed: int) -> torch.Tensor:
    """Numbers of many sizes, special ones among them."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.randn(sizes, generator=generator) * 3
    flat = found.view(-1)
    places = torch.randperm(flat.numel(), generator=generator)[: flat.numel() // 3]
    flat[places] = torch.tensor(SPECIAL).repeat(flat.numel())[: len(places)]
    return found.to(dtype)


def bits(tensor: torch.Tensor) -> list[Any]:
    """NaN by NaN."""
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return tensor.contiguous().view(kinds[tensor.element_size()]).tolist()


def overwrites(speculated: Any) -> list[str]:
    """Which variants a replay calls."""
    code = getattr(speculated, "forward", speculated).code()
    return re.findall(r"= \(?(\w+?)__\d+", code)


def calls(function: Callable[..., Any], *args: torch.Tensor) -> Any:
    """A speculated function that was called with the arguments until it replays."""
    speculated: Any = janus_lite.speculate(function)
    with torch.no_grad():
        for _ in range(3):
            speculated(*args)
    assert speculated.stats.hits
    return speculated


def test_each_variant_is_tried() -> None:
    assert FUNCTIONS.keys() == _VARIANTS.keys()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_a_variant_writes_the_bits_of_the_function(name: str, dtype: torch.dtype) -> None:
    function = FUNCTIONS[name]
    for sizes in ((), (1,), (7,), (3, 5), (2, 3, 33)):

        def program(x: torch.Tensor, y: torch.Tensor) -> Any:
            return function(x * 1, y).clone()

        x, y = (numbers(dtype, sizes, seed) for seed in (1, 2))
        speculated = calls(program, x, y)
        assert len(overwrites(speculated)) == 1
        with torch.no_grad():
            assert bits(speculated(x, y)) == bits(program(x, y))


X, Y = torch.rand(3, 4), torch.rand(3, 4)


def later(x: Any, y: Any) -> Any:
    t = x * y
    return (t + 1).clone(), t.sum()


def seen_otherwise(x: Any, y: Any) -> Any:
    t = x * y
    u = t[0]
    return (t + 1).clone(), u * 2


def turned(x: Any, y: Any) -> Any:
    t = x[:3, :3] * 1
    return (t + t.t()).clone()


def of_an_argument(x: Any, y: Any) -> Any:
    return (x + y).exp()


def of_another_type(x: Any, y: Any) -> Any:
    return (x * 1 + y.double()).clone()


def of_whole_numbers(x: Any, y: Any) -> Any:
    return ((x * 9).long() * 0.5).clone()


def of_other_sizes(x: Any, y: Any) -> Any:
    return ((x[0] * 1) + y).clone()


def that_leaves(x: Any, y: Any) -> Any:
    return x * 1 + y


def that_leaves_as_a_view(x: Any, y: Any) -> Any:
    return (x * 1 + y).view(-1)


def without_out(x: Any, y: Any) -> Any:
    t = x * 1
    return torch.add(t, y, out=None).clone()


def given_out(x: Any, y: Any) -> Any:
    t = x * 1
    return torch.add(t, y, out=torch.empty(3, 4)) + 1


def of_a_drawn_array(x: Any, y: Any) -> Any:
    array = np.random.rand(3, 4)  # what users write
    t = torch.as_tensor(array)
    return (t + y).clone(), array


def of_a_drawn_array_twice(x: Any, y: Any) -> Any:
    array = np.random.rand(3, 4)
    t = torch.from_numpy(array)
    return (t * 2.0).clone(), torch.from_numpy(array) * 1


KEPT = torch.ones(3, 4)


@torch.library.custom_op("janus_lite_tests::kept", mutates_args=())
def kept(x: torch.Tensor) -> torch.Tensor:
    return KEPT


def of_what_an_operator_keeps(x: Any, y: Any) -> Any:
    t = kept(x)
    return (t * y).clone()


def of_a_product(x: Any, y: Any) -> Any:
    """`einsum` gives a view where it need not compute."""
    t = x * 1
    u = torch.einsum("ij->ji", t)
    return (u * 2).clone(), t.sum(), t * 3


NOT_OVERWRITTEN = [
    of_a_drawn_array, of_a_drawn_array_twice,
    of_what_an_operator_keeps, of_a_product,
    later, seen_otherwise, turned, of_an_argument, of_another_type, of_whole_numbers,
    of_other_sizes, that_leaves, that_leaves_as_a_view, without_out, given_out,
]  # fmt: skip


@pytest.mark.parametrize("function", NOT_OVERWRITTEN, ids=lambda function: function.__name__)
def test_what_is_still_needed_is_not_overwritten(function: Function) -> None:
    speculated = calls(function, X, Y)
    assert overwrites(speculated) == []
    with torch.no_grad():
        np.random.seed(7)
        found = speculated(X, Y)
        np.random.seed(7)
        wanted = function(X, Y)
    for one, other in zip(*map(torch.utils._pytree.tree_leaves, (found, wanted)), strict=True):
        if isinstance(one, np.ndarray):
            assert np.array_equal(one, other)
            continue
        assert torch.equal(one, other)
        assert one.stride() == other.stride()
        assert one.is_inference() or one._version == other._version


def test_a_chain_of_operations_takes_memory_once() -> None:
    def program(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(torch.tanh((x + y) * 2) - y).clone()

    assert overwrites(calls(program, X, Y)) == ["mul", "tanh", "sub", "sigmoid"]


def test_how_a_kernel_laid_its_result_out_is_asked() -> None:
    weight = torch.randn(4, 3, 3, 3)

    def program(x: torch.Tensor) -> torch.Tensor:
        return torch.relu(F.conv2d(x, weight)).clone()

    x = torch.randn(2, 3, 8, 8)
    speculated = calls(program, x)
    assert overwrites(speculated) == ["relu"]
    assert re.search(
        r"relu__\d+ if v\d+\.stride\(\) == \(144, 36, 6, 1\) else relu_", speculated.code()
    )
    with torch.no_grad():
        assert torch.equal(speculated(x), program(x))


def test_with_gradients_nothing_is_overwritten_but_where_they_are_off() -> None:
    def program(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            scale = torch.exp(x + y) * 1
        return torch.sin(x * y) * scale

    speculated: Any = janus_lite.speculate(program)
    gradients = []
    for function in (program, speculated, speculated, speculated):
        x = X.clone().requires_grad_()
        function(x, Y).sum().backward()
        assert x.grad is not None
        gradients.append(x.grad.tolist())
    assert all(found == gradients[0] for found in gradients)
    assert speculated.stats.hits == 2
    assert overwrites(speculated) == ["exp"]
