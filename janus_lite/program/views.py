"""Chains of views: `linear(x).view(b, s, h, d).transpose(1, 2)` looks at one tensor in one new way.

A view costs no work but a call: 2 us of the 20 us that an operation of a small network takes. With
gradients off nobody asks how a view came about, only where it lies, so that a replay may make the
last view of a chain at once, where the tensor lies in memory as it did in the recording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from janus_lite.record.outputs import refs_in_plan
from janus_lite.record.trace import Operation, Ref, refs_in

Chain = tuple[int, ...]


def view_chains(
    operations: Sequence[Operation], plans: Iterable[object], ends: Collection[Ref] = ()
) -> dict[int, Chain]:
    """Find views whose only reader is another view.

    Args:
        operations: a recorded run, in program order.
        plans: what leaves the run: the plans of its output and effects.
        ends: results of operations that look at their first argument as a last view would.

    Returns:
        For each position of a last view the positions of its whole chain.
    """
    uses = Counter(ref for o in operations for ref in refs_in((o.args, o.kwargs)))
    uses.update(ref for plan in plans for ref in refs_in_plan(plan))
    chains: dict[int, Chain] = {}
    made: dict[Ref, int] = {}
    last_write = -1
    for position, operation in enumerate(operations):
        if operation.mutates:
            last_write = position
        if not isinstance(operation.output, Ref):
            continue
        is_end = operation.output in ends
        if operation.placement.layout is None and not is_end:
            continue
        base = operation.args[0]
        before = made.get(base) if isinstance(base, Ref) and uses[base] == 1 else None
        chain: Chain = (position,)
        if before is not None:
            longer = (*chains.pop(before), position)
            if longer[0] > last_write:  # nothing moved or rewrote the tensor meanwhile
                chain = longer
            else:
                chains[before] = longer[:-1]
        chains[position] = chain
        if not is_end:
            made[operation.output] = position
    return {last: chain for last, chain in chains.items() if len(chain) > 1}
