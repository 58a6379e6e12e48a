"""Notes the state of a run where control flow that hangs on data begins and ends.

Note [State at a cut]
    At a cut (see `marks`) the continuation must depend on nothing but what is noted:

    * the values of the live local names, with everything the run made that they lead to;
    * what the graph holds: a value computed before the region, outside tensors;
    * outside objects, which are as they were but for the places that the run has set.

    Objects of the run's own that a caller's names lead to must not change between, unless the live
    names lead to them as well. So the hooks note every object that may have changed since the first
    decision; one that only a caller can reach makes the cut unusable.
"""

from __future__ import annotations

import gc
import inspect
import operator
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from types import CodeType, FrameType
from typing import Any

import torch

from janus_lite.record.effects import Store, StoreKind
from janus_lite.record.heap import SCALARS
from janus_lite.record.kinds import is_a
from janus_lite.record.marks import Region
from janus_lite.record.outputs import OutputPlanner, refs_in_plan
from janus_lite.record.scalars import NUMBERS, is_symbolic, plain
from janus_lite.record.session import Session
from janus_lite.record.source import key_of
from janus_lite.record.trace import Mark, MarkKind, OperationKind, State, TensorKind, TensorMeta
from janus_lite.torch_internals import without_modes

_UNCHANGING = (type, types.ModuleType, types.CodeType, types.FrameType, torch.Tensor)
Names = tuple[str, ...]
_COUNTER, _RESULT = "<next element>", "<result>"  # no names of a program
_SUSPENDS = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def label(frame: FrameType, line: int) -> str:
    """The name of a statement, the same in each recording."""
    code = frame.f_code
    return f"{code.co_filename}:{line} {code.co_qualname}"


def branch(session: Session, frame: FrameType, line: int, since: int) -> None:
    """An `if` has tested: it is a region when an operation of the graph decided."""
    if _is_decided(session, since) and not frame.f_code.co_flags & _SUSPENDS:
        region = _begin(session, label(frame, line), since)
        session.regions.branches[id(frame), line] = region
    else:
        session.regions.branches.pop((id(frame), line), None)


def join(session: Session, frame: FrameType, line: int, live: Names, stable: Names) -> None:
    """An `if` has ended."""
    region = session.regions.branches.pop((id(frame), line), None)
    if region is not None:
        _mark(session, MarkKind.JOIN, region, _named(frame, live), frame.f_back, stable)


def chosen(session: Session, frame: FrameType, line: int, since: int, value: object) -> None:
    """A conditional expression has its value."""
    if _is_decided(session, since) and not frame.f_code.co_flags & _SUSPENDS:
        region = _begin(session, f"{label(frame, line)} ?", since)
        _mark(session, MarkKind.JOIN, region, {_RESULT: value}, frame)


def _is_decided(session: Session, since: int) -> bool:
    operations = session.tape.operations[since:]
    return any(o.kind is OperationKind.ASSERT for o in operations)


class CallRegion:
    """A call of a Python function: the ways through it meet where it returns."""

    __slots__ = ("_code", "_decisions", "_depth", "_region", "_session")

    def __init__(self, session: Session, code: CodeType) -> None:
        log = session.regions
        self._session = session
        self._code = code
        self._depth = len(log.loops)
        self._decisions = log.decisions
        self._region = (len(session.tape.operations), len(log.touched))

    def __enter__(self) -> CallRegion:
        return self

    def leave(self, result: Any) -> Any:
        """The function has returned `result`."""
        session, code = self._session, self._code
        is_decided = session.regions.decisions != self._decisions
        if is_decided and not session.is_stopped and not code.co_flags & _SUSPENDS:
            since, changes = self._region
            name = f"{code.co_filename}:{code.co_firstlineno} {code.co_qualname} returns"
            region = _begin(session, name, since, changes)
            _mark(session, MarkKind.JOIN, region, {_RESULT: result}, sys._getframe(1))
        return result

    def __exit__(self, *exception: object) -> None:
        del self._session.regions.loops[self._depth :]  # a `return` inside a loop leaves it too


