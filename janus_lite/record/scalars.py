"""Numbers that vary from call to call, carried through the run together with where they came from.

Note [Varying numbers]
    A recording first takes every Python number for a constant. When that assumption breaks at a
    place (`self.step`, `args[1]`, `globals['lr']`) the next recording reads the place as a
    *symbolic* number: an `int` or `float` of a subclass that knows its source. Operators and pure
    functions of numbers give symbolic numbers again, whose source is the computation. Three kinds
    of reader exist:

    * a tensor operation that takes any number, a store and the return value use the source: a
      replay computes the number anew;
    * a comparison or a truth test gives a plain `bool` and an assumption about the computation;
    * anybody else gets the plain number, and the assumption that the source still equals it.

    A number that a tensor operation gives (`loss.item()`) is symbolic from the first recording on:
    its source is a value of the graph, computations with it are operations of the graph, and
    assumptions about it are in-graph assertions.

    So a reader that nobody thought of costs a recording, never a wrong number. The subclasses must
    not outlive the run: `settle` puts plain numbers in their place in everything that escaped.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import math
import operator
import sys
import types
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from janus_lite.record.kinds import is_a
from janus_lite.record.source import Computed, Made, Source


class SymbolicInt(int):
    """An `int` that knows where it came from."""

    source: Source
    plain: int  # the very object that it stands for
    fix: Callable[[Any], Any]  # see `Numbers.fix`

    def __hash__(self) -> int:
        if is_symbolic(self):  # a set or dict asks: the number decides what it holds
            self.fix(self)
        return int.__hash__(self)

    def __reduce__(self) -> tuple[type, tuple[int]]:
        return int, (int(self),)


class SymbolicFloat(float):
    """A `float` that knows where it came from."""

    source: Source
    plain: float  # the very object that it stands for: NaN is found by its identity
    fix: Callable[[Any], Any]  # see `Numbers.fix`

    def __hash__(self) -> int:
        if is_symbolic(self):
            self.fix(self)
        return float.__hash__(self)

    def __reduce__(self) -> tuple[type, tuple[float]]:
        return float, (float(self),)


Symbolic = SymbolicInt | SymbolicFloat
NUMBERS = (int, float)
MOST_NUMBERS = 64  # in a list of which each is a value of the graph
_OPERANDS = (int, float, bool)
_CLASSES: dict[type, type[SymbolicInt] | type[SymbolicFloat]] = {
    int: SymbolicInt,
    float: SymbolicFloat,
}
# With operators of numbers the operands' classes decide the result's; not so for what is not here.
_CLASS_PRESERVING = frozenset("+ - * / // % << >> | ^ & ~ int float abs".split())
_IDENTITIES: dict[type, Callable[..., Any]] = {int: operator.index, float: float}
# Neither here, unless all operands are of one class.
_CHOICES = frozenset({"min", "max"})
_REFERENCES = 3  # of a number nobody else holds: the list of all, the loop, the call that counts
# Pure functions of numbers that give a number or a truth value.
FUNCTIONS: dict[object, str] = {
    **{getattr(builtins, n): n for n in "int float bool abs round min max pow divmod".split()},
    **{f: f"math.{n}" for n, f in vars(math).items() if callable(f) and n != "fsum"},
}


def is_symbolic(value: object) -> bool:
    """Whether a value is a number that varies."""
    return type(value) is SymbolicInt or type(value) is SymbolicFloat


def is_made(value: Any) -> bool:
    """Whether a symbolic number is made by the graph rather than read at entry."""
    return isinstance(value.source, Made)


def is_number(value: object) -> bool:
    """Whether a value is a number, varying or not."""
    return type(value) in _OPERANDS or is_symbolic(value)


def plain(value: Any) -> Any:
    """The number without its source; anything else unchanged."""
    return value.plain if is_symbolic(value) else value


def rebuilt(value: Any, change: Callable[[Any], Any]) -> Any:
    """`value` with `change` applied to a symbolic number, also inside tuples and slices.

    What holds none comes back as the same object.
    """
    if is_symbolic(value):
        return change(value)
    if type(value) is slice:
        parts = (value.start, value.stop, value.step)
        return slice(*map(change, parts)) if any(map(is_symbolic, parts)) else value
    if is_a(value, tuple):
        changed = [rebuilt(part, change) for part in tuple.__iter__(value)]
        if all(map(operator.is_, changed, tuple.__iter__(value))):
            return value
        return _same_kind(value, changed)
    return value


def _preserves_class(symbol: str, operands: tuple[Any, ...]) -> bool:
    """Whether the operands' classes decide the result's."""
    if symbol in _CHOICES:
        return len({type(plain(operand)) for operand in operands}) == 1
    return symbol in _CLASS_PRESERVING or symbol.startswith("math.")


def _same_kind(value: tuple[Any, ...], elements: list[Any]) -> tuple[Any, ...]:
    """A tuple of the class of `value`, without its constructor's rules where that is possible."""
    kind = type(value)
    try:
        return tuple.__new__(kind, elements)
    except TypeError:  # a C class that insists on its constructor, such as torch.Size
        return kind(elements)


