"""Trace -> `Program`: the graph, what it assumes, and what a replay must watch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from janus_lite.errors import Code, Reason
from janus_lite.program.assumptions import AssumptionSet, assume
from janus_lite.program.views import fold_views
from janus_lite.record.effects import Store
from janus_lite.record.trace import Input, Operation, OperationKind, Trace


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Program:
    """A converted run.

    Attributes:
        assumptions: checked before a replay.
        inputs: outside tensors, loaded at each replay.
        operations: the graph, in program order.
        output: plan of the return value.
        stores: deferred stores, committed once at the end.
        has_assertions: some operation compares a host value or a shape.
        writes_outside: some operation changes an outside tensor in place.
        draws: some operation draws random numbers.
        changes_ambient: some operation changes grad mode or autocast for the ones after it.
    """

    assumptions: AssumptionSet
    inputs: tuple[Input, ...]
    operations: tuple[Operation, ...]
    output: object
    stores: tuple[Store, ...]
    has_assertions: bool
    writes_outside: bool
    draws: bool
    changes_ambient: bool


def is_assertion(operation: Operation) -> bool:
    """Whether a replay compares something after the operation."""
    return operation.kind in (OperationKind.ASSERT, OperationKind.SHAPE)


def generalize(trace: Trace, positional: int, keywords: tuple[str, ...]) -> Program | Reason:
    """Turn a trace into a program.

    Args:
        trace: a finished recording.
        positional: number of positional arguments of the recorded call.
        keywords: names of its keyword arguments.

    Returns:
        The program, or the reason why the trace cannot be replayed.
    """
    if trace.reason is not None:
        return trace.reason
    if (reason := _late_assertion(trace.operations)) is not None:
        return reason
    if trace.stores and any(o.writes_outside for o in trace.operations):
        # An operation may still raise when data is bad; the stores before it would be lost.
        found = "stores into outside objects and changes outside tensors in one call"
        return Reason(Code.LATE_ASSERTION, found, trace.stores[0].site)
    plans = (trace.output, *(value for store in trace.stores for value in store.values))
    return Program(
        assumptions=assume(trace.reads, positional, keywords),
        inputs=trace.inputs,
        operations=fold_views(trace.operations, plans),
        output=trace.output,
        stores=trace.stores,
        has_assertions=any(is_assertion(o) for o in trace.operations),
        writes_outside=any(o.writes_outside for o in trace.operations),
        draws=any(o.draws for o in trace.operations),
        changes_ambient=any(o.kind is OperationKind.AMBIENT for o in trace.operations),
    )


def _late_assertion(operations: Sequence[Operation]) -> Reason | None:
    """A replay that gives up must not have changed anything outside before."""
    has_written = has_drawn = False
    for operation in operations:
        if has_written and is_assertion(operation):
            found = "decides on a tensor's value after changing an outside tensor"
            return Reason(Code.LATE_ASSERTION, found, operation.site)
        has_written |= operation.writes_outside
        has_drawn |= operation.draws
        if (has_written or has_drawn) and operation.is_guarded:
            found = "inside `try`, an operation may raise after state has changed"
            return Reason(Code.LATE_ASSERTION, found, operation.site)
    return None
