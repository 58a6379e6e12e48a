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
from janus_lite.record.effects import Effect, HostCall, Store
from janus_lite.record.heap import SCALARS, instance_dict, is_scalar
from janus_lite.record.kinds import is_a
from janus_lite.record.scalars import is_made, is_symbolic
from janus_lite.record.session import Session
from janus_lite.record.source import Made, Source
from janus_lite.record.text import Piece, Text
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


def plans_of(effect: Effect) -> tuple[object, ...]:
    """The plans of everything that an effect needs."""
    if isinstance(effect, HostCall):
        return (*effect.args, *effect.kwargs.values())
    return effect.values


def parts_of(plan: object) -> tuple[object, ...]:
    """The plans of which another one is made."""
    if isinstance(plan, Text):
        return tuple(part.value for part in plan.parts if isinstance(part, Piece))
    if isinstance(plan, Built):
        return (*plan.items, *(p for _, p in plan.attributes))
    return ()


def refs_in_plan(plan: object) -> list[Ref]:
    """All graph values that a plan needs."""
    own = [plan] if isinstance(plan, Ref) else []
    return [*own, *(ref for part in parts_of(plan) for ref in refs_in_plan(part))]


_ATOMS = (type, types.ModuleType, enum.Enum, torch.Generator)


def is_atom(value: Any) -> bool:
    """Whether a value is the same at each replay; a method of an object made in the run is not."""
    if is_a(value, types.BuiltinFunctionType):
        return is_a(value.__self__, (types.NoneType, types.ModuleType, type))
    return is_a(value, _ATOMS)


class OutputPlanner:
    """Plans the return value and the effects; shared objects give the same plan object.

    Args:
        session: the recording.
        is_trial: only find out what the plan would be now: failures do not stop the trace.

    Attributes:
        failure: what could not be planned, `None` so far.
    """

    def __init__(self, session: Session, *, is_trial: bool = False) -> None:
        self.failure: str | None = None
        self._is_trial = is_trial
        self._session = session
        self._plans: dict[int, object] = {}
        self._open: set[int] = set()

    @property
    def made(self) -> dict[int, object]:
        """The plans of the run's own objects, by the objects' ids."""
        return self._plans

    @property
    def identities(self) -> dict[int, int]:
        """The id of the object of each plan, by the plan's id."""
        return {id(plan): key for key, plan in self._plans.items()}

    def plan(self, value: object) -> object:
        """Return the plan of `value`: a `Ref`, `Constant`, `Loaded` or `Built`."""
        if is_a(value, torch.Tensor):
            ref = self._session.tape.ref_of(value)
            if ref is None:
                self._stop("a tensor of unknown origin")
            return ref
        if is_scalar(value):
            return Constant(value)
        if is_symbolic(value):
            return self._number(value)
        if type(value) is Text:
            return replace(value, numbers=())
        source = self._session.heap.source_of(value)
        if source is not None:
            return Ref(source.index) if isinstance(source, Made) else Loaded(source)
        if is_atom(value):
            return Constant(value)
        if id(value) in self._open:
            return self._stop("an object that contains itself")
        if id(value) not in self._plans:
            self._open.add(id(value))
            self._plans[id(value)] = self._build(value)
            self._open.discard(id(value))
        return self._plans[id(value)]

    def _factory(self, value: defaultdict[Any, Any]) -> object:
        factory = value.default_factory
        is_known = factory is None or self._session.heap.source_of(factory) is not None
        if not (is_known or is_atom(factory)):
            self._stop("a `defaultdict` with a factory made in the run")
        return factory

    def plan_effect(self, effect: Effect) -> Effect:
        """Return a store with plans in place of its values; a host call has them already."""
        if not isinstance(effect, Store):
            return effect
        values = tuple(map(self.plan, effect.values))
        is_varying = is_symbolic(effect.key)
        key = self._session.numbers.use(effect.key) if is_varying else effect.key
        return replace(effect, key=key, values=values)

    def _build(self, value: Any) -> object:
        cls = type(value)
        extra: object
        if is_a(value, slice):
            return Built(cls, None, tuple(map(self.plan, (value.start, value.stop, value.step))))
        if is_a(value, set | frozenset):
            return self._build_set(value)
        if is_a(value, types.MethodType):
            function, owner = self._known(value.__func__), self.plan(value.__self__)
            return Built(cls, None, (function, owner))
        attributes = self._attributes(value)
        if is_a(value, dict) and _has_builtin_iteration(cls, dict, OrderedDict):
            extra = self._factory(value) if is_a(value, defaultdict) else None
            keys = self._session.numbers.fixed(tuple(dict.keys(value)))
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

    def _build_set(self, value: Any) -> object:
        """A set keeps the order that its history gave it; only the same one may be made anew."""
        members = self._session.numbers.fixed(tuple(value))
        if not all(type(v) in SCALARS for v in members) or instance_dict(value) is not None:
            return self._stop("a set of objects")
        if tuple(type(value)(members)) != members:
            return self._stop("a set in an order that only its own history gives")
        return Built(type(value), None, tuple(map(Constant, members)))

    def _number(self, value: Any) -> object:
        if is_made(value):
            return Ref(value.source.index)
        return Loaded(self._session.numbers.use(value))

    def _known(self, function: object) -> object:
        if self._session.heap.source_of(function) is not None:
            return Constant(function)
        return self._stop("a function made in the run")

    def _is_key(self, key: object) -> bool:
        return (
            type(key) in SCALARS
            or is_atom(key)
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
        self.failure = self.failure or what
        if not self._is_trial:
            self._session.stop(Code.ESCAPING_OUTPUT, f"returns {what}")
        return Constant(object())  # like nothing else


def plan_now(session: Session, value: object) -> object:
    """Return the plan of `value` as it is at this moment of the run."""
    with session.own_work():
        return OutputPlanner(session, is_trial=True).plan(value)


def same_plan(one: object, other: object) -> bool:
    """Whether two plans of one recording make the same content."""
    pairs, seen = [(one, other)], set[tuple[int, int]]()
    while pairs:
        one, other = pairs.pop()
        if (id(one), id(other)) in seen:
            continue
        seen.add((id(one), id(other)))
        if isinstance(one, Built) and isinstance(other, Built):
            names = [name for name, _ in one.attributes]
            if (
                (one.cls, one.keys, one.extra) != (other.cls, other.keys, other.extra)
                or len(one.items) != len(other.items)
                or names != [name for name, _ in other.attributes]
            ):
                return False
            pairs += zip(one.items, other.items, strict=True)
            pairs += [(a[1], b[1]) for a, b in zip(one.attributes, other.attributes, strict=True)]
        elif not _same_leaf(one, other):
            return False
    return True


def _same_leaf(one: object, other: object) -> bool:
    if isinstance(one, Constant) and isinstance(other, Constant):
        if type(one.value) is type(other.value) and type(one.value) in SCALARS:
            return repr(one.value) == repr(other.value)  # tells -0.0 from 0.0, knows NaN again
        return one.value is other.value
    if isinstance(one, Loaded) and isinstance(other, Loaded):
        return one.source is other.source
    return type(one) is type(other) and one == other


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
