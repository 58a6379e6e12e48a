"""Compare two results as a user would have to: everything in them, bit by bit.

Enters: two values of any shape (tensors, containers, dataclasses, model outputs, caches).
Leaves: a `Verdict` and, unless it is bitwise, the path of the first difference. Invariant:
`BITWISE` means same structure, types, dtypes, shapes, strides, devices and bits, so that NaN
equals the same NaN and -0.0 does not equal 0.0.

Example:
    >>> compare({"logits": a}, {"logits": b})
    Comparison(verdict=<Verdict.CLOSE: 'close'>, where="['logits']: ...")
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import Tensor

# The integer type as wide as each floating type: equal integers are equal bits.
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
# How far another rounding may move a value, as a share of the largest value of the tensor: room for
# a network's depth, none for a lost term. Types that are not here have no rounding.
_TOLERANCES = {
    torch.float64: 1e-9,
    torch.float32: 1e-4,
    torch.float16: 2e-2,
    torch.bfloat16: 5e-2,
    torch.complex64: 1e-4,
    torch.complex128: 1e-9,
}
_SCALARS = (bool, int, str, bytes, type(None), type, torch.dtype, torch.device, torch.Size)


class Verdict(Enum):
    """How close two results are; `value` is what tables print."""

    BITWISE = "bitwise"
    CLOSE = "close"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Comparison:
    """The verdict and the first place where the two differ, worst first; empty when bitwise."""

    verdict: Verdict
    where: str = ""


def compare(expected: Any, actual: Any) -> Comparison:
    """Return how `actual` differs from `expected`.

    `CLOSE` needs equal structure, dtypes and shapes, and no value off by more than a small share
    of the largest one: what another order of summation explains.
    """
    close = Comparison(Verdict.BITWISE)
    for difference in _differences(expected, actual, "", frozenset()):
        if difference.verdict is Verdict.WRONG:
            return difference
        if close.verdict is Verdict.BITWISE:
            close = difference
    return close


def worst(comparisons: list[Comparison]) -> Comparison:
    """Return the worst of several comparisons; bitwise when there is none."""
    order = (Verdict.WRONG, Verdict.CLOSE, Verdict.BITWISE)
    return min(
        comparisons,
        key=lambda item: order.index(item.verdict),
        default=Comparison(Verdict.BITWISE),
    )


def _differences(
    expected: Any, actual: Any, path: str, seen: frozenset[tuple[int, int]]
) -> Iterator[Comparison]:
    if type(expected) is not type(actual):
        yield _wrong(path, f"type {type(expected).__name__}", type(actual).__name__)
    elif isinstance(expected, Tensor):
        yield from _tensor_differences(expected, actual, path)
    elif isinstance(expected, float | complex):
        if repr(expected) != repr(actual):
            yield _wrong(path, repr(expected), repr(actual))
    elif isinstance(expected, _SCALARS):
        if expected != actual:
            yield _wrong(path, repr(expected), repr(actual))
    elif (id(expected), id(actual)) not in seen:
        yield from _part_differences(expected, actual, path, seen | {(id(expected), id(actual))})


def _part_differences(
    expected: Any, actual: Any, path: str, seen: frozenset[tuple[int, int]]
) -> Iterator[Comparison]:
    left, right = dict(_parts(expected)), dict(_parts(actual))
    if list(left) != list(right):
        yield _wrong(path, f"parts {list(left)}", str(list(right)))
        return
    for name, part in left.items():
        yield from _differences(part, right[name], path + name, seen)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the named parts of a container or of a plain object."""
    if isinstance(value, Mapping):
        yield from ((f"[{key!r}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))
    elif isinstance(value, set | frozenset):
        yield from ((f"{{{index}}}", part) for index, part in enumerate(sorted(value, key=repr)))
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield f".{field.name}", getattr(value, field.name)
    elif isinstance(value, types.FunctionType | types.MethodType | types.BuiltinFunctionType):
        yield ".__qualname__", value.__qualname__
    else:
        yield from ((f".{name}", part) for name, part in vars(value).items())


def _tensor_differences(expected: Tensor, actual: Tensor, path: str) -> Iterator[Comparison]:
    for name in ("dtype", "device", "layout", "shape", "requires_grad"):
        left, right = getattr(expected, name), getattr(actual, name)
        if left != right:
            yield _wrong(path, f"{name} {left}", str(right))
            return
    if expected.layout is not torch.strided:
        expected, actual = expected.to_dense(), actual.to_dense()
    if has_equal_bits(expected, actual):
        if expected.stride() != actual.stride():
            yield _wrong(path, f"stride {expected.stride()}", str(actual.stride()))
        return
    yield _value_difference(expected.detach(), actual.detach(), path)


def has_equal_bits(left: Tensor, right: Tensor) -> bool:
    """Return whether two tensors of equal dtype and shape hold the same bits."""
    return torch.equal(_as_integers(left.detach()), _as_integers(right.detach()))


def _as_integers(tensor: Tensor) -> Tensor:
    if tensor.is_quantized:
        return tensor.int_repr()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    if not tensor.is_floating_point():
        return tensor
    return tensor.contiguous().view(_BITS[tensor.element_size()])


def _value_difference(expected: Tensor, actual: Tensor, path: str) -> Comparison:
    left, right = _as_doubles(expected), _as_doubles(actual)
    finite = left.isfinite()
    is_close = torch.allclose(left[~finite], right[~finite], rtol=0, atol=0, equal_nan=True)
    size = float(left[finite].abs().max()) if finite.any() else 0.0
    error = float((left - right)[finite].abs().max()) if finite.any() else 0.0
    # Not `error > ...`: an error that is not a number is not close either.
    if not (is_close and error <= _TOLERANCES.get(expected.dtype, 0.0) * size):
        return _wrong(path, *_most_different(left, right))
    where = f"{path or 'result'}: largest difference {error:.2g} of {size:.2g}"
    return Comparison(Verdict.CLOSE, where)


def _as_doubles(tensor: Tensor) -> Tensor:
    return (torch.view_as_real(tensor) if tensor.is_complex() else tensor).double()


def _most_different(expected: Tensor, actual: Tensor) -> tuple[str, str]:
    gap = (expected - actual).abs().nan_to_num(math.inf).flatten()
    index = int(gap.argmax())
    return (
        f"{expected.flatten()[index].item():.9g} at flat index {index}",
        f"{actual.flatten()[index].item():.9g}",
    )


def _wrong(path: str, expected: str, found: str) -> Comparison:
    return Comparison(Verdict.WRONG, f"{path or 'result'}: expected {expected}, found {found}")
