"""What a `match` asks of its subject, once and in CPython's order: see `instrument.patterns`.

Each question that may be answered with no gives `MISSING` for it, else what the pattern goes on
with. Classes say by a flag whether they are sequences or mappings; no code of the user runs for it.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable
from itertools import islice
from typing import Any, Final

from janus_lite.errors import Code
from janus_lite.record import attributes, calls, syntax
from janus_lite.record.builtin_functions import note_class
from janus_lite.record.kinds import is_a
from janus_lite.record.scalars import plain
from janus_lite.record.session import Session, current

# Flags of classes, by their bits in CPython's `object.h`.
_SEQUENCE, _MAPPING, _HEAP_TYPE, _MATCHES_ITSELF = 1 << 5, 1 << 6, 1 << 9, 1 << 22


class _Missing:
    def __repr__(self) -> str:
        return "<missing>"


MISSING: Final = _Missing()


def is_sequence(value: Any) -> bool:
    """Whether the class of `value` counts as a sequence."""
    return _has_flag(value, _SEQUENCE, (list, tuple))


def is_mapping(value: Any) -> bool:
    """Whether the class of `value` counts as a mapping."""
    return _has_flag(value, _MAPPING, (dict,))


def has_length(value: Any, length: int) -> bool:
    """Whether `len(value)` is `length`."""
    return _holds("==", _call(len, value), length)


def has_least_length(value: Any, length: int) -> bool:
    """Whether `len(value)` is `length` or more."""
    return _holds(">=", _call(len, value), length)


def element(value: Any, index: int, behind: int | None) -> Any:
    """The element at `index`, or the one that has `behind` elements from itself on to the end."""
    if behind is not None:
        index = -behind if type(value) in (list, tuple) else _call(len, value) - behind
    session = current()
    return value[index] if session is None else syntax.load_item(session, value, index)


def unpacked(value: Any, first: int, last: int | None) -> tuple[Any, ...]:
    """The elements of a sequence.

    With `last`, the elements between the `first` ones and the `last` ones are one list.

    Raises:
        ValueError: it gives fewer or more elements than its length says.
    """
    session = current()
    elements: Iterable[Any] = value
    if session is not None and type(value) in (list, tuple):
        elements = [syntax.load_item(session, value, index) for index in range(len(value))]
    elif session is not None:
        elements = syntax.iterate(session, value)
    return _unpacked(iter(elements), first, last)


def same(value: Any) -> Any:
    """`value`: for a name that a part of a pattern gives it."""
    return value


def part(found: tuple[Any, ...], number: int) -> Any:
    """One of the values that `unpacked`, `items` or `parts` gave."""
    return found[number]


def items(value: Any, keys: tuple[Any, ...]) -> Any:
    """What a mapping has under `keys`, or `MISSING`.

    Raises:
        ValueError: two of the keys are equal.
    """
    session = current()
    get = value.get if session is None else attributes.load(session, value, "get")
    seen: set[Any] = set()
    found = []
    for key in keys:
        if key in seen:
            raise ValueError(f"mapping pattern checks duplicate key ({key!r})")
        seen.add(key)
        item = _call(get, key, MISSING)
        if item is MISSING:
            return MISSING
        found.append(item)
    return tuple(found)


def without_items(value: Any, keys: tuple[Any, ...]) -> dict[Any, Any]:
    """What `**rest` of a mapping pattern holds."""
    found: dict[Any, Any] = _call(dict, value)
    for key in keys:
        del found[key]
    return found


def parts(value: Any, cls: Any, count: int, *names: Any) -> Any:
    """`count` positional parts and the attributes `names` of an instance of `cls`, or `MISSING`.

    Raises:
        TypeError: `cls` is no class, or does not say what so many positional parts are.
    """
    if not is_a(cls, type):
        match value:
            case cls():  # raises, in the words of this Python
                pass
    if not _call(isinstance, value, cls):
        return MISSING
    found: list[Any] = []
    if count:
        asked = _positional(cls, count)
        if asked is None:
            found.append(value)
        else:
            names = (*asked, *names)
    for index, name in enumerate(names):
        if not issubclass(type(name), str):
            kind = type(name).__name__
            raise TypeError(f"__match_args__ elements must be strings (got {kind})")
        if name in names[:index]:
            raise TypeError(f"{_name(cls)}() got multiple sub-patterns for attribute {name!r}")
        attribute = _call(getattr, value, name, MISSING)
        if attribute is MISSING:
            return MISSING
        found.append(attribute)
    return tuple(found)


def _positional(cls: type, count: int) -> tuple[Any, ...] | None:
    """The names of the first attributes of a pattern; None where it means the subject itself."""
    names: Any = _call(getattr, cls, "__match_args__", MISSING)
    is_itself = names is MISSING and bool(cls.__flags__ & _MATCHES_ITSELF)
    if names is MISSING:
        names = ()
    if not issubclass(type(names), tuple):
        kind = type(names).__name__
        raise TypeError(f"{_name(cls)}.__match_args__ must be a tuple (got {kind})")
    allowed = 1 if is_itself else len(names)
    if allowed < count:
        ending = "" if allowed == 1 else "s"
        raise TypeError(
            f"{_name(cls)}() accepts {allowed} positional sub-pattern{ending} ({count} given)"
        )
    return None if is_itself else names[:count]


def _name(cls: type) -> str:
    """The name of a class as the interpreter's errors show it."""
    is_python = cls.__flags__ & _HEAP_TYPE or cls.__module__ == "builtins"
    return cls.__name__ if is_python else f"{cls.__module__}.{cls.__name__}"


def _has_flag(value: Any, flag: int, known: tuple[type, ...]) -> bool:
    cls = type(plain(value))
    has_flag = bool(cls.__flags__ & flag)
    session = current()
    if session is None:
        return has_flag
    note_class(session, plain(value))
    if has_flag and not issubclass(cls, known):
        session.stop(Code.SYNTAX, f"matches a {cls.__qualname__} by its parts")
    elif not has_flag and cls.__flags__ & _HEAP_TYPE:  # it may yet be registered as one
        session.heap.recall(abc.get_cache_token, (), abc.get_cache_token())
    return has_flag


def _unpacked(elements: Any, first: int, last: int | None) -> tuple[Any, ...]:
    """What `a, b = elements`, or `a, *b, c = elements`, would bind."""
    before = list(islice(elements, first))
    if last is None:
        if len(before) < first:
            found = f"expected {first}, got {len(before)}"
            raise ValueError(f"not enough values to unpack ({found})")
        if next(elements, MISSING) is not MISSING:
            raise ValueError(f"too many values to unpack (expected {first})")
        return tuple(before)
    rest = list(elements) if len(before) == first else []
    if len(before) + len(rest) < first + last:
        found = f"expected at least {first + last}, got {len(before) + len(rest)}"
        raise ValueError(f"not enough values to unpack ({found})")
    middle = len(rest) - last
    return (*before, rest[:middle], *rest[middle:])


def _holds(symbol: str, left: Any, right: Any) -> bool:
    session = current()
    if session is None:
        return bool(left == right if symbol == "==" else left >= right)
    return syntax.test(session, syntax.compare(session, symbol, left, right))


def _call(function: Any, *args: Any) -> Any:
    session: Session | None = current()
    return function(*args) if session is None else calls.call(session, function, args, {})
