"""Trace -> `Program`: the graph, what it assumes, and what a replay must watch."""

from __future__ import annotations

from dataclasses import dataclass

from janus_lite.errors import Reason
from janus_lite.program.assumptions import AssumptionSet, assume
from janus_lite.program.effects import Transaction, plan_transaction
from janus_lite.record.effects import Effect
from janus_lite.record.source import Source
from janus_lite.record.trace import Input, Operation, OperationKind, Trace


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Program:
    """A converted run.

    Attributes:
        assumptions: checked before a replay.
        inputs: outside tensors, loaded at each replay.
        operations: the graph, in program order.
        output: plan of the return value.
        effects: deferred stores and host calls, each committed once, in program order.
        numbers: sources of varying numbers, and of outside objects that are no tensors, that
            operations, effects and output use.
        transaction: when they are committed, and what is undone before.
        writes_outside: some operation changes an outside tensor in place.
        draws: some operation draws random numbers.
        trains: some operation is an action, of which no copy can be run to compare with.
        changes_ambient: some operation changes grad mode or autocast for the ones after it.
    """

    assumptions: AssumptionSet
    inputs: tuple[Input, ...]
    operations: tuple[Operation, ...]
    output: object
    effects: tuple[Effect, ...]
    numbers: tuple[Source, ...]
    transaction: Transaction
    writes_outside: bool
    draws: bool
    trains: bool
    changes_ambient: bool


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
    )
