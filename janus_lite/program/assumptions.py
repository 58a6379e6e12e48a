"""Reads of a trace -> the assumptions under which its graph is the program.

Three tiers: facts about the call's own arguments, facts about the heap that is reached from pinned
objects, and facts about sizes that vary. The second tier can be skipped when nothing it depends on
has changed; the third is looked at when the tensors are known to be such tensors.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from janus_lite.record.source import Source, depends_on_sizes, key_of
from janus_lite.record.trace import Read, ReadKind


@dataclass(frozen=True, slots=True, kw_only=True)
class AssumptionSet:
    """Facts to check before a replay, in the order in which the run relied on them.

    Attributes:
        positional: how many positional arguments the call has.
        keywords: names of the keyword arguments, in call order.
        arguments: facts that depend on this call's arguments.
        heap: facts that do not.
        sizes: facts about the sizes of tensors that vary.
    """

    positional: int
    keywords: tuple[str, ...]
    arguments: tuple[Read, ...]
    heap: tuple[Read, ...]
    sizes: tuple[Read, ...]

    def __len__(self) -> int:
        return len(self.reads)

    @property
    def reads(self) -> tuple[Read, ...]:
        """All facts, in the order in which they are checked."""
        return (*self.arguments, *self.heap, *self.sizes)


def assume(reads: Iterable[Read], positional: int, keywords: tuple[str, ...]) -> AssumptionSet:
    """Split the reads of a trace into the three tiers."""
    arguments: list[Read] = []
    heap: list[Read] = []
    sizes: list[Read] = []
    for read in reads:
        if depends_on_sizes(read.source):
            sizes.append(read)
        else:
            (arguments if _depends_on_call(read) else heap).append(read)
    return AssumptionSet(
        positional=positional,
        keywords=keywords,
        arguments=tuple(arguments),
        heap=tuple(heap),
        sizes=tuple(sizes),
    )


def distinct(reads: Iterable[Read]) -> list[Read]:
    """The reads of several traces, each fact once."""
    found: dict[object, Read] = {}
    for read in reads:
        found.setdefault(
            (read.kind, key_of(read.source), _key(read.expected), _key(read.key)), read
        )
    return list(found.values())


def _key(value: object) -> object:
    if isinstance(value, Source):
        return key_of(value)
    if isinstance(value, tuple):
        return tuple(map(_key, value))
    is_plain = isinstance(value, int | float | str | bytes | None)
    return (type(value), repr(value)) if is_plain else id(value)


def _depends_on_call(read: Read) -> bool:
    if read.kind is ReadKind.SAME:
        assert isinstance(read.key, Source)
        return not (read.source.is_pinned and read.key.is_pinned)
    return not read.source.is_pinned


def varying_fields(reads: Iterable[Read]) -> set[str]:
    """Attributes that held different numbers in different objects, in one run over a structure."""
    values: defaultdict[str, set[object]] = defaultdict(set)
    for read in reads:
        is_number = read.kind is ReadKind.EQUALS and type(read.expected) in (int, float)
        if is_number and not read.source.is_pinned:
            values[str(read.source).rpartition(".")[2]].add(read.expected)
    return {field for field, seen in values.items() if len(seen) > 1}


def describe(read: Read) -> str:
    """One line for a person: what was assumed, and where the program relied on it."""
    where = f"  ({read.site})" if read.site else ""
    return f"{_claim(read)}{where}"


def _claim(read: Read) -> str:
    expected: Any = read.expected
    return _CLAIMS[read.kind](read, expected)


_CLAIMS: dict[ReadKind, Callable[[Any, Any], str]] = {
    ReadKind.IS: lambda r, e: f"{r.source} is the same {type(e.value).__name__}",
    ReadKind.EQUALS: lambda r, e: f"{r.source} == {_short(e)}",
    ReadKind.TYPE: lambda r, e: f"type({r.source}) is {e.__qualname__}",
    ReadKind.ABSENT: lambda r, _: f"{r.key!r} not in {r.source}",
    ReadKind.LENGTH: lambda r, e: f"len({r.source}) == {e}",
    ReadKind.KEYS: lambda r, e: f"keys of {r.source} are {_short(e)}",
    ReadKind.MEMBERS: lambda r, e: f"{r.source} == {_short(e)}",
    ReadKind.SAME: lambda r, e: f"{r.source} is {'' if e else 'not '}{r.key}",
    ReadKind.DISTINCT: lambda r, _: f"{', '.join(map(str, r.key))} are {len(r.key)} objects",
    ReadKind.INSTANCE_DICT: lambda r, _: f"{r.source}.__dict__ was not replaced",
    ReadKind.MRO: lambda r, _: f"bases of {r.source} are unchanged",
    ReadKind.FUNCTION: lambda r, _: f"code and defaults of {r.source} are unchanged",
    ReadKind.RECALL: lambda r, e: f"{r.source}({', '.join(map(_short, r.key))}) gives {_short(e)}",
}


def _short(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
