"""Conversions of one function: bounded, newest first, dropped when their model dies."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from janus_lite.program.generalize import Program
from janus_lite.record.source import Pinned
from janus_lite.runtime.emit import Emitted


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Conversion:
    """One cached program, ready to run.

    Attributes:
        program: what was recorded.
        emitted: the generated function.
        backend: the backend that runs the graph.
        record_seconds: the recorded call, which also did the user's work.
        convert_seconds: guards, emission, backend.
        has_trials: it stays only while it is quicker than the function.
    """

    program: Program
    emitted: Emitted
    backend: str
    record_seconds: float
    convert_seconds: float
    has_trials: bool = False
    _hits: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def count_hit(self) -> Callable[[], int]:
        """Counts one hit; atomic under the GIL."""
        return self._hits.__next__

    @property
    def hits(self) -> int:
        """How often it was replayed."""
        return int(repr(self._hits)[len("count(") : -1])  # the one view that does not advance it

    @property
    def has_varying_sizes(self) -> bool:
        """Whether it takes tensors of several sizes."""
        return any(item.varying for item in self.program.inputs)


class ConversionCache:
    """At most `max_graphs` conversions; readers take `entries`, an immutable tuple.

    Args:
        max_graphs: the oldest conversion goes when one more is added.
    """

    def __init__(self, max_graphs: int) -> None:
        self._max_graphs = max_graphs
        self._watches: dict[int, list[weakref.ref[object]]] = {}
        self.entries: tuple[Conversion, ...] = ()
        self.evicted = 0
        self.retired_hits = 0

    def add(self, conversion: Conversion) -> None:
        """Put a conversion in front."""
        kept = self.entries[: self._max_graphs - 1]
        for old in self.entries[self._max_graphs - 1 :]:
            self.evicted += 1
            self._retire(old)
        self.entries = (conversion, *kept)
        self._watch_owners(conversion)

    def remove(self, conversion: Conversion) -> None:
        """Drop one conversion."""
        self.keep(lambda other: other is not conversion)

    def keep(self, is_worth: Callable[[Conversion], bool]) -> None:
        """Drop the conversions that are not worth keeping."""
        kept = tuple(c for c in self.entries if is_worth(c))
        for conversion in self.entries:
            if conversion not in kept:
                self._retire(conversion)
        self.entries = kept

    def exchange(self, is_meant: Callable[[Conversion], bool], emitted: Emitted) -> None:
        """Run a conversion by another generated function from now on."""
        for old in self.entries:
            if is_meant(old):
                new = replace(old, emitted=emitted)  # counts on with the same counter
                self.entries = tuple(new if c is old else c for c in self.entries)
                self._watches.pop(id(old), None)
                self._watch_owners(new)

    def clear(self) -> None:
        """Drop everything."""
        self.keep(lambda _: False)

    @property
    def hits(self) -> int:
        """Hits of all conversions, evicted ones included."""
        return self.retired_hits + sum(c.hits for c in self.entries)

    def _retire(self, conversion: Conversion) -> None:
        self.retired_hits += conversion.hits
        self._watches.pop(id(conversion), None)

    def _watch_owners(self, conversion: Conversion) -> None:
        """A conversion dies with the models that it holds weakly."""
        cache = weakref.ref(self)
        key = id(conversion)

        def drop(_: object) -> None:
            owner = cache()
            if owner is not None:
                gone = [c for c in owner.entries if id(c) == key]
                owner.entries = tuple(c for c in owner.entries if id(c) != key)
                for one in gone:
                    owner._retire(one)

        reads = conversion.program.assumptions.reads
        sources = (place for r in reads for place in (r.source, r.expected))
        weak = {id(s): s for s in sources if isinstance(s, Pinned) and s.is_weak}
        owners = [source.value for source in weak.values()]
        self._watches[key] = [weakref.ref(owner, drop) for owner in owners if owner is not None]
