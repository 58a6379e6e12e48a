"""Operations and their operands -> Python expressions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import torch

from janus_lite.record.source import Source
from janus_lite.record.torch_table import name_of
from janus_lite.record.trace import Operation, Ref, refs_in
from janus_lite.runtime.commit import is_literal
from janus_lite.runtime.guards import Names


class Expressions:
    """Writes expressions; value number 7 is the variable `v7`.

    Args:
        names: constants and functions that the text uses.
        numbers: by the `id` of its source the variable that holds a varying number.
    """

    def __init__(self, names: Names, numbers: Mapping[int, str]) -> None:
        self._names = names
        self._numbers = numbers
        self._functions: dict[int, str] = {}
        self._inlined: dict[int, str] = {}

    def call(self, operation: Operation) -> str:
        """What runs an operation."""
        target, args = operation.target, operation.args
        special = getattr(target, "__name__", "")
        if special == "__get__":
            return f"{self.value(args[0])}.{name_of(target)}"
        if special == "__getitem__" and len(args) == 2:
            return self._index(args[0], args[1])
        return f"{self.function(target)}({self.arguments(operation)})"

    def arguments(self, operation: Operation) -> str:
        """With which arguments an operation is called."""
        arguments = [self.value(a) for a in operation.args]
        arguments += [f"{k}={self.value(v)}" for k, v in operation.kwargs.items()]
        return ", ".join(arguments)

    def nested(self, operations: Iterable[Operation]) -> str:
        """Operations, each of what the one before it gives, as one expression."""
        text = ""
        for operation in operations:
            text = self.call(operation)
            self._inlined.update((r.index, text) for r in refs_in(operation.output))
        self._inlined.clear()
        return text

    def function(self, target: Callable[..., object]) -> str:
        """The name of a function."""
        found = self._functions.get(id(target))
        if found is None:
            base = name_of(target)
            base = base if base.isidentifier() else "operation"
            found = f"{base}_{len(self._functions)}"
            self._functions[id(target)] = found
            self._names.namespace[found] = target
        return found

    def value(self, value: object) -> str:
        """An operand."""
        if isinstance(value, Ref):
            return self._inlined.get(value.index) or f"v{value.index}"
        if isinstance(value, Source):
            return self._numbers[id(value)]
        if is_literal(value):
            return repr(value)
        if isinstance(value, slice):
            parts = ", ".join(map(self.value, (value.start, value.stop, value.step)))
            return f"slice({parts})"
        if isinstance(value, tuple) and type(value) is tuple:
            inner = ", ".join(map(self.value, value))
            return f"({inner}{',' if len(value) == 1 else ''})"
        if isinstance(value, list):
            return f"[{', '.join(map(self.value, value))}]"
        if isinstance(value, dict):
            inner = ", ".join(f"{self.value(k)}: {self.value(v)}" for k, v in value.items())
            return f"{{{inner}}}"
        return self._names.constant(value)

    def _index(self, owner: object, index: object) -> str:
        """`owner[index]`; one integer among full slices is what `select` does directly."""
        parts = index if type(index) is tuple else (index,)
        numbers = [dim for dim, part in enumerate(parts) if type(part) is int]
        if len(numbers) == 1 and all(p == slice(None) for p in parts if type(p) is not int):
            select = self.function(torch.Tensor.select)
            return f"{select}({self.value(owner)}, {numbers[0]}, {parts[numbers[0]]})"
        if refs_in(index) or not all(map(_is_fixed, parts)):
            return f"{self.value(owner)}[{self.value(index)}]"
        return f"{self.value(owner)}[{self._names.constant(index)}]"


def pattern(output: object) -> str:
    """What the result of an operation is assigned to."""
    if isinstance(output, Ref):
        return f"v{output.index}"
    if isinstance(output, tuple):
        return f"({', '.join(map(pattern, output))}{',' if len(output) == 1 else ''})"
    return "_"


def is_equal(call: str, expected: object) -> str:
    """Whether a host value is the recorded one."""
    if expected is None or isinstance(expected, bool):
        return f"({call}) is {expected}"
    if isinstance(expected, int):
        return f"({call}) == {expected}"
    # Text tells -0.0 from 0.0, 1 from 1.0, and NaN equals NaN.
    return f"repr({call}) == {repr(expected)!r}"


def _is_fixed(index: object) -> bool:
    """Whether part of an index is the same at each replay."""
    parts = (index.start, index.stop, index.step) if isinstance(index, slice) else (index,)
    return not any(isinstance(part, Source) for part in parts)
