"""Attribute access, step by step as CPython does it, so that each step can be noted.

For an outside object every dict that was consulted becomes an assumption, also where the name was
absent. For an object made in the run only the classes matter. Python-level descriptors,
`__getattr__` and `__getattribute__` run as twins.
"""

from __future__ import annotations

import collections
import enum
import functools
import inspect
import types
from typing import Any

import torch

from janus_lite.errors import Code
from janus_lite.record.contracts import RANDOM_GENERATORS, RUN_LOCAL_TYPES, VALUE_TYPES
from janus_lite.record.effects import StoreKind
from janus_lite.record.heap import SCALARS, class_dict, instance_dict, is_mutable_class
from janus_lite.record.kinds import is_a
from janus_lite.record.scalars import is_symbolic, plain
from janus_lite.record.session import Session
from janus_lite.record.source import Source

_GENERIC_OWNERS: tuple[type, ...] = (
    object,
    types.ModuleType,
    types.FunctionType,
    types.MethodType,
    types.BuiltinFunctionType,
    types.SimpleNamespace,
)
_TUPLE_GETTER = type(collections.namedtuple("_", "field").field)  # type: ignore[attr-defined] # made at run time
_CALLABLE_DESCRIPTORS = (
    types.MethodDescriptorType,
    types.WrapperDescriptorType,
    types.ClassMethodDescriptorType,
)
_OPERATOR_REGISTRY = (
    torch._ops._Ops,
    torch._ops._OpNamespace,
    torch._ops.OpOverloadPacket,
    torch._ops.OpOverload,
)
# Python classes of libraries whose instances never change once made.
_LIBRARY_OBJECTS = (*_OPERATOR_REGISTRY, inspect.Signature, inspect.Parameter)
_LRU_CACHE = type(functools.lru_cache(lambda: None))
_MISSING = object()
_PLAIN_DELETERS: tuple[object, ...] = (
    object.__delattr__,
    types.ModuleType.__delattr__,
    types.FunctionType.__delattr__,
    torch.nn.Module.__delattr__,
)
# What a module enters into a table whatever the name; a buffer must be there already.
_MEMBERS: dict[str, type] = {"_parameters": torch.nn.Parameter, "_modules": torch.nn.Module}


def load(session: Session, owner: Any, name: str) -> Any:
    """`owner.name`."""
    owner = session.numbers.fix(owner)
    cls = type(owner)
    if is_a(owner, torch.Tensor):
        return _load_from_tensor(session, owner, name)
    if cls in VALUE_TYPES or cls in RUN_LOCAL_TYPES:
        return _load_from_super(session, owner, name) if cls is super else getattr(owner, name)
    if is_a(owner, type):
        return _load_from_class(session, owner, name)
    if cls in _LIBRARY_OBJECTS:
        return _load_from_library(session, owner, name)
    getter_class, getter = session.heap.class_attribute(cls, "__getattribute__")
    if is_a(getter, types.FunctionType):
        return _load_by_getattribute(session, owner, name, getter)
    if getter_class in _GENERIC_OWNERS:
        return _load_generic(session, owner, name)
    if is_a(owner, tuple):
        raw: Any = session.heap.class_attribute(cls, name)[1]
        if type(raw) is _TUPLE_GETTER:
            return session.heap.element(owner, raw.__reduce__()[1][0])
    return _load_from_c(session, owner, name)


def _load_from_c(session: Session, owner: Any, name: str) -> Any:
    """An attribute of an object whose class reads attributes in a way of its own, in C."""
    cls = type(owner)
    slot: Any = session.heap.class_attribute(cls, name)[1]
    if is_a(slot, types.MemberDescriptorType):
        return _load_slot(session, slot, owner, cls, name)
    found = getattr(owner, name)
    is_method = callable(found) and getattr(found, "__self__", None) is owner
    if session.heap.source_of(owner) is not None and not is_method:
        session.stop(Code.UNKNOWN_OBJECT, f"`.{name}` of a {cls.__qualname__}, which C code keeps")
    return found


def _load_from_library(session: Session, owner: Any, name: str) -> Any:
    """An attribute that never changes: `torch.ops.namespace.operator`, a signature's parts."""
    with session.own_work():
        found = getattr(owner, name)
    if is_a(found, _OPERATOR_REGISTRY):
        session.heap.pin(found, f"torch.ops...{name}")
    return found


