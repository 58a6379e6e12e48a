"""Whether several ways arrive at a cut with the same at hand; see Note [State at a cut]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from janus_lite.program.alike import Unmergeable, key, shape
from janus_lite.record.outputs import Built, Constant, Loaded
from janus_lite.record.source import key_of
from janus_lite.record.trace import Ref, State

Path = tuple[object, ...]


def require_same_states(states: Sequence[State], looked: frozenset[int]) -> list[Path]:
    """All that Python code could tell apart is the same on every way.

    Returns:
        Paths to the lists that differ in length; nobody has looked at those.
    """
    first = states[0]
    grown: dict[Path, None] = {}
    for state in states[1:]:
        if state.modes != first.modes or state.changed != first.changed:
            raise Unmergeable("the ways differ in torch's modes, or in what they changed")
        if state.names.keys() != first.names.keys():
            raise Unmergeable("the ways differ in which names are bound")
        pairs = _PairedStates(first, state, looked)
        for name, plan in first.names.items():
            pairs.compare(plan, state.names[name], (name,))
        grown.update(dict.fromkeys(pairs.grown))
    return list(grown)


def are_alike(one: State, other: State, looked: frozenset[int]) -> bool:
    """Whether Python code could not tell two states apart."""
    try:
        require_same_states([one, other], looked)
    except Unmergeable:
        return False
    return True


class _PairedStates:
    """Compares what two ways have at hand at one cut."""

    def __init__(self, one: State, other: State, looked: frozenset[int]) -> None:
        self._one, self._other = one, other
        self._looked = looked
        self._twins: dict[int, int] = {}
        self._twins_back: dict[int, int] = {}
        self.grown: list[Path] = []

    def compare(self, one: Any, other: Any, path: Path) -> None:
        """Nothing about two plans tells the ways apart.

        Raises:
            Unmergeable: something does.
        """
        is_same = type(one) is type(other)
        if is_same and isinstance(one, Ref):
            is_same = self._kind(self._one, one) == self._kind(self._other, other)
        elif is_same and isinstance(one, Constant):
            is_same = key(one.value) == key(other.value)
        elif is_same and isinstance(one, Loaded):
            is_same = key_of(one.source) == key_of(other.source)
        elif is_same and isinstance(one, Built):
            is_same = self._compare_built(one, other, path)
        else:
            is_same = False
        if not is_same:
            raise Unmergeable(f"`{path[0]}` is of another kind on another way")

    def _compare_built(self, one: Built, other: Built, path: Path) -> bool:
        twins = self._twins.setdefault(id(one), id(other))
        back = self._twins_back.setdefault(id(other), id(one))
        if (twins, back) != (id(other), id(one)):
            return False
        if self._is_grown(one, other):
            self.grown.append(path)
            return True
        if shape(one) != shape(other):
            return False
        for index, (left, right) in enumerate(zip(one.items, other.items, strict=True)):
            self.compare(left, right, (*path, index))
        for left, right in zip(one.attributes, other.attributes, strict=True):
            self.compare(left[1], right[1], (*path, left[0]))
        return True

    def _is_grown(self, one: Built, other: Built) -> bool:
        """Whether both are lists of one kind of thing whose length nobody knows."""
        if one.cls is not list or other.cls is not list or len(one.items) == len(other.items):
            return False
        known = {self._one.identities[id(one)], self._other.identities[id(other)]} & self._looked
        kinds = {self._kind(self._one, item) for item in one.items}
        kinds |= {self._kind(self._other, item) for item in other.items}
        return not known and len(kinds) == 1 and None not in kinds

    @staticmethod
    def _kind(state: State, ref: Any) -> object:
        if not isinstance(ref, Ref):
            return None
        kind = state.tensors.get(ref)
        if kind is None:
            return state.numbers.get(ref)
        return kind.meta, kind.is_leaf


def paths_of(state: State, grown: Sequence[Path]) -> dict[int, list[Path]]:
    """The paths that lead to each value, but through lists of any length and unchanged names."""
    paths: dict[int, list[Path]] = {}
    for name, plan in state.names.items():
        if name in state.stable and not isinstance(plan, Built):
            continue
        for path, ref in walk(plan, (name,), set()):
            if any(path[: len(one)] == one for one in grown):
                continue
            paths.setdefault(ref.index, []).append(path)
    return paths


def walk(plan: object, path: Path, seen: set[int]) -> Iterator[tuple[Path, Ref]]:
    """The values in a plan, each with the path that leads to it; shared parts once."""
    if isinstance(plan, Ref):
        yield path, plan
    elif isinstance(plan, Built) and id(plan) not in seen:
        seen.add(id(plan))
        for index, item in enumerate(plan.items):
            yield from walk(item, (*path, index), seen)
        for name, item in plan.attributes:
            yield from walk(item, (*path, name), seen)


def follow(state: State, path: Path) -> object:
    """The plan that a path leads to."""
    name, *steps = path
    plan: Any = state.names[name]
    for step in steps:
        plan = plan.items[step] if isinstance(step, int) else dict(plan.attributes)[step]
    return plan
