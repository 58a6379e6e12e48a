"""Calls: Python functions run as twins, leaves by contract, everything else stops the trace."""

from __future__ import annotations

import abc
import contextvars
import copy
import dataclasses
import enum
import functools
import inspect
import math
import operator
import threading
import types
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from janus_lite.errors import Code
from janus_lite.record import attributes, containers, draws, host, regions, subcalls, training
from janus_lite.record.contracts import (
    DENIED_METHODS,
    HOST_EFFECTS,
    ITERATORS,
    PASS_ALONG,
    READS,
    RUN_LOCAL_TYPES,
    VALUE_TYPES,
    Contract,
    python_leaves,
    table,
)
from janus_lite.record.effects import StoreKind
from janus_lite.record.heap import SCALARS, instance_dict
from janus_lite.record.iterators import EXHAUSTED, PEEKABLE
from janus_lite.record.kinds import is_a
from janus_lite.record.scalars import FUNCTIONS, NUMBERS, is_number, is_symbolic, plain, rebuilt
from janus_lite.record.session import Session
from janus_lite.record.stack import as_seen_by_user
from janus_lite.torch_internals import TORCH_BUILTINS

Arguments = tuple[Any, ...]
Keywords = dict[str, Any]
_C_FUNCTIONS = (
    types.BuiltinFunctionType,
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.MethodWrapperType,
    types.ClassMethodDescriptorType,
)
_UNKNOWN = object()
_COMPARING = frozenset({"sort", "__eq__", "__ne__", "index", "count", "remove", "__contains__"})
_PASSING = (tuple, list, zip, reversed, enumerate, torch.Size)
_SEQUENCES = (list, tuple, range, torch.Size)
_PYTHON = (types.FunctionType, types.MethodType, functools.partial)
_VIEWS: tuple[type, ...] = (type({}.keys()), type({}.values()), type({}.items()))
# Once torch.compile has run in the process, `nn.Module.__init__` calls into this module.
_DYNAMO_BOOKKEEPING = "torch._dynamo.mutation_guard"
# What a generated `__init__` has for default where a factory makes the value.
_FACTORY = dataclasses._HAS_DEFAULT_FACTORY  # type: ignore[attr-defined]  # private
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_LOCK_METHODS = frozenset({"__enter__", "__exit__", "acquire", "release", "locked"})
_BUILTIN_BASES = (dict, list, set, frozenset, tuple, str, int, float, deque)
_LRU_CACHE = type(functools.lru_cache(lambda: None))
_MODULE_CALL = torch.nn.Module.__call__
_COMPARING = frozenset({"sort", "__eq__", "index", "count", "remove", "__contains__"})
_HOOK_TABLES = ("_backward_hooks", "_backward_pre_hooks", "_forward_hooks", "_forward_pre_hooks")
_GLOBAL_HOOKS = (
    "_global_backward_pre_hooks",
    "_global_backward_hooks",
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
)
_TORCH_FUNCTION_TESTS: frozenset[object] = frozenset(
    getattr(torch.overrides, name)
    for name in ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
)


