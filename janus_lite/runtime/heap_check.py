"""The heap facts of one program: the quick accept and the full check behind it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from janus_lite.record.source import CellContents, Computed, Element, Entry, Pinned, Source
from janus_lite.record.trace import Read, ReadKind
from janus_lite.runtime.checks import holds, value_at
from janus_lite.runtime.fingerprint import FingerprintBuilder, layout
from janus_lite.runtime.guards import LOOKUP_ERRORS, GuardEmitter, Names


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
        self._in_cells = [
            r.source
            for r in reads
            if r.kind is ReadKind.EQUALS and isinstance(r.source, CellContents)
        ]
        self._alive: tuple[object, ...] = ()
        self.held: list[tuple[bytes, tuple[object, ...]]] = [(b"", ())]

    def refresh(self) -> tuple[object, ...] | None:
        """Check every fact; return the heap tensors, `None` when a fact no longer holds."""
        words = self._read_words()  # before the check: a change meanwhile is seen next time
        self._calls += 1
        if self._compiled is None and self._calls > self._INTERPRETED:
            self._compiled = self._compile()
        try:
            # The word of a cell is an address: the number there must not be freed and replaced.
            alive = tuple(map(value_at, self._in_cells))
            tensors = self._interpret() if self._compiled is None else self._compiled()
        except LOOKUP_ERRORS:
            return None
        if tensors is not None and self._read_words() == words:
            self._alive = alive
            self.held[0] = (words, tensors)
        return tensors

    def _interpret(self) -> tuple[object, ...] | None:
        if not all(map(holds, self._reads)):
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
        refresh: Callable[[], tuple[object, ...] | None] = names.namespace["refresh"]
        return refresh


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
    is_number = read.kind is ReadKind.TYPE and read.expected in (int, float)
    if is_number or read.kind in (ReadKind.IS, ReadKind.EQUALS):
        return _covers_place(source, builder, unseen)  # nobody changes the class of a number
    match read.kind:
        case ReadKind.ABSENT | ReadKind.LENGTH:
            return _covers_table(source, builder, unseen)
        case ReadKind.KEYS:  # `move_to_end` of an OrderedDict leaves no mark
            is_ordered = isinstance(source, Pinned) and isinstance(source.held, OrderedDict)
            return not is_ordered and _covers_table(source, builder, unseen)
        case ReadKind.SAME:
            assert isinstance(read.key, Source)
            first = _covers_place(source, builder, unseen)
            return _covers_place(read.key, builder, unseen) and first
    if not isinstance(source, Pinned) or source.is_weak:
        return False
    held: Any = source.held
    expected: Any = read.expected
    match read.kind:
        case ReadKind.TYPE:
            return builder.class_of(held)
        case ReadKind.INSTANCE_DICT:
            return builder.instance(held, expected)
        case ReadKind.MRO:
            return builder.mro(held)
        case ReadKind.FUNCTION:
            return builder.function(held)
    return False


def _covers_table(source: Source, builder: FingerprintBuilder, unseen: set[int]) -> bool:
    return (
        isinstance(source, Pinned)
        and not source.is_weak
        and id(source.held) not in unseen
        and builder.table(source.held)
    )


def _covers_place(source: Source, builder: FingerprintBuilder, unseen: set[int]) -> bool:
    if isinstance(source, Pinned):
        return True
    if isinstance(source, Computed):
        operands = [o for o in source.operands if isinstance(o, Source)]
        covered = [_covers_place(operand, builder, unseen) for operand in operands]
        return all(covered)
    owner: Any = getattr(source, "owner", None)
    if not isinstance(owner, Pinned) or owner.is_weak:
        return False
    if isinstance(source, Entry):
        return id(owner.held) not in unseen and builder.table(owner.held)
    if isinstance(source, CellContents):
        return builder.cell(owner.held)
    return isinstance(source, Element) and isinstance(owner.held, tuple)
