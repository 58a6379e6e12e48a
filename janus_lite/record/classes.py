"""Calls of classes: how an object that the run makes comes about."""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import types
from collections import OrderedDict, defaultdict, deque
from typing import Any

import torch

from janus_lite.errors import Code
from janus_lite.record import attributes
from janus_lite.record.builtin_functions import note_class
from janus_lite.record.contracts import RUN_LOCAL_TYPES, Contract, table
from janus_lite.record.kinds import is_a
from janus_lite.record.leaves import (
    PYTHON,
    UNKNOWN,
    Arguments,
    Keywords,
    Leaf,
    call_leaf,
    callback,
    is_stepped,
    unknown,
)
from janus_lite.record.scalars import is_number, is_symbolic, plain
from janus_lite.record.session import Session
from janus_lite.record.syntax import merged, test

_PASSING = (tuple, list, zip, reversed, enumerate, torch.Size)
# With so many positional arguments, the last one is a mapping or pairs.
_MERGING: dict[type, int] = {dict: 1, OrderedDict: 1, defaultdict: 2}
# They show, or take over, what an outside object of theirs holds.
_TAKING_OVER = (types.MappingProxyType, functools.partial)
_SEQUENCES = (list, tuple, range, torch.Size)
# What a generated `__init__` has for default where a factory makes the value.
_FACTORY = dataclasses._HAS_DEFAULT_FACTORY  # type: ignore[attr-defined]  # private
_BUILTIN_BASES = (dict, list, set, frozenset, tuple, str, int, float, deque)


def construct(session: Session, cls: type, args: Arguments, kwargs: Keywords) -> Any:
    """`cls(...)` as `type.__call__` does it: `__new__`, then `__init__`."""
    session.regions.touch(*args, *kwargs.values())
    session.regions.look(*args, *kwargs.values())
    if (contract := _class_contract(cls)) is not None:
        return _construct_leaf(session, cls, contract, args, kwargs)
    meta_call = session.heap.class_attribute(type(cls), "__call__")[1]
    if is_a(meta_call, types.FunctionType):
        return session.call(meta_call, (cls, *args), kwargs)
    if issubclass(cls, torch.Tensor) or meta_call is not type.__dict__["__call__"]:
        return unknown(session, cls, args, kwargs)
    if hasattr(cls, "__del__"):
        session.stop(
            Code.UNKNOWN_OBJECT, f"makes a {cls.__qualname__}, whose `__del__` would not run"
        )
    _, new = session.heap.class_attribute(cls, "__new__")
    _, init = session.heap.class_attribute(cls, "__init__")
    value = _make(session, cls, new, args, kwargs)
    if value is UNKNOWN:
        return unknown(session, cls, args, kwargs)
    if cls in type(value).__mro__:
        _initialise(session, cls, init, value, args, kwargs)
    return value


def _construct_leaf(
    session: Session, cls: type, contract: Contract, args: Arguments, kwargs: Keywords
) -> Any:
    if cls is type:
        return _class_of(session, args, kwargs)
    if cls is bool and len(args) == 1 and not kwargs:
        return test(session, args[0])
    if cls in _MERGING and len(args) == _MERGING[cls]:
        args = (*args[:-1], merged(session, cls, args[-1]))
    if cls in _TAKING_OVER and _takes_over(session, cls, args):
        return unknown(session, cls, args, kwargs)
    if cls is map and args and is_a(args[0], PYTHON) and _passes_along(session, zip, args[1:]):
        with Leaf(session):  # what the callback gives goes on to whoever steps it
            return map(callback(session, args[0], is_lazy=True), *args[1:])
    if kwargs.keys() <= {"strict"} and _passes_along(session, cls, args):
        with Leaf(session):
            return cls(*args, **kwargs)
    if _is_namedtuple(cls):
        new = getattr(session.heap.class_attribute(cls, "__new__")[1], "__func__", None)
        if is_a(new, types.FunctionType) and new.__code__.co_filename == "<string>":
            with session.own_work():  # generated code that only makes the tuple
                return cls(*args, **kwargs)
    return call_leaf(session, cls, contract, args, kwargs)


