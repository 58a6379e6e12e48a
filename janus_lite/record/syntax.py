"""Operators, items, iteration, truth, unpacking, `with`: Python's other protocols.

Each does what the bytecode would have done, after noting what of it touches outside state. Methods
that user classes define in Python run as twins.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import operator
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from janus_lite.errors import Code
from janus_lite.record import attributes, containers
from janus_lite.record.audit import is_library_file
from janus_lite.record.contracts import RUN_LOCAL_TYPES, VALUE_TYPES, VIEWS
from janus_lite.record.heap import SCALARS
from janus_lite.record.iterators import PEEKABLE
from janus_lite.record.kinds import elements_of, is_a, length_of
from janus_lite.record.scalars import is_number, is_symbolic, plain
from janus_lite.record.session import Session
from janus_lite.record.source import Source

_BINARY: dict[str, tuple[Callable[..., Any], str, str]] = {
    "+": (operator.add, "__add__", "__radd__"),
    "-": (operator.sub, "__sub__", "__rsub__"),
    "*": (operator.mul, "__mul__", "__rmul__"),
    "@": (operator.matmul, "__matmul__", "__rmatmul__"),
    "/": (operator.truediv, "__truediv__", "__rtruediv__"),
    "//": (operator.floordiv, "__floordiv__", "__rfloordiv__"),
    "%": (operator.mod, "__mod__", "__rmod__"),
    "**": (operator.pow, "__pow__", "__rpow__"),
    "<<": (operator.lshift, "__lshift__", "__rlshift__"),
    ">>": (operator.rshift, "__rshift__", "__rrshift__"),
    "|": (operator.or_, "__or__", "__ror__"),
    "^": (operator.xor, "__xor__", "__rxor__"),
    "&": (operator.and_, "__and__", "__rand__"),
}
_INPLACE: dict[str, Callable[..., Any]] = {
    "+": operator.iadd,
    "-": operator.isub,
    "*": operator.imul,
    "@": operator.imatmul,
    "/": operator.itruediv,
    "//": operator.ifloordiv,
    "%": operator.imod,
    "**": operator.ipow,
    "<<": operator.ilshift,
    ">>": operator.irshift,
    "|": operator.ior,
    "^": operator.ixor,
    "&": operator.iand,
}
_COMPARE: dict[str, tuple[Callable[..., Any], str, str]] = {
    "==": (operator.eq, "__eq__", "__eq__"),
    "!=": (operator.ne, "__ne__", "__ne__"),
    "<": (operator.lt, "__lt__", "__gt__"),
    "<=": (operator.le, "__le__", "__ge__"),
    ">": (operator.gt, "__gt__", "__lt__"),
    ">=": (operator.ge, "__ge__", "__le__"),
}
_UNARY: dict[str, tuple[Callable[..., Any], str]] = {
    "-": (operator.neg, "__neg__"),
    "+": (operator.pos, "__pos__"),
    "~": (operator.invert, "__invert__"),
}
# Operators that torch itself defines in Python, `2 - t` among them.
_TENSOR_METHODS: dict[str, types.FunctionType] = {
    name: method
    for name, method in vars(torch.Tensor).items()
    if name.startswith("__") and is_a(method, types.FunctionType)
}
_PLAIN = (*VALUE_TYPES, *RUN_LOCAL_TYPES)
_SEQUENCES = (list, tuple, deque)
_CONTAINERS = (*_SEQUENCES, dict, set, frozenset)
# Objects of C classes that never change.
_NUMPY_SCALAR: type = np.generic
_UNCHANGING = (decimal.Decimal, datetime.date, datetime.datetime, datetime.time, datetime.timedelta)
_MISSING = object()


def is_plain(value: object) -> bool:
    """Whether only C code says what operators and builtins do with `value`."""
    return (
        type(value) in SCALARS
        or is_a(value, torch.Tensor)
        or type(value) in _PLAIN
        or is_symbolic(value)
    )


def python_method(session: Session, value: object, name: str) -> types.FunctionType | None:
    """The Python code that a special method of `value` runs, if it does."""
    if is_plain(value):
        return None
    _, method = session.heap.class_attribute(type(value), name)
    return method if is_a(method, types.FunctionType) else None


# ---------------------------------------------------------------------------------- operators


def binary(session: Session, symbol: str, left: Any, right: Any) -> Any:
    """`left <symbol> right`."""
    session.regions.look(left, right)
    function, name, reflected = _BINARY[symbol]
    if is_symbolic(left) or is_symbolic(right):
        if is_number(left) and is_number(right):
            return session.numbers.compute(symbol, function, left, right)
        left, right = _fixed_beside(session, left, right)
    elif symbol == "+" and session.numbers and _are_joined(session, left, right):
        return left + right  # their elements are only passed along
    return _dispatch(session, function, name, reflected, left, right)


def _are_joined(session: Session, left: Any, right: Any) -> bool:
    """Whether both are plain sequences that the run made."""
    return all(containers.is_made_sequence(session, value) for value in (left, right))


def _fixed_beside(session: Session, left: Any, right: Any) -> tuple[Any, Any]:
    """Both operands; a varying number is fixed unless a tensor takes it."""
    if is_a(left, torch.Tensor) or is_a(right, torch.Tensor):
        return left, right
    return session.numbers.fix(left), session.numbers.fix(right)


def inplace(session: Session, symbol: str, left: Any, right: Any) -> Any:
    """`left <symbol>= right`, the value to be bound."""
    function = _INPLACE[symbol]
    session.regions.touch(left, right)
    session.regions.look(left, right)
    name = f"__i{_BINARY[symbol][1].strip('_')}__"
    if is_plain(left):
        if not is_a(left, torch.Tensor):
            return binary(session, symbol, left, right)
        method = _TENSOR_METHODS.get(name)
        return function(left, right) if method is None else session.call(method, (left, right), {})
    if (method := python_method(session, left, name)) is not None:
        result = session.call(method, (left, right), {})
        return binary(session, symbol, left, right) if result is NotImplemented else result
    if hasattr(type(left), name):
        source = session.heap.source_of(left)
        if symbol == "+" and is_a(left, list | deque) and hasattr(type(right), "__radd__"):
            return _added_by_right(session, left, right)
        if source is None and is_a(left, _CONTAINERS):
            result = session.call(getattr(left, name), (right,), {})
            return function(left, right) if result is NotImplemented else result
        if source is None:
            session.heap.snapshot(right)
            return function(left, right)
        method_name = containers.IN_PLACE.get((type(left), symbol))
        if method_name is None or not _suits(left, right):
            session.stop(Code.OUTSIDE_WRITE, f"`{source} {symbol}= ...` changes an outside object")
            return function(left, right)
        session.call(getattr(left, method_name), (right,), {})
        return left
    return binary(session, symbol, left, right)


def _added_by_right(session: Session, left: Any, right: Any) -> Any:
    """`left += right`, where Python asks the right operand before it extends the left one."""
    if (method := python_method(session, right, "__radd__")) is not None:
        result = session.call(method, (right, left), {})
        if result is not NotImplemented:
            return result
    if not is_a(right, torch.Tensor) or session.heap.source_of(left) is not None:
        kind = type(right).__qualname__
        session.stop(Code.UNKNOWN_OBJECT, f"`+=` of a {type(left).__qualname__} and a {kind}")
    left += right
    return left


def _suits(left: Any, right: Any) -> bool:
    """Whether `left <op>= right` is what the method does: sets are stricter as operators."""
    return not is_a(left, set) or is_a(right, set | frozenset)


def compare(session: Session, symbol: str, left: Any, right: Any) -> Any:
    """`left <symbol> right` for the six rich comparisons."""
    session.regions.look(left, right)
    function, name, reflected = _COMPARE[symbol]
    if is_symbolic(left) or is_symbolic(right):
        if is_number(left) and is_number(right):
            return session.numbers.compute(symbol, function, left, right)
        left, right = _fixed_beside(session, left, right)
    elif session.numbers and is_a(left, tuple | list) and is_a(right, tuple | list):
        if symbol in ("==", "!=") and _are_numbers(left) and _are_numbers(right):
            session.heap.note(left)
            session.heap.note(right)
            is_same = len(left) == len(right) and all(
                one is other or compare(session, "==", one, other)
                for one, other in zip(left, right, strict=True)
            )
            return is_same is (symbol == "==")
        session.heap.snapshot(left)
        session.heap.snapshot(right)
    return _dispatch(session, function, name, reflected, left, right)


def _are_numbers(value: Any) -> bool:
    """Whether a value is a tuple of plain and varying integers, some of them varying."""
    return type(value) in (tuple, torch.Size) and all(map(is_number, value))


def _dispatch(
    session: Session,
    function: Callable[..., Any],
    name: str,
    reflected: str,
    left: Any,
    right: Any,
) -> Any:
    if is_plain(left) and is_plain(right):
        _note_views(session, left, right)
        return _plain_operation(session, function, name, reflected, left, right)
    first = (python_method(session, left, name), left, right)
    second = (python_method(session, right, reflected), right, left)
    if first[0] is None and second[0] is None:
        return _c_operation(session, function, name, left, right)
    attempts = [first, second] if type(left) is not type(right) else [first]
    if type(right) is not type(left) and issubclass(type(right), type(left)):
        attempts.reverse()
    for method, one, other in attempts:
        if method is None:
            c_method = getattr(type(one), name if one is left else reflected, None)
            operation = c_method or _not_implemented
            result = _c_operation(session, operation, name, one, other)
        else:
            result = session.call(method, (one, other), {})
        if result is not NotImplemented:
            return result
    if name == "__eq__":
        session.heap.compare_identity(left, right)
        return left is right
    if name == "__ne__":
        return not compare(session, "==", left, right)
    return function(left, right)  # raises what Python raises


def _note_views(session: Session, *values: Any) -> None:
    """Note what is in views of dicts, to any depth."""
    for value in values:
        if type(value) in VIEWS:
            session.heap.snapshot(elements_of(value))


def _not_implemented(_left: object, _right: object) -> Any:
    return NotImplemented


def _c_operation(
    session: Session, function: Callable[..., Any], name: str, left: Any, right: Any
) -> Any:
    """An operator that only C code carries out, with operands that are not all plain."""
    _note_views(session, left, right)
    if name in {"__eq__", "__ne__"}:
        session.heap.compare_identity(left, right)
    by_identity = name in {"__eq__", "__ne__"} or not is_a(left, str | bytes)
    for value in (left, right):
        if not is_settled(session, value, by_identity=by_identity):
            kind = type(value).__qualname__
            session.stop(Code.UNKNOWN_OBJECT, f"`{name}` of a {kind}, which C code reads")
    return function(left, right)


def is_settled(session: Session, value: Any, *, by_identity: bool) -> bool:
    """Whether the guards cover what an operator of C code reads of `value`.

    An object whose class keeps `object`'s equality has only its identity, which is covered; as text
    it would show its address. A member of an Enum that is text or a number never changes.
    """
    if session.heap.snapshot(value) or type(value) in _UNCHANGING or is_a(value, _NUMPY_SCALAR):
        return True
    if is_a(value, _CONTAINERS):
        elements = dict.values(value) if is_a(value, dict) else elements_of(value)
        return all(is_settled(session, e, by_identity=by_identity) for e in elements)
    is_member = is_a(value, enum.Enum) and is_a(value, str | int)
    is_fixed = is_member or is_a(value, types.MethodType) or _has_only_identity(type(value))
    if by_identity and is_fixed:
        return True
    return session.heap.source_of(value) is None and by_identity


def _has_only_identity(cls: type) -> bool:
    method: object = cls.__eq__
    return method is object.__eq__


def _plain_operation(
    session: Session, function: Callable[..., Any], name: str, reflected: str, left: Any, right: Any
) -> Any:
    if type(left) in PEEKABLE or type(right) in PEEKABLE:
        session.heap.compare_identity(left, right)
    if is_a(left, torch.Tensor):
        if (method := _TENSOR_METHODS.get(name)) is not None:
            return session.call(method, (left, right), {})
    elif is_a(right, torch.Tensor) and reflected in _TENSOR_METHODS:
        return session.call(_TENSOR_METHODS[reflected], (right, left), {})
    return function(left, right)


def unary(session: Session, symbol: str, value: Any) -> Any:
    """`<symbol> value`."""
    function, name = _UNARY[symbol]
    if is_symbolic(value):
        return session.numbers.compute(symbol, function, value)
    if (method := python_method(session, value, name)) is not None:
        return session.call(method, (value,), {})
    return function(value)


def identical(session: Session, left: object, right: object) -> bool:
    """`left is right`."""
    if is_number(left) and is_number(right) and left is not right:
        left, right = session.numbers.fix(left), session.numbers.fix(right)
    session.heap.compare_identity(left, right)
    if is_a(left, torch.Tensor) and is_a(right, torch.Tensor):
        session.tape.compare_identity(left, right)
    if left is not right:
        session.tape.compare_by_identity(left, (right,))
    return left is right


def contains(session: Session, item: Any, container: Any) -> bool:
    """`item in container`."""
    session.regions.look(item, container)
    if is_a(container, torch.Tensor):
        return bool(session.call(type(container).__contains__, (container, item), {}))
    plain_item, plain_container = session.numbers.fixed(item), session.numbers.fixed(container)
    if not is_a(container, _SEQUENCES):  # which finds NaN by its identity, among the very objects
        item, container = plain_item, plain_container
    session.tape.compare_by_identity(item, container)
    if (method := python_method(session, container, "__contains__")) is not None:
        return test(session, session.call(method, (container, item), {}))
    return _is_inside(session, item, container)


def _is_inside(session: Session, item: Any, container: Any) -> bool:
    source = session.heap.source_of(container)
    if source is None and is_a(container, list | deque):
        session.heap.fix_numbers(container)
    if source is not None:
        _note_membership(session, source, item, container)
    elif _is_stepped_through(container):
        return any(_is_found(session, item, other) for other in iterate(session, container))
    elif session.numbers:
        session.heap.snapshot(container)  # its numbers are compared by C code
    if is_a(container, _SEQUENCES) or type(container) in VIEWS:
        return _is_among(session, item, container)
    if is_a(container, _CONTAINERS) and not is_a(item, torch.Tensor):
        note_key(session, item)
    if is_a(item, torch.Tensor):  # hashed by library code, by identity
        session.regions.spoil("looks for a tensor in a container")
        with session.own_work():
            return item in container
    return item in container


def _is_stepped_through(container: Any) -> bool:
    is_iterator = is_plain(container) and hasattr(type(container), "__next__")
    return is_iterator or not (is_plain(container) or is_a(container, _CONTAINERS))


def _is_among(session: Session, item: Any, container: Any) -> bool:
    """`item in container` for a sequence, whose elements are asked one by one."""
    elements = elements_of(container)
    session.heap.snapshot(container)
    session.heap.snapshot(elements)  # C code compares what is in them, too
    if has_own_equality(session, item, *elements):
        return any(_is_found(session, item, other) for other in elements)
    if not is_settled(session, item, by_identity=True):
        session.stop(Code.UNKNOWN_OBJECT, f"looks for a {type(item).__qualname__} in a container")
    if not is_a(item, torch.Tensor):
        return item in container
    session.regions.spoil("looks for a tensor in a container")
    with session.own_work():
        return item in container


def _is_found(session: Session, item: Any, other: Any) -> bool:
    return other is item or test(session, compare(session, "==", other, item))


def has_own_equality(session: Session, *values: Any) -> bool:
    """Whether Python code says when one of `values` equals something else."""
    return any(python_method(session, value, "__eq__") is not None for value in values)


def _note_membership(session: Session, source: Source, item: Any, container: Any) -> None:
    """Note what `in` looks at of an outside container."""
    if is_a(container, dict):
        note_key(session, item)
        session.heap.entry(source, container, item)
    elif is_a(container, _CONTAINERS):
        session.heap.content(source, container)
    elif not is_a(container, types.MappingProxyType):
        session.stop(Code.UNKNOWN_OBJECT, f"`in` on a {type(container).__qualname__}")


def note_key(session: Session, key: object) -> None:
    """Note what a dict or set finds an entry by."""
    if type(key) in SCALARS or session.heap.snapshot(key):
        return
    source = session.heap.source_of(key)
    is_held = source is not None and session.heap.is_held(source)
    if not is_held and not _has_only_identity(type(key)):
        session.stop(Code.UNKNOWN_OBJECT, f"a dict key of type {type(key).__qualname__}")


def hashed(session: Session, key: Any) -> Any:
    """`key` where a set or dict is made with it."""
    note_key(session, key)
    return session.numbers.fixed(key)


# -------------------------------------------------------------------------------------- items


def load_item(session: Session, owner: Any, key: Any) -> Any:
    """`owner[key]`."""
    if is_a(owner, torch.Tensor):
        return owner[key]
    session.regions.look(owner, key)
    key = session.numbers.fixed(key)
    if is_plain(owner):
        return owner[key]
    if is_a(owner, type):
        return _load_class_item(session, owner, key)
    if (method := python_method(session, owner, "__getitem__")) is not None:
        return session.call(method, (owner, key), {})
    source = session.heap.source_of(owner)
    if source is None:
        return _load_made_item(session, owner, key)
    if is_a(owner, dict):
        return _load_entry(session, source, owner, key)
    if is_a(owner, list | tuple) and _is_within(owner, key):
        return session.heap.element(owner, key)
    if is_a(owner, _SEQUENCES):
        session.heap.content(source, owner)
    else:
        session.stop(Code.UNKNOWN_OBJECT, f"an item of a {type(owner).__qualname__}")
    return owner[key]


def _load_made_item(session: Session, owner: Any, key: Any) -> Any:
    if is_a(owner, dict):
        note_key(session, key)
    if is_a(owner, defaultdict) and key not in owner:
        return _default_item(session, owner, key)
    return owner[key]


def _is_within(owner: Any, index: Any) -> bool:
    return type(index) is int and -length_of(owner) <= index < length_of(owner)


def _load_entry(session: Session, source: Source, owner: dict[Any, Any], key: Any) -> Any:
    note_key(session, key)
    if type(owner) is dict and key in owner:
        return session.heap.read_entry(source, owner, key)
    session.heap.entry(source, owner, key)
    if type(owner) is defaultdict and key not in owner and owner.default_factory:
        value = session.call(owner.default_factory, (), {})
        store_item(session, value, owner, key)
        return value
    return owner[key]


def _default_item(session: Session, owner: defaultdict[Any, Any], key: Any) -> Any:
    value = owner[key] = session.call(owner.default_factory, (), {})
    return value


def _load_class_item(session: Session, owner: type, key: Any) -> Any:
    method = session.heap.class_attribute(type(owner), "__getitem__")[1]
    if is_a(method, types.FunctionType) and method.__module__ != "enum":
        return session.call(method, (owner, key), {})
    session.leaves += 1
    try:
        value = owner[key]  # type: ignore[index]  # an Enum by name, or a generic alias
    finally:
        session.leaves -= 1
    session.heap.pin(value, f"{owner.__qualname__}[{key!r}]")
    return value


def store_item(session: Session, value: Any, owner: Any, key: Any) -> None:
    """`owner[key] = value`."""
    session.regions.touch(owner)
    session.regions.look(owner)
    if is_a(owner, torch.Tensor):
        owner[key] = value
    elif (method := python_method(session, owner, "__setitem__")) is not None:
        session.call(method, (owner, key, value), {})
    else:
        if is_a(key, slice):
            value = iterate(session, value)
        if type(owner) is not dict or session.heap.source_of(owner) is None:
            key = session.numbers.fixed(key)
        key = session.numbers.fix_made(key)
        if session.heap.source_of(owner) is not None:
            if not is_a(key, slice) and not is_symbolic(key):
                note_key(session, key)
                _refuse_passing_key(session, key)
            containers.store_item(session, owner, key, value)
        owner[plain(key)] = value


def _refuse_passing_key(session: Session, key: Any) -> None:
    """A replay stores under the recorded key: under an object only if it is the same one then."""
    for part in key if type(key) is tuple else (key,):
        source = session.heap.source_of(part)
        is_same = type(part) in SCALARS or (source is not None and session.heap.is_held(source))
        if not is_same:
            kind = type(part).__qualname__
            session.stop(Code.UNKNOWN_OBJECT, f"stores under a {kind} that may be another one next")


def delete_item(session: Session, owner: Any, key: Any) -> None:
    """`del owner[key]`."""
    session.regions.touch(owner)
    session.regions.look(owner)
    key = session.numbers.fixed(key)
    if (method := python_method(session, owner, "__delitem__")) is not None:
        session.call(method, (owner, key), {})
    else:
        if session.heap.source_of(owner) is not None:
            if not is_a(key, slice):
                note_key(session, key)
            containers.delete_item(session, owner, key)
        del owner[key]


# ---------------------------------------------------------------------------------- iteration


def iterate(session: Session, value: Any) -> Any:
    """What a `for` loop may step through in place of `value`."""
    session.regions.touch(value)
    session.regions.look(value)
    if is_a(value, torch.Tensor):
        return session.call(torch.Tensor.__iter__, (value,), {})
    source = session.heap.source_of(value)
    if is_a(value, _CONTAINERS) and python_method(session, value, "__iter__") is None:
        if source is not None:
            session.heap.content(source, value)
        return value
    if is_plain(value):
        return value if source is None else _take(session, value, source)
    if (method := python_method(session, value, "__iter__")) is not None:
        return _step(session, session.call(method, (value,), {}))
    if python_method(session, value, "__next__") is not None:
        return _step(session, value)
    if is_a(value, type):
        return list(value)  # type: ignore[call-overload]  # the members of an Enum
    if not is_a(value, types.MappingProxyType):
        session.stop(Code.UNKNOWN_OBJECT, f"iterates over a {type(value).__qualname__}")
    return value


def _take(session: Session, iterator: Any, source: Source) -> Any:
    """What gives the elements of an outside iterator one by one."""
    if type(iterator) in PEEKABLE:
        return _taken(session, iterator)
    session.stop(Code.OUTSIDE_ITERATOR, f"steps the iterator {source}")
    return iterator


def _taken(session: Session, iterator: Any) -> Iterator[Any]:
    while True:
        try:
            value = session.call(next, (iterator,), {})
        except StopIteration:
            return
        yield value


def _step(session: Session, iterator: Any) -> Any:
    """Drive an iterator whose `__next__` is Python code."""
    method = python_method(session, iterator, "__next__")
    if method is None:
        return iterate(session, iterator)
    if (source := session.heap.source_of(iterator)) is not None:
        session.stop(Code.OUTSIDE_ITERATOR, f"steps the iterator {source}")
        return iterator
    return _drive(session, iterator, method)


def _drive(session: Session, iterator: Any, method: types.FunctionType) -> Iterator[Any]:
    while True:
        try:
            value = session.call(method, (iterator,), {})
        except StopIteration:
            return
        yield value


def iterate_unpacking(session: Session, value: Any) -> Iterator[Any]:
    """Like `iterate` for a loop that unpacks each element."""
    return map(partial(unpack, session), iterate(session, value))


def unpack(session: Session, value: Any) -> Any:
    """What may be unpacked in place of `value`; nested sequences are noted too."""
    session.regions.look(value)
    if is_a(value, torch.Tensor) or not is_a(value, list | tuple):
        return iterate(session, value)
    if session.heap.source_of(value) is not None:
        if type(value) not in (list, tuple):
            session.heap.snapshot(value)
            return iterate(session, value)
        session.heap.length(value)
        value = [session.heap.element(value, index) for index in range(len(value))]
    for element in value:
        _note_nested(session, element)
    return iterate(session, value)


def _note_nested(session: Session, value: Any) -> None:
    """Note the outside sequences in what may be unpacked further; numbers are only handed on."""
    if containers.is_made_sequence(session, value):
        for element in value:
            _note_nested(session, element)
    elif is_a(value, list | tuple):
        session.heap.snapshot(value)


def spread_mapping(session: Session, value: Any) -> Any:
    """What may be passed as `**value`."""
    source = session.heap.source_of(value)
    # CPython takes what is in a dict as it is, unless its class iterates in another way.
    if type(value) is OrderedDict or (is_a(value, dict) and type(value).__iter__ is dict.__iter__):
        if source is not None:
            session.heap.mapping(source, value)
        return value
    if session.heap.class_attribute(type(value), "keys")[1] is None:
        return value  # Python says that it is no mapping
    return _by_keys(session, value)


def _by_keys(session: Session, value: Any) -> dict[Any, Any]:
    keys = iterate(session, session.call(attributes.load(session, value, "keys"), (), {}))
    return {key: load_item(session, value, key) for key in keys}


def merged(session: Session, cls: type, value: Any) -> Any:
    """What a dict of class `cls` may get in place of `value` to take its entries."""
    if type(value) in VALUE_TYPES:
        return value
    if session.heap.class_attribute(type(value), "keys")[1] is None:  # pairs
        return [iterate(session, pair) for pair in iterate(session, value)]
    if issubclass(cls, OrderedDict) and type(value) is not dict:
        return _by_keys(session, value)
    return spread_mapping(session, value)


# ---------------------------------------------------------------------------------------- truth


def test(session: Session, value: Any) -> bool:
    """`bool(value)`."""
    operand(session, value)
    if is_symbolic(value):
        return bool(value)
    for name in ("__bool__", "__len__"):
        if (method := python_method(session, value, name)) is not None:
            answer = session.numbers.fixed(session.call(method, (value,), {}))
            return bool(answering(name, answer))
        if not is_plain(value) and session.heap.class_attribute(type(value), name)[1] is not None:
            if not is_a(value, _CONTAINERS) and not is_settled(session, value, by_identity=False):
                session.stop(Code.UNKNOWN_OBJECT, f"the truth of a {type(value).__qualname__}")
            break
    return bool(value)


def answering(method: str, answer: object) -> object:
    """An object whose `method` gives `answer`; Python says whether that will do."""
    return type("Answering", (), {method: lambda _: answer})()


def operand(session: Session, value: Any) -> Any:
    """Note what Python's own truth test of `value` will read; return `value`."""
    session.regions.look(value)
    if is_symbolic(value):
        session.numbers.compute("bool", bool, value)
    elif is_a(value, _CONTAINERS):
        session.heap.length(value)
    return value


# ---------------------------------------------------------------------------- context managers


class Context:
    """Stands in for a context manager so that its methods run as twins."""

    __slots__ = ("_manager", "_session")

    def __init__(self, session: Session, manager: Any) -> None:
        self._session = session
        self._manager = manager

    def __enter__(self) -> Any:
        return self._run("__enter__")

    def __exit__(self, *exception: object) -> Any:
        return self._run("__exit__", *exception)

    def _run(self, name: str, *args: object) -> Any:
        manager = self._manager
        method = python_method(self._session, manager, name)
        if method is not None:
            if not is_library_file(method.__code__.co_filename):  # it may swallow exceptions
                self._session.tape.try_depth += 1 if name == "__enter__" else -1
            return self._session.call(method, (manager, *args), {})
        bound = getattr(type(manager), name).__get__(manager, type(manager))
        return self._session.call(bound, args, {})


def context(session: Session, manager: Any) -> Any:
    """What `with` may enter in place of `manager`."""
    if hasattr(type(manager), "__enter__") and hasattr(type(manager), "__exit__"):
        return Context(session, manager)
    return manager
