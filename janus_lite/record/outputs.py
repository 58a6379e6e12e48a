"""Plan how to rebuild a run's return value from graph values.

Containers and plain objects that the run made are made anew by each replay, with their sharing;
outside objects are handed back as they are. What cannot be rebuilt (generators, functions made in
the run, C objects) stops the trace.
"""

from __future__ import annotations

import enum
import types
from collections import OrderedDict, defaultdict, deque
from dataclasses import dataclass, replace
from typing import Any

import torch

from janus_lite.errors import Code
from janus_lite.record.effects import Store
from janus_lite.record.heap import SCALARS, instance_dict
from janus_lite.record.kinds import is_a
from janus_lite.record.session import Session
from janus_lite.record.source import Source
from janus_lite.record.trace import Ref


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A value that is the same for every replay."""

    value: object


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """An outside object, read again from its source."""

    source: Source


@dataclass(frozen=True, slots=True, eq=False)
class Built:
    """A container or object made anew: `cls` with items (sequence or mapping) and attributes.

    Attributes:
        cls: exact class.
        keys: keys of a mapping, else `None`.
        items: values of a mapping or elements of a sequence.
        attributes: instance attributes as (name, plan) pairs.
        extra: the default factory of a `defaultdict`, the bound of a `deque`.
    """

    cls: type
    keys: tuple[object, ...] | None
    items: tuple[object, ...]
    attributes: tuple[tuple[str, object], ...] = ()
    extra: object = None


def refs_in_plan(plan: object) -> list[Ref]:
    """All graph values that a plan needs."""
    if isinstance(plan, Ref):
        return [plan]
    if isinstance(plan, Built):
        parts = (*plan.items, *(value for _, value in plan.attributes))
        return [ref for part in parts for ref in refs_in_plan(part)]
    return []


_ATOMS = (type, types.ModuleType, enum.Enum, types.BuiltinFunctionType, torch.Generator)


class OutputPlanner:
    """Plans one return value; shared objects give the same plan object."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._plans: dict[int, object] = {}
        self._open: set[int] = set()

    def plan(self, value: object) -> object:
        """Return the plan of `value`: a `Ref`, `Constant`, `Loaded` or `Built`."""
        if is_a(value, torch.Tensor):
            ref = self._session.tape.ref_of(value)
            if ref is None:
                self._stop("a tensor of unknown origin")
            return ref
        if type(value) in SCALARS:
            return Constant(value)
        source = self._session.heap.source_of(value)
        if source is not None:
            return Loaded(source)
        if is_a(value, _ATOMS):
            return Constant(value)
        if id(value) in self._open:
            return self._stop("an object that contains itself")
        if id(value) not in self._plans:
            self._open.add(id(value))
            self._plans[id(value)] = self._build(value)
            self._open.discard(id(value))
        return self._plans[id(value)]

    def plan_store(self, store: Store) -> Store:
        """Return the store with plans in place of its values."""
        return replace(store, values=tuple(map(self.plan, store.values)))

    def _build(self, value: Any) -> object:
        cls = type(value)
        extra: object
        if is_a(value, slice):
            return Built(cls, None, tuple(map(self.plan, (value.start, value.stop, value.step))))
        if is_a(value, set | frozenset):
            if all(type(v) in SCALARS for v in value) and instance_dict(value) is None:
                return Built(cls, None, tuple(Constant(v) for v in value))
            return self._stop("a set of objects")
        if is_a(value, types.MethodType):
            function, owner = self._known(value.__func__), self.plan(value.__self__)
            return Built(cls, None, (function, owner))
        attributes = self._attributes(value)
        if is_a(value, dict) and _has_builtin_iteration(cls, dict, OrderedDict):
            extra = value.default_factory if is_a(value, defaultdict) else None
            keys = tuple(dict.keys(value))
            if not all(self._is_key(k) for k in keys):
                return self._stop("a dict with keys made in the run")
            items = tuple(self.plan(v) for v in dict.values(value))
            return Built(cls, keys, items, attributes, extra)
        if is_a(value, list | tuple | deque) and _has_builtin_iteration(cls, list, tuple, deque):
            extra = value.maxlen if is_a(value, deque) else None
            items = tuple(self.plan(v) for v in list(value))
            return Built(cls, None, items, attributes, extra)
        if _is_plain_object(cls):
            return Built(cls, None, (), attributes)
        return self._stop(f"a {cls.__qualname__} made in the run")

    def _known(self, function: object) -> object:
        if self._session.heap.source_of(function) is not None:
            return Constant(function)
        return self._stop("a function made in the run")

    def _is_key(self, key: object) -> bool:
        return (
            type(key) in SCALARS
            or is_a(key, _ATOMS)
            or (is_a(key, tuple) and all(self._is_key(k) for k in key))
        )

    def _attributes(self, value: object) -> tuple[tuple[str, object], ...]:
        table = instance_dict(value) or {}
        found = [(name, self.plan(v)) for name, v in table.items()]
        for owner in type(value).__mro__:
            for name, raw in vars(owner).items():
                if is_a(raw, types.MemberDescriptorType) and owner.__flags__ & (1 << 9):
                    try:
                        found.append((name, self.plan(raw.__get__(value))))
                    except AttributeError:
                        continue  # an empty slot
        return tuple(found)

    def _stop(self, what: str) -> object:
        self._session.stop(Code.ESCAPING_OUTPUT, f"returns {what}")
        return Constant(None)


def _has_builtin_iteration(cls: type, *bases: type) -> bool:
    """Whether the content can be listed and filled without running code of the class."""
    layout = cls.__base__
    while layout is not None and layout.__flags__ & (1 << 9) and layout not in bases:
        layout = layout.__base__
    is_builtin = cls in bases or layout in bases or cls is defaultdict
    return is_builtin or "structseq" in str(type(cls)) or hasattr(cls, "n_sequence_fields")


def _is_plain_object(cls: type) -> bool:
    """Whether `object.__new__(cls)` makes a complete empty instance."""
    layout: type | None = cls
    while layout is not None and layout.__flags__ & (1 << 9):
        layout = layout.__base__
    return layout is object
