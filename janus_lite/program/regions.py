"""Graphs with control flow: blocks of operations, branches that meet again, loops.

A `Block` runs its operations and ends in one of four ways. Values that differ with the way taken
are *variables* of a cut: whoever goes to the cut says what they are (`Goto`), whoever runs after it
uses them. It is static single assignment with block arguments in place of phi nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from janus_lite.program.effects import is_assertion
from janus_lite.record.effects import Effect
from janus_lite.record.outputs import plans_of, refs_in_plan
from janus_lite.record.trace import Operation, Ref, refs_in

Step: TypeAlias = Operation | Effect


@dataclass(slots=True, eq=False)
class Cut:
    """A point where several ways meet.

    Attributes:
        label: the statement, as `file:line function`.
        variables: values that the ways bring along; complete when the builder is done.
    """

    label: str
    variables: list[Ref] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Goto:
    """The end of a block that goes to a cut.

    Attributes:
        cut: where to.
        values: for each variable of the cut a `Ref`, a `Source` or a `Grown` list.
        checks: for each of them the assertions to make before.
    """

    cut: Cut
    values: list[object] = field(default_factory=list)
    checks: list[tuple[Step, ...]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Grown:
    """The list that a variable holds, with elements appended.

    Attributes:
        base: the variable, `None` for a new list.
        elements: operands.
    """

    base: Ref | None
    elements: tuple[object, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Return:
    """The end of the program: its output, once the effects on the way are committed."""

    output: object


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A decision by the result of an operation; a result without an arm calls the replay off.

    Attributes:
        operation: gives the host value that decides.
        arms: pairs of a host value and what runs then.
        cut: where arms meet again, `None` when each goes its own way to the end.
        then: what runs after the cut.
    """

    operation: Operation
    arms: tuple[tuple[object, Block], ...]
    cut: Cut | None = None
    then: Block | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """Runs `body` until it goes elsewhere than to `head`.

    Attributes:
        head: the loop's cut; its variables are the values carried round.
        start: how the loop is entered.
        body: one iteration; it goes to `head` or to one of `exits`, or ends the program.
        exits: ways on after the loop: the cut that a `break` goes to, and what runs then.
    """

    head: Cut
    start: Goto
    body: Block
    exits: tuple[tuple[Cut, Block], ...]


End: TypeAlias = Return | Goto | Branch | Loop


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Operations and effects in a row, and how it goes on."""

    operations: tuple[Step, ...]
    end: End


def inner_blocks(end: End) -> Iterator[Block]:
    """The blocks of which the end of a block consists."""
    if isinstance(end, Branch):
        yield from (block for _, block in end.arms)
        if end.then is not None:
            yield end.then
    elif isinstance(end, Loop):
        yield end.body
        yield from (block for _, block in end.exits)


def ends_of(block: Block) -> Iterator[End]:
    """The ends of a block and of those inside it."""
    yield block.end
    for inner in inner_blocks(block.end):
        yield from ends_of(inner)


def operations_of(block: Block) -> Iterator[Operation]:
    """All operations of a block and of those inside it, in the order of the text."""
    yield from (o for o in block.operations if isinstance(o, Operation))
    if isinstance(block.end, Branch):
        yield block.end.operation
    for inner in inner_blocks(block.end):
        yield from operations_of(inner)


def has_effects(block: Block) -> bool:
    """Whether some way through a block has an effect."""
    own = any(not isinstance(o, Operation) for o in block.operations)
    return own or any(map(has_effects, inner_blocks(block.end)))


def is_exhaustive(branch: Branch) -> bool:
    """Whether every outcome has an arm."""
    return sorted(repr(outcome) for outcome, _ in branch.arms) == ["False", "True"]


def is_certain(block: Block) -> bool:
    """Whether a replay that has begun is sure to be the program's run to the end."""
    end = block.end
    if isinstance(end, Branch) and not is_exhaustive(end):
        return False
    gotos = [end] if isinstance(end, Goto) else [end.start] if isinstance(end, Loop) else []
    if any(any(goto.checks) for goto in gotos):
        return False
    steps = [o for o in block.operations if isinstance(o, Operation)]
    steps += [end.operation] if isinstance(end, Branch) else []
    if any(o.is_guarded or (is_assertion(o) and o in block.operations) for o in steps):
        return False
    return all(map(is_certain, inner_blocks(end)))


def refs_of(step: Step) -> list[Ref]:
    """The values that an operation reads or makes, or that an effect needs."""
    if isinstance(step, Operation):
        return refs_in([step.args, step.kwargs, step.output])
    return [ref for plan in plans_of(step) for ref in refs_in_plan(plan)]


def uses_of(block: Block) -> set[int]:
    """Indices of all values that a block and those inside it read or make."""
    own = {ref.index for step in block.operations for ref in refs_of(step)}
    return own | uses_of_end(block.end)


def uses_of_end(end: End) -> set[int]:
    """Indices of all values that the end of a block reads or makes."""
    found: set[int] = set()
    if isinstance(end, Return):
        found |= {ref.index for ref in refs_in_plan(end.output)}
    elif isinstance(end, Goto):
        found |= _goto_uses(end)
    elif isinstance(end, Branch):
        found |= {ref.index for ref in refs_of(end.operation)}
    else:
        found |= _goto_uses(end.start)
    for inner in inner_blocks(end):
        found |= uses_of(inner)
    return found


def _goto_uses(goto: Goto) -> set[int]:
    values = [v.elements if isinstance(v, Grown) else v for v in goto.values]
    bases = [v.base for v in goto.values if isinstance(v, Grown)]
    checked = [ref for checks in goto.checks for step in checks for ref in refs_of(step)]
    return {ref.index for ref in refs_in([values, bases, goto.cut.variables, checked])}