def _load_by_getattribute(
    session: Session, owner: Any, name: str, getter: types.FunctionType
) -> Any:
    try:
        return session.call(getter, (owner, name), {})
    except AttributeError as error:
        return _load_by_getattr(session, owner, name, error)


def _load_generic(session: Session, owner: Any, name: str) -> Any:
    try:
        return load_without_fallback(session, owner, name)
    except AttributeError as error:
        return _load_by_getattr(session, owner, name, error)


def load_without_fallback(session: Session, owner: Any, name: str) -> Any:
    """`object.__getattribute__(owner, name)`."""
    cls = type(owner)
    heap = session.heap
    source = heap.source_of(owner)
    found_in, raw = heap.class_attribute(cls, name)
    if source is not None:
        heap.type_of(owner, source)
    if found_in is not None and _is_data_descriptor(raw):
        return _bind(session, raw, owner, cls, name)
    table = instance_dict(owner)
    if table is not None:
        value = table.get(name, _MISSING)
        if source is not None:
            place = heap.dict_source(source, owner, table)
            if value is not _MISSING:
                return heap.read_entry(place, table, name)
            heap.entry(place, table, name)
        if value is not _MISSING:
            return value
    if found_in is not None:
        return _bind(session, raw, owner, cls, name)
    return object.__getattribute__(owner, name)  # raises what Python raises


def _load_by_getattr(session: Session, owner: Any, name: str, error: AttributeError) -> Any:
    cls = type(owner)
    _, fallback = session.heap.class_attribute(cls, "__getattr__")
    if fallback is torch.nn.Module.__getattr__:
        return _load_from_module(session, owner, name)
    if is_a(fallback, types.FunctionType):
        return session.call(fallback, (owner, name), {})
    if is_a(owner, types.ModuleType) and "__getattr__" in vars(owner):
        return session.call(vars(owner)["__getattr__"], (name,), {})
    raise error


def _load_from_module(session: Session, owner: torch.nn.Module, name: str) -> Any:
    """`nn.Module.__getattr__`: parameters, then buffers, then submodules."""
    heap = session.heap
    source = heap.source_of(owner)
    own = instance_dict(owner)
    assert own is not None
    for kind in ("_parameters", "_buffers", "_modules"):
        table = own.get(kind)
        if not is_a(table, dict):
            continue
        if source is not None:
            owner_dict = heap.dict_source(source, owner, own)
            heap.entry(owner_dict, own, kind)
            table_source = heap.source_of(table)
            assert table_source is not None
            heap.entry(table_source, table, name)
        if name in table:
            return table[name]
    with session.own_work():
        return getattr(owner, name)  # raises what Python raises


def _is_data_descriptor(raw: object) -> bool:
    cls = type(raw)
    return hasattr(cls, "__set__") or hasattr(cls, "__delete__")


def _bind(session: Session, raw: Any, owner: Any, cls: type, name: str) -> Any:
    """What `raw`, found on the class, becomes on the instance."""
    if type(raw) in SCALARS or is_symbolic(raw):
        return raw
    if is_a(raw, types.FunctionType):
        return types.MethodType(raw, owner)
    if is_a(raw, property):
        if raw.fget is None:
            return getattr(owner, name)
        return session.call(raw.fget, (owner,), {})
    if is_a(raw, staticmethod):
        return raw.__func__
    if is_a(raw, classmethod):
        return types.MethodType(raw.__func__, cls)
    if is_a(raw, types.MemberDescriptorType):
        return _load_slot(session, raw, owner, cls, name)
    if is_a(raw, types.GetSetDescriptorType):
        return _load_getset(session, raw, owner, cls, name)
    if is_a(raw, _CALLABLE_DESCRIPTORS) or type(raw) is _LRU_CACHE:
        return raw.__get__(owner, cls)
    return _bind_by_protocol(session, raw, owner, cls, name)


def _bind_by_protocol(session: Session, raw: Any, owner: Any, cls: type, name: str) -> Any:
    """What a descriptor of somebody's own class gives, or `raw` itself when it is none."""
    getter_class, getter = session.heap.class_attribute(type(raw), "__get__")
    if is_a(getter, types.FunctionType):
        session.heap.pin(raw, f"vars({cls.__qualname__})[{name!r}]")
        return session.call(getter, (raw, owner, cls), {})
    if type(owner) in RANDOM_GENERATORS and callable(raw):
        return raw.__get__(owner, cls)  # a method that was compiled from Cython
    if getter_class is not None:
        session.stop(Code.UNKNOWN_CALL, f"descriptor `{cls.__qualname__}.{name}`")
        return getattr(owner, name)
    return _constant(session, raw, f"{cls.__qualname__}.{name}")