class Numbers:
    """The symbolic numbers of one run.

    Args:
        assume: notes the assumption that a source equals a plain value.
        assume_type: notes the assumption that a source gives a number of this class.
        operate: makes a computation an operation of the graph; `None` for its result makes it an
            assertion.
    """

    def __init__(
        self,
        assume: Callable[[Source, object], None],
        assume_type: Callable[[Source, type], None],
        operate: Callable[[Callable[..., Any], tuple[Any, ...], Any], Made | None],
    ) -> None:
        self._assume = assume
        self._assume_type = assume_type
        self._operate = operate
        self._all: list[Any] = []
        self._by_source: dict[int, Any] = {}
        self._computed: dict[tuple[object, ...], Computed] = {}
        self._used: dict[int, Source] = {}

    def __bool__(self) -> bool:
        return bool(self._all)

    def at(self, source: Source, value: float) -> Any:
        """The symbolic number that stands at an outside place."""
        found = self._by_source.get(id(source))
        if found is None:
            self._assume_type(source, type(value))
            found = self.given(source, value)
        return found

    def given(self, source: Source, value: float) -> Any:
        """Like `at`, where nothing but numbers of this class can stand."""
        number = self._by_source[id(source)] = self._new(source, value)
        return number

    def _new(self, source: Source, value: float) -> Any:
        number = _CLASSES[type(value)](value)
        number.source = source
        number.plain = value
        number.fix = self.fix
        self._all.append(number)
        return number

    def made(self, source: Made, value: float) -> Any:
        """The symbolic number that an operation of the graph gave."""
        return self._new(source, value)

    def classes(self) -> dict[int, type]:
        """Classes of the numbers that the graph makes, by the index of their value."""
        return {n.source.index: type(plain(n)) for n in self._all if is_made(n)}

    def carry(self, value: Any) -> Any:
        """The number as a value of the graph."""
        if is_symbolic(value) and is_made(value):
            return value
        kind = type(plain(value))
        source = self._operate(_IDENTITIES[kind], (value,), plain(value))
        assert source is not None
        return self._new(source, plain(value))

    def fix_made(self, value: Any) -> Any:
        """Like `fix` for a number that the graph makes; others as they are."""
        return self.fix(value) if is_symbolic(value) and is_made(value) else value

    def fix(self, value: Any) -> Any:
        """The plain number, from now on assumed to be the same at each replay."""
        if not is_symbolic(value):
            return value
        if is_made(value):
            self._operate(operator.pos, (value,), plain(value))
            return plain(value)
        self._assume(value.source, plain(value))
        return plain(value)

    def fixed(self, values: Any) -> Any:
        """`values` with every symbolic number in it fixed."""
        return rebuilt(values, self.fix) if self._all else values

    def compute(self, symbol: str, function: Callable[..., Any], *operands: Any) -> Any:
        """`function(*operands)` for numbers: a symbolic number, or a plain truth value."""
        try:
            result = function(*map(plain, operands))
        except Exception:
            for operand in operands:
                self.fix(operand)
            raise
        kind = type(result)
        if kind not in _OPERANDS:
            for operand in operands:
                self.fix(operand)
            return result
        if any(is_symbolic(o) and is_made(o) for o in operands):
            return self._compute_in_graph(symbol, function, operands, result)
        sources = tuple(o.source if is_symbolic(o) else o for o in operands)
        source = self._computation(function, symbol, sources)
        if kind is bool:
            self._assume(source, result)
            return result
        if not _preserves_class(symbol, operands):
            self._assume_type(source, kind)
        return self._new(source, result)

    def _compute_in_graph(
        self, symbol: str, function: Callable[..., Any], operands: tuple[Any, ...], result: Any
    ) -> Any:
        if type(result) is not bool and not _preserves_class(symbol, operands):
            for operand in operands:
                self.fix(operand)
            return result
        source = self._operate(function, operands, result)
        return result if source is None else self._new(source, result)

    def _computation(
        self, function: Callable[..., Any], symbol: str, operands: tuple[object, ...]
    ) -> Computed:
        """The canonical source of a computation."""
        key = (
            function,
            *(id(o) if isinstance(o, Source) else (type(o), repr(o)) for o in operands),
        )
        found = self._computed.get(key)
        if found is None:
            found = self._computed[key] = Computed(function, symbol, operands)
        return found

    def use(self, number: Any) -> Source:
        """The source of a number that a replay needs."""
        return self.need(number.source)

    def need(self, source: Source) -> Source:
        """Note that a replay needs what stands at `source`."""
        self._used[id(source)] = source
        return source

    @property
    def used(self) -> tuple[Source, ...]:
        """The sources that a replay needs, in order of first use."""
        return tuple(self._used.values())

    def settle(self, result: Any, changed: Iterable[object] = ()) -> Any:
        """Replace the numbers that escaped by plain ones; return the run's result without them.

        Args:
            result: what the run returned.
            changed: outside objects that the run wrote to; the others are searched only for what
                these do not hold, since that takes the longer the more objects there are.
        """
        if not self._all:
            return result
        result = rebuilt(result, plain)
        self._by_source.clear()
        plains = {id(n): plain(n) for n in self._all}
        for holder in changed:
            _try_to_replace_in(holder, plains)
        escaped = [n for n in self._all if sys.getrefcount(n) > _REFERENCES]
        if escaped:
            _replace(plains, escaped, ignore=[self._all, escaped])
        self._all.clear()
        return result


