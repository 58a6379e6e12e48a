"""Element-by-element operations that overwrite what nobody reads any more.

Note [In place]
    `torch.relu(a + b)` takes memory twice, and lets go of it twice: a third of what a small
    operation costs. A value that was made in the run, that nothing else looks at and that is read
    for the last time may as well become the result. The same kernel writes the same bits.

In: operations of a replay. Out: which of them may run as their in-place variant. Invariant: what
leaves the run is a tensor of its own that was never written to: its version is 0, as in eager.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import torch

from janus_lite.program.memory import is_pointwise, makes_new, may_leave, operands
from janus_lite.record.torch_table import name_of
from janus_lite.record.trace import UNPLACED, Operation, Placement, Ref

_nn: Any = torch._C._nn
_VARIANTS: dict[str, Callable[..., Any]] = {
    name: getattr(torch.Tensor, f"{name}_")
    for name in """
    add sub subtract mul multiply div divide true_divide pow
    neg abs square sqrt rsqrt reciprocal exp log sin cos erf relu tanh sigmoid
    """.split()
}
_VARIANTS |= {
    "__add__": torch.Tensor.add_,
    "__sub__": torch.Tensor.sub_,
    "__mul__": torch.Tensor.mul_,
    "__truediv__": torch.Tensor.div_,
    "gelu": _nn.gelu_,
    "silu": _nn.silu_,
    "mish": _nn.mish_,
    "hardswish": _nn.hardswish_,
    "hardsigmoid": _nn.hardsigmoid_,
}
_OPTIONS = frozenset({"alpha", "rounding_mode", "approximate"})


def variant(operation: Operation) -> Callable[..., Any]:
    """The function that writes what an operation gives into its first operand."""
    return _VARIANTS[name_of(operation.target)]


def find_overwriting(
    operations: Sequence[Operation], certain: AbstractSet[Ref], leaving: Iterable[Ref]
) -> dict[int, dict[Ref, tuple[int, ...]]]:
    """Find operations that may overwrite their first operand.

    Args:
        operations: of a replay, in program order.
        certain: values of which it is certain how they lie in memory.
        leaving: values that outlive the run, in its output or its effects.

    Returns:
        For their positions the operands, with sizes, of which it has to be asked whether they lie
        row by row, as in the recording: else the result need not lie as its operand does.
    """
    kept = may_leave(operations, leaving, certain)
    own = _own(operations, certain) - kept
    last = {ref: position for position, o in enumerate(operations) for ref in operands(o)}
    made = {o.output: o.placement for o in operations if isinstance(o.output, Ref)}

    def may_overwrite(position: int, operation: Operation) -> bool:
        first = operation.args[0]
        return (
            isinstance(first, Ref)
            and first in own
            and last[first] == position
            and operation.output not in kept
            and _are_alike(made[first], operation.placement)
        )

    overwriting = {}
    for position, operation in enumerate(operations):
        if _has_variant(operation) and may_overwrite(position, operation):
            uncertain = [ref for ref in operands(operation) if ref not in certain]
            sizes = {ref: made.get(ref, UNPLACED).sizes for ref in uncertain}
            known = {ref: found for ref, found in sizes.items() if found is not None}
            if len(known) == len(sizes):
                overwriting[position] = known
    return overwriting


def _has_variant(operation: Operation) -> bool:
    return (
        is_pointwise(operation)
        and name_of(operation.target) in _VARIANTS
        and len(operation.args) <= 2
        and _OPTIONS.issuperset(operation.kwargs)
    )


def _are_alike(one: Placement, other: Placement) -> bool:
    return (one.sizes, one.dtype, one.device) == (other.sizes, other.dtype, other.device)


def _own(operations: Sequence[Operation], certain: AbstractSet[Ref]) -> set[Ref]:
    """Values made in the run whose memory no other value shares."""
    own: set[Ref] = set()
    shared: set[Ref] = set()
    for operation in operations:
        if not makes_new(operation, certain):
            shared.update(operands(operation))
        elif isinstance(operation.output, Ref):
            own.add(operation.output)
    return own - shared
