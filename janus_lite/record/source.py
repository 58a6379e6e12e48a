"""Sources: printable paths from which a replay can read an outside value again.

A source starts at an argument of the call or at a *pinned* object (one that the conversion holds by
identity: the module whose method is speculated on, a function's globals, a class). Each step names
how the next value is reached. A source knows how to print itself; `runtime.guards` turns it into
code.
"""

from __future__ import annotations

import gc
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Base of all sources; compared by identity, canonical within one trace."""

    @property
    def is_pinned(self) -> bool:
        """Whether the path starts at a pinned object rather than at an argument."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, eq=False)
class Argument(Source):
    """`args[index]` of the call."""

    index: int

    @property
    def is_pinned(self) -> bool:
        """Never: every call brings its own."""
        return False

    def __str__(self) -> str:
        return f"args[{self.index}]"


@dataclass(frozen=True, slots=True, eq=False)
class Keyword(Source):
    """`kwargs[name]` of the call."""

    name: str

    @property
    def is_pinned(self) -> bool:
        """Never: every call brings its own."""
        return False

    def __str__(self) -> str:
        return f"kwargs[{self.name!r}]"


@dataclass(frozen=True, slots=True, eq=False)
class Pinned(Source):
    """An object known by identity; `label` says how the user reaches it.

    Attributes:
        label: how the user reaches it.
        held: the object, or a weak reference to it.
        is_weak: whether `held` is weak. Modules that an argument, a global or a closure hands in
            are held weakly, so that a conversion does not keep a model alive.
    """

    held: Any
    label: str
    is_weak: bool = False

    @property
    def value(self) -> Any:
        """The object; `None` once a weakly held one is gone."""
        return self.held() if self.is_weak else self.held

    @property
    def is_pinned(self) -> bool:
        """Always."""
        return True

    def __str__(self) -> str:
        return self.label


@dataclass(frozen=True, slots=True, eq=False)
class Step(Source):
    """A source reached from another one."""

    owner: Source

    @property
    def is_pinned(self) -> bool:
        """Whether the owner's path is."""
        return self.owner.is_pinned


@dataclass(frozen=True, slots=True, eq=False)
class Entry(Step):
    """`owner[key]` of a dict."""

    key: object

    def __str__(self) -> str:
        owner = self.owner
        label = str(owner)
        if label.endswith(".__dict__") and isinstance(self.key, str):
            return f"{label.removesuffix('.__dict__')}.{self.key}"
        for table in ("._parameters", "._buffers", "._modules"):
            if label.endswith(table):
                return f"{label.removesuffix(table)}.{self.key}"
        return f"{label}[{self.key!r}]"


@dataclass(frozen=True, slots=True, eq=False)
class Element(Step):
    """`owner[index]` of a list, tuple or deque."""

    index: int

    def __str__(self) -> str:
        return f"{self.owner}[{self.index}]"


@dataclass(frozen=True, slots=True, eq=False)
class InstanceDict(Step):
    """`owner.__dict__`, read without running user code."""

    def __str__(self) -> str:
        return f"{self.owner}.__dict__"


@dataclass(frozen=True, slots=True, eq=False)
class CellContents(Step):
    """`owner.cell_contents` of a closure cell."""

    def __str__(self) -> str:
        return str(self.owner)


@dataclass(frozen=True, slots=True, eq=False)
class Field(Step):
    """`owner.name` of an attribute that C code keeps: a slot, a member of a built-in type."""

    name: str

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}"


@dataclass(frozen=True, slots=True, eq=False)
class Referent(Step):
    """`owner()` of a weak reference."""

    def __str__(self) -> str:
        return f"{self.owner}()"


@dataclass(frozen=True, slots=True, eq=False)
class Answer(Step):
    """`owner(*arguments)` of a function that remembers its results (`functools.lru_cache`)."""

    arguments: tuple[object, ...]

    def __str__(self) -> str:
        return f"{self.owner}(...)"


@dataclass(frozen=True, slots=True, eq=False)
class Size(Step):
    """`owner.shape[dim]` of an outside tensor, where that size varies.

    Attributes:
        dim: counted from the front.
    """

    dim: int

    def __str__(self) -> str:
        return f"{self.owner}.shape[{self.dim}]"


@dataclass(frozen=True, slots=True, eq=False)
class Upcoming(Step):
    """What the iterator `owner` will give after `ahead` others."""

    ahead: int

    def __str__(self) -> str:
        return f"next({self.owner}, {self.ahead} ahead)"


@dataclass(frozen=True, slots=True, eq=False)
class Sequence(Step):
    """The list or tuple that the iterator `owner` goes through."""

    def __str__(self) -> str:
        return f"the sequence of {self.owner}"


@dataclass(frozen=True, slots=True, eq=False)
class Made(Source):
    """A number that an operation of the graph gives: `loss.item()`, and what is computed of it.

    Attributes:
        index: of the graph value.
    """

    index: int

    @property
    def is_pinned(self) -> bool:
        """Never: every run makes its own."""
        return False

    def __str__(self) -> str:
        return f"v{self.index}"


@dataclass(frozen=True, slots=True, eq=False)
class Computed(Source):
    """A number that Python computed from varying numbers: `self.step + 1`, `round(lr, 3)`.

    Attributes:
        function: pure function of numbers.
        symbol: its operator, or its name.
        operands: sources and plain numbers.
    """

    function: Callable[..., Any]
    symbol: str
    operands: tuple[object, ...]

    @property
    def is_pinned(self) -> bool:
        """Whether every operand is."""
        return all(o.is_pinned for o in self.operands if isinstance(o, Source))

    @property
    def is_operator(self) -> bool:
        """Whether `symbol` is an operator rather than a name."""
        return not self.symbol[0].isalpha()

    def __str__(self) -> str:
        texts = [str(o) if isinstance(o, Source) else repr(o) for o in self.operands]
        if not self.is_operator:
            return f"{self.symbol}({', '.join(texts)})"
        if len(texts) == 1:
            return f"{self.symbol}{texts[0]}"
        return f"({texts[0]} {self.symbol} {texts[1]})"


def key_of(source: Source) -> object:
    """What is equal for two sources of different recordings that read the same place."""
    if isinstance(source, Pinned):
        value = source.value
        if isinstance(value, types.MappingProxyType):  # each `cls.__dict__` is a new one
            value = gc.get_referents(value)[0]
        return type(source), id(value)
    owner = (key_of(source.owner),) if isinstance(source, Step) else ()
    names: tuple[str, ...] = type(source).__slots__
    own = [getattr(source, name) for name in names]
    return type(source), *owner, *map(_operand_key, own)


def _operand_key(operand: object) -> object:
    if isinstance(operand, Source):
        return key_of(operand)
    if isinstance(operand, tuple):
        return tuple(map(_operand_key, operand))
    return (type(operand), repr(operand)) if type(operand) in _NUMBERS else operand


_NUMBERS = (int, float, bool)  # text tells 1 from 1.0 and -0.0 from 0.0


def depends_on_sizes(source: Source) -> bool:
    """Whether a source is the size of a tensor, or computed from one."""
    if isinstance(source, Computed):
        return any(depends_on_sizes(o) for o in source.operands if isinstance(o, Source))
    return isinstance(source, Size)
