"""Calls: Python functions run as twins, leaves by contract, everything else stops the trace."""

from __future__ import annotations

import functools
import types
import weakref
from typing import Any

import numpy as np
import torch

from janus_lite.record import attributes, draws, host, regions, subcalls, training
from janus_lite.record.builtin_functions import SPECIAL
from janus_lite.record.c_functions import call_builtin, call_draw, host_effect
from janus_lite.record.classes import construct
from janus_lite.record.contracts import HOST_EFFECTS, Contract, python_leaves, table
from janus_lite.record.folds import compute
from janus_lite.record.heap import SCALARS
from janus_lite.record.kinds import is_a
from janus_lite.record.leaves import (
    C_FUNCTIONS,
    UNKNOWN,
    Arguments,
    Keywords,
    Leaf,
    call_leaf,
    fixed,
    is_getter_argument,
    unknown,
)
from janus_lite.record.scalars import plain, rebuilt
from janus_lite.record.session import Session
from janus_lite.record.stack import as_seen_by_user

# Once torch.compile has run in the process, `nn.Module.__init__` calls into this module.
_DYNAMO_BOOKKEEPING = "torch._dynamo.mutation_guard"
_LRU_CACHE = type(functools.lru_cache(lambda: None))
_MODULE_CALL = torch.nn.Module.__call__
_HOOK_TABLES = ("_backward_hooks", "_backward_pre_hooks", "_forward_hooks", "_forward_pre_hooks")
_GLOBAL_HOOKS = (
    "_global_backward_pre_hooks",
    "_global_backward_hooks",
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
)


