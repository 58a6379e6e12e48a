"""Trace -> `Program`: the graph, what it assumes, and what a replay must watch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from janus_lite.errors import Reason
from janus_lite.program.assumptions import AssumptionSet, assume
from janus_lite.program.effects import Transaction, plan_transaction
from janus_lite.record.effects import Effect
from janus_lite.record.outputs import Built, Constant
from janus_lite.record.source import Source
from janus_lite.record.trace import Input, Operation, OperationKind, Ref, Trace


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Program:
    """A converted run.

    Attributes:
        assumptions: checked before a replay.
        inputs: outside tensors, loaded at each replay.
        operations: the graph, in program order.
        output: plan of the return value.
        effects: deferred stores and host calls, each committed once, in program order.
        numbers: sources of varying numbers that operations, effects and output use.
        transaction: when they are committed, and what is undone before.
        writes_outside: some operation changes an outside tensor in place.
        draws: some operation draws random numbers.
        changes_ambient: some operation changes grad mode or autocast for the ones after it.
        calls_regions: some operation enters a function region.
        is_enterable: it may run as part of another replay, see Note [Function regions].
        recursions: callees that called themselves and were inlined.
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
    changes_ambient: bool
    calls_regions: bool
    is_enterable: bool
    recursions: tuple[Any, ...]


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
        writes_outside=any(o.written for o in trace.operations),
        draws=any(o.draws for o in trace.operations),
        changes_ambient=any(o.kind is OperationKind.AMBIENT for o in trace.operations),
        calls_regions=any(o.kind is OperationKind.CALL for o in trace.operations),
        is_enterable=_is_enterable(trace),
        recursions=trace.recursions,
    )


def _is_enterable(trace: Trace) -> bool:
    """Whether running the graph once more than eager does could not be noticed."""
    is_quiet = not any(o.written or o.draws for o in trace.operations)
    return is_quiet and not trace.effects and _is_made(trace.output)


def _is_made(plan: object) -> bool:
    """Whether an output consists of tensors in containers that each replay makes."""
    if isinstance(plan, Constant):
        return plan.value is None
    if isinstance(plan, Built):
        return plan.cls in (tuple, list, dict) and all(map(_is_made, plan.items))
    return isinstance(plan, Ref)
