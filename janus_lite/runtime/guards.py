"""Assumptions -> flat Python checks.

The checks become straight lines of one generated function: load each source once, compare, leave at
the first difference. `first_difference` runs the same checks one by one to name what missed.
"""

from __future__ import annotations

import math
import operator
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import CellType, MappingProxyType
from typing import Any

import torch

from janus_lite.program.assumptions import describe
from janus_lite.program.generalize import Program
from janus_lite.record.source import (
    Argument,
    CellContents,
    Element,
    Entry,
    Field,
    InstanceDict,
    Keyword,
    Pinned,
    Referent,
    Source,
)
from janus_lite.record.trace import Read, ReadKind, TensorMeta
from janus_lite.runtime.fingerprint import FingerprintBuilder, layout

# What reading a place that is gone may raise: a miss, not an error.
LOOKUP_ERRORS = (KeyError, IndexError, AttributeError, TypeError, ValueError)
ABSENT: Any = type("Absent", (), {"__repr__": lambda _: "ABSENT"})()
_SINGLETONS = (type(None), bool, type(Ellipsis), type(NotImplemented), torch.dtype, torch.layout)


class Names:
    """Names of a generated function: constants by identity, locals by source."""

    def __init__(self) -> None:
        self.namespace: dict[str, object] = {
            "ABSENT": ABSENT,
            "get_dict": object.__getattribute__,
            "dict_get": dict.get,
            "copysign": math.copysign,
            "is_empty": is_empty,
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
            case Element():
                return f"{self.load(source.owner)}[{source.index}]"
            case InstanceDict():
                return f"get_dict({self.load(source.owner)}, '__dict__')"
            case CellContents():
                return f"{self.load(source.owner)}.cell_contents"
            case Field():
                return f"{self.load(source.owner)}.{source.name}"
            case Referent():
                return f"{self.load(source.owner)}()"
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
    """

    def __init__(self, names: Names, lines: list[str], leave: str = "return MISS") -> None:
        self._names = names
        self._lines = lines
        self._leave = leave
        self.loader = Loader(names, lines)

    def emit(self, read: Read) -> None:
        """Append the check of one read."""
        condition = self.condition(read)
        self._lines.append(f"if not ({condition}): {self._leave}")

    def condition(self, read: Read) -> str:
        """Return the expression that is true when the read still holds."""
        load, literal, name = self.loader.load, self.loader.literal, self._names.constant
        expected = read.expected
        match read.kind:
            case ReadKind.IS:
                assert isinstance(expected, Pinned)
                return f"{load(read.source)} is {load(expected)}"
            case ReadKind.EQUALS:
                return self._equals(load(read.source), expected)
            case ReadKind.TYPE:
                return f"type({load(read.source)}) is {name(expected)}"
            case ReadKind.ABSENT if isinstance(read.source, Pinned) and read.key == "cell_contents":
                return f"is_empty({load(read.source)})"
            case ReadKind.ABSENT:
                return f"{literal(read.key)} not in {load(read.source)}"
            case ReadKind.LENGTH:
                return f"len({load(read.source)}) == {expected}"
            case ReadKind.KEYS:
                return f"tuple({load(read.source)}) == {name(expected)}"
            case ReadKind.MEMBERS:
                assert isinstance(expected, frozenset)
                typed = name(frozenset((type(v), v) for v in expected))
                return f"{{(type(v), v) for v in {load(read.source)}}} == {typed}"
            case ReadKind.SAME:
                assert isinstance(read.key, Source)
                return f"({load(read.source)} is {load(read.key)}) is {expected}"
            case ReadKind.INSTANCE_DICT:
                return f"get_dict({load(read.source)}, '__dict__') is {name(expected)}"
            case ReadKind.MRO:
                return f"{load(read.source)}.__mro__ is {name(expected)}"
            case ReadKind.FUNCTION:
                return self._function(load(read.source), expected)
            case ReadKind.RECALL:
                return self._recall(read)

    def _equals(self, value: str, expected: object) -> str:
        kind = type(expected)
        name = self._names.constant(kind)
        if kind in _SINGLETONS:
            return f"{value} is {self.loader.literal(expected)}"
        if isinstance(expected, float):
            if math.isnan(expected):
                return f"type({value}) is {name} and {value} != {value}"
            sign = f" and copysign(1.0, {value}) == {math.copysign(1.0, expected)}"
            constant = self._names.constant(expected)
            return f"type({value}) is {name} and {value} == {constant}" + (sign if expected == 0 else "")
        if isinstance(expected, complex):
            return f"type({value}) is {name} and repr({value}) == {expected!r}".replace(
                repr(expected), repr(repr(expected))
            )
        return f"type({value}) is {name} and {value} == {self.loader.literal(expected)}"

    def _function(self, function: str, expected: object) -> str:
        assert isinstance(expected, tuple)
        code, defaults, keyword_defaults = map(self._names.constant, expected)
        return (
            f"{function}.__code__ is {code} and {function}.__defaults__ is {defaults}"
            f" and {function}.__kwdefaults__ is {keyword_defaults}"
        )

    def _recall(self, read: Read) -> str:
        assert isinstance(read.key, tuple)
        arguments = ", ".join(map(self._names.constant, read.key))
        called = f"{self.loader.load(read.source)}({arguments})"
        if isinstance(read.expected, int | float | str | bytes | torch.device):
            return f"{called} == {self.loader.literal(read.expected)}"
        return f"{called} is {self._names.constant(read.expected)}"


class HeapCheck:
    """The full check of heap facts, and the words of memory under which it last held.

    Args:
        reads: facts that the fingerprint covers.
        sources: sources of the tensors whose loads it covers.
        read_words: reads the fingerprint.

    Attributes:
        held: one pair (words, tensors); replaced as a whole, so that threads see both or neither.
    """

    # One line costs 35 us to compile and 1 us to interpret: most programs are never checked twice.
    _INTERPRETED = 2

    def __init__(
        self,
        reads: Sequence[Read],
        sources: Sequence[Source],
        read_words: Callable[[], bytes],
    ) -> None:
        self._reads = reads
        self._sources = sources
        self._read_words = read_words
        self._compiled: Callable[[], tuple[object, ...] | None] | None = None
        self._calls = 0
        self.held: list[tuple[bytes, tuple[object, ...]]] = [(b"", ())]

    def refresh(self) -> tuple[object, ...] | None:
        """Check every fact; return the heap tensors, `None` when a fact no longer holds."""
        words = self._read_words()  # before the check: a change meanwhile is seen next time
        self._calls += 1
        if self._compiled is None and self._calls > self._INTERPRETED:
            self._compiled = self._compile()
        try:
            tensors = self._interpret() if self._compiled is None else self._compiled()
        except LOOKUP_ERRORS:
            return None
        if tensors is not None:
            self.held[0] = (words, tensors)
        return tensors

    def _interpret(self) -> tuple[object, ...] | None:
        if not all(map(holds_now, self._reads)):
            return None
        return tuple(map(value_at, self._sources))

    def _compile(self) -> Callable[[], tuple[object, ...] | None]:
        names, lines = Names(), list[str]()
        emitter = GuardEmitter(names, lines, "return None")
        for read in self._reads:
            emitter.emit(read)
        loads = [emitter.loader.load(source) for source in self._sources]
        lines.append(f"return ({', '.join(loads)}{',' if loads else ''})")
        body = "\n    ".join(lines)
        exec(f"def refresh():\n    {body}", names.namespace)  # noqa: S102  # our own text
        return names.namespace["refresh"]  # type: ignore[return-value]


def value_at(source: Source) -> object:
    """Read what stands at a source below pinned objects; `ABSENT` when the place is gone."""
    match source:
        case Pinned():
            return source.value
        case Entry():
            table: Any = value_at(source.owner)
            get = dict.get if isinstance(table, dict) else type(table).get
            return get(table, source.key, ABSENT)
        case Element():
            return value_at(source.owner)[source.index]  # type: ignore[index]
        case InstanceDict():
            return object.__getattribute__(value_at(source.owner), "__dict__")
        case CellContents():
            return value_at(source.owner).cell_contents  # type: ignore[attr-defined]
        case Field():
            return getattr(value_at(source.owner), source.name)
        case Referent():
            return value_at(source.owner)()  # type: ignore[operator]
    raise TypeError(f"no rule to read a {type(source).__name__}")


def holds_now(read: Read) -> bool:
    """Check one fact below pinned objects without compiling anything."""
    value: Any = value_at(read.source)
    expected: Any = read.expected
    match read.kind:
        case ReadKind.IS:
            return value is expected.value
        case ReadKind.EQUALS:
            return is_equal(value, expected)
        case ReadKind.TYPE:
            return type(value) is expected
        case ReadKind.ABSENT if read.key == "cell_contents" and isinstance(value, CellType):
            return is_empty(value)
        case ReadKind.ABSENT:
            return read.key not in value
        case ReadKind.LENGTH:
            return len(value) == expected
        case ReadKind.KEYS:
            return tuple(value) == expected
        case ReadKind.MEMBERS:
            return {(type(v), v) for v in value} == {(type(v), v) for v in expected}
        case ReadKind.SAME:
            return (value is value_at(read.key)) is expected  # type: ignore[arg-type]
        case ReadKind.INSTANCE_DICT:
            return object.__getattribute__(value, "__dict__") is expected
        case ReadKind.MRO:
            return value.__mro__ is expected
        case ReadKind.FUNCTION:
            found = (value.__code__, value.__defaults__, value.__kwdefaults__)
            return all(map(operator.is_, found, expected))
        case ReadKind.RECALL:
            answer = value(*read.key)  # type: ignore[misc]
            if isinstance(expected, int | float | str | bytes | torch.device):
                return bool(answer == expected)
            return answer is expected


def is_equal(value: object, expected: object) -> bool:
    """Same type and same value; floats by their bits, NaN equal to NaN."""
    kind = type(expected)
    if kind in _SINGLETONS:
        return value is expected
    if type(value) is not kind:
        return False
    if kind in (float, complex):
        return repr(value) == repr(expected)
    return value == expected


def is_empty(cell: Any) -> bool:
    """Whether a closure cell holds nothing."""
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return True
    return False


def split_by_fingerprint(
    reads: Iterable[Read], sources: Iterable[Source], builder: FingerprintBuilder
) -> tuple[list[Read], set[int]]:
    """Find which heap facts the fingerprint covers.

    Args:
        reads: heap facts.
        sources: sources of heap tensors.
        builder: collects the words.

    Returns:
        The reads that it does not cover, and the ids of the sources whose loads it covers.
    """
    reads = list(reads)
    unseen: set[int] = set()  # instance dicts whose tags miss attribute writes, see [Fingerprint]
    if not layout().sees_instances:
        unseen = {id(r.expected) for r in reads if r.kind is ReadKind.INSTANCE_DICT}
    residual = [r for r in reads if not _covers(r, builder, unseen)]
    covered = {id(s) for s in sources if _covers_place(s, builder, unseen)}
    return residual, covered


def _covers(read: Read, builder: FingerprintBuilder, unseen: set[int]) -> bool:
    source = read.source
    match read.kind:
        case ReadKind.IS | ReadKind.EQUALS:
            return _covers_place(source, builder, unseen)
        case ReadKind.ABSENT | ReadKind.KEYS | ReadKind.LENGTH:
            return (
                isinstance(source, Pinned)
                and not source.is_weak
                and id(source.held) not in unseen
                and builder.table(source.held)
            )
        case ReadKind.SAME:
            assert isinstance(read.key, Source)
            return all([_covers_place(s, builder, unseen) for s in (source, read.key)])
    if not isinstance(source, Pinned) or source.is_weak:
        return False
    match read.kind:
        case ReadKind.TYPE:
            return builder.type(source.held)
        case ReadKind.INSTANCE_DICT:
            return builder.instance(source.held, read.expected)  # type: ignore[arg-type]
        case ReadKind.MRO:
            return builder.mro(source.held)  # type: ignore[arg-type]
        case ReadKind.FUNCTION:
            return builder.function(source.held)  # type: ignore[arg-type]
    return False


def _covers_place(source: Source, builder: FingerprintBuilder, unseen: set[int]) -> bool:
    if isinstance(source, Pinned):
        return True
    owner = getattr(source, "owner", None)
    if not isinstance(owner, Pinned) or owner.is_weak:
        return False
    if isinstance(source, Entry):
        return id(owner.held) not in unseen and builder.table(owner.held)
    if isinstance(source, CellContents):
        return builder.cell(owner.held)  # type: ignore[arg-type]
    return isinstance(source, Element) and isinstance(owner.held, tuple)


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


def first_difference(
    program: Program, args: tuple[object, ...], kwargs: dict[str, object]
) -> Difference:
    """Name the first assumption of `program` that a call breaks."""
    assumptions = program.assumptions
    if len(args) != assumptions.positional:
        return Difference(0, f"{len(args)} positional arguments, recorded with {assumptions.positional}")
    if tuple(kwargs) != assumptions.keywords:
        return Difference(0, f"keyword arguments {tuple(kwargs)}, recorded with {assumptions.keywords}")
    reads = (*assumptions.arguments, *assumptions.heap)
    for position, read in enumerate(reads):
        if not holds(read, args, kwargs):
            return Difference(position, describe(read), read)
    for item in program.inputs:
        found = _evaluate(item.source, args, kwargs)
        if not isinstance(found, torch.Tensor):
            text = f"{item.source} is a {type(found).__name__}, expected {item.meta}"
            return Difference(len(reads), text)
        if (meta := TensorMeta.of(found)) != item.meta:
            return Difference(len(reads), f"{item.source} is {meta}, recorded as {item.meta}")
    text = "torch's ambient state (grad mode, autocast, default dtype, modes) differs"
    return Difference(len(reads), text)


def _evaluate(source: Source, args: tuple[object, ...], kwargs: dict[str, object]) -> object:
    names, lines = Names(), list[str]()
    loaded = Loader(names, lines).load(source)
    return _run_check(names, [*lines, f"return {loaded}"], args, kwargs)


def _run_check(
    names: Names, lines: list[str], args: tuple[object, ...], kwargs: dict[str, object]
) -> object:
    body = "\n    ".join(lines)
    exec(f"def check(args, kwargs):\n    {body}", names.namespace)  # noqa: S102  # our own text
    try:
        return names.namespace["check"](args, kwargs)  # type: ignore[operator]
    except LOOKUP_ERRORS:
        return None


def holds(read: Read, args: tuple[object, ...], kwargs: dict[str, object]) -> bool:
    """Check one assumption."""
    names, lines = Names(), list[str]()
    condition = GuardEmitter(names, lines).condition(read)
    return bool(_run_check(names, [*lines, f"return bool({condition})"], args, kwargs))
