"""The write-set as a plan: when a replay changes the outside, and what it can undo before.

A replay has two parts. In the first one it may still be called off: an assertion fails, or an
operation raises; everything is then put back as it was at entry and the function runs imperatively.
At the *commit point* nothing of that kind can follow any more: the effects that came before it are
done, and from there on each effect is done at its own place among the operations, so that an
operation that raises leaves exactly what it leaves in eager.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from janus_lite.errors import Code, Reason
from janus_lite.record.effects import Effect, HostCall, Store
from janus_lite.record.outputs import same_plan
from janus_lite.record.source import Source
from janus_lite.record.torch_table import name_of
from janus_lite.record.trace import Operation, OperationKind, Ref


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """How one program commits.

    Attributes:
        commit: how many operations run before the outside is changed for good.
        undo: outside tensors that operations before the commit point write.
        undoes_draws: operations before the commit point draw random numbers.
        generators: generators of the program that they draw from.
        moves: other objects that they change and whose state can be put back.
    """

    commit: int
    undo: tuple[Ref, ...]
    undoes_draws: bool
    generators: tuple[torch.Generator, ...]
    moves: tuple[Source, ...]


def is_decision(operation: Operation) -> bool:
    """Whether a value or shape that data decides is compared after the operation."""
    return operation.kind in (OperationKind.ASSERT, OperationKind.SHAPE, OperationKind.FORM)


def is_assertion(operation: Operation) -> bool:
    """Whether a replay compares something after the operation."""
    return is_decision(operation) or operation.kind is OperationKind.CALL


def is_change(operation: Operation) -> bool:
    """Whether the outside is another one after the operation."""
    has_moved = operation.draws or operation.moves or not operation.is_undoable
    return bool(operation.written or has_moved)


def plan_transaction(
    operations: Sequence[Operation], effects: Sequence[Effect], *, is_last: bool = False
) -> Transaction | Reason:
    """Find the commit point of a program.

    Args:
        operations: the graph, in program order.
        effects: stores and host calls, in program order.
        is_last: commit when all operations have run.

    Returns:
        The plan, or the reason why no replay could be all or nothing.
    """
    first = len(operations) if is_last else _first_safe(operations, effects)
    commit = _delayed(operations, effects, first)
    speculative = operations[:commit]
    for operation in speculative:
        if not operation.is_undoable:
            found = f"`{name_of(operation.target)}` cannot be put back, and a decision follows"
            return Reason(Code.LATE_ASSERTION, found, operation.site)
    for effect in effects:
        if isinstance(effect, HostCall) and _is_overtaken(effect, operations, commit):
            found = f"`{effect.name}` comes before a decision on a tensor's value, changes between"
            return Reason(Code.LATE_ASSERTION, found, effect.site)
    return Transaction(
        commit=commit,
        undo=tuple(dict.fromkeys(ref for o in speculative for ref in o.written)),
        undoes_draws=any(o.draws for o in speculative),
        generators=tuple(dict.fromkeys(g for o in speculative for g in o.generators)),
        moves=tuple({id(s): s for o in speculative for s in o.moves}.values()),
    )


def _first_safe(operations: Sequence[Operation], effects: Sequence[Effect]) -> int:
    """The operation after the last one that must be able to call a replay off."""
    if any(isinstance(e, Store) and not is_settled(e) for e in effects):
        return len(operations)  # an object that was stored went on changing
    first = 0
    for position, operation in enumerate(operations):
        # Inside `try`, an error is the program's own business.
        if is_assertion(operation) or operation.is_guarded:
            first = position + 1
    return first


def is_settled(store: Store) -> bool:
    """Whether what was stored is now as it was then."""
    return all(map(same_plan, store.values, store.early))


def _delayed(operations: Sequence[Operation], effects: Sequence[Effect], first: int) -> int:
    """The latest commit point that changes nothing: an error before it is the original's own."""
    commit = first
    due = min((e.position for e in effects), default=len(operations))
    while commit < len(operations) and due > commit:
        operation = operations[commit]
        if is_change(operation):
            break
        commit += 1
    return commit


def _is_overtaken(call: HostCall, operations: Sequence[Operation], commit: int) -> bool:
    """Whether a tensor may have changed by the time when the call is made."""
    between = operations[call.since : max(call.position, commit)]
    return any(o.mutates or o.draws for o in between)
