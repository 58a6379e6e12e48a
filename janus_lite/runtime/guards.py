"""Assumptions -> flat Python code: load each source once, compare, leave at a difference."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from types import CellType, MappingProxyType
from typing import Any, ClassVar

import torch

from janus_lite.record.iterators import peek, sequence_of
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
from janus_lite.record.trace import Read, ReadKind

# What reading a place that is gone, or computing with another number, may raise: a miss.
LOOKUP_ERRORS = (LookupError, AttributeError, TypeError, ValueError, ArithmeticError)
ABSENT: Any = type("Absent", (), {"__repr__": lambda _: "ABSENT"})()
# Text tells -0.0 from 0.0, NaN equals NaN, and ranges of equal numbers differ in their bounds.
TOLD_BY_TEXT = (float, complex, range)
COMPARED_ANSWERS = (int, float, complex, str, bytes, torch.device)
SINGLETONS = (type(None), bool, type(Ellipsis), type(NotImplemented), torch.dtype, torch.layout)


class Names:
    """Names of a generated function: constants by identity, locals by source."""

    def __init__(self) -> None:
        self.namespace: dict[str, Any] = {
            "ABSENT": ABSENT,
            "get_dict": object.__getattribute__,
            "dict_get": dict.get,
            "is_empty": is_empty,
            "typed": typed,
            "peek": peek,
            "sequence_of": sequence_of,
        }
        self._constants: dict[int, str] = {}

    def constant(self, value: object, prefix: str = "k") -> str:
        """The global name under which the generated code finds `value`."""
        found = self._constants.get(id(value))
        if found is None:
            found = f"{prefix}{len(self.namespace)}"
            self._constants[id(value)] = found
            self.namespace[found] = value
        return found


class Loader:
    """Emits the loads of sources, each at most once per function.

    Args:
        names: shared names of the module.
        lines: the function's body so far; loads are appended.
        prefix: of the local names.
    """

    def __init__(self, names: Names, lines: list[str], prefix: str = "s") -> None:
        self._names = names
        self._lines = lines
        self._prefix = prefix
        self._locals: dict[int, str] = {}
        self._keep: list[Source] = []

    def load(self, source: Source) -> str:
        """Return an expression for the source's value; `ABSENT` when it is gone."""
        if isinstance(source, Pinned) and not source.is_weak:
            return self._names.constant(source.held)
        found = self._locals.get(id(source))
        if found is None:
            expression = self._expression(source)  # loads its owner first
            found = f"{self._prefix}{len(self._locals)}"
            self._lines.append(f"{found} = {expression}")
            self._locals[id(source)] = found
            self._keep.append(source)
        return found

    def bind(self, source: Source, name: str) -> None:
        """From here on the value of `source` is found under `name`."""
        self._locals[id(source)] = name
        self._keep.append(source)

    def _expression(self, source: Source) -> str:
        match source:
            case Pinned():
                return f"{self._names.constant(source.held)}()"
            case Argument():
                return f"args[{source.index}]"
            case Keyword():
                return f"kwargs[{source.name!r}]"
            case Entry():
                return self._entry(source)
            case Computed():
                return self._computed(source)
            case Upcoming():
                return f"peek({self.load(source.owner)}, {source.ahead})"
            case Sequence():
                return f"sequence_of({self.load(source.owner)})"
            case Step():
                return f"{self._called(source)}{self._step(source)}"
        raise TypeError(f"no rule to load a {type(source).__name__}")

    def _computed(self, source: Computed) -> str:
        operands = [self._operand(o) for o in source.operands]
        if not source.is_operator:
            return f"{self._names.constant(source.function)}({', '.join(operands)})"
        if len(operands) == 1:
            return f"{source.symbol}{operands[0]}"
        return f"{operands[0]} {source.symbol} {operands[1]}"

    def _operand(self, operand: object) -> str:
        return self.load(operand) if isinstance(operand, Source) else f"({self.literal(operand)})"

    def _called(self, source: Step) -> str:
        owner = self.load(source.owner)
        return f"get_dict({owner}, '__dict__')" if isinstance(source, InstanceDict) else owner

    def _step(self, source: Step) -> str:
        """What follows the owner's name."""
        match source:
            case InstanceDict():
                return ""
            case Element():
                return f"[{source.index}]"
            case CellContents():
                return ".cell_contents"
            case Field():
                return f".{source.name}"
            case Size():
                return f".size({source.dim})"
            case Referent():
                return "()"
            case Answer():
                return f"({', '.join(map(self._names.constant, source.arguments))})"
        raise TypeError(f"no rule to load a {type(source).__name__}")

    def _entry(self, source: Entry) -> str:
        owner, key = self.load(source.owner), self.literal(source.key)
        held = source.owner.held if isinstance(source.owner, Pinned) else None
        if type(held) in (dict, OrderedDict, MappingProxyType):
            return f"{owner}.get({key}, ABSENT)"
        return f"dict_get({owner}, {key}, ABSENT)"

    def literal(self, value: object) -> str:
        """Source text of a constant."""
        if type(value) in (int, str, bool, type(None)):
            return repr(value)
        return self._names.constant(value)


