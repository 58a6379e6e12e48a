"""A damaged graph with control flow is refused before it can run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

import janus_lite
from janus_lite.program.generalize import Program
from janus_lite.program.regions import Block, Branch, Goto, Loop
from janus_lite.program.wellformed import MalformedError, require_wellformed
from janus_lite.record.trace import Operation, refs_in


def _steps(x: torch.Tensor) -> torch.Tensor:
    h = x * 0.5
    while h.sum() < 8:
        h = h * 1.5 if h[0] > 1 else h + 0.25
        if h[1] > 3:
            break
    return torch.tanh(h) + x


@pytest.fixture(scope="module")
def program() -> Program:
    """One program with a branch that meets again inside a loop with two ways out."""
    steps: Any = janus_lite.speculate(_steps)
    for x in torch.rand(20, 3, generator=torch.Generator().manual_seed(0)):
        steps(x * 4)
    found: Program = steps.conversions[0].program
    return found


def _damaged(block: Block) -> Iterator[Block]:
    """The block without one operation, or with one value too few on one way."""
    for position, step in enumerate(block.operations):
        if isinstance(step, Operation) and refs_in(step.output):
            rest = block.operations[:position] + block.operations[position + 1 :]
            yield replace(block, operations=rest)
    end = block.end
    if isinstance(end, Goto) and end.values:
        yield replace(block, end=Goto(end.cut, end.values[1:], end.checks[1:]))
    elif isinstance(end, Branch):
        for number, (outcome, arm) in enumerate(end.arms):
            for inner in _damaged(arm):
                arms = (*end.arms[:number], (outcome, inner), *end.arms[number + 1 :])
                yield replace(block, end=replace(end, arms=arms))
    elif isinstance(end, Loop):
        for inner in _damaged(end.body):
            yield replace(block, end=replace(end, body=inner))


def _require(program: Program, block: Block) -> None:
    require_wellformed(block, (item.ref for item in program.inputs))


def test_what_merging_builds_is_well_formed(program: Program) -> None:

    assert program.block is not None
    assert isinstance(program.block.end, Loop)
    _require(program, program.block)


def test_a_graph_that_lacks_a_value_is_refused(program: Program) -> None:
    assert program.block is not None
    damaged = list(_damaged(program.block))

    assert len(damaged) >= 10
    for block in damaged:
        with pytest.raises(MalformedError):
            _require(program, block)


def test_a_way_into_another_region_is_refused(program: Program) -> None:
    assert program.block is not None
    loop: Any = program.block.end
    inside = Block((), Goto(loop.head, loop.start.values, loop.start.checks))
    block = replace(program.block, end=replace(loop, exits=((loop.exits[0][0], inside),)))

    with pytest.raises(MalformedError, match="from elsewhere"):
        _require(program, block)


def test_a_carried_value_that_nobody_brings_is_refused(program: Program) -> None:
    assert program.block is not None
    loop: Any = program.block.end
    start = Goto(loop.head, loop.start.values[:-1], loop.start.checks[:-1])

    with pytest.raises(MalformedError, match="too little"):
        _require(program, replace(program.block, end=replace(loop, start=start)))