def _class_of(session: Session, args: Arguments, kwargs: Keywords) -> Any:
    """`type(value)`."""
    if len(args) != 1:
        return unknown(session, type, args, kwargs)
    if is_symbolic(args[0]) or type(args[0]) is torch.Size:
        return type(plain(args[0]))
    note_class(session, args[0])
    return call_leaf(session, type, Contract.INSPECT, args, kwargs)


def _takes_over(session: Session, cls: type, args: Arguments) -> bool:
    is_outside = bool(args) and session.heap.source_of(args[0]) is not None
    return is_outside and (cls is types.MappingProxyType or is_a(args[0], (cls,)))


def _passes_along(session: Session, cls: type, args: Arguments) -> bool:
    """Whether an object is made of sequences without a look at what is in them."""
    if cls is slice:
        return all(n is None or is_number(n) for n in args)
    takes_tensors = cls in (zip, enumerate)  # which ask for `iter(tensor)`, an operation
    tensors = [a for a in args if takes_tensors and type(a) in (torch.Tensor, torch.nn.Parameter)]
    others = [a for a in args if not any(a is t for t in tensors)]
    if cls not in _PASSING or not all(
        type(a) in _SEQUENCES or is_stepped(session, a) for a in others
    ):
        return False
    for argument in others:
        session.heap.note(argument)
    return True


def _make(session: Session, cls: type, new: Any, args: Arguments, kwargs: Keywords) -> Any:
    """`cls.__new__(cls, ...)`; `UNKNOWN` where that is C code without a contract."""
    if is_a(new, staticmethod):
        return session.call(new.__func__, (cls, *args), kwargs)
    if new is object.__dict__["__new__"]:
        return object.__new__(cls)
    if issubclass(cls, _BUILTIN_BASES) and is_a(new, types.BuiltinFunctionType):
        for argument in (*args, *kwargs.values()):
            session.heap.snapshot(argument)
        return new(cls, *args, **kwargs)
    return UNKNOWN


def _class_contract(cls: type) -> Contract | None:
    """The contract of a class whose construction is a leaf."""
    if (contract := table().get(cls)) is not None:
        return contract
    is_leaf = cls in RUN_LOCAL_TYPES or issubclass(cls, (BaseException, enum.Enum))
    return Contract.INSPECT if is_leaf or _is_namedtuple(cls) else None


def _initialise(
    session: Session, cls: type, init: Any, value: Any, args: Arguments, kwargs: Keywords
) -> None:
    if is_a(init, types.FunctionType):
        if init.__code__.co_filename == "<string>" and hasattr(cls, "__dataclass_fields__"):
            _initialise_dataclass(session, cls, init, value, args, kwargs)
        else:
            session.call(init, (value, *args), kwargs)
    elif init is object.__dict__["__init__"]:
        if args or kwargs:
            object.__init__(value, *args, **kwargs)
    else:
        for argument in (*args, *kwargs.values()):
            session.heap.snapshot(argument)
        init(value, *args, **kwargs)


def _initialise_dataclass(
    session: Session,
    cls: type,
    init: types.FunctionType,
    value: Any,
    args: Arguments,
    kwargs: Keywords,
) -> None:
    """A generated `__init__` has no source; do what it does, field by field."""
    session.heap.function(init)
    with session.own_work():
        bound = inspect.signature(init).bind(value, *args, **kwargs)
        bound.apply_defaults()
    given = bound.arguments
    is_frozen = cls.__dataclass_params__.frozen  # type: ignore[attr-defined]  # a dataclass has it
    put = attributes.store_plainly if is_frozen else attributes.store
    post = []
    for name, field in cls.__dataclass_fields__.items():  # type: ignore[attr-defined]  # likewise
        if field._field_type is dataclasses._FIELD_CLASSVAR:  # type: ignore[attr-defined]  # private
            continue
        if field._field_type is dataclasses._FIELD_INITVAR:  # type: ignore[attr-defined]  # private
            post.append(given.get(name, field.default))
        elif field.init or field.default_factory is not dataclasses.MISSING:
            made = given.get(name, _FACTORY)
            if made is _FACTORY:
                made = session.call(field.default_factory, (), {})
            put(session, value, name, made)
    if hasattr(cls, "__post_init__"):
        session.call(attributes.load(session, value, "__post_init__"), tuple(post), {})


def _is_namedtuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields") and cls.__bases__ == (tuple,)
