"""Sizes that vary from call to call: what Python gets when it asks a tensor how large it is.

Note [Varying dims]
    A recording first takes every size of an outside tensor for a constant. When that assumption
    breaks at one dim of one tensor, the next recording reads this size as a number that varies, see
    Note [Varying numbers]: its source is the size, decisions on it are guards.

    What is computed from such a tensor has sizes of its own. Nothing is inferred about them: a
    tensor is *varying* when one of its operands is, or when a varying number decides its sizes, and
    every size that Python asks of it is a value of the graph. Decisions on those are in-graph
    assertions. So no rule of any operator is needed for a replay to be right, and a size of 64 that
    never varies costs a look at the tensor, or an assertion where Python decides on it.

    The rank of a tensor and its dtype do not depend on sizes and stay constants; where an operator
    drops dims of size 1 the rank is asserted. A reader that no hook sees fixes all sizes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import torch

from janus_lite.record.kinds import is_a
from janus_lite.record.scalars import Numbers
from janus_lite.record.source import Made, Size, Source
from janus_lite.record.trace import Ref, refs_in
from janus_lite.torch_internals import without_modes

# Sizes 0 and 1 broadcast, vanish and lie densely in ways that others do not: graphs of their own.
LEAST_VARYING = 2
Operate = Callable[..., Made | None]


class Sizes:
    """The tensors of one recorded run of which the sizes vary.

    Args:
        numbers: the numbers that vary.
        relaxed: places, as printed by their sources, where another size may stand.
        ref_of: the graph value of a tensor.
        operate: makes `function(*operands, **keywords)` an operation of the graph, see `Numbers`.
    """

    def __init__(
        self,
        numbers: Numbers,
        relaxed: frozenset[str],
        ref_of: Callable[[torch.Tensor], Ref | None],
        operate: Operate,
    ) -> None:
        self._numbers = numbers
        self._relaxed = frozenset(place for place in relaxed if ".shape[" in place)
        self._ref_of = ref_of
        self._operate = operate
        self._varying: set[Ref] = set()
        self._inputs: dict[Ref, dict[int, Any]] = {}
        self._answers: dict[str, Callable[..., Any]] = {
            "shape": self._shape,
            "size": self._size,
            "__len__": lambda tensor: self._at(tensor, 0),
            "numel": self._count,
            "nelement": self._count,
            "nbytes": self._bytes,
            "stride": self._stride,
            "is_contiguous": self._is_contiguous,
        }

    def open(self, ref: Ref, source: Source, tensor: torch.Tensor) -> tuple[int, ...]:
        """Register an outside tensor; return its dims that vary."""
        numbers: dict[int, Any] = {}
        if self._relaxed:
            for dim, size in enumerate(tensor.shape):
                place = Size(source, dim)
                if size >= LEAST_VARYING and str(place) in self._relaxed:
                    numbers[dim] = number = self._numbers.given(place, size)
                    self._numbers.compute(">=", operator.ge, number, LEAST_VARYING)
        if numbers:
            self._varying.add(ref)
            self._inputs[ref] = numbers
        return tuple(numbers)

    def add(self, refs: list[Ref]) -> None:
        """The sizes of what an operation gave vary."""
        self._varying.update(refs)
        for ref in refs:
            self._inputs.pop(ref, None)  # it was given a new form in place

    def are_varying(self, operands: object) -> bool:
        """Whether the sizes of some graph value among encoded operands vary."""
        return bool(self._varying) and not self._varying.isdisjoint(refs_in(operands))

    def release(self) -> None:
        """Let go of the numbers."""
        self._inputs.clear()

    @property
    def any_vary(self) -> bool:
        """Whether some tensor of the run has sizes that vary."""
        return bool(self._varying)

    # ---------------------------------------------------------------- readers

    def are_asked(self, name: str, value: Any) -> bool:
        """Whether a function of this name asks a varying tensor for its sizes."""
        return bool(self._varying) and name in self._answers and self._varies(value)

    def answer(self, name: str, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """What the program gets: numbers that vary, or a truth value and an assertion.

        Raises:
            TypeError: arguments for which there is no rule.
        """
        return self._answers[name](tensor, *args, **kwargs)

    def fix(self, *values: Any) -> None:
        """Take all sizes of the varying tensors among `values` for constants."""
        for tensor in values:
            if self._varying and self._varies(tensor):
                self._numbers.fixed(self._shape(tensor))

    def fix_dim(self, tensor: Any, dim: Any) -> None:
        """Take one size for a constant."""
        if self._varying and self._varies(tensor) and type(dim) is int:
            self._numbers.fix(self._at(tensor, dim))

    def _varies(self, value: Any) -> bool:
        return is_a(value, torch.Tensor) and self._ref_of(value) in self._varying

    # ---------------------------------------------------------------- answers

    def _at(self, tensor: torch.Tensor, dim: int) -> Any:
        with without_modes():
            size = tensor.shape[dim]  # raises what Python raises
            dim = dim if dim >= 0 else dim + tensor.dim()
        ref = self._ref_of(tensor)
        assert ref is not None
        if (given := self._inputs.get(ref)) is not None:
            return given.get(dim, size)
        return self._made(torch.Tensor.size, tensor, dim, size)

    def _made(
        self, function: Callable[..., Any], tensor: torch.Tensor, dim: int, result: int
    ) -> Any:
        made = self._operate(function, (tensor, dim), result)
        assert made is not None
        return self._numbers.made(made, result)

    def _shape(self, tensor: torch.Tensor) -> torch.Size:
        with without_modes():
            rank = tensor.dim()
        return torch.Size([self._at(tensor, dim) for dim in range(rank)])

    def _size(self, tensor: torch.Tensor, dim: Any = None) -> Any:
        return self._shape(tensor) if dim is None else self._at(tensor, _plain_dim(dim))

    def _stride(self, tensor: torch.Tensor, dim: Any = None) -> Any:
        with without_modes():
            strides = tensor.stride()
        if dim is None:
            return tuple(self._step(tensor, d, step) for d, step in enumerate(strides))
        return self._step(tensor, dim, strides[_plain_dim(dim)])

    def _step(self, tensor: torch.Tensor, dim: int, step: int) -> Any:
        return self._made(torch.Tensor.stride, tensor, dim, step)

    def _count(self, tensor: torch.Tensor) -> Any:
        count: Any = 1
        for size in self._shape(tensor):
            count = self._numbers.compute("*", operator.mul, count, size)
        return count

    def _bytes(self, tensor: torch.Tensor) -> Any:
        with without_modes():
            each = tensor.element_size()
        return self._numbers.compute("*", operator.mul, self._count(tensor), each)

    def _is_contiguous(self, tensor: torch.Tensor, **keywords: Any) -> bool:
        with without_modes():
            result = tensor.is_contiguous(**keywords)
        self._operate(torch.Tensor.is_contiguous, (tensor,), result, **keywords)
        return result


def _plain_dim(dim: Any) -> int:
    if type(dim) is not int:
        raise TypeError(f"expected a plain dim, found {dim!r}")
    return dim
