"""The write-set: stores into outside objects and host calls, repeated once by each replay.

The recorded run does each of them for real. What is kept is where (a source), what (the object,
planned when the run is over) and in which order, also among the torch operations. A later read of
the same place inside the run sees the run's own value and is no fact about the outside any more; a
read of a whole container that the run has changed cannot be told apart from its state at entry and
stops the trace.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

from janus_lite.errors import Site
from janus_lite.record.source import Source


class StoreKind(Enum):
    """What a replay does to repeat a store."""

    ATTRIBUTE = auto()  # setattr(owner, key, value)
    ITEM = auto()  # owner[key] = value
    METHOD = auto()  # owner.key(*values), a container's method
    DELETE_ATTRIBUTE = auto()  # delattr(owner, key)
    DELETE_ITEM = auto()  # del owner[key]

    __hash__ = object.__hash__


@dataclass(frozen=True, slots=True, eq=False)
class Store:
    """One store into an outside object.

    Attributes:
        kind: how it is repeated.
        owner: where the object is found at entry.
        key: attribute name, item key or method name.
        values: what was stored: one object, or the arguments of the method.
        site: the user's line.
        position: how many torch operations ran before it.
        early: plans of the values as they were when they were stored.
    """

    kind: StoreKind
    owner: Source
    key: object
    values: tuple[object, ...]
    site: Site | None
    position: int
    early: tuple[object, ...]


@dataclass(frozen=True, slots=True, eq=False)
class HostCall:
    """A call whose effect leaves the program: text printed, a record logged, a warning issued.

    Attributes:
        function: what a replay calls.
        args: plans of its positional arguments, as they were at the call.
        kwargs: plans of its keyword arguments.
        name: as the user calls it.
        site: the user's line.
        position: how many torch operations ran before it.
        since: how many ran before the first of its arguments was made into text.
    """

    function: Callable[..., object]
    args: tuple[object, ...]
    kwargs: dict[str, object]
    name: str
    site: Site | None
    position: int
    since: int


Effect = Store | HostCall


class WriteLog:
    """Effects of one recorded run, in program order."""

    def __init__(self) -> None:
        self.effects: list[Effect] = []
        self._places: set[tuple[int, object]] = set()
        self._changed: set[int] = set()
        self._rewritten: set[int] = set()
        self._spoiled: set[tuple[int, object]] = set()
        self._keep: list[object] = []

    def release(self) -> None:
        """Let go of what was stored."""
        self.effects.clear()
        self._keep.clear()

    def add(self, effect: Effect) -> None:
        """Append an effect."""
        self.effects.append(effect)

    def written(self, container: object, key: object) -> None:
        """Remember that one place of a container now holds the run's own value."""
        self._places.add((id(container), key))
        self.changed(container)

    def changed(self, container: object) -> None:
        """Remember that a container is no longer as it was at entry."""
        self._changed.add(id(container))
        self._keep.append(container)

    def rewritten(self, container: object) -> None:
        """Remember that any place of a container may hold the run's own value."""
        self._rewritten.add(id(container))
        self.changed(container)

    def spoiled(self, container: object, key: object) -> None:
        """Remember that nobody knows what a replay will have at one place of a container."""
        self._spoiled.add((id(container), key))
        self.changed(container)

    def is_spoiled(self, container: object, key: object) -> bool:
        """Whether an action may have changed this place."""
        is_rewritten = id(container) in self._rewritten
        return is_rewritten or (bool(self._spoiled) and (id(container), key) in self._spoiled)

    def is_written(self, container: object, key: object) -> bool:
        """Whether the run itself has set this place."""
        return bool(self._changed) and (id(container), key) in self._places

    def is_rewritten(self, container: object) -> bool:
        """Whether no place of the container tells anything about the outside any more."""
        return id(container) in self._rewritten

    @property
    def containers(self) -> tuple[object, ...]:
        """The containers that the run has changed."""
        return tuple({id(container): container for container in self._keep}.values())

    @property
    def changes(self) -> frozenset[object]:
        """What of the outside is not as it was at entry."""
        return frozenset((*self._places, *self._changed, *self._rewritten))

    def is_changed(self, container: object) -> bool:
        """Whether the run has changed the container."""
        return id(container) in self._changed
