"""Graphs without control flow -> lines, each value freed at its last use.

What runs are the operations of `program/lowering.py`: fewer views, products of rows, and values
that overwrite what nobody reads any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch

from janus_lite.program.effects import is_change
from janus_lite.program.generalize import Program
from janus_lite.program.in_place import variant
from janus_lite.program.lowering import Product, lower
from janus_lite.program.views import view_chains
from janus_lite.record.outputs import plans_of
from janus_lite.record.trace import Operation, Ref, refs_in, row_strides
from janus_lite.runtime.commit import foreign_outputs
from janus_lite.runtime.expressions import Expressions, pattern
from janus_lite.runtime.guards import Names
from janus_lite.runtime.transposes import Transposes, transposed

Lines = list[str]


class WriteOperation(Protocol):
    """Gives the lines of an operation as it was recorded."""

    def __call__(self, operation: Operation, *, has_saved: bool) -> Lines:
        """`has_saved`: `saved` holds what has to be put back when the operation fails."""
        ...


class StraightEmitter:
    """Emits one program.

    Args:
        program: what to run.
        names: constants and functions that the text uses.
        expressions: operations and operands as text.
        operation: the lines of an operation that runs as it was recorded.
        remember: the expression of what has to be put back.
    """

    def __init__(
        self,
        program: Program,
        names: Names,
        expressions: Expressions,
        operation: WriteOperation,
        remember: Callable[[], str],
    ) -> None:
        self._program = program
        self._names = names
        self._expressions = expressions
        self._operation = operation
        self._remember = remember
        self._leaving = foreign_outputs(program)
        self._lowered = lower(program.operations, program.inputs, self._leaving)

    def steps(self, *, is_shadow: bool = False) -> list[Lines]:
        """The lines of each recorded operation; a shadow shows every result and undoes nothing."""
        program, lowered = self._program, self._lowered
        operations = lowered.operations
        needed = {ref.index for ref in self._leaving}
        chains = self._view_chains()
        moved = {position: chain[-1] for chain in chains.values() for position in chain}
        unused = _unused_sizes(operations, needed)
        last = _last_uses(operations, needed, moved, unused)
        from_outside = {ref.index for _, ref in lowered.transposed}
        from_outside.update(i.ref.index for i in program.inputs)
        has_saved = False
        steps: list[Lines] = [[] for _ in program.operations]
        site = None
        for position, operation in enumerate(operations):
            origin = lowered.origins[position]
            lines = steps[origin]
            is_moved = moved.get(position, position) != position  # made with the last of its chain
            if is_moved or position in unused:
                continue
            if operation.site != site:
                site = operation.site
                lines.append(f"# {site}")
            may_undo = origin < program.transaction.commit and not is_shadow
            if is_change(operation) and not has_saved and may_undo:
                has_saved = True
                lines.append(f"saved = {self._remember()}")
            chain = [operations[p] for p in chains.get(position, (position,))]
            product = lowered.product_of(operation)
            if product is not None:
                lines.append(self._product(chain, product))
            elif len(chain) > 1:
                lines.append(self._view_chain(chain))
            elif position in lowered.overwriting:
                lines.append(self._overwriting(operation, lowered.overwriting[position]))
            else:
                lines += self._operation(operation, has_saved=has_saved)
            if is_shadow:
                lines.append(_shown(operation, program.operations[origin], lowered.rows))
            touched = set().union(*map(_made_or_read, chain))
            touched -= {r.index for inner in chain[:-1] for r in refs_in(inner.output)}
            dead = sorted(v for v in touched if last.get(v) == position and v not in from_outside)
            if dead:
                lines.append(f"del {', '.join(f'v{v}' for v in dead)}")
        return steps

    def kept_transposes(self) -> Lines:
        """Take the transposed weights that are held, while the weights lie where they lay."""
        if not self._lowered.transposed:
            return []
        transposes = Transposes()
        self._names.namespace.update(
            address_of=torch.Tensor.data_ptr, transposes=transposes.held, renew=transposes.renew
        )
        weights, made = self._weights()
        return [
            f"weights = {weights}",
            "addresses, turned = transposes[0]",
            "if tuple(map(address_of, weights)) != addresses: turned = renew(weights)",
            f"{made} = turned",
        ]

    def new_transposes(self) -> Lines:
        """Transpose the weights."""
        if not self._lowered.transposed:
            return []
        self._names.namespace["transposed"] = transposed
        weights, made = self._weights()
        return [f"{made} = transposed({weights})"]

    def _weights(self) -> tuple[str, str]:
        weights, made = zip(*self._lowered.transposed, strict=True)
        return pattern(weights), pattern(made)

    def _view_chains(self) -> dict[int, tuple[int, ...]]:
        program, lowered = self._program, self._lowered
        plans = (program.output, *(p for e in program.effects for p in plans_of(e)))
        return view_chains(lowered.operations, plans, lowered.products)

    def _view_chain(self, chain: Sequence[Operation]) -> str:
        """The last view of a chain: at once where the tensor lies as recorded, else one by one.

        How it lies may be the choice of the kernel that made it, which no guard knows; of most
        operations it has to be asked.
        """
        final = chain[-1].placement.layout
        assert final is not None
        _, sizes, strides = final
        base, lies_as_recorded = self._viewed(chain)
        at_once = f"{self._function(torch.Tensor.as_strided)}({base}, {sizes!r}, {strides!r})"
        result, one_by_one = pattern(chain[-1].output), self._expressions.nested(chain)
        if chain[0].args[0] in self._lowered.certain:
            return f"{result} = {at_once}"
        return f"{result} = {at_once} if {lies_as_recorded} else {one_by_one}"

    def _product(self, chain: Sequence[Operation], product: Product) -> str:
        """A linear layer of a chain of views: a product where the tensor lies as recorded."""
        *views, linear = chain
        result, layer = pattern(linear.output), self._expressions.nested(chain)
        if product.made is not None:
            layer = f"{self._function(torch.Tensor.view)}({layer}, {product.made!r})"
        if not views:
            return f"{result} = {layer}"
        base, lies_as_recorded = self._viewed(views)
        strides = (product.sizes[1], 1)
        rows = f"{self._function(torch.Tensor.as_strided)}({base}, {product.sizes!r}, {strides!r})"
        operands = [rows if a is rows else self._expressions.value(a) for a in product.args(rows)]
        at_once = f"{self._function(product.target)}({', '.join(operands)})"
        return f"{result} = {at_once} if {lies_as_recorded} else {layer}"

    def _viewed(self, chain: Sequence[Operation]) -> tuple[str, str]:
        """What a chain of views looks at, and whether it lies as recorded."""
        first = chain[0].placement.layout
        assert first is not None
        base = self._expressions.value(chain[0].args[0])
        return base, f"{base}.stride() == {first[0]!r}"

    def _overwriting(self, operation: Operation, asked: Mapping[Ref, tuple[int, ...]]) -> str:
        """An operation that overwrites its first operand, where operands lie row by row."""
        arguments = self._expressions.arguments(operation)
        function = self._function(variant(operation))
        if asked:
            tests = [f"v{r.index}.stride() == {row_strides(sizes)}" for r, sizes in asked.items()]
            plain = self._function(operation.target)
            function = f"({function} if {' and '.join(tests)} else {plain})"
        return f"{pattern(operation.output)} = {function}({arguments})"

    def _function(self, target: Callable[..., object]) -> str:
        return self._expressions.function(target)


def observation(refs: Sequence[Ref], more: str = "") -> str:
    """Show values to `observe`."""
    shown = ", ".join(f"{ref.index}: v{ref.index}" for ref in dict.fromkeys(refs))
    return f"observe({{{shown}}}{more})"


def _shown(operation: Operation, recorded: Operation, rows: Mapping[Ref, Ref]) -> str:
    """Show what a recorded operation gives; rows as what they are rows of."""
    output = recorded.output
    if isinstance(output, Ref) and operation.output == rows.get(output):
        sizes = recorded.placement.sizes
        return f"observe({{{output.index}: v{rows[output].index}.view({sizes})}})"
    given = refs_in(output)
    return observation([ref for ref in refs_in(operation.output) if ref in given])


def _made_or_read(operation: Operation) -> set[int]:
    parts = (operation.args, operation.kwargs, operation.output)
    return {r.index for part in parts for r in refs_in(part)}


def _last_uses(
    operations: Sequence[Operation],
    needed: set[int],
    moved: Mapping[int, int],
    left_out: frozenset[int],
) -> dict[int, int]:
    """Position of the last operation that touches a value; values to return are left out."""
    last: dict[int, int] = {}
    for position, operation in enumerate(operations):
        if position in left_out:
            continue
        for value in _made_or_read(operation):
            if value not in needed:  # a view that is made later reads it later
                last[value] = max(last.get(value, -1), moved.get(position, position))
    return last


def _unused_sizes(operations: Sequence[Operation], needed: set[int]) -> frozenset[int]:
    """Positions that ask for a size which nobody uses: `x.shape` gives all of them."""
    used = needed.union(r.index for o in operations for r in refs_in((o.args, o.kwargs)))
    asked = [
        (position, o.output.index)
        for position, o in enumerate(operations)
        if o.target is torch.Tensor.size and isinstance(o.output, Ref)
    ]
    return frozenset(position for position, index in asked if index not in used)
