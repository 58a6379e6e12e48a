"""Traces -> `Program`: the graph, what it assumes, and what a replay must watch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from janus_lite.errors import Reason
from janus_lite.program.alike import Unmergeable
from janus_lite.program.assumptions import AssumptionSet, assume, distinct
from janus_lite.program.effects import Transaction, plan_transaction
from janus_lite.program.merge import merge
from janus_lite.program.regions import Block, operations_of
from janus_lite.program.wellformed import require_wellformed
from janus_lite.record.effects import Effect
from janus_lite.record.outputs import Built, Constant
from janus_lite.record.source import Source
from janus_lite.record.trace import Input, MarkKind, Operation, OperationKind, Ref, Trace


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Program:
    """A converted run, or several that data sent different ways.

    Attributes:
        assumptions: checked before a replay.
        inputs: outside tensors, loaded at each replay.
        operations: the graph, in program order.
        block: the graph with control flow, `None` for a straight one; it has its own output and
            effects, and commits at its end.
        output: plan of the return value.
        effects: deferred stores and host calls, each committed once, in program order.
        numbers: sources of varying numbers, and of outside objects that are no tensors, that
            operations, effects and output use.
        transaction: when they are committed, and what is undone before.
        writes_outside: some operation changes an outside tensor in place.
        draws: some operation draws random numbers.
        trains: some operation is an action, of which no copy can be run to compare with.
        changes_ambient: some operation changes grad mode or autocast for the ones after it.
        calls_regions: some operation enters a function region.
        is_enterable: it may run as part of another replay, see Note [Function regions].
        recursions: callees that called themselves and were inlined.
        traces: the runs.
    """

    assumptions: AssumptionSet
    inputs: tuple[Input, ...]
    operations: tuple[Operation, ...]
    block: Block | None = None
    output: object = None
    effects: tuple[Effect, ...] = ()
    numbers: tuple[Source, ...]
    transaction: Transaction
    writes_outside: bool
    draws: bool
    trains: bool
    changes_ambient: bool
    calls_regions: bool
    is_enterable: bool
    recursions: tuple[Any, ...]
    traces: tuple[Trace, ...]


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
    transaction = plan_transaction(trace.operations, trace.effects)
    if isinstance(transaction, Reason):
        return transaction
    return Program(
        assumptions=assume(trace.reads, positional, keywords),
        inputs=trace.inputs,
        operations=trace.operations,
        output=trace.output,
        effects=trace.effects,
        numbers=trace.numbers,
        transaction=transaction,
        writes_outside=any(o.written or not o.is_undoable for o in trace.operations),
        draws=any(o.draws or o.moves for o in trace.operations),
        trains=any(o.kind is OperationKind.ACTION for o in trace.operations),
        changes_ambient=any(o.kind is OperationKind.AMBIENT for o in trace.operations),
        calls_regions=any(o.kind is OperationKind.CALL for o in trace.operations),
        is_enterable=_is_enterable(trace),
        recursions=trace.recursions,
        traces=(trace.without_examples(),),
    )


def generalize_together(
    traces: Sequence[Trace], positional: int, keywords: tuple[str, ...]
) -> Program | Reason:
    """Turn several traces, made under assumptions that hold together, into one program.

    Args:
        traces: finished recordings that data sent different ways.
        positional: number of positional arguments of the recorded calls.
        keywords: names of their keyword arguments.

    Returns:
        The program, or the reason why there is none.

    Raises:
        Unmergeable: the traces need programs of their own.
        MalformedError: merging failed by a fault of ours.
    """
    for trace in traces:
        planned = plan_transaction(trace.operations, trace.effects, is_last=True)
        if isinstance(planned, Reason):
            return planned
        if planned.moves:
            raise Unmergeable("changes objects that only a straight graph puts back")
        if any(o.kind is OperationKind.CALL for o in trace.operations):
            raise Unmergeable("enters function regions")
    merged = merge(traces)
    require_wellformed(merged.block, (item.ref for item in merged.inputs))
    operations = tuple(operations_of(merged.block))
    written = dict.fromkeys(ref for o in operations for ref in o.written)
    draws = any(o.draws for o in operations)
    return Program(
        assumptions=assume(distinct(r for t in traces for r in t.reads), positional, keywords),
        inputs=merged.inputs,
        operations=operations,
        block=merged.block,
        numbers=tuple(dict.fromkeys(n for t in traces for n in t.numbers)),
        transaction=Transaction(
            commit=len(operations),
            undo=tuple(written),
            undoes_draws=draws,
            generators=tuple(dict.fromkeys(g for o in operations for g in o.generators)),
            moves=(),
        ),
        writes_outside=bool(written),
        draws=draws,
        trains=False,
        changes_ambient=any(o.kind is OperationKind.AMBIENT for o in operations),
        calls_regions=False,
        is_enterable=False,
        recursions=tuple(dict.fromkeys(r for t in traces for r in t.recursions)),
        traces=tuple(t.without_examples() for t in traces),
    )


def has_loops(trace: Trace) -> bool:
    """Whether heads of loops were marked in a run."""
    return any(mark.kind is MarkKind.HEAD for mark in trace.marks)


def _is_enterable(trace: Trace) -> bool:
    """Whether running the graph once more than eager does could not be noticed."""
    is_quiet = not any(o.written or o.draws or o.moves for o in trace.operations)
    is_quiet &= all(o.is_undoable for o in trace.operations)
    return is_quiet and not trace.effects and _is_made(trace.output)


def _is_made(plan: object) -> bool:
    """Whether an output consists of tensors in containers that each replay makes."""
    if isinstance(plan, Constant):
        return plan.value is None
    if isinstance(plan, Built):
        return plan.cls in (tuple, list, dict) and all(map(_is_made, plan.items))
    return isinstance(plan, Ref)
