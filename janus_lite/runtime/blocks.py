"""Graphs with control flow -> Python `if` and `while` around straight-line bodies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
    is_exhaustive,
    operations_of,
    refs_of,
    uses_of,
    uses_of_end,
)
from janus_lite.record.effects import Effect
from janus_lite.record.trace import Operation, Ref, refs_in

_INDENT = "    "
Lines = list[str]


@dataclass(slots=True)
class _Join:
    """Where the arms of a branch that is being emitted meet again.

    Attributes:
        cut: that point.
        flag: the variable that says that a way has passed it by, where one does.
    """

    cut: Cut
    flag: str | None = None


class BlockEmitter:
    """Emits one program.

    Args:
        operation: the lines of an operation.
        effect: the lines that put an effect off until the end.
        decision: the expression of an operation that gives a host value.
        is_equal: the expression that compares the text of a host value with a value.
        fail: the statement that calls the replay off at an operation.
        value: the expression of an operand.
        ending: the lines that commit the effects and return the output.
        kept: values that live for the whole replay.
    """

    def __init__(
        self,
        *,
        operation: Callable[[Operation], Lines],
        effect: Callable[[Effect], Lines],
        decision: Callable[[Operation], str],
        is_equal: Callable[[str, object], str],
        fail: Callable[[Operation], str],
        value: Callable[[Any], str],
        ending: Callable[[Return], Lines],
        kept: set[int],
    ) -> None:
        self._operation = operation
        self._effect = effect
        self._decision = decision
        self._is_equal = is_equal
        self._fail = fail
        self._value = value
        self._ending = ending
        self._kept = kept
        self._ways: dict[Cut, str] = {}
        self._loops = 0
        self._joins: tuple[_Join, ...] = ()
        self._passed_by = 0

    def block(self, block: Block, live: set[int]) -> Lines:
        """The lines of a block; values in `live` are used afterwards."""
        needed = uses_of_end(block.end) | live | self._kept
        last: dict[int, int] = {}
        for position, step in enumerate(block.operations):
            last.update(dict.fromkeys((ref.index for ref in refs_of(step)), position))
        lines: Lines = []
        site = None
        for position, step in enumerate(block.operations):
            if step.site != site:
                site = step.site
                lines.append(f"# {site}")
            lines += self._step(step)
            dead = sorted(v for v, p in last.items() if p == position and v not in needed)
            if dead:
                lines.append(f"del {', '.join(f'v{v}' for v in dead)}")
        return lines + self._end(block.end, live) or ["pass"]

    def _step(self, step: Step) -> Lines:
        return self._operation(step) if isinstance(step, Operation) else self._effect(step)

    def _end(self, end: End, live: set[int]) -> Lines:
        if isinstance(end, Return):
            return self._ending(end)
        if isinstance(end, Goto):
            lines = self._assign(end)
            way = self._ways.get(end.cut)
            return [*lines, way] if way is not None else [*lines, *self._pass_by(end.cut)]
        if isinstance(end, Branch):
            return self._branch(end, live)
        return self._loop(end, live)

    def _assign(self, goto: Goto) -> Lines:
        """Give the variables of a cut what this way brings along."""
        lines = [line for checks in goto.checks for step in checks for line in self._step(step)]
        moved = []
        for variable, value in zip(goto.cut.variables, goto.values, strict=True):
            if isinstance(value, Grown) and value.base is not None:
                base = self._value(value.base)
                lines += [f"{base}.append({self._value(e)})" for e in value.elements]
            name, new = f"v{variable.index}", self._new(value)
            if name != new:
                moved.append((name, new))
        if moved:
            lines.append(f"{', '.join(n for n, _ in moved)} = {', '.join(v for _, v in moved)}")
        return lines

    def _new(self, value: object) -> str:
        if isinstance(value, Grown):
            elements = f"[{', '.join(map(self._value, value.elements))}]"
            return elements if value.base is None else self._value(value.base)
        return self._value(value)

    def _pass_by(self, cut: Cut) -> Lines:
        """Skip what stands behind the branches between here and a cut further on."""
        lines = []
        for join in reversed(self._joins):
            if join.cut is cut:
                break
            if join.flag is None:
                self._passed_by += 1
                join.flag = f"is_passed{self._passed_by}"
            lines.append(f"{join.flag} = True")
        return lines

    def _branch(self, branch: Branch, live: set[int]) -> Lines:
        """A decision and its arms, then what all the arms go on with that meet again.

        An arm may also lead past that, to where a branch around this one meets again.
        """
        if branch.cut is None or branch.then is None:
            return self._arms(branch, live)
        join, outer = _Join(branch.cut), self._joins
        self._joins = (*outer, join)
        lines = self._arms(branch, live | uses_of(branch.then))
        self._joins = outer
        then = self.block(branch.then, live)
        if join.flag is None:
            return [*lines, *then]
        return [f"{join.flag} = False", *lines, f"if not {join.flag}:", *_indent(then)]

    def _arms(self, branch: Branch, after: set[int]) -> Lines:
        operation = branch.operation
        lines = [f"# {operation.site}"]
        if is_exhaustive(branch):
            arms = dict(branch.arms)
            lines.append(f"if {self._decision(operation)}:")
            lines += _indent(self.block(arms[True], after))
            lines.append("else:")
            lines += _indent(self.block(arms[False], after))
        else:
            lines.append(f"decision = {self._decision(operation)}")
            word = "if"
            for outcome, arm in branch.arms:
                lines.append(f"{word} {self._is_equal('decision', outcome)}:")
                lines += _indent(self.block(arm, after))
                word = "elif"
            lines += ["else:", f"{_INDENT}{self._fail(operation)}"]
        return lines

    def _loop(self, loop: Loop, live: set[int]) -> Lines:
        self._loops += 1
        after = live.union(*(uses_of(block) for _, block in loop.exits))
        made = {r.index for o in operations_of(loop.body) for r in _made(o)}
        around = (uses_of(loop.body) - made) | after
        name = f"way{self._loops}"
        self._ways[loop.head] = "continue"
        has_ways = len(loop.exits) > 1
        for number, (cut, _) in enumerate(loop.exits):
            self._ways[cut] = f"{name} = {number}; break" if has_ways else "break"
        lines = [*self._assign(loop.start), "while True:"]
        joins, self._joins = self._joins, ()  # a way out of the loop is a `break`
        lines += _indent(self.block(loop.body, around))
        self._joins = joins
        if not has_ways:
            return lines + [line for _, block in loop.exits for line in self.block(block, live)]
        for number, (_, block) in enumerate(loop.exits):
            lines.append(f"{'elif' if number else 'if'} {name} == {number}:")
            lines += _indent(self.block(block, live))
        return lines


def _made(operation: Operation) -> set[Ref]:
    """New values of an operation: one that works in place hands back what it got."""
    return set(refs_in(operation.output)) - set(refs_in([operation.args, operation.kwargs]))


def _indent(lines: Sequence[str]) -> Lines:
    return [f"{_INDENT}{line}" for line in lines]