def _load_slot(
    session: Session, raw: types.MemberDescriptorType, owner: Any, cls: type, name: str
) -> Any:
    try:
        value = raw.__get__(owner, cls)
    except AttributeError:
        if session.heap.source_of(owner) is not None:
            session.stop(Code.UNKNOWN_OBJECT, f"the empty slot `.{name}` of a {cls.__qualname__}")
        raise
    return session.heap.field(owner, name, value)


def _load_getset(
    session: Session, raw: types.GetSetDescriptorType, owner: Any, cls: type, name: str
) -> Any:
    value = raw.__get__(owner, cls)
    source = session.heap.source_of(owner)
    if name == "__dict__" and source is not None:
        session.heap.dict_source(source, owner, value)
    elif name != "__class__":
        session.heap.field(owner, name, value)
    return value


def _constant(session: Session, value: Any, label: str) -> Any:
    """A class attribute: its class dict's entry is noted, the object is held by identity."""
    if is_a(value, torch.Tensor):
        session.stop(Code.UNKNOWN_TENSOR, f"`{label}` is a tensor on a class")
    elif type(value) not in SCALARS:
        session.heap.pin(value, label)
    return value


def _load_from_class(session: Session, owner: type, name: str) -> Any:
    meta = type(owner)
    if issubclass(meta, enum.EnumMeta):
        session.heap.class_attribute(owner, name)
        return _constant(session, getattr(owner, name), f"{owner.__qualname__}.{name}")
    _, getter = session.heap.class_attribute(meta, "__getattribute__")
    in_meta, _ = session.heap.class_attribute(meta, name)
    found_in, raw = session.heap.class_attribute(owner, name)
    fallback = None
    if found_in is None:
        _, fallback = session.heap.class_attribute(meta, "__getattr__")
    if is_a(getter, types.FunctionType) or is_a(fallback, types.FunctionType):
        session.stop(Code.UNKNOWN_CALL, f"metaclass attribute access on `{owner.__qualname__}`")
        return getattr(owner, name)
    is_first = in_meta is not None and _is_data_descriptor(class_dict(in_meta)[name])
    if found_in is None or is_first:
        return _load_from_metaclass(session, owner, name, in_meta)
    if type(raw) in SCALARS or is_symbolic(raw):
        return raw
    if is_a(raw, torch.Tensor):
        return _constant(session, raw, f"{owner.__qualname__}.{name}")
    if _is_c_level(type(raw)):
        value = getattr(owner, name)
        if not is_a(raw, classmethod | staticmethod | types.FunctionType | property):
            return _constant(session, value, f"{owner.__qualname__}.{name}")
        return value
    _, get = session.heap.class_attribute(type(raw), "__get__")
    if is_a(get, types.FunctionType):
        session.heap.pin(raw, f"vars({owner.__qualname__})[{name!r}]")
        return session.call(get, (raw, None, owner), {})
    return _constant(session, raw, f"{owner.__qualname__}.{name}")


def _load_from_metaclass(session: Session, owner: type, name: str, in_meta: type | None) -> Any:
    """What the class's own class provides: `__name__` and the like, or a user's metaclass."""
    raw = None if in_meta is None else class_dict(in_meta)[name]
    if is_a(raw, (types.FunctionType, types.NoneType, *_CALLABLE_DESCRIPTORS)):
        return getattr(owner, name)
    if in_meta in (type, object) and name != "__dict__":
        session.heap.pin(owner, owner.__qualname__)
        value = getattr(owner, name)
        session.heap.field(owner, name, value)
        return value
    if hasattr(type(raw), "__get__"):
        session.stop(Code.UNKNOWN_CALL, f"metaclass attribute access on `{owner.__qualname__}`")
        return getattr(owner, name)
    return _constant(session, raw, f"{owner.__qualname__}.{name}")


def _is_c_level(cls: type) -> bool:
    return not cls.__flags__ & (1 << 9) or cls.__module__ in ("builtins", "functools")


