"""Calls of C code: torch's own functions, methods of containers, values and generators."""

from __future__ import annotations

import contextvars
import enum
import threading
import types
from collections import deque
from typing import Any

import torch

from janus_lite.errors import Code
from janus_lite.record import attributes, containers, draws, host
from janus_lite.record.builtin_functions import SPECIAL
from janus_lite.record.contracts import (
    DENIED_METHODS,
    HOST_EFFECTS,
    READS,
    RUN_LOCAL_TYPES,
    VALUE_TYPES,
    Contract,
    table,
)
from janus_lite.record.folds import are_varying_sizes, product
from janus_lite.record.heap import SCALARS
from janus_lite.record.kinds import elements_of, is_a
from janus_lite.record.leaves import Arguments, Keywords, Leaf, call_leaf, callback, fixed, unknown
from janus_lite.record.scalars import NUMBERS, is_symbolic
from janus_lite.record.session import Session
from janus_lite.record.stack import as_seen_by_user
from janus_lite.record.syntax import has_own_equality, is_settled, merged, note_key
from janus_lite.torch_internals import TORCH_BUILTINS

_COMPARING = frozenset({"sort", "__eq__", "__ne__", "index", "count", "remove", "__contains__"})
# What methods of containers do with their arguments: hand them on, step through them, or both
# hash the first and hand on the second. All others may look at all of them.
_HANDING_ON = frozenset({"append", "appendleft", "insert"})
_HASHING = frozenset(
    "add discard remove get pop setdefault move_to_end "
    "__contains__ __getitem__ __setitem__ __delitem__".split()
)
_KEYS = {"setdefault": 1, "__setitem__": 1, "get": 1, "pop": 1}
_STEPPING = frozenset(
    "__init__ __add__ __iadd__ __or__ __ior__ __and__ __iand__ __sub__ __isub__ __xor__ __ixor__ "
    "extend extendleft update union intersection intersection_update difference difference_update "
    "symmetric_difference symmetric_difference_update isdisjoint issubset issuperset".split()
)
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_LOCK_METHODS = frozenset({"__enter__", "__exit__", "acquire", "release", "locked"})
_TORCH_FUNCTION_TESTS: frozenset[object] = frozenset(
    getattr(torch.overrides, name)
    for name in ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
)


def call_draw(
    session: Session, bound: Any, method: Any, generator: Any, args: Arguments, kwargs: Keywords
) -> Any:
    """A method of a random generator; `method` takes the generator first."""
    if draws.has_rule(session, method, generator, args, kwargs):
        return draws.call(session, method, generator, args, kwargs)
    return unknown(session, bound, args, kwargs)