class LoopRun:
    """One execution of a `while`, or of a `for` over a range.

    Args:
        session: the recording, `None` without one.
        frame: the function's.
        line: of the statement.
        iterator: what a `for` steps through.

    Attributes:
        region: set when the loop's heads are marked: its numbers are values of the graph then.
    """

    __slots__ = ("_depth", "_iterator", "_next", "bounds", "region")

    def __init__(
        self,
        session: Session | None,
        frame: FrameType,
        line: int,
        iterator: Iterator[Any] | None = None,
    ) -> None:
        self._depth = 0 if session is None else len(session.regions.loops)
        self._iterator = iterator
        self._next: Any = None
        self.bounds: list[Any] = []  # next element, end, step
        self.region: Region | None = None
        if session is None:
            return
        name = label(frame, line)
        session.regions.loops.append(name)
        log = session.regions
        if (log.wants_all or name in log.wanted) and not frame.f_code.co_flags & _SUSPENDS:
            self.region = _begin(session, name, len(session.tape.operations))

    def step_through(self, iterator: Iterator[Any]) -> None:
        """Take the elements from an iterator."""
        self._iterator = iterator

    def leave(self, session: Session) -> None:
        """The loop has ended."""
        del session.regions.loops[self._depth :]

    def mark(
        self, session: Session | None, kind: MarkKind, frame: FrameType, live: Names, stable: Names
    ) -> None:
        """Note a cut of the loop."""
        if session is not None and self.region is not None:
            held = _named(frame, live)
            if self.bounds and kind is MarkKind.HEAD:
                held[_COUNTER] = self.bounds[0]
            _mark(session, kind, self.region, held, frame.f_back, stable)

    def carries(self, session: Session | None, frame: FrameType, name: str) -> bool:
        """Whether a local name holds a number."""
        if session is None:
            return False
        value = frame.f_locals.get(name)
        return type(value) in NUMBERS or is_symbolic(value)

    def carry(self, session: Session | None, frame: FrameType, name: str) -> Any:
        """The number that a name holds, as a value of the graph."""
        value = frame.f_locals[name]
        if session is None:
            return value
        with session.own_work():
            return session.numbers.carry(value)

    def advance(self, session: Session | None) -> bool:
        """Whether there is a next element."""
        if self.bounds:
            value, end, step = self.bounds
            symbol, test = ("<", operator.lt) if step > 0 else (">", operator.gt)
            if session is None:
                return bool(test(value, end))
            with session.own_work():
                return bool(session.numbers.compute(symbol, test, value, end))
        try:
            self._next = next(self._iterator)  # type: ignore[arg-type]  # without bounds there is one
        except StopIteration:
            return False
        return True

    def item(self, session: Session | None) -> Any:
        """The next element."""
        if not self.bounds:
            return self._next
        value, _, step = self.bounds
        if session is None:
            self.bounds[0] = value + step
        else:
            with session.own_work():
                self.bounds[0] = session.numbers.compute("+", operator.add, value, step)
        return value


def begin_span(
    session: Session, frame: FrameType, line: int, function: Any, bounds: tuple[Any, ...]
) -> LoopRun:
    """A `for` over a range: in the graph where its bounds vary or it is wanted there."""
    is_range = function is range and 1 <= len(bounds) <= 3
    is_range = is_range and all(type(plain(b)) is int for b in bounds)
    loop = LoopRun(session, frame, line)
    is_varying = any(map(is_symbolic, bounds)) and not frame.f_code.co_flags & _SUSPENDS
    if not is_range or not (loop.region or is_varying) or plain(bounds[-1]) == 0:
        loop.region = None
        loop.step_through(iter(session.iterate(session.call(function, bounds, {}))))
        return loop
    if loop.region is None:
        loop.region = _begin(session, label(frame, line), len(session.tape.operations))
    start, end, step = (0, *bounds, 1) if len(bounds) == 1 else (*bounds, 1)[:3]
    with session.own_work():
        loop.bounds = [session.numbers.carry(start), end, session.numbers.fix(step)]
    return loop