def _load_from_super(session: Session, owner: Any, name: str) -> Any:
    start, instance, cls = owner.__thisclass__, owner.__self__, owner.__self_class__
    if name == "__class__" or instance is None:
        return getattr(owner, name)
    mro = cls.__mro__
    for parent in mro[mro.index(start) + 1 :]:
        table = class_dict(parent)
        if name in table:
            _, raw = session.heap.class_attribute(parent, name)
            if type(raw) in SCALARS or is_symbolic(raw):
                return raw
            if instance is cls:  # a class method's `super()`
                return getattr(owner, name)
            if is_a(raw, property | types.FunctionType | staticmethod | classmethod):
                return _bind(session, raw, instance, cls, name)
            return getattr(owner, name)
        session.heap.class_attribute(parent, name)
    return getattr(owner, name)


def _load_from_tensor(session: Session, owner: torch.Tensor, name: str) -> Any:
    cls = type(owner)
    found_in, raw = session.heap.class_attribute(cls, name)
    if found_in is None:
        session.heap.tensor_attribute(owner, name)
        return getattr(owner, name)
    if is_a(raw, types.FunctionType):
        return types.MethodType(raw, owner)
    if is_a(raw, property) and is_a(raw.fget, types.FunctionType):
        return session.call(raw.fget, (owner,), {})
    if session.tape.sizes.are_asked(name, owner) and not callable(raw):
        return session.tape.sizes.answer(name, owner)
    if name == "__dict__":
        session.heap.tensor_dict(owner)
    return getattr(owner, name)


# ------------------------------------------------------------------------------ stores


def store(session: Session, owner: Any, name: str, value: Any) -> None:
    """`owner.name = value`; on an outside object the store joins the write-set."""
    if is_a(owner, torch.Tensor):
        _store_on_tensor(session, owner, name, value)
        return
    if is_a(owner, type):
        _store_on_class(session, owner, name, value)
        return
    _, setter = session.heap.class_attribute(type(owner), "__setattr__")
    if is_a(setter, types.FunctionType) and setter is not torch.nn.Module.__setattr__:
        session.call(setter, (owner, name, value), {})
        return
    if setter is torch.nn.Module.__setattr__ and session.heap.source_of(owner) is None:
        session.call(setter, (owner, name, value), {})
        return
    _, raw = session.heap.class_attribute(type(owner), name)
    if is_a(raw, property) and is_a(raw.fset, types.FunctionType):
        session.call(raw.fset, (owner, value), {})
        return
    store_plainly(session, owner, name, value)


def _store_on_tensor(session: Session, owner: torch.Tensor, name: str, value: Any) -> None:
    """`owner.name = value` for a tensor: only of a gradient, which is an action."""
    if name == "grad" and (value is None or is_a(value, torch.Tensor)):
        run = functools.partial(set_gradient, owner, value)
        session.tape.act(set_gradient, (owner, value), {}, run)
        return
    _refuse_write(session, owner, f".{name} = ...")
    setattr(owner, name, value)


def set_gradient(tensor: torch.Tensor, gradient: torch.Tensor | None) -> None:
    """Give a tensor a gradient, or let go of the one it has."""
    tensor.grad = gradient


def _store_on_class(session: Session, owner: type, name: str, value: Any) -> None:
    """`owner.name = value` for a class, as `type` itself does it."""
    _, setter = session.heap.class_attribute(type(owner), "__setattr__")
    if setter is not type.__dict__["__setattr__"] or not _is_settable(session, owner, name):
        _refuse_write(session, owner, f".{name} = ...")
        setattr(owner, name, value)
        return
    session.heap.pin(owner, owner.__qualname__)
    session.store(StoreKind.ATTRIBUTE, owner, name, value)
    setattr(owner, name, plain(value))
    session.heap.class_written(owner, name, value)


def _is_settable(session: Session, owner: type, name: str) -> bool:
    """Whether a store goes into the class's own dict, and no more happens than that.

    Special methods are left out: C code looks them up without asking the heap.
    """
    _, raw = session.heap.class_attribute(type(owner), name)
    is_special = name.startswith("__") and name.endswith("__")
    return is_mutable_class(owner) and not is_special and not _is_data_descriptor(raw)