def _replace(plains: dict[int, Any], escaped: list[Any], ignore: list[Any]) -> None:
    """Put `plains[id(x)]` in the place of each `x` of `escaped`, wherever it is held."""
    holders = gc.get_referrers(*escaped)
    ignore = [*ignore, holders, ignore]
    tuples = []
    for holder in holders:
        if any(holder is one for one in ignore):
            continue
        if is_a(holder, tuple):
            tuples.append(holder)
        else:
            _try_to_replace_in(holder, plains)
    if tuples:
        changed = {id(t): _changed_tuple(t, plains) for t in tuples}
        _replace(changed, tuples, [*ignore, tuples])


def _try_to_replace_in(holder: Any, plains: dict[int, Any]) -> None:
    with contextlib.suppress(AttributeError, TypeError):  # what cannot be written keeps it
        _replace_in(holder, plains)


def _changed_tuple(value: tuple[Any, ...], plains: dict[int, Any]) -> tuple[Any, ...]:
    return _same_kind(value, [plains.get(id(v), v) for v in tuple.__iter__(value)])


def _replace_in(holder: Any, plains: dict[int, Any]) -> None:
    if is_a(holder, dict):
        _replace_in_dict(holder, plains)
    elif is_a(holder, list):
        _replace_in_sequence(list, holder, plains)
    elif is_a(holder, deque):
        _replace_in_sequence(deque, holder, plains)
    elif is_a(holder, set):
        found = [value for value in set.__iter__(holder) if id(value) in plains]
        set.difference_update(holder, found)
        set.update(holder, [plains[id(value)] for value in found])
    elif is_a(holder, types.CellType):
        holder.cell_contents = plains[id(holder.cell_contents)]
    elif is_a(holder, types.FunctionType) and id(holder.__defaults__) in plains:
        holder.__defaults__ = plains[id(holder.__defaults__)]
    elif not is_a(holder, types.FrameType):
        _replace_attributes(holder, plains)


def _replace_in_sequence(kind: Any, holder: Any, plains: dict[int, Any]) -> None:
    for index, value in enumerate(kind.__iter__(holder)):
        if id(value) in plains:
            kind.__setitem__(holder, index, plains[id(value)])


def _replace_in_dict(holder: dict[Any, Any], plains: dict[int, Any]) -> None:
    if any(id(key) in plains for key in dict.keys(holder)):
        items = list(dict.items(holder))
        dict.clear(holder)
        dict.update(holder, [(plains.get(id(k), k), v) for k, v in items])
    for key, value in list(dict.items(holder)):
        if id(value) in plains:
            dict.__setitem__(holder, key, plains[id(value)])


def _replace_attributes(holder: Any, plains: dict[int, Any]) -> None:
    with contextlib.suppress(AttributeError):
        table = object.__getattribute__(holder, "__dict__")  # past code of the user's
        if isinstance(table, dict):
            _replace_in_dict(table, plains)
    for cls in type(holder).__mro__:
        for raw in vars(cls).values():
            if isinstance(raw, types.MemberDescriptorType):
                with contextlib.suppress(AttributeError, TypeError):  # empty, or read-only
                    value = raw.__get__(holder, cls)
                    if id(value) in plains:
                        raw.__set__(holder, plains[id(value)])