def _begin(session: Session, name: str, since: int, changes: int | None = None) -> Region:
    log = session.regions
    log.count += 1
    if changes is None:
        changes = len(log.touched)
    return Region(label=name, number=log.count, since=since, changes=changes)


def _named(frame: FrameType, live: Names) -> dict[str, object]:
    table = frame.f_locals
    return {name: table[name] for name in live if name in table}


def _mark(
    session: Session,
    kind: MarkKind,
    region: Region,
    held: Mapping[str, object],
    around: FrameType | None,
    stable: Names = (),
) -> None:
    """Note a cut at which `held` is at hand; `around` and its callers have names of their own."""
    mark = Mark(
        kind=kind,
        label=region.label,
        region=region.number,
        since=region.since,
        position=len(session.tape.operations),
        effects=len(session.writes.effects),
        state=_state(session, region, held, around, stable),
    )
    session.regions.marks.append(mark)


def _state(
    session: Session,
    region: Region,
    held: Mapping[str, object],
    around: FrameType | None,
    stable: Names,
) -> State:
    planner = OutputPlanner(session, is_trial=True)
    with session.own_work():
        names: dict[object, object] = {n: planner.plan(value) for n, value in held.items()}
        names |= {place: planner.plan(value) for place, value in _set_places(session).items()}
        lost = [o for o in session.regions.touched[region.changes :] if id(o) not in planner.made]
        if lost:
            elsewhere = _own_objects(session, around)
            lost = [o for o in lost if id(o) in elsewhere]
    failure = planner.failure
    if lost and failure is None:
        failure = f"changes a {type(lost[0]).__qualname__} that no name here leads to"
    refs = {ref for plan in names.values() for ref in refs_in_plan(plan)}
    tensors = session.tape.tensors()
    with without_modes(), session.own_work():
        kinds = {r: _tensor_kind(session, tensors[r]) for r in refs if r in tensors}
        modes = _modes(session)
    classes = session.numbers.classes()
    return State(
        names=names,
        stable=frozenset(stable),
        tensors=kinds,
        numbers={r: classes[r.index] for r in refs if r.index in classes},
        identities=planner.identities,
        modes=modes,
        changed=session.writes.changes,
        failure=failure,
    )


def _modes(session: Session) -> tuple[object, ...]:
    """What torch and Python keep besides names and objects."""
    return (
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.get_default_dtype(),
        torch.are_deterministic_algorithms_enabled(),
        *((torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in ("cpu", "cuda")),
        *((id(variable), depth) for variable, depth in session.open_variables.items() if depth),
    )


def _set_places(session: Session) -> dict[object, object]:
    """What stands at the outside places that the run has set or deleted."""
    places: dict[object, object] = {}
    for effect in session.writes.effects:
        if not isinstance(effect, Store) or effect.kind is StoreKind.METHOD:
            continue
        is_delete = effect.kind in (StoreKind.DELETE_ATTRIBUTE, StoreKind.DELETE_ITEM)
        key = repr(effect.key) if type(effect.key) in SCALARS else id(effect.key)
        places["=", key_of(effect.owner), key] = None if is_delete else effect.values[0]
    return places


def _tensor_kind(session: Session, tensor: torch.Tensor) -> TensorKind:
    return TensorKind(TensorMeta.of(tensor), tensor.is_leaf, session.tape.outside_of(tensor))


def _own_objects(session: Session, frame: FrameType | None) -> set[int]:
    """Ids of the objects that the run made and that a name of any of its functions leads to."""
    found: set[int] = set()
    while frame is not None:
        if id(frame.f_code) in session.twins.code_ids:
            _collect(session, frame.f_locals.values(), found)
        frame = frame.f_back
    return found


def _collect(session: Session, values: Iterable[Any], found: set[int]) -> None:
    open_values = list(values)
    while open_values:
        value = open_values.pop()
        if id(value) in found or not gc.is_tracked(value) or is_a(value, _UNCHANGING):
            continue
        if is_symbolic(value) or session.heap.source_of(value) is not None:
            continue
        found.add(id(value))
        if is_a(value, types.FunctionType):
            open_values += value.__closure__ or ()
        else:
            open_values += gc.get_referents(value)
