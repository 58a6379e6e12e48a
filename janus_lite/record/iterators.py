"""What an outside iterator will give next, without taking it.

Iterators of lists, tuples and ranges and `itertools.count` say where they stand. A generator, a
file or a `DataLoader` cannot be asked without being moved on, so nothing can be known of them
before a replay must not be called off any more.
"""

from __future__ import annotations

import ast
import itertools
from typing import Any

EXHAUSTED: Any = type("Exhausted", (), {"__repr__": lambda _: "EXHAUSTED"})()
_SEQUENTIAL: tuple[type, ...] = (type(iter([])), type(iter(())))
PEEKABLE: tuple[type, ...] = (*_SEQUENTIAL, type(iter(range(0))), itertools.count)


def peek(iterator: Any, ahead: int) -> Any:
    """The element after `ahead` others; `EXHAUSTED` when there is none.

    Raises:
        TypeError: it is another kind of iterator.
    """
    if type(iterator) is itertools.count:
        return _peek_count(iterator, ahead)
    if type(iterator) not in PEEKABLE:
        raise TypeError(f"cannot look into a {type(iterator).__name__}")
    _, (sequence,), *position = iterator.__reduce__()
    index = (position[0] or 0) + ahead if position else ahead
    return sequence[index] if index < len(sequence) else EXHAUSTED


def sequence_of(iterator: Any) -> Any:
    """The list or tuple that an iterator goes through.

    Raises:
        TypeError: it goes through none.
    """
    if type(iterator) not in _SEQUENTIAL:
        raise TypeError(f"no list is behind a {type(iterator).__name__}")
    return iterator.__reduce__()[1][0]


def _peek_count(iterator: Any, ahead: int) -> Any:
    # Its `__reduce__` is deprecated from Python 3.12 on; its text says the same.
    numbers = repr(iterator).removeprefix("count(").removesuffix(")").split(", ")
    value, step = map(ast.literal_eval, numbers if len(numbers) == 2 else (*numbers, "1"))
    for _ in range(ahead):
        value += step
    return value