def call(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """`function(*args, **kwargs)`."""
    if session.is_stopped:
        return as_seen_by_user(function)(*args, **kwargs)
    kind = type(function)
    if kind in (type, types.BuiltinFunctionType) and not kwargs:
        number = _compute(session, function, args)
        if number is not _UNKNOWN:
            return number
    if kind is types.FunctionType:
        return _call_function(session, function, args, kwargs)
    if kind is types.MethodType:
        return _call_bound(session, function, args, kwargs)
    if is_a(function, type):
        return _construct(session, function, args, kwargs)
    if is_a(function, _C_FUNCTIONS):
        return _call_builtin(session, function, args, kwargs)
    if kind is functools.partial:
        return _call_partial(session, function, args, kwargs)
    if kind is _LRU_CACHE:
        return _call_memo(session, function, args, kwargs)
    return _call_object(session, function, args, kwargs)


def _compute(session: Session, function: Any, args: Arguments) -> Any:
    """A number made of a tensor, or of numbers some of which vary; `_UNKNOWN` for anything else."""
    if (function is int or function is float) and len(args) == 1 and is_a(args[0], torch.Tensor):
        method = torch.Tensor.__int__ if function is int else torch.Tensor.__float__
        return _call_torch(session, method, args, {})
    if not session.numbers:
        return _UNKNOWN
    if any(map(is_symbolic, args)) and function in FUNCTIONS and all(map(is_number, args)):
        return session.numbers.compute(FUNCTIONS[function], function, *args)
    if len(args) == 1 and function in _FOLDS:
        return _fold(session, function, args[0])
    return _UNKNOWN


def _fold(session: Session, function: Any, values: Any) -> Any:
    """`sum(values)` and the like, step by step where sizes vary; `_UNKNOWN` elsewhere."""
    is_stepped = _is_stepped(session, values)
    if is_stepped:
        with _Leaf(session):
            values = list(values)
    if _are_varying_sizes(session, values):
        return _FOLDS[function](session, values)
    return _call_leaf(session, function, Contract.PURE, (values,), {}) if is_stepped else _UNKNOWN


def _are_varying_sizes(session: Session, value: Any) -> bool:
    """Whether a value is a sequence of integers that the run made, some of which vary."""
    if not containers.is_made_sequence(session, value):
        return False
    return any(map(is_symbolic, value)) and all(type(plain(n)) is int for n in value)


def _product(session: Session, sizes: Any) -> Any:
    return functools.reduce(functools.partial(session.numbers.compute, "*", operator.mul), sizes, 1)


def _sum(session: Session, sizes: Any) -> Any:
    return functools.reduce(functools.partial(session.numbers.compute, "+", operator.add), sizes, 0)


def _choice(function: Any) -> Callable[[Session, Any], Any]:
    def choose(session: Session, sizes: Any) -> Any:
        if len(sizes) == 1:
            return sizes[0]
        return session.numbers.compute(function.__name__, function, *sizes)

    return choose


# What they give for integers is computed step by step, so that it varies with them.
_FOLDS: dict[Any, Callable[[Session, Any], Any]] = {
    math.prod: _product,
    sum: _sum,
    min: _choice(min),
    max: _choice(max),
}


def _fixed(session: Session, args: Arguments, kwargs: Keywords) -> tuple[Arguments, Keywords]:
    """The arguments with every varying number taken for a constant."""
    if not session.numbers:
        return args, kwargs
    return session.numbers.fixed(args), {k: session.numbers.fixed(v) for k, v in kwargs.items()}


def _call_bound(
    session: Session, function: types.MethodType, args: Arguments, kwargs: Keywords
) -> Any:
    owner = function.__self__
    if draws.is_generator(owner):
        return _call_draw(session, function, function.__func__, owner, args, kwargs)
    return call(session, function.__func__, (owner, *args), kwargs)


def _call_draw(
    session: Session, bound: Any, method: Any, generator: Any, args: Arguments, kwargs: Keywords
) -> Any:
    """A method of a random generator; `method` takes the generator first."""
    if draws.has_rule(session, method, generator, args, kwargs):
        return draws.call(session, method, generator, args, kwargs)
    return _unknown(session, bound, args, kwargs)


# -------------------------------------------------------------------------- Python functions


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
        return _call_leaf(session, function, contract, args, kwargs)
    rule = SPECIAL.get(function) or training.rule_of(function, args)
    if rule is not None:
        session.regions.look(*args, *kwargs.values())
        return rule(session, function, args, kwargs)
    if host.is_deferred(function):
        if host.call(session, function, args, kwargs):
            return None
        args, kwargs = host.plain_arguments(session, function, args, kwargs)
    if function in HOST_EFFECTS:
        return _host_effect(session, function, args, kwargs)
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


def _host_effect(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    session.stop(Code.HOST_EFFECT, f"calls `{function.__qualname__}`")
    return as_seen_by_user(function)(*args, **kwargs)


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
    args, kwargs = _fixed(session, args, kwargs)
    if not all(_is_getter_argument(session, a) for a in (*args, *kwargs.values())):
        return _unknown(session, function, args, kwargs)
    with _Leaf(session):
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
        return _call_leaf(session, function, contract, args, kwargs)
    _, method = session.heap.class_attribute(type(function), "__call__")
    if method is _MODULE_CALL and is_a(function, torch.nn.Module):
        return _call_module(session, function, args, kwargs)
    if is_a(method, types.FunctionType):
        return call(session, method, (function, *args), kwargs)
    return _unknown(session, function, args, kwargs)


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


# ------------------------------------------------------------------------------- classes


def _construct(session: Session, cls: type, args: Arguments, kwargs: Keywords) -> Any:
    """`cls(...)` as `type.__call__` does it: `__new__`, then `__init__`."""
    session.regions.touch(*args, *kwargs.values())
    session.regions.look(*args, *kwargs.values())
    if (contract := _class_contract(cls)) is not None:
        return _construct_leaf(session, cls, contract, args, kwargs)
    meta_call = session.heap.class_attribute(type(cls), "__call__")[1]
    if is_a(meta_call, types.FunctionType):
        return call(session, meta_call, (cls, *args), kwargs)
    if issubclass(cls, torch.Tensor) or meta_call is not type.__dict__["__call__"]:
        return _unknown(session, cls, args, kwargs)
    if hasattr(cls, "__del__"):
        session.stop(
            Code.UNKNOWN_OBJECT, f"makes a {cls.__qualname__}, whose `__del__` would not run"
        )
    _, new = session.heap.class_attribute(cls, "__new__")
    _, init = session.heap.class_attribute(cls, "__init__")
    value = _make(session, cls, new, args, kwargs)
    if value is _UNKNOWN:
        return _unknown(session, cls, args, kwargs)
    if cls in type(value).__mro__:
        _initialise(session, cls, init, value, args, kwargs)
    return value


def _construct_leaf(
    session: Session, cls: type, contract: Contract, args: Arguments, kwargs: Keywords
) -> Any:
    if cls is type:
        if len(args) != 1:
            return _unknown(session, cls, args, kwargs)
        if is_symbolic(args[0]) or type(args[0]) is torch.Size:
            return type(plain(args[0]))
        _note_class(session, args[0])
    if cls is map and args and is_a(args[0], _PYTHON) and _passes_along(session, zip, args[1:]):
        with _Leaf(session):  # what the callback gives goes on to whoever steps it
            return map(_callback(session, args[0], is_lazy=True), *args[1:])
    if kwargs.keys() <= {"strict"} and _passes_along(session, cls, args):
        with _Leaf(session):
            return cls(*args, **kwargs)
    if _is_namedtuple(cls):
        new = getattr(session.heap.class_attribute(cls, "__new__")[1], "__func__", None)
        if is_a(new, types.FunctionType) and new.__code__.co_filename == "<string>":
            with session.own_work():  # generated code that only makes the tuple
                return cls(*args, **kwargs)
    return _call_leaf(session, cls, contract, args, kwargs)


def _passes_along(session: Session, cls: type, args: Arguments) -> bool:
    """Whether an object is made of sequences without a look at what is in them."""
    if cls is slice:
        return all(n is None or is_number(n) for n in args)
    takes_tensors = cls in (zip, enumerate)  # which ask for `iter(tensor)`, an operation
    tensors = [a for a in args if takes_tensors and type(a) in (torch.Tensor, torch.nn.Parameter)]
    others = [a for a in args if not any(a is t for t in tensors)]
    if cls not in _PASSING or not all(
        type(a) in _SEQUENCES or _is_stepped(session, a) for a in others
    ):
        return False
    for argument in others:
        session.heap.note(argument)
    return True


def _is_stepped(session: Session, value: Any) -> bool:
    """Whether a value is an iterator that the run made."""
    is_iterator = type(value) in ITERATORS and hasattr(type(value), "__next__")
    return is_iterator and session.heap.source_of(value) is None


def _make(session: Session, cls: type, new: Any, args: Arguments, kwargs: Keywords) -> Any:
    """`cls.__new__(cls, ...)`; `_UNKNOWN` where that is C code without a contract."""
    if is_a(new, staticmethod):
        return call(session, new.__func__, (cls, *args), kwargs)
    if new is object.__dict__["__new__"]:
        return object.__new__(cls)
    if issubclass(cls, _BUILTIN_BASES) and is_a(new, types.BuiltinFunctionType):
        for argument in (*args, *kwargs.values()):
            session.heap.snapshot(argument)
        return new(cls, *args, **kwargs)
    return _UNKNOWN


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
            call(session, init, (value, *args), kwargs)
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
                made = call(session, field.default_factory, (), {})
            put(session, value, name, made)
    if hasattr(cls, "__post_init__"):
        call(session, attributes.load(session, value, "__post_init__"), tuple(post), {})


def _is_namedtuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields") and cls.__bases__ == (tuple,)


# ------------------------------------------------------------------------------ C callables


def _call_builtin(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    bound = getattr(function, "__self__", None)
    is_module = is_a(bound, types.ModuleType | None.__class__)
    _watch(session, function, bound, args, kwargs)
    special = SPECIAL.get(function) if _is_hashable(function) else None
    if special is not None:
        return special(session, function, args, kwargs)
    if _is_hashable(function) and function in HOST_EFFECTS:
        return _host_effect(session, function, args, kwargs)
    if host.is_deferred(function):
        host.call(session, function, args, kwargs)
        return None
    if function in _TORCH_FUNCTION_TESTS:
        return False if _only_plain_tensors(args) else function(*args, **kwargs)
    if is_a(bound, torch.Tensor) or (is_module and function in TORCH_BUILTINS):
        return _call_torch(session, function, args, kwargs)
    contract = table().get(function)
    if contract is not None:
        return _call_leaf(session, function, contract, args, kwargs)
    if is_a(function, types.BuiltinFunctionType | types.MethodWrapperType) and not is_module:
        return _call_method(session, function, bound, args, kwargs)
    objclass = getattr(function, "__objclass__", None)
    if objclass is not None and args:
        if issubclass(objclass, torch._C.TensorBase):
            return _call_torch(session, function, args, kwargs)
        bound_method = function.__get__(args[0], type(args[0]))
        return _call_method(session, bound_method, args[0], args[1:], kwargs)
    return _unknown(session, function, args, kwargs)


def _watch(session: Session, function: Any, bound: Any, args: Arguments, kwargs: Keywords) -> None:
    """Note what a C function may change, and of which lists it may look at the content."""
    session.regions.touch(bound, *args, *kwargs.values())
    is_torch = is_a(bound, torch.Tensor) or (_is_hashable(function) and function in TORCH_BUILTINS)
    is_append = is_a(bound, list) and function.__name__ == "append"
    if not (is_torch or is_append):
        session.regions.look(bound, *args, *kwargs.values())


def _is_hashable(function: object) -> bool:
    return not is_a(function, types.MethodWrapperType) and not is_a(
        getattr(function, "__self__", None), list | dict | set
    )


def _only_plain_tensors(args: Arguments) -> bool:
    for argument in args:
        if is_a(argument, tuple | list):
            if not _only_plain_tensors(tuple(argument)):
                return False
        elif is_a(argument, torch.Tensor):
            if type(argument) not in (torch.Tensor, torch.nn.Parameter, torch.nn.Buffer):
                return False
        elif hasattr(type(argument), "__torch_function__"):
            return False
    return True


def _call_torch(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    if session.tape.sizes.any_vary:
        answer = _size_answer(session, function, args, kwargs)
        if answer is not None:
            return answer
    before = len(session.tape.operations)
    try:
        result = function(*args, **kwargs)  # the function mode records it
    except TypeError:
        plain_args, plain_kwargs = _fixed(session, args, kwargs)
        if plain_args is args and not any(map(is_symbolic, kwargs.values())):
            raise
        return function(*plain_args, **plain_kwargs)  # the error names the user's classes
    if type(result) not in (*NUMBERS, list) or len(session.tape.operations) == before:
        return result  # sizes and the like are no operations
    with session.own_work():
        return session.tape.number(result)


def _size_answer(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """What a tensor with sizes that vary says about them; `None` where that is not the question."""
    bound = getattr(function, "__self__", None)
    operands = (bound, *args) if is_a(bound, torch.Tensor) else args
    name = function.__name__
    if operands and session.tape.sizes.are_asked(name, operands[0]):
        operands = session.numbers.fixed(operands)
        try:
            return session.tape.sizes.answer(name, *operands, **kwargs)
        except (TypeError, IndexError):
            return None  # torch's own error comes next
    return None


def _call_method(
    session: Session, method: Any, bound: Any, args: Arguments, kwargs: Keywords
) -> Any:
    """A C method of `bound`."""
    cls = type(bound)
    if draws.is_generator(bound):
        unbound = getattr(cls, method.__name__)
        return _call_draw(session, method, unbound, bound, args, kwargs)
    if cls in RUN_LOCAL_TYPES and session.heap.source_of(bound) is not None:
        return _unknown(session, method, args, kwargs)
    if cls in VALUE_TYPES or cls in RUN_LOCAL_TYPES or is_a(bound, str | int | tuple):
        return _call_value_method(session, method, bound, args, kwargs)
    for base, reads in READS.items():
        if issubclass(cls, base):
            return _call_container(session, method, bound, reads, args, kwargs)
    if is_a(bound, type):
        return _call_class_method(session, method, bound, args, kwargs)
    if is_a(bound, _LOCKS) and method.__name__ in _LOCK_METHODS:
        return method(*args, **kwargs)  # a replay touches no state that the lock guards
    if is_a(bound, contextvars.ContextVar):
        return _call_context_variable(session, method, bound, args)
    return _call_object_method(session, method, bound, args, kwargs)


def _call_value_method(
    session: Session, method: Any, bound: Any, args: Arguments, kwargs: Keywords
) -> Any:
    """A C method of something that never changes, or that the run has made."""
    if is_a(bound, tuple):
        if session.numbers and method.__name__ == "numel" and _are_varying_sizes(session, bound):
            return _product(session, bound)
        session.heap.snapshot(bound)  # C code looks at the elements
        session.heap.fix_numbers(bound)
    elif _is_unread(session, bound):
        return _unknown(session, method, args, kwargs)
    return _call_leaf(session, method, Contract.PURE, args, kwargs)


def _is_unread(session: Session, value: Any) -> bool:
    """Whether it is an outside `str` or `int` of a class of its own, whose value nobody noted."""
    is_plain = type(value) in (*VALUE_TYPES, *RUN_LOCAL_TYPES) or is_a(value, enum.Enum)
    return not is_plain and session.heap.source_of(value) is not None


def _call_object_method(
    session: Session, method: Any, bound: Any, args: Arguments, kwargs: Keywords
) -> Any:
    """A C method of an object that has no rule of its own: what `object` itself provides."""
    name = method.__name__
    is_fresh = session.heap.source_of(bound) is None
    if method.__qualname__ == "object.__setattr__" and len(args) == 2:
        return attributes.store_plainly(session, bound, *args)
    if method.__qualname__ == "object.__delattr__":
        return attributes.delete(session, bound, *args)
    if name == "__getattribute__" and len(args) == 1:
        return attributes.load_without_fallback(session, bound, args[0])
    if name in {"__init__", "__hash__", "__eq__", "__ne__", "__init_subclass__"}:
        return method(*args, **kwargs)
    if name in DENIED_METHODS or not is_fresh or not _is_run_object(bound):
        return _unknown(session, method, args, kwargs)
    return _call_leaf(session, method, Contract.PURE, args, kwargs)


def _call_context_variable(
    session: Session, method: Any, variable: contextvars.ContextVar[Any], args: Arguments
) -> Any:
    """`get` outside of a set-and-reset pair reads outside state; the pair changes nothing."""
    result = method(*args)
    name = method.__name__
    if name == "set":
        session.open_variables[variable] = session.open_variables.get(variable, 0) + 1
    elif name == "reset":
        session.open_variables[variable] = session.open_variables.get(variable, 0) - 1
    elif not session.open_variables.get(variable):
        if not all(type(a) in SCALARS for a in args):
            return _unknown(session, method, args, {})
        session.heap.recall(method, args, result)
        if type(result) not in SCALARS:
            session.heap.pin(result, f"{variable.name}.get()")
    return result


def _is_run_object(bound: object) -> bool:
    return is_a(bound, types.GeneratorType)


def _call_class_method(
    session: Session, method: Any, cls: type, args: Arguments, kwargs: Keywords
) -> Any:
    name = method.__name__
    if name == "apply" and issubclass(cls, torch.autograd.Function):
        return _call_autograd_function(session, cls, args)
    is_plain_new = any(method is base.__new__ for base in (object, dict, list, set, tuple))
    if is_plain_new and args and is_a(args[0], type):
        for argument in args[1:]:
            session.heap.snapshot(argument)
        return method(*args, **kwargs)
    if name in {"fromkeys", "from_bytes", "fromhex", "maketrans"}:
        return _call_leaf(session, method, Contract.PURE, args, kwargs)
    if name in {"mro", "__subclasscheck__", "__instancecheck__"}:
        return _call_leaf(session, method, Contract.INSPECT, args, kwargs)
    return _unknown(session, method, args, kwargs)


def _call_autograd_function(session: Session, cls: Any, args: Arguments) -> Any:
    """A custom autograd function is one operation: a replay applies it for real.

    Its `forward` runs as a twin here, so that what it reads is assumed and a store is noticed; its
    tensor calls belong to the operation.
    """
    forward = cls.forward
    session.has_custom_backward = True

    def run_forward(*arguments: Any) -> Any:
        session.opaque += 1
        depth, session.tape.depth = session.tape.depth, 1
        try:
            return session.call(forward, arguments, {})
        finally:
            session.opaque -= 1
            session.tape.depth = depth

    with session.own_work():
        recorded: Any = type(cls.__name__, (cls,), {"forward": staticmethod(run_forward)})
    return session.tape.call(cls.apply, args, {}, runs=recorded.apply)


def _call_container(
    session: Session,
    method: Any,
    bound: Any,
    reads: frozenset[str],
    args: Arguments,
    kwargs: Keywords,
) -> Any:
    """A C method of a list, tuple, dict, set or deque."""
    source = session.heap.source_of(bound)
    name = method.__name__
    if source is not None:
        if name not in reads:
            return containers.change(session, method, bound, args, kwargs)
        args = session.numbers.fixed(args)
        if is_a(bound, dict) and name in {"get", "__getitem__", "__contains__"}:
            if name != "__contains__" and type(bound) is dict and args[0] in bound:
                return session.heap.read_entry(source, bound, args[0])
            session.heap.entry(source, bound, args[0])
            return method(*args, **kwargs)
        if name == "__len__":
            session.heap.length(bound)
            return method(*args)
        if is_a(bound, dict) and name == "keys":
            session.heap.keys(source, bound)
            return method(*args)
        session.heap.content(source, bound)
    elif name in _COMPARING:
        session.heap.fix_numbers(bound)
    return _call_known_container(session, method, bound, args, kwargs)


def _call_known_container(
    session: Session, method: Any, bound: Any, args: Arguments, kwargs: Keywords
) -> Any:
    """A C method of a container whose content the run made, or has noted."""
    name = method.__name__
    if name not in {"append", "appendleft", "extend"}:
        args, kwargs = _fixed(session, args, kwargs)
    if name in {"index", "count", "remove", "__contains__"} and args:
        session.tape.compare_by_identity(args[0], bound)
    if name in {"sort", "__eq__", "index", "count", "remove", "__contains__", "update", "extend"}:
        args, kwargs = _as_twins(session, args), _as_twins(session, kwargs)
        return _call_leaf(session, method, Contract.INSPECT, args, kwargs)
    with _Leaf(session):  # a tensor is hashed by library code, by identity
        return method(*args, **kwargs)


def _call_leaf(
    session: Session, function: Any, contract: Contract, args: Arguments, kwargs: Keywords
) -> Any:
    """Call a leaf after noting what its contract says it reads."""
    args, kwargs = _fixed(session, args, kwargs)
    if contract is Contract.AMBIENT:
        if function is torch._C._set_grad_enabled:  # reports to the function mode itself
            return function(*args)
        return session.tape.ambient(function, args)
    if contract is Contract.GETTER:
        with _Leaf(session):
            result = function(*args, **kwargs)
        if kwargs or not all(_is_getter_argument(session, a) for a in args):
            session.stop(Code.UNKNOWN_CALL, f"`{_name(function)}` with arguments that vary")
        else:
            session.heap.recall(function, args, result)
        return result
    if contract is Contract.PURE:
        understood = [_leaf_argument(session, a) for a in (*args, *kwargs.values())]
        if function not in PASS_ALONG:
            understood = [_with_fixed_elements(session, value) for value in understood]
        if any(value is _UNKNOWN for value in understood):
            return _unknown(session, function, args, kwargs)
        args, named = tuple(understood[: len(args)]), understood[len(args) :]
        kwargs = dict(zip(kwargs, named, strict=True))
    with _Leaf(session):
        return function(*args, **kwargs)


def _leaf_argument(session: Session, value: Any) -> Any:
    """What a pure leaf may get in place of `value`; `_UNKNOWN` when it must not get it."""
    if is_a(value, _PYTHON):
        return _callback(session, value)
    if session.heap.snapshot(value) or is_a(value, (type, *_C_FUNCTIONS)):
        return value
    if type(value) in RUN_LOCAL_TYPES or type(value) in VALUE_TYPES:
        if session.heap.source_of(value) is not None:
            return _UNKNOWN
        if _is_stepped(session, value):
            return map(session.numbers.fixed, value)
        if session.numbers and type(value) in _VIEWS:
            session.heap.snapshot(tuple(value))
        return value
    iterate = session.heap.class_attribute(type(value), "__iter__")[1]
    if is_a(iterate, types.FunctionType):
        return session.iterate(value)
    if is_a(value, list | tuple | dict | set | frozenset | deque):
        return value  # its elements are only passed along
    return _UNKNOWN


def _with_fixed_elements(session: Session, value: Any) -> Any:
    """An iterator whose varying numbers are taken for constants: C code computes with them."""
    return map(session.numbers.fixed, value) if is_a(value, ITERATORS) else value


def _is_getter_argument(session: Session, value: object) -> bool:
    source = session.heap.source_of(value)
    if type(value) in SCALARS or is_a(value, type | types.ModuleType):
        return True
    if type(value) is tuple:
        return all(type(part) in SCALARS for part in value)
    return source is not None and source.is_pinned


def _as_twins(session: Session, values: Any) -> Any:
    """Replace Python functions that C code will call back by callers of their twins."""
    if is_a(values, dict):
        return {k: _callback(session, v) for k, v in values.items()}
    return tuple(_callback(session, v) for v in values)


def _callback(session: Session, value: Any, *, is_lazy: bool = False) -> Any:
    """What C code may call in place of a Python function; it sees plain numbers, unless lazy."""
    if not is_a(value, _PYTHON):
        return value

    def call_twin(*args: Any, **kwargs: Any) -> Any:
        depth, session.tape.depth = session.tape.depth, 0
        try:
            result = call(session, value, args, kwargs)
            return result if is_lazy else session.numbers.fixed(result)
        finally:
            session.tape.depth = depth

    return call_twin


class _Leaf:
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


def _unknown(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    if not session.is_stopped:
        session.stop(Code.UNKNOWN_CALL, f"calls `{_name(function)}`, which is in no contract")
    return as_seen_by_user(function)(*args, **kwargs)


def _name(function: Any) -> str:
    module = getattr(function, "__module__", None) or ""
    name = getattr(function, "__qualname__", None) or repr(function)
    return f"{module}.{name}" if module and module != "builtins" else str(name)


# --------------------------------------------------------------------------------- builtins


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
    return attributes.load(session, args[0], "__dict__")


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
        return call(session, method, (value,), {})
    return _unknown(session, function, args, kwargs)


def _through(name: str) -> Callable[..., Any]:
    """A builtin that is nothing but a call of `type(x).<name>` when that is a Python method."""

    def run(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
        value = args[0] if args else None
        is_plain = is_a(value, torch.Tensor) or is_symbolic(value) or type(value) in VALUE_TYPES
        if args and not is_plain:
            _, method = session.heap.class_attribute(type(value), name)
            if is_a(method, types.FunctionType):
                return call(session, method, args, kwargs)
        return _call_leaf(session, function, Contract.PURE, args, kwargs)

    return run


def _iter(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    if len(args) != 1:
        return _unknown(session, function, args, kwargs)
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
            return call(session, method, (iterator,), {})
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
    _note_class(session, value)
    _note_registry(session, classes, "__instancecheck__")
    if is_a(session.heap.class_attribute(type(value), "__getattribute__")[1], types.FunctionType):
        with _Leaf(session):  # `__class__` would be read through user code
            return issubclass(type(value), classes)
    with _Leaf(session):
        return isinstance(value, classes)


def _issubclass(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> bool:
    cls, classes = args
    if is_a(cls, type):
        session.heap.bases(cls)
    _note_registry(session, classes, "__subclasscheck__")
    with _Leaf(session):
        return issubclass(cls, classes)


def _callable(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> bool:
    value = plain(args[0])
    _note_class(session, value)
    session.heap.class_attribute(type(value), "__call__")
    return callable(value)


def _note_class(session: Session, value: object) -> None:
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
        return _unknown(session, function, args, kwargs)
    session.heap.function(inner)
    with session.own_work():
        return inspect.signature(args[0])


def _deepcopy(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """`copy.deepcopy` of plain data: all of it becomes an assumption."""
    if len(args) != 1 or kwargs or not _note_plain_data(session, args[0], set()):
        return _unknown(session, function, args, kwargs)
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
        return _unknown(session, function, args, kwargs)
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
    bool: _through("__bool__"),
    int: _through("__int__"),
    float: _through("__float__"),
    str: _through("__str__"),
    repr: _through("__repr__"),
    abs: _through("__abs__"),
    round: _through("__round__"),
    hash: _through("__hash__"),
    torch.from_numpy: _from_numpy,
    inspect.signature: _signature,
    copy.deepcopy: _deepcopy,
}