def call(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """`function(*args, **kwargs)`."""
    if session.is_stopped:
        return as_seen_by_user(function)(*args, **kwargs)
    kind = type(function)
    if kind in (type, types.BuiltinFunctionType) and not kwargs:
        number = compute(session, function, args)
        if number is not UNKNOWN:
            return number
    if kind is types.FunctionType:
        return _call_function(session, function, args, kwargs)
    if kind is types.MethodType:
        return _call_bound(session, function, args, kwargs)
    if is_a(function, type):
        return construct(session, function, args, kwargs)
    if is_a(function, C_FUNCTIONS):
        return call_builtin(session, function, args, kwargs)
    if kind is functools.partial:
        return _call_partial(session, function, args, kwargs)
    if kind is _LRU_CACHE:
        return _call_memo(session, function, args, kwargs)
    return _call_object(session, function, args, kwargs)


def _call_bound(
    session: Session, function: types.MethodType, args: Arguments, kwargs: Keywords
) -> Any:
    owner = function.__self__
    if draws.is_generator(owner):
        return call_draw(session, function, function.__func__, owner, args, kwargs)
    return call(session, function.__func__, (owner, *args), kwargs)


def _call_function(
    session: Session, function: types.FunctionType, args: Arguments, kwargs: Keywords
) -> Any:
    if function.__module__ == _DYNAMO_BOOKKEEPING:
        with session.own_work():  # tags each new module for torch.compile; no program sees it
            return function(*args, **kwargs)
    contract = python_leaves().get(function)
    has_numbers = session.numbers and rebuilt(args, plain) is not args
    if contract is not None and not (contract is Contract.PURE and has_numbers):
        session.regions.look(*args, *kwargs.values())
        return call_leaf(session, function, contract, args, kwargs)
    rule = SPECIAL.get(function) or training.rule_of(function, args)
    if rule is not None:
        session.regions.look(*args, *kwargs.values())
        return rule(session, function, args, kwargs)
    if host.is_deferred(function):
        if host.call(session, function, args, kwargs):
            return None
        args, kwargs = host.plain_arguments(session, function, args, kwargs)
    if function in HOST_EFFECTS:
        return host_effect(session, function, args, kwargs)
    if session.callees is None or not subcalls.is_candidate(session, function):
        return _run_twin(session, function, args, kwargs)
    callee = subcalls.Callee.of(function, args)
    region = session.callees.find(callee) if session.active else None
    if region is not None:
        return subcalls.call(session, callee, region, args, kwargs)
    if callee in session.active:
        cycle = session.active[session.active.index(callee) :]
        session.recursions.update(dict.fromkeys(cycle))
        session.walks_objects |= subcalls.walks_objects(session, args)
    session.active.append(callee)
    try:
        return _run_twin(session, function, args, kwargs)
    finally:
        session.active.pop()


def _run_twin(
    session: Session, function: types.FunctionType, args: Arguments, kwargs: Keywords
) -> Any:
    twin = session.twin_for(function)
    if twin is None:
        return function(*args, **kwargs)
    with regions.CallRegion(session, function.__code__) as region:
        return region.leave(twin(*args, **kwargs))


def _call_partial(
    session: Session, function: functools.partial[Any], args: Arguments, kwargs: Keywords
) -> Any:
    source = session.heap.source_of(function)
    if source is not None:
        for name in ("func", "args", "keywords"):
            session.heap.field(function, name, getattr(function, name))
        session.heap.snapshot(function.keywords)
        session.heap.snapshot(function.args)
    return call(session, function.func, (*function.args, *args), {**function.keywords, **kwargs})


def _call_memo(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """An `lru_cache`: the guard calls it again, once, just as eager would have."""
    session.regions.look(*args, *kwargs.values())
    args, kwargs = fixed(session, args, kwargs)
    if not all(is_getter_argument(session, a) for a in (*args, *kwargs.values())):
        return unknown(session, function, args, kwargs)
    with Leaf(session):
        result = function(*args, **kwargs)
    getter = functools.partial(function, **kwargs) if kwargs else function
    if is_a(result, torch.Tensor):
        session.heap.answer(getter, args, result)
        return result
    session.heap.recall(getter, args, result)
    if type(result) not in SCALARS:
        session.heap.pin(result, f"{function.__qualname__}(...)")
    return result


def _call_object(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """An object with `__call__`; a module without hooks goes straight to its `forward`."""
    target = getattr(type(function), "__janus_target__", None)
    if target is not None:  # a speculated function inside another one
        inner, owner = target(function)
        if owner is not None:
            _, forward = session.heap.class_attribute(type(owner), "forward")
            return call(session, forward, (owner, *args), kwargs)
        return call(session, inner, args, kwargs)
    if is_a(function, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        with session.own_work():  # dispatching an operator runs Python code of torch
            return session.tape.call(function, args, kwargs)
    if is_a(function, weakref.ref) and not args and not kwargs:
        value = function()
        session.heap.referent(function, value)
        return value
    if is_a(function, torch.jit.ScriptFunction):
        return session.tape.call(function, args, kwargs)
    if is_a(function, np.ufunc) and (contract := table().get(function)) is not None:
        return call_leaf(session, function, contract, args, kwargs)
    _, method = session.heap.class_attribute(type(function), "__call__")
    if method is _MODULE_CALL and is_a(function, torch.nn.Module):
        return _call_module(session, function, args, kwargs)
    if is_a(method, types.FunctionType):
        return call(session, method, (function, *args), kwargs)
    return unknown(session, function, args, kwargs)


def _call_module(
    session: Session, module: torch.nn.Module, args: Arguments, kwargs: Keywords
) -> Any:
    module_globals = _MODULE_CALL.__globals__
    hooked = attributes.load(session, module, "_compiled_call_impl") is not None
    for name in _HOOK_TABLES:
        hooks = attributes.load(session, module, name)
        session.heap.length(hooks)
        hooked |= bool(hooks)
    for name in _GLOBAL_HOOKS:
        session.heap.global_name(module_globals, name)
        hooks = module_globals[name]
        session.heap.length(hooks)
        hooked |= bool(hooks)
    source = session.heap.source_of(module)
    session.module_path.append(str(source) if source is not None else type(module).__name__)
    try:
        if hooked or torch._C._get_tracing_state():
            method = attributes.load(session, module, "_call_impl")
        else:
            method = attributes.load(session, module, "forward")
        return call(session, method, args, kwargs)
    finally:
        session.module_path.pop()
