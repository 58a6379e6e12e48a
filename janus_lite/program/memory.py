"""What is certain, at every replay, of where the values of a run lie in memory.

Kernels are free to choose how their results lie, and choose otherwise on another day. What these
functions find does not depend on such a choice, only on what the guards know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

import torch

from janus_lite.record.torch_table import PLACED, name_of
from janus_lite.record.trace import Input, Operation, OperationKind, Ref, refs_in

# Each element of the result comes from those at its place.
_POINTWISE = frozenset(
    """
    add sub subtract mul multiply div divide true_divide neg relu gelu silu tanh sigmoid elu
    leaky_relu hardtanh hardswish hardsigmoid mish softplus selu celu
    abs square sqrt rsqrt reciprocal exp log sin cos erf pow
    __add__ __sub__ __mul__ __truediv__ __radd__ __rmul__
    """.split()
)
# However their operands lie, they give new memory.
_ALWAYS_NEW = _POINTWISE | frozenset(
    """
    clone linear bilinear embedding addmm mm bmm baddbmm matmul __matmul__
    conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d
    layer_norm batch_norm group_norm instance_norm rms_norm
    scaled_dot_product_attention softmax log_softmax mean sum cat stack where masked_fill
    max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d
    """.split()
)
# Whatever kernel is chosen, the sizes alone say how the result lies in memory: row by row.
_ROW_BY_ROW = (torch.nn.functional.linear, torch.layer_norm, torch.embedding)


def operands(operation: Operation) -> list[Ref]:
    """The values that an operation reads."""
    return refs_in((operation.args, operation.kwargs))


def is_plain(operation: Operation) -> bool:
    """Whether it makes one tensor of known sizes, row by row, and does nothing else."""
    is_made = operation.kind is OperationKind.COMPUTE and not operation.mutates
    return is_made and operation.placement.sizes is not None


def is_pointwise(operation: Operation) -> bool:
    """Whether each element of the result comes from those at its place."""
    parts = [a for a in operation.args if isinstance(a, Ref)]
    return (
        is_plain(operation)
        and name_of(operation.target) in _POINTWISE
        and operands(operation) == parts
    )


def makes_new(operation: Operation, certain: AbstractSet[Ref]) -> bool:
    """Whether the one result shares no memory with the operands at any replay.

    `reshape`, and what is made of it, decides by strides whether to copy.
    """
    is_fixed = name_of(operation.target) in _ALWAYS_NEW or certain >= set(operands(operation))
    return operation.placement.is_new and is_fixed


def changed_in_place(operations: Iterable[Operation]) -> set[Ref]:
    """Values that some operation may change."""
    return {ref for o in operations if o.mutates for ref in operands(o)}


def certain_layouts(operations: Sequence[Operation], inputs: Mapping[Ref, Input]) -> set[Ref]:
    """Values with the strides of the recording at every replay, from their making to their end."""
    changed = changed_in_place(operations)
    certain = {ref for ref, item in inputs.items() if not item.varying} - changed
    for operation in operations:
        follows = name_of(operation.target) in PLACED or is_pointwise(operation)
        if operation.target in _ROW_BY_ROW or (follows and certain.issuperset(operands(operation))):
            certain.update(set(refs_in(operation.output)) - changed)
    return certain


def may_leave(
    operations: Sequence[Operation], leaving: Iterable[Ref], certain: AbstractSet[Ref]
) -> AbstractSet[Ref]:
    """Values that leave the run, and those that one which leaves may be a view of."""
    found = set(leaving)
    for operation in reversed(operations):
        if not makes_new(operation, certain) and found.intersection(refs_in(operation.output)):
            found.update(operands(operation))
    return found
