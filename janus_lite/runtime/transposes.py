"""Transposed weights, kept from one replay to the next; see Note [Rows] in `lowering.py`."""

from __future__ import annotations

import torch

Tensors = tuple[torch.Tensor, ...]


class Transposes:
    """Looks at weights the other way round, anew where a weight was given other memory.

    A weight written in place is seen by its transpose. `weight.data = other` is not: it leaves the
    tensor that the guards know, and moves it. The old memory, held by the old transpose, is never
    given to another tensor meanwhile, so that equal addresses mean the same memory.

    Attributes:
        held: one pair (addresses, transposes); replaced as a whole, so that threads see both or
            neither.
    """

    def __init__(self) -> None:
        self.held: list[tuple[tuple[int, ...], Tensors]] = [((), ())]

    def renew(self, weights: Tensors) -> Tensors:
        """Make and keep the transposes of weights."""
        made = transposed(weights)
        self.held[0] = (tuple(map(torch.Tensor.data_ptr, made)), made)
        return made


def transposed(weights: Tensors) -> Tensors:
    """Look at weights the other way round, without history."""
    return tuple(weight.detach().t() for weight in weights)
