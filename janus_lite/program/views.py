"""Chains of views become one: `linear(x).view(b, s, h, d).transpose(1, 2)` is one `as_strided`.

A view costs no work but a call: 2 us of the 20 us that an operation of a small network takes. With
gradients off nobody asks how a view came about, only where it lies, and that the guards have fixed.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import torch

from janus_lite.record.effects import Effect, HostCall
from janus_lite.record.outputs import plans_of, refs_in_plan
from janus_lite.record.trace import Operation, Ref, refs_in


def fold_views(
    operations: Sequence[Operation], effects: Sequence[Effect], output: object
) -> tuple[tuple[Operation, ...], tuple[Effect, ...]]:
    """Fold each view whose only reader is another view into that one.

    Args:
        operations: a recorded run, in program order.
        effects: its effects; they keep their places among the operations.
        output: plan of what it returns.

    Returns:
        The operations and the effects.
    """
    plans = (output, *(plan for effect in effects for plan in plans_of(effect)))
    uses = Counter(ref for o in operations for ref in refs_in((o.args, o.kwargs)))
    uses.update(ref for plan in plans for ref in refs_in_plan(plan))
    made: dict[Ref, int] = {}
    kept: list[Operation | None] = []
    for operation in operations:
        base = operation.args[0] if operation.layout is not None else None
        position = made.get(base) if isinstance(base, Ref) and uses[base] == 1 else None
        if position is not None:
            before = kept[position]
            assert before is not None
            kept[position] = None
            operation = _as_strided(operation, before)
        if operation.layout is not None and isinstance(operation.output, Ref):
            made[operation.output] = len(kept)
        kept.append(operation)
    places = [0, *itertools.accumulate(o is not None for o in kept)]
    folded = tuple(o for o in kept if o is not None)
    return folded, tuple(_moved(effect, places) for effect in effects)


def _as_strided(operation: Operation, before: Operation) -> Operation:
    """`operation`, a view of the view `before`, as one view of what that one looked at."""
    assert operation.layout is not None
    sizes, strides = operation.layout
    arguments = (before.args[0], sizes, strides)
    return replace(operation, target=torch.Tensor.as_strided, args=arguments, kwargs={})


def _moved(effect: Effect, places: Sequence[int]) -> Effect:
    """An effect with its positions counted among the operations that are left."""
    position = places[effect.position]
    if isinstance(effect, HostCall):
        return replace(effect, position=position, since=places[effect.since])
    return replace(effect, position=position)
