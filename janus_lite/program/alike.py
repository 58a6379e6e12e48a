"""When two runs do the same: comparisons that find what a replay could tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from janus_lite.record.heap import SCALARS
from janus_lite.record.outputs import Built
from janus_lite.record.source import Source, key_of
from janus_lite.record.trace import Operation

_T = TypeVar("_T")


class Unmergeable(Exception):  # noqa: N818  # a signal between our files, never shown
    """The traces do not fit into one program; the text says what differs."""


def same(values: Sequence[_T], otherwise: str) -> _T:
    """The value that all have.

    Raises:
        Unmergeable: they differ.
    """
    if any(value != values[0] for value in values[1:]):
        raise Unmergeable(otherwise)
    return values[0]


def equal_lengths(values: Sequence[Any]) -> Sequence[Any]:
    """The values, all of one length.

    Raises:
        Unmergeable: they are not.
    """
    same([len(v) for v in values], "one way has more of something than another")
    return values


def key(value: Any) -> object:
    """Equal for values that a replay cannot tell apart."""
    if type(value) in SCALARS:
        return type(value), repr(value)  # tells -0.0 from 0.0, knows NaN again
    if type(value) in (list, tuple):
        return type(value), tuple(map(key, value))
    if isinstance(value, Source):
        return key_of(value)
    return id(value)


def shape(plan: Built) -> object:
    """Equal for plans of containers that differ at most in their elements."""
    names = tuple(n for n, _ in plan.attributes)
    keys = None if plan.keys is None else tuple(map(key, plan.keys))
    return plan.cls, keys, len(plan.items), names, key(plan.extra)


def require_alike(one: Operation, other: Operation, *, is_decision: bool) -> None:
    """Two operations do the same to their operands."""
    facts = ("kind", "mutates", "is_undoable", "draws", "is_guarded", "site")
    is_alike = one.target == other.target and len(one.args) == len(other.args)
    is_alike &= all(getattr(one, fact) == getattr(other, fact) for fact in facts)
    is_alike &= tuple(map(id, one.generators)) == tuple(map(id, other.generators))
    is_alike &= is_decision or key(one.expected) == key(other.expected)
    if not is_alike:
        raise Unmergeable("the ways do different things")
