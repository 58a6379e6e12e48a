"""Assumptions checked one by one, without generated code: to name what missed, for rare checks."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from janus_lite.program.assumptions import describe
from janus_lite.program.generalize import Program
from janus_lite.record.iterators import peek, sequence_of
from janus_lite.record.sizes import LEAST_VARYING
from janus_lite.record.source import (
    Answer,
    Argument,
    CellContents,
    Computed,
    Element,
    Entry,
    Field,
    InstanceDict,
    Keyword,
    Pinned,
    Referent,
    Sequence,
    Size,
    Source,
    Step,
    Upcoming,
)
from janus_lite.record.tape import is_free_of_hooks
from janus_lite.record.trace import Input, Read, ReadKind, TensorMeta
from janus_lite.runtime.guards import (
    ABSENT,
    COMPARED_ANSWERS,
    LOOKUP_ERRORS,
    SINGLETONS,
    TOLD_BY_TEXT,
    is_cell,
    is_empty,
    typed,
)


@dataclass(frozen=True, slots=True)
class Call:
    """The arguments of one call, from which argument sources are read."""

    args: tuple[object, ...] = ()
    kwargs: dict[str, object] | None = None


_NO_CALL = Call()


def value_at(source: Source, call: Call = _NO_CALL) -> object:
    """Read what stands at a source.

    Raises:
        LookupError, AttributeError, TypeError, ValueError, ArithmeticError: the place is gone, or
            a computation fails; a missing dict entry gives `ABSENT` instead.
    """
    if isinstance(source, Pinned):
        return source.value
    if isinstance(source, Argument):
        return call.args[source.index]
    if isinstance(source, Keyword):
        return (call.kwargs or {})[source.name]
    if isinstance(source, Computed):
        return source.function(*(_operand(o, call) for o in source.operands))
    assert isinstance(source, Step)
    owner: Any = value_at(source.owner, call)
    return _STEPS[type(source)](owner, source)


def _operand(operand: object, call: Call) -> object:
    return value_at(operand, call) if isinstance(operand, Source) else operand


def _entry(owner: Any, source: Any) -> object:
    get = dict.get if isinstance(owner, dict) else type(owner).get
    return get(owner, source.key, ABSENT)


def _size(owner: Any, source: Any) -> object:
    if not isinstance(owner, torch.Tensor):
        raise TypeError(f"{source.owner} is no tensor")
    return owner.shape[source.dim]


_STEPS: dict[type[Source], Callable[[Any, Any], object]] = {
    Entry: _entry,
    Element: lambda owner, source: owner[source.index],
    InstanceDict: lambda owner, _: object.__getattribute__(owner, "__dict__"),
    CellContents: lambda owner, _: owner.cell_contents,
    Field: lambda owner, source: getattr(owner, source.name),
    Referent: lambda owner, _: owner(),
    Upcoming: lambda owner, source: peek(owner, source.ahead),
    Sequence: lambda owner, _: sequence_of(owner),
    Answer: lambda owner, source: owner(*source.arguments),
    Size: _size,
}


def holds(read: Read, call: Call = _NO_CALL) -> bool:
    """Whether one assumption holds for a call."""
    if read.kind is ReadKind.SAME:
        assert isinstance(read.key, Source)
        return (value_at(read.source, call) is value_at(read.key, call)) is read.expected
    if read.kind is ReadKind.DISTINCT:
        assert isinstance(read.key, tuple)
        return len({id(value_at(source, call)) for source in read.key}) == len(read.key)
    return bool(_CHECKS[read.kind](value_at(read.source, call), read))


def _is_absent(value: Any, read: Read) -> bool:
    return is_empty(value) if is_cell(read.source) else read.key not in value


def _has_members(value: Any, read: Read) -> bool:
    expected: Any = read.expected
    return frozenset(map(typed, value)) == frozenset(map(typed, expected))


def _is_function(value: Any, read: Read) -> bool:
    expected: Any = read.expected
    found = (value.__code__, value.__defaults__, value.__kwdefaults__)
    return all(map(operator.is_, found, expected))


def _recalls(value: Any, read: Read) -> bool:
    arguments: Any = read.key
    answer = value(*arguments)
    if type(read.expected) in COMPARED_ANSWERS:
        return is_equal(answer, read.expected)
    return answer is read.expected


_CHECKS: dict[ReadKind, Callable[[Any, Any], object]] = {
    ReadKind.IS: lambda value, read: (
        value is read.expected.value and not (read.expected.is_weak and value is None)
    ),
    ReadKind.EQUALS: lambda value, read: is_equal(value, read.expected),
    ReadKind.TYPE: lambda value, read: type(value) is read.expected,
    ReadKind.ABSENT: _is_absent,
    ReadKind.LENGTH: lambda value, read: len(value) == read.expected,
    ReadKind.KEYS: lambda value, read: tuple(map(typed, value)) == tuple(map(typed, read.expected)),
    ReadKind.MEMBERS: _has_members,
    ReadKind.INSTANCE_DICT: lambda value, read: (
        object.__getattribute__(value, "__dict__") is read.expected
    ),
    ReadKind.MRO: lambda value, read: value.__mro__ is read.expected,
    ReadKind.FUNCTION: _is_function,
    ReadKind.RECALL: _recalls,
}


def is_equal(value: object, expected: object) -> bool:
    """Same type and same value; floats by their text: -0.0 is not 0.0, NaN equals NaN."""
    kind = type(expected)
    if kind in SINGLETONS:
        return value is expected
    if type(value) is not kind:
        return False
    if kind in TOLD_BY_TEXT:
        return repr(value) == repr(expected)
    return value == expected


@dataclass(frozen=True, slots=True)
class Difference:
    """The first assumption that a call breaks.

    Attributes:
        held: how many assumptions held before it.
        text: the broken one, for a person.
        read: the broken one, when it is a fact about the heap or the arguments.
    """

    held: int
    text: str
    read: Read | None = None


def first_difference(program: Program, call: Call) -> Difference:
    """Name the first assumption of `program` that a call breaks."""
    assumptions = program.assumptions
    keywords = tuple(call.kwargs or {})
    if len(call.args) != assumptions.positional:
        count = f"{len(call.args)} positional arguments, recorded with {assumptions.positional}"
        return Difference(0, count)
    if keywords != assumptions.keywords:
        return Difference(0, f"keywords {keywords}, recorded with {assumptions.keywords}")
    reads = (*assumptions.arguments, *assumptions.heap)
    for position, read in enumerate(reads):
        if not _still_holds(read, call):
            return Difference(position, describe(read), read)
    tensors = [_tensor_difference(item, call) for item in program.inputs]
    broken = [text for text in tensors if text is not None]
    held = len(reads) + len(tensors) - len(broken)
    if broken:
        return Difference(held, broken[0])
    for position, read in enumerate(assumptions.sizes):
        if not _still_holds(read, call):
            return Difference(held + position, describe(read), read)
    values = [_value_or_absent(item.source, call) for item in program.inputs]
    if program.trains and not is_free_of_hooks(v for v in values if isinstance(v, torch.Tensor)):
        return Difference(held, "a tensor that is trained has a hook or a history")
    text = "torch's ambient state (grad mode, autocast, default dtype, modes) differs"
    return Difference(held + len(assumptions.sizes), text)


def _tensor_difference(item: Input, call: Call) -> str | None:
    found = _value_or_absent(item.source, call)
    if not isinstance(found, torch.Tensor):
        return f"{item.source} is a {type(found).__name__}, recorded as {item.meta}"
    return item.difference(TensorMeta.of(found))


def broken_numbers(program: Program, call: Call) -> list[Source]:
    """All places where a call has another number than the one that was recorded."""
    reads = program.assumptions.reads
    numbers = [r for r in reads if r.kind is ReadKind.EQUALS and type(r.expected) in (int, float)]
    return [read.source for read in numbers if not _still_holds(read, call)]


def broken_sizes(program: Program, call: Call) -> list[Size]:
    """All dims of another size than the recorded one, where the tensors differ in nothing else."""
    broken: list[Size] = []
    for item in program.inputs:
        found = _value_or_absent(item.source, call)
        if isinstance(found, torch.Tensor):
            dims = item.differing_dims(meta := TensorMeta.of(found)) or ()
            broken += [Size(item.source, d) for d in dims if meta.shape[d] >= LEAST_VARYING]
    return broken


def _still_holds(read: Read, call: Call) -> bool:
    try:
        return holds(read, call)
    except LOOKUP_ERRORS:
        return False


def _value_or_absent(source: Source, call: Call) -> object:
    try:
        return value_at(source, call)
    except LOOKUP_ERRORS:
        return ABSENT
