"""Linear layers as what torch makes of them: one matrix product over rows.

Note [Rows]
    `linear(x, w, b)` of a `(batch, length, features)` tensor looks at `x` as rows, at `w`
    transposed, calls `addmm` and looks at the result as a batch again. Each look costs 0.5 to 1 us,
    the product of 32 rows of 128 features 18. With gradients off nobody asks how a value came
    about. So a replay keeps the transposed weights from call to call, and a value stays a matrix of
    rows from one linear layer to the next where all that happens in between treats every row alike.

    The bits are eager's: the product gets the same operands (`linear_calls.py` asks torch), and an
    operation element by element walks through memory in one line whatever the dims are called.

In: the recorded operations. Out: operations for a replay, with values of their own. Invariant: what
leaves the run, and what is changed in place, is made as it was recorded.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import torch

from janus_lite.program.in_place import find_overwriting
from janus_lite.program.linear_calls import is_product_of_rows
from janus_lite.program.memory import (
    certain_layouts,
    changed_in_place,
    is_plain,
    is_pointwise,
    may_leave,
    operands,
)
from janus_lite.record.trace import (
    UNPLACED,
    Input,
    Operation,
    OperationKind,
    Placement,
    Ref,
    is_row_by_row,
    refs_in,
)

# Above this the work of an operation hides what its call costs, and memory should be let go of.
MOST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Product:
    """Rows times a transposed weight, plus a bias.

    Attributes:
        sizes: of the rows.
        made: sizes of the result, `None` where the layer gives a matrix itself.
        transposed: the weight.
        bias: `None` where there is none.
    """

    sizes: tuple[int, int]
    made: tuple[int, int] | None
    transposed: Ref
    bias: Ref | None

    @property
    def target(self) -> Any:
        """What to call."""
        return torch.mm if self.bias is None else torch.addmm

    def args(self, rows: object) -> tuple[object, ...]:
        """With which arguments."""
        operands = (rows, self.transposed)
        return operands if self.bias is None else (self.bias, *operands)


@dataclass(frozen=True, slots=True)
class Lowered:
    """What a replay runs in place of the recorded operations.

    Attributes:
        operations: in program order.
        origins: for each of them the position of the recorded one that it is part of.
        transposed: weights, each with the value that stands for it transposed.
        rows: recorded values that are made as rows, each with the value that they are then.
        products: linear layers of what only a view of it reads: their result, and the product that
            gives it where the viewed tensor lies as recorded.
        overwriting: positions of operations that may overwrite their first operand, each with the
            values that must lie row by row for that.
        certain: values that lie in memory as in the recording, whatever kernels choose.
    """

    operations: tuple[Operation, ...]
    origins: tuple[int, ...]
    transposed: tuple[tuple[Ref, Ref], ...]
    rows: Mapping[Ref, Ref]
    products: Mapping[Ref, Product]
    overwriting: Mapping[int, Mapping[Ref, tuple[int, ...]]]
    certain: frozenset[Ref]

    def product_of(self, operation: Operation) -> Product | None:
        """The product that an operation may be."""
        output = operation.output
        return self.products.get(output) if isinstance(output, Ref) else None


def lower(
    operations: Sequence[Operation], inputs: Iterable[Input], leaving: Iterable[Ref]
) -> Lowered:
    """Turn linear layers into matrix products.

    Args:
        operations: a recorded run, in program order.
        inputs: its outside tensors.
        leaving: values that outlive it, in its output or its effects.
    """
    return _Lowering(operations, {i.ref: i for i in inputs}, leaving).run()


class _Lowering:
    """One pass back, to find which values may stay rows, and one forth, to rewrite."""

    def __init__(
        self, operations: Sequence[Operation], inputs: Mapping[Ref, Input], leaving: Iterable[Ref]
    ) -> None:
        self._before = operations
        self._inputs = inputs
        # An action may do anything to a weight in the middle of the run.
        self._acts = any(o.kind is OperationKind.ACTION for o in operations)
        self._changed = changed_in_place(operations)
        self._sizes = {
            ref: item.meta.shape
            for ref, item in inputs.items()
            if not item.varying and is_row_by_row(item.meta.shape, item.meta.stride)
        }
        for operation in operations:
            sizes = operation.placement.sizes
            if isinstance(operation.output, Ref) and sizes is not None:
                self._sizes[operation.output] = sizes
        self._leaving = leaving
        self._certain = certain_layouts(operations, inputs)
        self._dense = self._certain.intersection(self._sizes)
        self._kept = may_leave(operations, leaving, self._certain)
        self._viewed = self._find_viewed()
        self._wanted = self._find_wanted()
        self._new = itertools.count(1 + max(_indices(operations, inputs), default=-1))
        self._rows: dict[Ref, Ref] = {}
        self._alone: set[Ref] = set()  # made as rows
        self._pending: set[Ref] = set()  # there are rows of it, and nothing else yet
        self._transposed: dict[Ref, Ref] = {}
        self._products: dict[Ref, Product] = {}
        self._after: list[Operation] = []
        self._origins: list[int] = []

    def run(self) -> Lowered:
        """Rewrite."""
        for position, operation in enumerate(self._before):
            self._rewrite(operation)
            self._origins += [position] * (len(self._after) - len(self._origins))
        certain = self._certain.union(self._rows.values())
        return Lowered(
            tuple(self._after),
            tuple(self._origins),
            tuple(self._transposed.items()),
            {ref: rows for ref, rows in self._rows.items() if ref in self._alone},
            self._products,
            find_overwriting(self._after, certain, self._leaving),
            frozenset(certain),
        )

    # ---------------------------------------------------------------- facts

    def _find_viewed(self) -> set[Ref]:
        """Views with one reader that lay row by row, of tensors that may lie otherwise."""
        uses = Counter(ref for o in self._before for ref in operands(o))
        views = [o.output for o in self._before if o.placement.layout is not None and is_plain(o)]
        found = {ref for ref in views if isinstance(ref, Ref) and uses[ref] == 1}
        return found - self._dense - self._kept - self._changed

    def _find_wanted(self) -> set[Ref]:
        """Values that are of use as rows."""
        wanted: set[Ref] = set()
        for operation in reversed(self._before):
            if operation.placement.layout is not None or self._is_linear(operation):
                found = _refs(operation.args[:1])
            elif operation.output in wanted and self._treats_rows_alike(operation):
                found = self._row_operands(operation)
            else:
                continue
            wanted.update(ref for ref in found if self._may_be_rows(ref))
        return wanted

    def _may_be_rows(self, ref: Ref) -> bool:
        return ref in self._dense and ref not in self._kept and len(self._sizes[ref]) > 2

    def _row_operands(self, operation: Operation) -> list[Ref]:
        """The tensors whose rows those of the result come from."""
        return _refs(operation.args if is_pointwise(operation) else operation.args[:1])

    def _treats_rows_alike(self, operation: Operation) -> bool:
        if operation.target is torch.layer_norm:
            sizes: Any = operation.args[1]
            return is_plain(operation) and len(sizes) == 1
        parts = operands(operation)
        return (
            is_pointwise(operation)
            and self._changed.isdisjoint(parts)
            and all(self._sizes.get(ref) == operation.placement.sizes for ref in parts)
        )

    def _is_linear(self, operation: Operation) -> bool:
        """Whether it is a linear layer that is small, with a weight from outside."""
        if operation.target is not torch.nn.functional.linear or operation.kwargs:
            return False
        given, weight, bias = (*operation.args, None)[:3]
        item = self._inputs.get(weight)  # type: ignore[call-overload]  # others are not found
        if (
            self._acts
            or not is_plain(operation)
            or item is None
            or not item.source.is_pinned
            or weight in self._changed
            or not (given in self._dense or given in self._viewed)
            or not (bias is None or bias in self._inputs)
        ):
            return False
        meta = item.meta
        sizes = self._sizes[given]
        if max(prod(meta.shape), prod(sizes)) * meta.dtype.itemsize > MOST_BYTES:
            return False
        return is_product_of_rows(
            sizes, meta.shape, meta.stride, meta.dtype, meta.device, has_bias=bias is not None
        )

    # -------------------------------------------------------------- rewriting

    def _rewrite(self, operation: Operation) -> None:
        output: Any = operation.output
        first = operation.args[0] if operation.args else None
        if self._is_linear(operation) and self._is_cheaper(operation):
            self._rewrite_linear(operation)
        elif operation.placement.layout is not None and first in self._pending:
            _, sizes, strides = operation.placement.layout
            rows = self._rows_of(first, operation)
            view = torch.Tensor.as_strided
            self._add(operation, view, (rows, sizes, strides), output, operation.placement)
        elif (
            output in self._wanted
            and self._treats_rows_alike(operation)
            and not self._pending.isdisjoint(given := self._row_operands(operation))
        ):
            rows_of = {ref: self._rows_of(ref, operation) for ref in given}
            args = tuple(rows_of.get(a, a) if isinstance(a, Ref) else a for a in operation.args)
            made = self._as_rows(output)
            self._add(operation, operation.target, args, made, self._as_matrix(operation))
        else:
            for ref in self._pending.intersection(operands(operation)):
                self._look_at_all(ref, operation)
            self._after.append(operation)

    def _is_cheaper(self, linear: Operation) -> bool:
        given: Any = linear.args[0]
        if len(self._sizes[given]) == 2 or given in self._viewed:
            return True
        return given in self._rows or linear.output in self._wanted

    def _rewrite_linear(self, operation: Operation) -> None:
        given: Any = operation.args[0]
        output: Any = operation.output
        product, matrix = self._product(operation), self._as_matrix(operation)
        is_matrix = product.made is None
        if given in self._viewed:
            made = output if is_matrix else self._as_rows(output)
            self._products[made] = product
            self._add(operation, operation.target, operation.args, made, matrix)
        else:
            rows = given if is_matrix else self._rows_of(given, operation)
            made = output if is_matrix else self._as_rows(output)
            self._add(operation, product.target, product.args(rows), made, matrix)
        if not is_matrix and output not in self._wanted:
            self._alone.discard(output)
            self._look_at_all(output, operation)

    def _product(self, operation: Operation) -> Product:
        given, weight, bias = (*operation.args, None)[:3]
        assert isinstance(given, Ref)
        assert isinstance(weight, Ref)
        if weight not in self._transposed:
            self._transposed[weight] = Ref(next(self._new))
        is_matrix = len(self._sizes[given]) == 2
        made = None if is_matrix else self._row_sizes(operation.output)
        turned = self._transposed[weight]
        bias = bias if isinstance(bias, Ref) else None
        return Product(self._row_sizes(given), made, turned, bias)

    def _add(
        self,
        operation: Operation,
        target: Any,
        args: tuple[object, ...],
        output: object,
        placement: Placement = UNPLACED,
    ) -> None:
        kwargs = operation.kwargs if target is operation.target else {}
        made = {"target": target, "args": args, "kwargs": kwargs, "output": output}
        self._after.append(replace(operation, **made, placement=placement))

    def _row_sizes(self, ref: Any) -> tuple[int, int]:
        sizes = self._sizes[ref]
        return prod(sizes[:-1]), sizes[-1]

    def _as_matrix(self, operation: Operation) -> Placement:
        """How the result lies as a matrix of rows."""
        return replace(operation.placement, sizes=self._row_sizes(operation.output))

    def _rows_of(self, ref: Any, operation: Operation) -> Ref:
        """The value as a matrix of rows; looked at as one where it is not yet."""
        if ref not in self._rows:
            rows = self._rows[ref] = Ref(next(self._new))
            self._add(operation, torch.Tensor.view, (ref, self._row_sizes(ref)), rows)
        return self._rows[ref]

    def _as_rows(self, ref: Ref) -> Ref:
        """The value that an operation gives in place of `ref`."""
        self._pending.add(ref)
        self._alone.add(ref)
        rows = self._rows[ref] = Ref(next(self._new))
        return rows

    def _look_at_all(self, ref: Ref, operation: Operation) -> None:
        """Make the value as it was recorded, from its rows."""
        self._pending.discard(ref)
        self._add(operation, torch.Tensor.view, (self._rows[ref], self._sizes[ref]), ref)


def _refs(args: Iterable[object]) -> list[Ref]:
    return [a for a in args if isinstance(a, Ref)]


def _indices(operations: Iterable[Operation], inputs: Iterable[Ref]) -> list[int]:
    made = [ref.index for o in operations for ref in refs_in(o.output)]
    return [*made, *(ref.index for ref in inputs)]
