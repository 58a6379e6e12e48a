"""Rules of single builtins: `getattr`, `len`, `isinstance`, `next` and the like."""

from __future__ import annotations

import abc
import copy
import inspect
import types
from collections import deque
from collections.abc import Callable
from typing import Any

import torch

from janus_lite.errors import Code
from janus_lite.record import attributes
from janus_lite.record.contracts import RUN_LOCAL_TYPES, VALUE_TYPES, Contract
from janus_lite.record.effects import StoreKind
from janus_lite.record.heap import instance_dict
from janus_lite.record.iterators import EXHAUSTED, PEEKABLE
from janus_lite.record.kinds import is_a
from janus_lite.record.leaves import Arguments, Keywords, Leaf, call_leaf, unknown
from janus_lite.record.scalars import is_symbolic, plain
from janus_lite.record.session import Session


def _getattr(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    try:
        return attributes.load(session, args[0], args[1])
    except AttributeError:
        if len(args) == 3:
            return args[2]
        raise


def _hasattr(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> bool:
    try:
        attributes.load(session, *args)
    except AttributeError:
        return False
    return True


def _setattr(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> None:
    attributes.store(session, *args)


def _delattr(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> None:
    attributes.delete(session, *args)


def _vars(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    try:
        return attributes.load(session, args[0], "__dict__")
    except AttributeError:
        return vars(args[0])  # raises what Python raises


def _len(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    (value,) = args
    if is_a(value, list | tuple | dict | set | frozenset) or is_a(value, deque):
        method = session.heap.class_attribute(type(value), "__len__")[1]
        if not is_a(method, types.FunctionType):
            session.heap.length(value)
            return len(value)
    is_run_local = type(value) in RUN_LOCAL_TYPES and session.heap.source_of(value) is None
    if session.tape.sizes.are_asked("__len__", value) and value.dim():
        return session.tape.sizes.answer("__len__", value)
    if is_a(value, torch.Tensor) or type(value) in VALUE_TYPES or is_run_local:
        with session.own_work():
            return len(value)
    _, method = session.heap.class_attribute(type(value), "__len__")
    if is_a(method, types.FunctionType):
        return session.call(method, (value,), {})
    return unknown(session, function, args, kwargs)


def _through(name: str) -> Callable[..., Any]:
    """A builtin that is nothing but a call of `type(x).<name>` when that is a Python method."""

    def run(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
        value = args[0] if args else None
        is_plain = is_a(value, torch.Tensor) or is_symbolic(value) or type(value) in VALUE_TYPES
        if args and not is_plain:
            _, method = session.heap.class_attribute(type(value), name)
            if is_a(method, types.FunctionType):
                return session.call(method, args, kwargs)
        return call_leaf(session, function, Contract.PURE, args, kwargs)

    return run


def _iter(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    if len(args) != 1:
        return unknown(session, function, args, kwargs)
    if type(args[0]) in PEEKABLE:
        return args[0]
    return iter(session.iterate(args[0]))


def _next(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    iterator = args[0]
    source = session.heap.source_of(iterator)
    if source is not None and type(iterator) in PEEKABLE:
        return _advance(session, iterator, args)
    if source is not None:
        session.stop(Code.OUTSIDE_ITERATOR, f"`next` on {source}")
        return next(*args)
    _, method = session.heap.class_attribute(type(iterator), "__next__")
    if is_a(method, types.FunctionType):
        try:
            return session.call(method, (iterator,), {})
        except StopIteration:
            if len(args) == 2:
                return args[1]
            raise
    return next(*args)


def _advance(session: Session, iterator: Any, args: Arguments) -> Any:
    """`next` of an outside iterator that says what comes; a replay takes it at its commit."""
    with session.own_work():
        found = session.heap.upcoming(iterator)
    if not session.is_stopped:
        session.store(StoreKind.METHOD, iterator, "__next__")
        session.regions.keep_apart("steps an outside iterator")
    taken = next(*args)
    return taken if found is EXHAUSTED else found


def _isinstance(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> bool:
    value, classes = plain(args[0]), args[1]
    note_class(session, value)
    _note_registry(session, classes, "__instancecheck__")
    if is_a(session.heap.class_attribute(type(value), "__getattribute__")[1], types.FunctionType):
        with Leaf(session):  # `__class__` would be read through user code
            return issubclass(type(value), classes)
    with Leaf(session):
        return isinstance(value, classes)


def _issubclass(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> bool:
    cls, classes = args
    if is_a(cls, type):
        session.heap.bases(cls)
    _note_registry(session, classes, "__subclasscheck__")
    with Leaf(session):
        return issubclass(cls, classes)


def _callable(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> bool:
    value = plain(args[0])
    note_class(session, value)
    session.heap.class_attribute(type(value), "__call__")
    return callable(value)


def note_class(session: Session, value: object) -> None:
    """Note the class of an object, where a guard can compare it."""
    source = session.heap.source_of(value)
    if source is not None:
        session.heap.type_of(value, source)


def _note_registry(session: Session, classes: Any, check: str) -> None:
    """Note which classes were registered with an abstract base, when one of `classes` is one."""
    session.heap.snapshot(classes)
    for cls in classes if is_a(classes, tuple) else (classes,):
        meta = type(cls)
        if meta is type or not is_a(cls, type):
            continue
        if is_a(session.heap.class_attribute(meta, check)[1], types.FunctionType):
            session.heap.recall(abc.get_cache_token, (), abc.get_cache_token())


def _id(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> int:
    session.stop(Code.UNKNOWN_OBJECT, "`id()`: an address is no fact that a replay can check")
    return id(args[0])


def _signature(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """`inspect.signature` of a plain function or method; its code is an assumption."""
    inner = args[0].__func__ if is_a(args[0], types.MethodType) else args[0]
    if len(args) != 1 or kwargs or not is_a(inner, types.FunctionType) or inner.__dict__:
        return unknown(session, function, args, kwargs)
    session.heap.function(inner)
    with session.own_work():
        return inspect.signature(args[0])


def _deepcopy(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """`copy.deepcopy` of plain data: all of it becomes an assumption."""
    if len(args) != 1 or kwargs or not _note_plain_data(session, args[0], set()):
        return unknown(session, function, args, kwargs)
    with session.own_work():
        return function(*args)


def _note_plain_data(session: Session, value: Any, seen: set[int]) -> bool:
    """Note everything below `value`; whether it is containers, scalars and plain objects."""
    if id(value) in seen or session.heap.snapshot(value):
        return True
    seen.add(id(value))
    if is_a(value, dict | list | tuple):
        elements = dict.values(value) if is_a(value, dict) else value
        are_plain = [_note_plain_data(session, element, seen) for element in elements]
        return all(are_plain)
    state = instance_dict(value)
    copiers = ("__deepcopy__", "__copy__", "__getstate__", "__reduce__", "__getnewargs__")
    own = [session.heap.class_attribute(type(value), name)[1] for name in copiers]
    if state is None or any(is_a(method, types.FunctionType) for method in own):
        return False
    table = attributes.load_without_fallback(session, value, "__dict__")
    return _note_plain_data(session, table, seen)


def _from_numpy(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """Torch does not report it; an array that the graph made goes back into it."""
    if len(args) != 1 or kwargs or session.heap.made_of(args[0]) is None:
        return unknown(session, function, args, kwargs)
    return session.tape.call(function, args, kwargs, runs=function)  # it calls an operator inside


def _no_mode(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> bool:
    """What torch says while only the recorder's own modes are active."""
    return False


def _no_modes(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> int:
    """How many modes there are besides the recorder's own."""
    return 0


SPECIAL: dict[Any, Callable[..., Any]] = {
    torch._C._is_torch_function_mode_enabled: _no_mode,
    torch._C._len_torch_function_stack: _no_modes,
    torch._C._len_torch_dispatch_stack: _no_modes,
    getattr: _getattr,
    hasattr: _hasattr,
    setattr: _setattr,
    delattr: _delattr,
    vars: _vars,
    len: _len,
    iter: _iter,
    next: _next,
    isinstance: _isinstance,
    issubclass: _issubclass,
    callable: _callable,
    id: _id,
    repr: _through("__repr__"),
    abs: _through("__abs__"),
    round: _through("__round__"),
    hash: _through("__hash__"),
    torch.from_numpy: _from_numpy,
    inspect.signature: _signature,
    copy.deepcopy: _deepcopy,
}
