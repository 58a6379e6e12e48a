"""Leaves: calls that run as one step, after noting what their contract says they read."""

from __future__ import annotations

import functools
import types
from collections import deque
from typing import Any

import torch

from janus_lite.errors import Code
from janus_lite.record.contracts import (
    ITERATORS,
    PASS_ALONG,
    RUN_LOCAL_TYPES,
    VALUE_TYPES,
    VIEWS,
    Contract,
    calls_back,
    is_showing,
    is_stepping,
)
from janus_lite.record.heap import SCALARS
from janus_lite.record.kinds import is_a
from janus_lite.record.session import Session
from janus_lite.record.stack import as_seen_by_user

Arguments = tuple[Any, ...]
Keywords = dict[str, Any]
C_FUNCTIONS = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
)
UNKNOWN = object()
PYTHON = (types.FunctionType, types.MethodType, functools.partial)


def fixed(session: Session, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords]:
    """The arguments with every varying number taken for a constant."""
    if not session.numbers:
        return args, kwargs
    return session.numbers.fixed(args), {k: session.numbers.fixed(v) for k, v in kwargs.items()}


def is_stepped(session: Session, value: Any) -> bool:
    """Whether a value is an iterator that the run made."""
    is_iterator = type(value) in ITERATORS and hasattr(type(value), "__next__")
    return is_iterator and session.heap.source_of(value) is None


def call_leaf(
    session: Session, function: Any, contract: Contract, args: Arguments, kwargs: Keywords
) -> Any:
    """Call a leaf after noting what its contract says it reads."""
    args, kwargs = fixed(session, args, kwargs)
    if contract is Contract.AMBIENT:
        if function is torch._C._set_grad_enabled:  # reports to the function mode itself
            return function(*args)
        return session.tape.ambient(function, args)
    if contract is Contract.GETTER:
        with Leaf(session):
            result = function(*args, **kwargs)
        if kwargs or not all(is_getter_argument(session, a) for a in args):
            session.stop(Code.UNKNOWN_CALL, f"`{_name(function)}` with arguments that vary")
        else:
            session.heap.recall(function, args, result)
        return result
    if contract is Contract.PURE:
        given: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
        count = len(args)
        understood = [_leaf_argument(session, function, p, count, value) for p, value in given]
        if any(value is UNKNOWN for value in understood):
            return unknown(session, function, args, kwargs)
        args, named = tuple(understood[: len(args)]), understood[len(args) :]
        kwargs = dict(zip(kwargs, named, strict=True))
    with Leaf(session):
        return function(*args, **kwargs)


def _leaf_argument(
    session: Session, function: Any, place: int | str, count: int, value: Any
) -> Any:
    """What a pure leaf may get in place of `value`; `UNKNOWN` when it must not get it."""
    if is_a(value, PYTHON):
        return callback(session, value) if calls_back(function, place) else value
    if session.heap.snapshot(value) or is_a(value, (type, *C_FUNCTIONS)):
        return value
    if type(value) in RUN_LOCAL_TYPES or type(value) in VALUE_TYPES:
        return _made_argument(session, function, value)
    iterate = session.heap.class_attribute(type(value), "__iter__")[1]
    if is_a(iterate, types.FunctionType):
        if not is_stepping(function, place, count):
            return UNKNOWN
        elements = session.iterate(value)
        return elements if function in PASS_ALONG else _read_elements(session, elements)
    if is_a(value, list | tuple | dict | set | frozenset | deque):
        return value  # its elements are only passed along
    return UNKNOWN


def _made_argument(session: Session, function: Any, value: Any) -> Any:
    """What a pure leaf may get in place of an iterator or a value that the run made."""
    if session.heap.source_of(value) is not None:
        return UNKNOWN
    if type(value) in VIEWS:
        session.heap.snapshot(tuple(value))
    if is_showing(function):
        return UNKNOWN if type(value) is types.MappingProxyType else value
    if is_stepped(session, value) or (function not in PASS_ALONG and is_a(value, ITERATORS)):
        return _read_elements(session, value)
    return value


def _read_elements(session: Session, elements: Any) -> Any:
    """Elements for C code that computes with them, hashes or compares them."""

    def noted(element: Any) -> Any:
        session.heap.snapshot(element)
        return session.numbers.fixed(element)

    return map(noted, elements)


def is_getter_argument(session: Session, value: object) -> bool:
    """Whether a guard can ask a getter again with this argument."""
    source = session.heap.source_of(value)
    if type(value) in SCALARS or is_a(value, type | types.ModuleType):
        return True
    if type(value) is tuple:
        return all(type(part) in SCALARS for part in value)
    return source is not None and source.is_pinned


def callback(session: Session, value: Any, *, is_lazy: bool = False) -> Any:
    """What C code may call in place of a Python function; it sees plain numbers, unless lazy."""
    if not is_a(value, PYTHON):
        return value

    def call_twin(*args: Any, **kwargs: Any) -> Any:
        depth, session.tape.depth = session.tape.depth, 0
        try:
            result = session.call(value, args, kwargs)
            return result if is_lazy else session.numbers.fixed(result)
        finally:
            session.tape.depth = depth

    return call_twin


class Leaf:
    """While a leaf runs, frames of the standard library and torch are expected.

    Tensor operations that it runs are recorded like any others.
    """

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        self._session = session

    def __enter__(self) -> None:
        self._session.leaves += 1

    def __exit__(self, *exception: object) -> None:
        self._session.leaves -= 1


def unknown(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """Stop the trace at a call that nothing is known about, and make it."""
    if not session.is_stopped:
        session.stop(Code.UNKNOWN_CALL, f"calls `{_name(function)}`, which is in no contract")
    return as_seen_by_user(function)(*args, **kwargs)


def _name(function: Any) -> str:
    module = getattr(function, "__module__", None) or ""
    name = getattr(function, "__qualname__", None) or repr(function)
    return f"{module}.{name}" if module and module != "builtins" else str(name)
