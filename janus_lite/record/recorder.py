"""Run a function once, for real, and write down what it read, computed and returned.

The run *is* the imperative run: its result is the user's result, effects happen exactly once, and
whatever the recorder does not understand only means that nothing is converted.
"""

from __future__ import annotations

import contextlib
import gc
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

from janus_lite import config
from janus_lite.errors import Code
from janus_lite.record import calls, syntax
from janus_lite.record.audit import Audit
from janus_lite.record.effects import Effect
from janus_lite.record.hooks import TWINS
from janus_lite.record.outputs import OutputPlanner, plan_now
from janus_lite.record.session import Session, enter
from janus_lite.record.source import Argument, Keyword
from janus_lite.record.subcalls import Regions
from janus_lite.record.tape import DispatchMode, FunctionMode, Observer
from janus_lite.record.trace import Trace


def record(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    owner: object = None,
    relaxed: frozenset[str] = frozenset(),
    observe: Observer | None = None,
    callees: Regions | None = None,
) -> tuple[Any, Trace]:
    """Call `function(*args, **kwargs)` under the recorder.

    Args:
        function: what the user speculates on: a function, a bound method, a partial object.
        args: positional arguments; each may be any object.
        kwargs: keyword arguments.
        owner: the module whose class provides the function as `forward`, when it is one; the
            function is then looked up on the class again, so that a patched class is noticed.
        relaxed: places (as printed by their source) where another object of the same class, or
            another number, may stand from now on.
        observe: shown each operation and what it gave.
        callees: the function regions that are known.

    Returns:
        The user's result and the trace; `trace.reason` says why it cannot be replayed.

    Raises:
        BaseException: whatever the user's function raises, unchanged; its trace is dropped.
    """
    runners = (calls.call, syntax.iterate, syntax.store_item, plan_now)
    session = Session(TWINS, *runners, relaxed, callees)
    session.tape.observe = observe
    session.regions.wants_all = config.current().regions == "always"
    heap = session.heap
    args = tuple(heap.read(value, Argument(index)) for index, value in enumerate(args))
    kwargs = {name: heap.read(value, Keyword(name)) for name, value in kwargs.items()}
    result: Any = None
    started = time.perf_counter()
    outer = enter(session)
    try:
        # The net goes innermost: it must not see the modes being entered.
        with (
            _without_collector(),
            DispatchMode(session.tape),
            FunctionMode(session.tape),
            _net(session),
        ):
            result = _run(session, function, args, kwargs, owner)
        enter(outer)
        trace = _finish(session, result, time.perf_counter() - started)
    finally:
        enter(outer)
        changed = session.writes.containers
        session.release()
        del args, kwargs  # may hold numbers that must not outlive the run
        result = session.numbers.settle(result, changed)
    return result, trace


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Keep the garbage collector out: what it runs (callbacks, generators) is not the program's."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _net(session: Session) -> contextlib.AbstractContextManager[None]:
    """The audit net; nothing is converted where it is wanted and cannot be hung."""
    if not config.current().audit:
        return contextlib.nullcontext()
    if not Audit.is_available():
        session.stop(Code.AMBIENT_STATE, "a profiler is active where the audit net would hang")
        return contextlib.nullcontext()
    return Audit(session.is_expected, session.report_leak)


def _finish(session: Session, result: object, seconds: float) -> Trace:
    """Plan the output and the effects; a bug of ours here must not cost the user's result."""
    output: object = None
    effects: tuple[Effect, ...] = ()
    planner = OutputPlanner(session)
    try:
        session.finish()
        if not session.is_stopped:
            output = planner.plan(result)
            effects = tuple(map(planner.plan_effect, session.writes.effects))
    except Exception as error:
        session.stop(Code.INTERNAL, f"planning the output: {type(error).__name__}: {error}")
    tape = session.tape
    return Trace(
        reads=tuple(session.heap.reads),
        inputs=tuple(tape.inputs),
        operations=tuple(tape.operations),
        output=output,
        effects=effects,
        numbers=session.numbers.used,
        marks=tuple(session.regions.marks),
        lists={**tape.lists, **planner.identities},
        looked=frozenset(session.regions.looked),
        spoiled="has sizes that vary" if tape.sizes.any_vary else session.regions.spoiled,
        recursions=tuple(session.recursions),
        walks_objects=session.walks_objects,
        reason=session.reason,
        seconds=seconds,
        examples=tuple(tape.examples),
    )


def _run(
    session: Session,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    owner: object,
) -> Any:
    if owner is None:
        if not isinstance(function, types.FunctionType):
            session.heap.pin(function, "the speculated function")
        if isinstance(function, types.MethodType):
            session.heap.pin(function.__self__, "self")
        return session.call(function, args, kwargs)
    source = session.heap.pin(owner, "self", is_weak=True)
    session.heap.type_of(owner, source)
    _, forward = session.heap.class_attribute(type(owner), "forward")
    return session.call(forward, (owner, *args), kwargs)
