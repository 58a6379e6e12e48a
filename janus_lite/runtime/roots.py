"""Functions below a speculated one that have graphs of their own: its speculation roots.

A root is either entered by a replay (a function region, see Note [Function regions]) or called by
code that runs imperatively. Roots are found by function and, for methods of modules, by module.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from types import FunctionType
from typing import Any, Protocol

from janus_lite.record.subcalls import Callee
from janus_lite.runtime.cache import Conversion, ConversionCache
from janus_lite.runtime.emit import CALLED_OFF, MISS, Emitted, Leave

MOST_ROOTS = 64  # the one that was made first goes first
Arguments = tuple[Any, ...]
Keywords = dict[str, Any]


class Root(Protocol):
    """A speculated function, as its roots see it."""

    name: str
    cache: ConversionCache

    @property
    def is_of_use(self) -> bool:
        """Whether calling it may be quicker than calling the original."""

    @property
    def is_being_recorded(self) -> bool:
        """Whether some thread records a call of it."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call it."""


class Entry:
    """A root as others call it: with all positional arguments, or by an operation of kind `CALL`.

    Args:
        root: whose graphs are entered.
        skipped: leading arguments that the root does without: the module of its own.
    """

    def __init__(self, root: Root, skipped: int) -> None:
        self.__name__ = root.name
        self.root = root
        self._cache = root.cache
        self._skipped = skipped
        self._seen: tuple[Conversion, ...] = ()
        self._graphs: tuple[tuple[Callable[..., Any], Callable[[], int]], ...] = ()

    def run(self, args: Arguments, kwargs: Keywords) -> Any:
        """Call the root for real."""
        return self.root(*args[self._skipped :], **kwargs)

    def __call__(self, args: Arguments, kwargs: Keywords, token: object) -> Any:  # hot
        """Replay the first graph that fits; `CALLED_OFF` where none does, or one raises."""
        if self._skipped:
            args = args[self._skipped :]
        entries = self._cache.entries
        if entries is not self._seen:
            self._graphs = _graphs_of(entries)
            self._seen = entries  # last: another thread may be here too
        for enter, count_hit in self._graphs:
            result = enter(args, kwargs, token)
            if type(result) is not Leave:
                count_hit()
                return result
            if result.has_raised or result.is_called_off or result.is_late:
                result.is_doubted = result.is_late
                return CALLED_OFF
        return CALLED_OFF


def _graphs_of(
    entries: tuple[Conversion, ...],
) -> tuple[tuple[Callable[..., Any], Callable[[], int]], ...]:
    """How graphs are entered, and what counts their hits."""
    found = ((c.emitted.enter, c.count_hit) for c in entries)
    return tuple((enter, count_hit) for enter, count_hit in found if enter is not None)


class Roots:
    """The roots below one speculated function; also what its recordings know as regions.

    Args:
        top: that function.
        make: makes a root of a function.
    """

    def __init__(self, top: Root, make: Callable[[FunctionType], Root]) -> None:
        self._top = top
        self._make = make
        self._lock = threading.Lock()
        self._roots: dict[Callee, Entry] = {}
        self._own: dict[Callee, Entry] = {}
        self._regions: dict[Callee, Entry] = {}
        self._refused: set[Callee] = set()
        self._met: weakref.WeakSet[Any] = weakref.WeakSet()

    @property
    def children(self) -> tuple[Root, ...]:
        """The roots, in the order in which they were made."""
        return tuple(entry.root for entry in tuple(self._roots.values()))

    def all(self) -> tuple[Root, ...]:
        """The function at the top and its roots."""
        return (self._top, *self.children)

    def forget(self) -> None:
        """Drop all roots."""
        with self._lock:
            self._roots.clear()
            self._regions.clear()
            self._refused.clear()

    def entry(self, callee: Callee) -> Entry:
        """The root of a callee, made on first sight."""
        found = self._own.get(callee) or self._roots.get(callee)
        if found is not None:
            return found
        with self._lock:
            if callee not in self._roots:
                if len(self._roots) >= MOST_ROOTS:
                    self._drop(next(iter(self._roots)))
                self._roots[callee] = Entry(self._make(callee.function), 0)
            return self._roots[callee]

    def _drop(self, callee: Callee) -> None:
        del self._roots[callee]
        self._regions.pop(callee, None)

    def is_met_again(self, callee: Callee, args: Arguments) -> bool:
        """Whether module or local function outlived the call in which they were met first."""
        is_local = "<locals>" in callee.function.__qualname__
        if not (callee.module or is_local):
            return True
        met = args[0] if callee.module else callee.function
        is_known = met in self._met
        self._met.add(met)
        return is_known

    # ------------------------------------------------------- function regions

    def own(self, callee: Callee, root: Root, skipped: int) -> None:
        """Let a callee be answered by `root`, which was there before."""
        self._own[callee] = Entry(root, skipped)

    def find(self, callee: Callee) -> Entry | None:
        """The callee's region, `None` where its calls are inlined."""
        return self._regions.get(callee)

    def is_region(self, root: Root) -> bool:
        """Whether calls in graphs enter the graphs of `root`."""
        return any(region.root is root for region in tuple(self._regions.values()))

    def promote(self, callees: Iterable[Callee]) -> tuple[Root, ...]:
        """Let the calls of recursive functions stay calls; return the roots that answer them."""
        made = []
        for callee in callees:
            if callee in self._refused or callee in self._regions:
                continue
            entry = self._regions[callee] = self.entry(callee)
            made.append(entry.root)
        return tuple(made)

    def refuse(self, callee: Callee) -> None:
        """Inline a callee's calls from now on."""
        self._refused.add(callee)
        self._regions.pop(callee, None)

    def refuse_all(self) -> None:
        """Inline all calls from now on."""
        for callee in tuple(self._regions):
            self.refuse(callee)


class _Rerun(threading.local):
    depth = 0


_rerun = _Rerun()


@contextlib.contextmanager
def rerunning() -> Iterator[bool]:
    """Run a call that was called off: what is new in it is recorded, the rest is not retried.

    Yields:
        Whether this is the outermost such call.
    """
    _rerun.depth += 1
    try:
        yield _rerun.depth == 1
    finally:
        _rerun.depth -= 1


def outermost(emitted: Emitted, *, decides: bool) -> Callable[[Arguments, Keywords], Any]:
    """The `call` of a graph that enters regions: while a call is rerun, it is not retried.

    Args:
        emitted: the graph's generated function.
        decides: it decides on tensors: only a replay tells whether it is the one that fits, as
            where the answer of a region was another one before.
    """

    def call(args: Arguments, kwargs: Keywords) -> Any:
        if _rerun.depth and not (decides or any(leave.is_doubted for leave in emitted.leaves)):
            return MISS if emitted.check(args, kwargs) is MISS else CALLED_OFF
        return emitted.call(args, kwargs)

    return call