def host_effect(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """Stop the trace at a call that shows something outside, and make it."""
    session.stop(Code.HOST_EFFECT, f"calls `{function.__qualname__}`")
    return as_seen_by_user(function)(*args, **kwargs)


def call_builtin(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """A function or bound method of C code."""
    bound = getattr(function, "__self__", None)
    is_module = is_a(bound, types.ModuleType | None.__class__)
    _watch(session, function, bound, args, kwargs)
    special = SPECIAL.get(function) if _is_hashable(function) else None
    if special is not None:
        return special(session, function, args, kwargs)
    if _is_hashable(function) and function in HOST_EFFECTS:
        return host_effect(session, function, args, kwargs)
    if host.is_deferred(function):
        host.call(session, function, args, kwargs)
        return None
    if function in _TORCH_FUNCTION_TESTS:
        return False if _only_plain_tensors(args) else function(*args, **kwargs)
    if is_a(bound, torch.Tensor) or (is_module and function in TORCH_BUILTINS):
        return call_torch(session, function, args, kwargs)
    contract = table().get(function)
    if contract is not None:
        return call_leaf(session, function, contract, args, kwargs)
    if is_a(function, types.BuiltinFunctionType | types.MethodWrapperType) and not is_module:
        return _call_method(session, function, bound, args, kwargs)
    objclass = getattr(function, "__objclass__", None)
    if objclass is not None and args:
        if issubclass(objclass, torch._C.TensorBase):
            return call_torch(session, function, args, kwargs)
        owner = session.numbers.fixed(args[0]) if is_symbolic(args[0]) else args[0]
        bound_method = function.__get__(owner, type(owner))
        return _call_method(session, bound_method, owner, args[1:], kwargs)
    return unknown(session, function, args, kwargs)


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


def call_torch(session: Session, function: Any, args: Arguments, kwargs: Keywords) -> Any:
    """A function of torch, which the function mode records."""
    if session.tape.sizes.any_vary:
        answer = _size_answer(session, function, args, kwargs)
        if answer is not None:
            return answer
    before = len(session.tape.operations)
    try:
        result = function(*args, **kwargs)  # the function mode records it
    except TypeError:
        plain_args, plain_kwargs = fixed(session, args, kwargs)
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
        return call_draw(session, method, unbound, bound, args, kwargs)
    if cls in RUN_LOCAL_TYPES and session.heap.source_of(bound) is not None:
        return unknown(session, method, args, kwargs)
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
        if session.numbers and method.__name__ == "numel" and are_varying_sizes(session, bound):
            return product(session, bound)
        session.heap.snapshot(bound)  # C code looks at the elements
        session.heap.fix_numbers(bound)
        if method.__name__ in _COMPARING:
            return _call_known_container(session, method, bound, args, kwargs)
    elif _is_unread(session, bound):
        return unknown(session, method, args, kwargs)
    return call_leaf(session, method, Contract.PURE, args, kwargs)


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
        return unknown(session, method, args, kwargs)
    return call_leaf(session, method, Contract.PURE, args, kwargs)


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
            return unknown(session, method, args, {})
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
        return call_leaf(session, method, Contract.PURE, args, kwargs)
    if name in {"mro", "__subclasscheck__", "__instancecheck__"}:
        return call_leaf(session, method, Contract.INSPECT, args, kwargs)
    return unknown(session, method, args, kwargs)


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
            note_key(session, args[0])
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
    return _call_known_container(session, method, bound, args, kwargs)


def _call_known_container(
    session: Session, method: Any, bound: Any, args: Arguments, kwargs: Keywords
) -> Any:
    """A C method of a container whose content the run made, or has noted."""
    name = method.__name__
    if name in _COMPARING and is_a(bound, list | tuple | deque):
        fixed(session, args, kwargs)  # the very objects stay: NaN is found by its identity alone
    elif name not in {"append", "appendleft", "extend"}:
        args, kwargs = fixed(session, args, kwargs)
    if name in {"index", "count", "remove", "__contains__"} and args:
        session.tape.compare_by_identity(args[0], bound)
    args = _container_arguments(session, name, bound, args)
    if name in _COMPARING:
        session.heap.snapshot(bound)  # what is in its elements is compared, too
        are_settled = all(is_settled(session, a, by_identity=True) for a in args)
        if not are_settled or has_own_equality(session, *args, *elements_of(bound)):
            return unknown(session, method, args, kwargs)
    if name == "sort":
        kwargs = {k: callback(session, value) for k, value in kwargs.items()}
    with Leaf(session):  # a tensor is hashed by library code, by identity
        return method(*args, **kwargs)


def _container_arguments(session: Session, name: str, bound: Any, args: Arguments) -> Arguments:
    """What a container may get, after noting what its method will look at."""
    if name == "__setitem__" and args and type(args[0]) is slice:
        return (args[0], *(session.iterate(value) for value in args[1:]))
    if name in _STEPPING and is_a(bound, dict):
        return tuple(merged(session, type(bound), value) for value in args)
    if name not in _HANDING_ON:
        for value in args[: _KEYS.get(name)]:
            if is_a(bound, dict | set | frozenset) and name in _HASHING:
                note_key(session, value)
            session.heap.snapshot(value)  # it is hashed or compared, or its elements are
    if name in _STEPPING:
        return tuple(session.iterate(value) for value in args)
    return args
