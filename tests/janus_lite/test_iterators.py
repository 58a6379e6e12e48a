"""What comes next is what `next` gives, and looking takes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from janus_lite.record.iterators import EXHAUSTED, peek, sequence_of

ELEMENTS = [3, 1.5, "text"]
MAKERS: dict[str, Callable[[], Iterator[Any]]] = {
    "list": lambda: iter(ELEMENTS),
    "tuple": lambda: iter(tuple(ELEMENTS)),
    "empty list": lambda: iter(list[int]()),
    "range": lambda: iter(range(5, -6, -4)),
    "count": lambda: itertools.count(7),
    "count with a step": lambda: itertools.count(-3, 2),
    "count of floats": lambda: itertools.count(0.1, 0.1),
    "count of a negative float": lambda: itertools.count(-0.0),
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())
@pytest.mark.parametrize("taken", range(5))
def test_looking_ahead_gives_what_next_gives(make: Callable[[], Any], taken: int) -> None:
    iterator = make()
    for _ in range(taken):
        next(iterator, None)

    looked = [peek(iterator, ahead) for ahead in range(4)]

    found = [next(iterator, EXHAUSTED) for _ in range(4)]
    assert list(map(repr, looked)) == list(map(repr, found))


def test_the_list_behind_an_iterator_is_found() -> None:
    iterator = iter(ELEMENTS)
    next(iterator)

    assert sequence_of(iterator) is ELEMENTS


@pytest.mark.parametrize("other", [iter({}), (x for x in range(0)), 5])
def test_what_cannot_be_looked_into_is_refused(other: Any) -> None:
    with pytest.raises(TypeError):
        peek(other, 0)
    with pytest.raises(TypeError):
        sequence_of(other)