def store_plainly(session: Session, owner: Any, name: str, value: Any) -> None:
    """`object.__setattr__(owner, name, value)`, or a module's own rule for it."""
    source = session.heap.source_of(owner)
    if source is None:
        session.regions.touch(owner)
        object.__setattr__(owner, name, value)
        return
    table = instance_dict(owner)
    _, raw = session.heap.class_attribute(type(owner), name)
    if is_a(raw, types.MemberDescriptorType) and not _has_own_setattr(session, type(owner)):
        session.heap.type_of(owner, source)
        session.store(StoreKind.ATTRIBUTE, owner, name, value)
        session.writes.written(owner, name)
    elif table is None or name in ("__class__", "__dict__") or _is_data_descriptor(raw):
        _refuse_write(session, owner, f".{name} = ...")
    else:
        session.heap.dict_source(source, owner, table)
        if _has_own_setattr(session, type(owner)):  # which a replay must not run once more
            session.store(StoreKind.ITEM, table, name, value)
        else:
            session.store(StoreKind.ATTRIBUTE, owner, name, value)
        session.writes.written(table, name)
        if is_a(owner, torch.nn.Module):
            _note_registered(session, owner, name, value)
    if is_a(owner, torch.nn.Module):
        with session.aside():  # it looks at a parameter before it takes it
            setattr(owner, name, value)
    else:
        with session.own_work():
            object.__setattr__(owner, name, value)


def _note_registered(session: Session, module: torch.nn.Module, name: str, value: Any) -> None:
    """A module's own rule for a store: which of its tables of members it changes."""
    source, table = session.heap.source_of(module), instance_dict(module)
    assert source is not None
    assert table is not None
    owner = session.heap.dict_source(source, module, table)
    for kind in ("_parameters", "_buffers", "_modules"):
        session.heap.entry(owner, table, kind)
        place = session.heap.source_of(table[kind])
        if place is not None:
            session.heap.entry(place, table[kind], name)
        members: Any = table[kind]
        is_added = kind in _MEMBERS and is_a(value, _MEMBERS[kind])
        if is_added or name in members:
            session.writes.written(members, name)


def _has_own_setattr(session: Session, cls: type) -> bool:
    _, setter = session.heap.class_attribute(cls, "__setattr__")
    return is_a(setter, types.FunctionType) and setter is not torch.nn.Module.__setattr__


def delete(session: Session, owner: Any, name: str) -> None:
    """`del owner.name`."""
    if is_a(owner, type):
        _delete_on_class(session, owner, name)
        return
    if is_a(owner, torch.Tensor):
        _refuse_write(session, owner, f".{name} (deleted)")
    elif session.heap.source_of(owner) is not None:
        _log_delete(session, owner, name)
    if is_a(owner, torch.nn.Module):
        with session.own_work():
            delattr(owner, name)
    else:
        delattr(owner, name)


def _delete_on_class(session: Session, owner: type, name: str) -> None:
    _, deleter = session.heap.class_attribute(type(owner), "__delattr__")
    found_in, _ = session.heap.class_attribute(owner, name)
    is_plain = deleter is type.__dict__["__delattr__"] and found_in is owner
    if not is_plain or not _is_settable(session, owner, name):
        _refuse_write(session, owner, f".{name} (deleted)")
        delattr(owner, name)
        return
    session.heap.pin(owner, owner.__qualname__)
    session.store(StoreKind.DELETE_ATTRIBUTE, owner, name)
    delattr(owner, name)
    session.heap.class_written(owner, name)


def _log_delete(session: Session, owner: Any, name: str) -> None:
    source, table = session.heap.source_of(owner), instance_dict(owner)
    assert source is not None
    _, deleter = session.heap.class_attribute(type(owner), "__delattr__")
    _, raw = session.heap.class_attribute(type(owner), name)
    is_plain = deleter in _PLAIN_DELETERS
    if table is None or name not in table or not is_plain or _is_data_descriptor(raw):
        _refuse_write(session, owner, f".{name} (deleted)")
        return
    session.heap.entry(session.heap.dict_source(source, owner, table), table, name)
    session.store(StoreKind.DELETE_ATTRIBUTE, owner, name)
    session.writes.written(table, name)


def _refuse_write(session: Session, owner: Any, what: str) -> None:
    source: Source | str = session.heap.source_of(owner) or type(owner).__name__
    session.stop(Code.OUTSIDE_WRITE, f"writes `{source}{what}`")