class GuardEmitter:
    """Emits the checks of reads into a list of lines.

    Args:
        names: shared names of the module.
        lines: receives the code.
        leave: the statement that reports a miss.
        prefix: of the local names.
    """

    def __init__(
        self, names: Names, lines: list[str], leave: str = "return MISS", prefix: str = "s"
    ) -> None:
        self._names = names
        self._lines = lines
        self._leave = leave
        self.loader = Loader(names, lines, prefix)

    def emit(self, read: Read) -> None:
        """Append the check of one read."""
        condition = self.condition(read)
        self._lines.append(f"if not ({condition}): {self._leave}")

    def condition(self, read: Read) -> str:
        """Return the expression that is true when the read still holds."""
        return self._RULES[read.kind](self, read)

    def _is(self, read: Read) -> str:
        assert isinstance(read.expected, Pinned)
        value, expected = self.loader.load(read.source), self.loader.load(read.expected)
        # Both may be gone by now: a dead weak reference gives None.
        alive = f" and {expected} is not None" if read.expected.is_weak else ""
        return f"{value} is {expected}{alive}"

    def _equals_read(self, read: Read) -> str:
        return self._equals(self.loader.load(read.source), read.expected)

    def _type(self, read: Read) -> str:
        return f"type({self.loader.load(read.source)}) is {self._names.constant(read.expected)}"

    def _absent(self, read: Read) -> str:
        owner = self.loader.load(read.source)
        if is_cell(read.source):
            return f"is_empty({owner})"
        return f"{self.loader.literal(read.key)} not in {owner}"

    def _length(self, read: Read) -> str:
        return f"len({self.loader.load(read.source)}) == {read.expected}"

    def _keys(self, read: Read) -> str:
        assert isinstance(read.expected, tuple)
        owner = self.loader.load(read.source)
        if not has_numbers(read.expected):
            return f"tuple({owner}) == {self._names.constant(read.expected)}"
        typed_keys = self._names.constant(tuple(map(typed, read.expected)))
        return f"tuple(map(typed, {owner})) == {typed_keys}"

    def _members(self, read: Read) -> str:
        assert isinstance(read.expected, frozenset)
        owner = self.loader.load(read.source)
        if not has_numbers(read.expected):
            return f"{owner} == {self._names.constant(read.expected)}"
        members = self._names.constant(frozenset(map(typed, read.expected)))
        return f"frozenset(map(typed, {owner})) == {members}"

    def _same(self, read: Read) -> str:
        assert isinstance(read.key, Source)
        left, right = self.loader.load(read.source), self.loader.load(read.key)
        return f"({left} is {right}) is {read.expected}"

    def _distinct(self, read: Read) -> str:
        assert isinstance(read.key, tuple)
        values = ", ".join(f"id({self.loader.load(source)})" for source in read.key)
        return f"len({{{values}}}) == {len(read.key)}"

    def _instance_dict(self, read: Read) -> str:
        owner, table = self.loader.load(read.source), self._names.constant(read.expected)
        return f"get_dict({owner}, '__dict__') is {table}"

    def _mro(self, read: Read) -> str:
        return f"{self.loader.load(read.source)}.__mro__ is {self._names.constant(read.expected)}"

    def _equals(self, value: str, expected: object) -> str:
        kind = type(expected)
        name = self._names.constant(kind)
        if kind in SINGLETONS:
            return f"{value} is {self.loader.literal(expected)}"
        if isinstance(expected, TOLD_BY_TEXT):
            return f"type({value}) is {name} and repr({value}) == {repr(expected)!r}"
        return f"type({value}) is {name} and {value} == {self.loader.literal(expected)}"

    def _function(self, read: Read) -> str:
        assert isinstance(read.expected, tuple)
        function = self.loader.load(read.source)
        code, defaults, keyword_defaults = map(self._names.constant, read.expected)
        return (
            f"{function}.__code__ is {code} and {function}.__defaults__ is {defaults}"
            f" and {function}.__kwdefaults__ is {keyword_defaults}"
        )

    def _recall(self, read: Read) -> str:
        assert isinstance(read.key, tuple)
        arguments = ", ".join(map(self._names.constant, read.key))
        answer = f"answer{len(self._lines)}"
        self._lines.append(f"{answer} = {self.loader.load(read.source)}({arguments})")
        if type(read.expected) in COMPARED_ANSWERS:
            return self._equals(answer, read.expected)
        return f"{answer} is {self._names.constant(read.expected)}"

    _RULES: ClassVar[dict[ReadKind, Callable[[GuardEmitter, Read], str]]] = {
        ReadKind.IS: _is,
        ReadKind.EQUALS: _equals_read,
        ReadKind.TYPE: _type,
        ReadKind.ABSENT: _absent,
        ReadKind.LENGTH: _length,
        ReadKind.KEYS: _keys,
        ReadKind.MEMBERS: _members,
        ReadKind.SAME: _same,
        ReadKind.DISTINCT: _distinct,
        ReadKind.INSTANCE_DICT: _instance_dict,
        ReadKind.MRO: _mro,
        ReadKind.FUNCTION: _function,
        ReadKind.RECALL: _recall,
    }


def typed(value: object) -> tuple[type, object]:
    """A value with its class, so that 1, 1.0 and True differ, and -0.0 from 0.0."""
    if isinstance(value, TOLD_BY_TEXT):
        return type(value), repr(value)
    if type(value) is tuple:
        return tuple, tuple(map(typed, value))
    if type(value) is frozenset:
        return frozenset, frozenset(map(typed, value))
    return type(value), value


def has_numbers(values: Iterable[object]) -> bool:
    """Whether `==` may take one value for another: only numbers equal values of other classes."""
    kinds = (int, *TOLD_BY_TEXT, tuple, frozenset)  # these two may hold numbers
    return any(isinstance(value, kinds) for value in values)


def is_cell(source: Source) -> bool:
    """Whether a source is a pinned closure cell, whose content may be missing."""
    return isinstance(source, Pinned) and isinstance(source.held, CellType)


def is_empty(cell: Any) -> bool:
    """Whether a closure cell holds nothing."""
    try:
        cell.cell_contents  # noqa: B018  # reading an empty one raises
    except ValueError:
        return True
    return False
