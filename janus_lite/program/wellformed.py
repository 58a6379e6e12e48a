"""Whether a graph with control flow is one: each value is made before it is used, on every way.

Merging is the most intricate step between a recording and a replay. What it gives is checked here,
independently of how it was built, before it may run; a fault of ours costs a graph, not a result.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from janus_lite.program.regions import (
    Block,
    Branch,
    Cut,
    End,
    Goto,
    Grown,
    Loop,
    Return,
    Step,
    refs_of,
)
from janus_lite.record.outputs import refs_in_plan
from janus_lite.record.trace import Operation, Ref, refs_in


class MalformedError(Exception):
    """A graph uses what is not there; the text says which value, and where."""


class _Target:
    """A cut that ways lead to, and the values that are there on each of them."""

    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self._arrived: list[frozenset[int]] = []

    def is_for(self, cut: Cut) -> bool:
        return self._cut is cut

    def arrive(self, known: set[int]) -> None:
        self._arrived.append(frozenset(known))

    def values(self) -> set[int]:
        """What is there behind the cut, whichever way was taken."""
        if not self._arrived:
            raise MalformedError(f"no way leads to {self._cut.label}")
        return set(frozenset.intersection(*self._arrived)) | _variables(self._cut)


@dataclass(frozen=True, slots=True, eq=False)
class _Ways:
    """Where the end of a block may lead.

    Attributes:
        on: the cuts behind the branches around the block, as far as the innermost loop.
        around: head and exits of that loop.
    """

    on: tuple[_Target, ...] = ()
    around: tuple[_Target, ...] = ()

    def target(self, cut: Cut) -> _Target:
        for target in (*self.on, *self.around):
            if target.is_for(cut):
                return target
        raise MalformedError(f"a way leads into {cut.label} from elsewhere")


def require_wellformed(block: Block, inputs: Iterable[Ref]) -> None:
    """Every value is made before its uses, and every way leads on, not into another region.

    Args:
        block: the whole graph.
        inputs: the values that are there at the start.

    Raises:
        MalformedError: some use or some way does not.
    """
    _block(block, {ref.index for ref in inputs}, _Ways())


def _block(block: Block, known: set[int], ways: _Ways) -> None:
    known = set(known)
    for step in block.operations:
        _step(step, known)
    _end(block.end, known, ways)


def _step(step: Step, known: set[int]) -> None:
    if isinstance(step, Operation):
        _require(refs_in([step.args, step.kwargs]), known, str(step.site))
        known |= {ref.index for ref in refs_in(step.output)}
    else:
        _require(refs_of(step), known, "an effect")


def _end(end: End, known: set[int], ways: _Ways) -> None:
    if isinstance(end, Return):
        _require(refs_in_plan(end.output), known, "the output")
    elif isinstance(end, Goto):
        _goto(end, known, ways)
    elif isinstance(end, Branch):
        _branch(end, known, ways)
    else:
        _loop(end, known, ways)


def _goto(goto: Goto, known: set[int], ways: _Ways) -> None:
    target = ways.target(goto.cut)
    if not len(goto.values) == len(goto.checks) == len(goto.cut.variables):
        raise MalformedError(f"a way to {goto.cut.label} brings too much or too little")
    for value, checks in zip(goto.values, goto.checks, strict=True):
        for check in checks:
            _step(check, known)
        brought = (value.base, value.elements) if isinstance(value, Grown) else value
        _require(refs_in(brought), known, goto.cut.label)
    target.arrive(known)


def _branch(branch: Branch, known: set[int], ways: _Ways) -> None:
    known = set(known)
    _step(branch.operation, known)
    if branch.cut is None or branch.then is None:
        for _, arm in branch.arms:
            _block(arm, known, ways)
        return
    target = _Target(branch.cut)
    for _, arm in branch.arms:
        _block(arm, known, replace(ways, on=(*ways.on, target)))
    _block(branch.then, target.values(), ways)


def _loop(loop: Loop, known: set[int], ways: _Ways) -> None:
    head = _Target(loop.head)
    _goto(loop.start, known, _Ways(around=(head,)))
    exits = [_Target(cut) for cut, _ in loop.exits]
    # Of the values of one round only the carried ones are there in the next.
    _block(loop.body, head.values(), _Ways(around=(head, *exits)))
    for target, (_, block) in zip(exits, loop.exits, strict=True):
        _block(block, target.values(), ways)


def _variables(cut: Cut) -> set[int]:
    return {ref.index for ref in cut.variables}


def _require(refs: Iterable[Ref], known: set[int], where: str) -> None:
    missing = sorted({ref.index for ref in refs} - known)
    if missing:
        raise MalformedError(f"v{missing[0]} is used at {where} before it is made")
