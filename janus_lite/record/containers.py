"""Changes of outside lists, dicts, sets and deques: done for real, repeated by a replay.

A rule notes what the method reads of the container (a popped element, whether a key is there) and
logs the change. Arguments whose elements are taken over, as by `extend`, are logged as the elements
they had then. A method without a rule stops the trace.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import Any

import torch

from janus_lite.errors import Code
from janus_lite.record.contracts import RUN_LOCAL_TYPES
from janus_lite.record.effects import StoreKind
from janus_lite.record.heap import SCALARS
from janus_lite.record.kinds import is_a
from janus_lite.record.scalars import is_symbolic
from janus_lite.record.session import Session

Arguments = tuple[Any, ...]
Rule = Callable[[Session, Any, Any, Arguments], Any]
_DICTS = (dict, OrderedDict, defaultdict)
_ELEMENTS = (list, tuple, set, frozenset, deque)
_NOTHING = object()
# They put a number into a container as it is.
_TAKE_NUMBERS = frozenset({"append", "appendleft", "extend", "__setitem__"})


def is_made_sequence(session: Session, value: Any) -> bool:
    """Whether a value is a list, tuple or size that the run made: handing it on is no fact."""
    return type(value) in (list, tuple, torch.Size) and session.heap.source_of(value) is None


def change(
    session: Session, method: Any, bound: Any, args: Arguments, kwargs: dict[str, Any]
) -> Any:
    """Call a C method that changes the outside container `bound`."""
    name = method.__name__
    if name not in _TAKE_NUMBERS:
        args = session.numbers.fixed(args)
    rule = _RULES.get((type(bound), name))
    if rule is not None and not kwargs:
        return rule(session, method, bound, args)
    source = session.heap.source_of(bound)
    session.stop(Code.OUTSIDE_WRITE, f"`{source}.{name}(...)` changes an outside container")
    return method(*args, **kwargs)


def store_item(session: Session, owner: Any, key: Any, value: Any) -> None:
    """`owner[key] = value` on an outside container."""
    if type(owner) in _DICTS:
        session.store(StoreKind.ITEM, owner, key, value)
        if is_symbolic(key):
            session.writes.rewritten(owner)  # a replay writes somewhere else
        else:
            session.writes.written(owner, key)
    elif type(owner) is list and _is_index(owner, key):
        _note_length(session, owner)
        session.store(StoreKind.ITEM, owner, key, value)
        session.writes.written(owner, key)
    elif type(owner) is list and _is_simple_slice(key):
        value = items = _elements(value)
        if items is None:
            _refuse(session, owner, f"[{key!r}] = ...")
        else:
            session.store(StoreKind.ITEM, owner, key, items)
            session.writes.rewritten(owner)
    else:
        _refuse(session, owner, f"[{key!r}] = ...")


def delete_item(session: Session, owner: Any, key: Any) -> None:
    """`del owner[key]` of an outside container; the caller does it."""
    source = session.heap.source_of(owner)
    assert source is not None
    if type(owner) in _DICTS:
        session.heap.entry(source, owner, key)
        if key in owner:
            session.store(StoreKind.DELETE_ITEM, owner, key)
            session.writes.written(owner, key)
    elif type(owner) is list and _is_index(owner, key):
        _note_length(session, owner)
        session.store(StoreKind.DELETE_ITEM, owner, key)
        session.writes.rewritten(owner)
    elif type(owner) is list and _is_simple_slice(key):
        session.store(StoreKind.DELETE_ITEM, owner, key)
        session.writes.rewritten(owner)
    else:
        _refuse(session, owner, f"[{key!r}] (deleted)")


def _is_index(owner: list[Any], key: Any) -> bool:
    return type(key) is int and -len(owner) <= key < len(owner)


def _is_simple_slice(key: Any) -> bool:
    """A slice that never raises, whatever the length of the list."""
    bounds = (key.start, key.stop, key.step) if is_a(key, slice) else (_NOTHING,)
    return all(type(b) in (int, type(None)) for b in bounds) and bounds[-1] in (None, 1)


def _note_length(session: Session, owner: Any) -> None:
    """An index is only good for the length it was used with; item stores leave it as it is."""
    if session.writes.is_rewritten(owner) or not session.writes.is_changed(owner):
        session.heap.length(owner)


def _refuse(session: Session, owner: object, what: str) -> None:
    source = session.heap.source_of(owner)
    session.stop(Code.OUTSIDE_WRITE, f"writes `{source}{what}`")


# ------------------------------------------------------------------------------------- rules


def _blindly(session: Session, method: Any, bound: Any, args: Arguments) -> Any:
    """A method that does the same whatever the container holds."""
    result = method(*args)  # an error leaves nothing to repeat
    if any(is_a(a, RUN_LOCAL_TYPES) for a in args):  # an iterator would be empty by then
        _refuse(session, bound, f".{method.__name__}(...)")
    session.store(StoreKind.METHOD, bound, method.__name__, *args)
    session.writes.rewritten(bound)
    return result


def _taking_elements(session: Session, method: Any, bound: Any, args: Arguments) -> Any:
    """A method that takes over the elements of its one argument."""
    given = args[0] if len(args) == 1 else None
    taken: Any = []
    if session.heap.source_of(given) is not None:
        taken = given if type(given) in (*_DICTS, *_ELEMENTS) else None
    elif is_a(given, RUN_LOCAL_TYPES):
        args = (_taking(given, taken),)
    else:
        taken = _elements(given)
    try:
        result = method(*args)
    except Exception:
        _refuse(session, bound, f".{method.__name__}(...)")  # some elements may be there already
        raise
    if taken is None:
        _refuse(session, bound, f".{method.__name__}(...)")
    session.store(StoreKind.METHOD, bound, method.__name__, taken)
    session.writes.rewritten(bound)
    return result


def _taking(iterator: Any, taken: list[Any]) -> Iterator[Any]:
    for element in iterator:
        taken.append(element)
        yield element


def _elements(given: Any) -> Any:
    """A container of the elements that `given`, made in the run, has now."""
    if type(given) in _DICTS:
        return dict(given)
    return list(given) if type(given) in _ELEMENTS else None


def _pop_element(session: Session, method: Any, bound: Any, args: Arguments) -> Any:
    """`pop` of a list or deque, `popleft`."""
    index = 0 if method.__name__ == "popleft" else -1 if not args else args[0]
    if _is_index(bound, index):
        if type(bound) is list:
            session.heap.element(bound, index)
        else:
            source = session.heap.source_of(bound)
            assert source is not None
            session.heap.sequence(source, bound)
        session.store(StoreKind.METHOD, bound, method.__name__, *args)
        session.writes.rewritten(bound)
    else:
        session.heap.length(bound)
    return method(*args)


def _pop_key(session: Session, method: Any, bound: Any, args: Arguments) -> Any:
    """`dict.pop(key[, default])`."""
    _note_entry(session, bound, args[0])
    if args[0] in bound:
        session.store(StoreKind.DELETE_ITEM, bound, args[0])
        session.writes.written(bound, args[0])
    return method(*args)


def _pop_last(session: Session, method: Any, bound: Any, args: Arguments) -> Any:
    """`dict.popitem()`."""
    source = session.heap.source_of(bound)
    assert source is not None
    session.heap.keys(source, bound)
    if args:
        _refuse(session, bound, ".popitem(...)")
    elif bound:
        key = next(reversed(bound))
        session.heap.entry(source, bound, key)
        session.store(StoreKind.DELETE_ITEM, bound, key)
        session.writes.written(bound, key)
    return method(*args)


def _pop_member(session: Session, method: Any, bound: Any, args: Arguments) -> Any:
    """`set.pop()`: which one it takes is only known where there is but one."""
    source = session.heap.source_of(bound)
    assert source is not None
    session.heap.members(source, bound)
    if len(bound) > 1 or not all(type(value) in SCALARS for value in bound):
        _refuse(session, bound, ".pop()")
    elif bound:
        session.store(StoreKind.METHOD, bound, "pop")
        session.writes.rewritten(bound)
    return method(*args)


def _set_default(session: Session, method: Any, bound: Any, args: Arguments) -> Any:
    """`dict.setdefault(key[, default])`."""
    _note_entry(session, bound, args[0])
    if args[0] not in bound:
        session.store(StoreKind.ITEM, bound, args[0], *(args[1:] or (None,)))
        session.writes.written(bound, args[0])
    return method(*args)


def _note_entry(session: Session, bound: Any, key: Any) -> None:
    source = session.heap.source_of(bound)
    assert source is not None
    if type(key) not in SCALARS and session.heap.source_of(key) is None and not is_a(key, type):
        session.stop(Code.UNKNOWN_OBJECT, f"a dict key of type {type(key).__qualname__}")
    session.heap.entry(source, bound, key)


def _by_content(session: Session, method: Any, bound: Any, args: Arguments) -> Any:
    """A method that looks at plain elements before it changes them."""
    elements = (*bound, *args)
    if all(type(value) in SCALARS for value in elements):
        source = session.heap.source_of(bound)
        assert source is not None
        session.heap.content(source, bound)
        result = method(*args)  # an error leaves nothing to repeat
        session.store(StoreKind.METHOD, bound, method.__name__, *args)
        session.writes.rewritten(bound)
        return result
    _refuse(session, bound, f".{method.__name__}(...)")
    return method(*args)


def _store_by_method(session: Session, _method: Any, bound: Any, args: Arguments) -> Any:
    return session.store_item(args[1], bound, args[0])


_METHODS: dict[Rule, dict[type, str]] = {
    _blindly: {
        list: "append insert clear reverse",
        dict: "clear",
        OrderedDict: "clear",
        defaultdict: "clear",
        set: "add discard clear",
        deque: "append appendleft clear reverse rotate",
    },
    _taking_elements: {
        list: "extend",
        dict: "update",
        OrderedDict: "update",
        defaultdict: "update",
        set: "update difference_update intersection_update symmetric_difference_update",
        deque: "extend extendleft",
    },
    _pop_element: {list: "pop", deque: "pop popleft"},
    _pop_key: {dict: "pop", OrderedDict: "pop", defaultdict: "pop"},
    _pop_last: {dict: "popitem", OrderedDict: "popitem", defaultdict: "popitem"},
    _pop_member: {set: "pop"},
    _set_default: {dict: "setdefault", OrderedDict: "setdefault", defaultdict: "setdefault"},
    _by_content: {list: "remove sort", set: "remove"},
    _store_by_method: dict.fromkeys((list, dict, OrderedDict, defaultdict), "__setitem__"),
}
_RULES: dict[tuple[type, str], Rule] = {
    (cls, name): rule
    for rule, rows in _METHODS.items()
    for cls, names in rows.items()
    for name in names.split()
}
# What an operator such as `|=` does in place, as a method.
IN_PLACE: dict[tuple[type, str], str] = {
    (list, "+"): "extend",
    (deque, "+"): "extend",
    (dict, "|"): "update",
    (OrderedDict, "|"): "update",
    (defaultdict, "|"): "update",
    (set, "|"): "update",
    (set, "&"): "intersection_update",
    (set, "-"): "difference_update",
    (set, "^"): "symmetric_difference_update",
}
