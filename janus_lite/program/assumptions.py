"""Reads of a trace -> the assumptions under which its graph is the program.

Two tiers: facts about the call's own arguments, and facts about the heap that is reached from
pinned objects. The second tier can be skipped when nothing it depends on has changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from janus_lite.record.source import Pinned, Source
from janus_lite.record.trace import Read, ReadKind


@dataclass(frozen=True, slots=True, kw_only=True)
class AssumptionSet:
    """Facts to check before a replay, in the order in which the run relied on them.

    Attributes:
        positional: how many positional arguments the call has.
        keywords: names of the keyword arguments, in call order.
        arguments: facts that depend on this call's arguments.
        heap: facts that do not.
    """

    positional: int
    keywords: tuple[str, ...]
    arguments: tuple[Read, ...]
    heap: tuple[Read, ...]

    def __len__(self) -> int:
        return len(self.arguments) + len(self.heap)


def assume(reads: Iterable[Read], positional: int, keywords: tuple[str, ...]) -> AssumptionSet:
    """Split the reads of a trace into the two tiers."""
    arguments, heap = [], []
    for read in reads:
        (arguments if _depends_on_call(read) else heap).append(read)
    return AssumptionSet(
        positional=positional,
        keywords=keywords,
        arguments=tuple(arguments),
        heap=tuple(heap),
    )


def _depends_on_call(read: Read) -> bool:
    if read.kind is ReadKind.SAME:
        assert isinstance(read.key, Source)
        return not (read.source.is_pinned and read.key.is_pinned)
    return not read.source.is_pinned


def describe(read: Read) -> str:
    """One line for a person: what was assumed, and where the program relied on it."""
    where = f"  ({read.site})" if read.site else ""
    return f"{_claim(read)}{where}"


def _claim(read: Read) -> str:
    source, expected = read.source, read.expected
    match read.kind:
        case ReadKind.IS:
            assert isinstance(expected, Pinned)
            return f"{source} is the same {type(expected.value).__name__}"
        case ReadKind.EQUALS:
            return f"{source} == {_short(expected)}"
        case ReadKind.TYPE:
            return f"type({source}) is {getattr(expected, '__qualname__', expected)}"
        case ReadKind.ABSENT:
            return f"{read.key!r} not in {source}"
        case ReadKind.LENGTH:
            return f"len({source}) == {expected}"
        case ReadKind.KEYS:
            return f"keys of {source} are {_short(expected)}"
        case ReadKind.MEMBERS:
            return f"{source} == {_short(expected)}"
        case ReadKind.SAME:
            return f"{source} is {'' if expected else 'not '}{read.key}"
        case ReadKind.INSTANCE_DICT:
            return f"{source}.__dict__ was not replaced"
        case ReadKind.MRO:
            return f"bases of {source} are unchanged"
        case ReadKind.FUNCTION:
            return f"code and defaults of {source} are unchanged"
        case ReadKind.RECALL:
            arguments = ", ".join(map(_short, read.key))  # type: ignore[call-overload]
            return f"{source}({arguments}) gives {_short(expected)}"


def _short(value: object, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


