"""Traces -> one graph with control flow.

All traces of a function are walked side by side. While they do the same the operations are the
program's; where a decision of data sent them different ways the program branches. Note [Canonical
values] says when they may be joined again.

Note [Canonical values]
    Each trace numbers its values in its own way. While walking, a `Cursor` knows for each value of
    its trace which value of the program it is. Behind a cut (the end of an `if`, the head of a
    loop) values made inside the region have no single counterpart: there the program knows only
    what the live names held (`State`), so that a use of such a value is a use of a *variable* of
    the cut: of a path such as `h` or `state[1]` that leads to the value in every trace walked.
    A use that several paths explain in every trace is taken for one of them, under the assertion
    that they are one object. A use that none explains keeps the ways apart (tail duplication).
"""

from __future__ import annotations

import logging
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from janus_lite.program.alike import Unmergeable, equal_lengths, key, require_alike, same
from janus_lite.program.cursors import (
    EFFECT,
    END,
    OPERATION,
    Cursor,
    Exits,
    Stop,
    Variables,
    base_of,
    explanations,
    items_of,
    require_owned_changes,
    rounds,
    scopes,
    shared_labels,
)
from janus_lite.program.effects import is_settled
from janus_lite.program.merged_plans import Plans
from janus_lite.program.regions import Block, Branch, Cut, Goto, Grown, Loop, Return, Step
from janus_lite.program.states import Path, follow
from janus_lite.record.effects import Effect, HostCall, Store
from janus_lite.record.outputs import Built
from janus_lite.record.source import Source, key_of
from janus_lite.record.trace import UNPLACED, Input, Mark, Operation, OperationKind, Ref, Trace

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_BUDGET = 200_000  # operations compared, for one program
_ATTEMPTS = 1_000  # cuts tried
_MOST_OUTCOMES = 4  # of one decision by a `float`, a list, ...


@dataclass(frozen=True, slots=True, eq=False)
class Merged:
    """Several traces as one graph.

    Attributes:
        block: the graph.
        inputs: of all traces, each outside place once.
    """

    block: Block
    inputs: tuple[Input, ...]


def merge(traces: Sequence[Trace]) -> Merged:
    """Build one program of several runs of a function, all made under equal assumptions.

    Raises:
        Unmergeable: the runs differ in more than what their decisions explain.
    """
    return _Builder(traces).build()


class _Builder:
    def __init__(self, traces: Sequence[Trace]) -> None:
        self._steps, self._attempts = _BUDGET, _ATTEMPTS
        self._operations: list[Step] = []
        self._inputs: dict[object, Input] = {}
        self._traces = traces
        self._cuts: list[Variables] = []
        self._loops: list[Exits] = []
        self._next = 0

    def build(self) -> Merged:
        for trace in self._traces:
            if trace.spoiled is not None:
                raise Unmergeable(trace.spoiled)
        cursors = [Cursor(t, self._input_values(t)) for t in self._traces]
        return Merged(self._block(cursors), tuple(self._inputs.values()))

    def _input_values(self, trace: Trace) -> dict[int, int]:
        values: dict[int, int] = {}
        for item in trace.inputs:
            key = key_of(item.source)
            found = self._inputs.get(key)
            if found is None:
                found = self._inputs[key] = replace(item, ref=self._new())
            values[item.ref.index] = found.ref.index
        return values

    def _new(self) -> Ref:
        self._next += 1
        return Ref(self._next - 1)

    # ----------------------------------------------------------------- blocks

    def _block(self, cursors: list[Cursor]) -> Block:
        outer, self._operations = self._operations, []
        try:
            while True:
                event = same([c.event() for c in cursors], "the ways end in different places")
                if event == END:
                    return self._ended(self._return(cursors))
                if isinstance(event, Variables):
                    return self._ended(self._arrive(event, cursors))
                if isinstance(event, Exits):
                    return self._ended(self._exit(event, cursors))
                if event == EFFECT:
                    self._operations.append(self._effect(cursors))
                elif event != OPERATION:
                    loop = self._loop_or_none(cursors)
                    if loop is not None:
                        return self._ended(loop)
                elif self._is_decided(cursors):
                    return self._ended(self._branch(cursors))
                else:
                    self._operations.append(self._operation(cursors))
        finally:
            self._operations = outer

    def _arrive(self, cut: Variables, cursors: list[Cursor]) -> Goto:
        """The way to a cut; out of the loops that end on the way, one after the other."""
        goto = Goto(cut.cut)
        cut.gotos.append((goto, cursors))
        left = [c.loops_left() for c in cursors]
        same([tuple(map(id, loops)) for loops in left], "the ways leave other loops")
        for exits in left[0]:
            way = Cut(exits.label)
            exits.ways.append((way, Block((), goto)))
            goto = Goto(way)
        return goto

    def _ended(self, end: Any) -> Block:
        return Block(tuple(self._operations), end)

    def _is_decided(self, cursors: Sequence[Cursor]) -> bool:
        """Whether the next operation sends the cursors different ways."""
        operations = [c.operation for c in cursors]
        if any(o.kind is not OperationKind.ASSERT for o in operations):
            return False
        return len({key(o.expected) for o in operations}) > 1

    def _return(self, cursors: Sequence[Cursor]) -> Return:
        return Return(self._plan(cursors, [c.trace.output for c in cursors]))

    # ------------------------------------------------------------- operations

    def _operation(self, cursors: Sequence[Cursor], *, is_decision: bool = False) -> Operation:
        """The program's operation for the next one of each cursor, which then move on."""
        self._steps -= len(cursors)
        if self._steps < 0:
            raise Unmergeable("there are too many ways to compare")
        found = [c.operation for c in cursors]
        first = found[0]
        if first.mutates and any(s.is_mixed for c in cursors for s in c.scopes):
            raise Unmergeable("what is changed in place may be an outside tensor on one way only")
        for other in found[1:]:
            require_alike(first, other, is_decision=is_decision)
        merged = replace(
            first,
            args=self._operands(cursors, [o.args for o in found]),
            kwargs=self._operands(cursors, [o.kwargs for o in found]),
            written=self._operands(cursors, [o.written for o in found]),
            placement=UNPLACED,
        )
        output = self._output(cursors, [o.output for o in found])
        for cursor in cursors:
            cursor.position += 1
        return replace(merged, output=output)

    def _output(self, cursors: Sequence[Cursor], outputs: Sequence[Any]) -> Any:
        first = outputs[0]
        if isinstance(first, Ref):
            is_new = [
                c.defined.get(o.index) == c.position for c, o in zip(cursors, outputs, strict=True)
            ]
            if not same(is_new, "an operation gives a value that is there already"):
                return self._operand(cursors, outputs)
            made = self._new()
            for cursor, output in zip(cursors, outputs, strict=True):
                if cursor.values.setdefault(output.index, made.index) != made.index:
                    raise Unmergeable("an operation gives one value twice")
            return made
        if isinstance(first, tuple):
            same([len(o) for o in outputs], "an operation gives more or fewer values")
            return tuple(self._output(cursors, parts) for parts in zip(*outputs, strict=True))
        return first

    def _operands(self, cursors: Sequence[Cursor], values: Sequence[Any]) -> Any:
        """The program's operand for one operand of each cursor."""
        first = values[0]
        if any(isinstance(v, Ref) for v in values):
            return self._operand(cursors, values)
        same([type(v) for v in values], "operands differ in class")
        if isinstance(first, Source):
            same([key_of(v) for v in values], "numbers from different places")
            return first
        if type(first) in (list, tuple):
            whole = self._whole_list(cursors, values)
            if whole is not None:
                return whole
            parts = zip(*equal_lengths(values), strict=True)
            return type(first)(self._operands(cursors, p) for p in parts)
        if isinstance(first, dict):
            same([tuple(v) for v in values], "operands differ in keys")
            return {k: self._operands(cursors, [v[k] for v in values]) for k in first}
        if isinstance(first, slice):
            ends = [(v.start, v.stop, v.step) for v in values]
            return slice(*self._operands(cursors, ends))
        same([key(v) for v in values], "an operand differs")
        return first

    def _operand(self, cursors: Sequence[Cursor], refs: Sequence[Any]) -> Any:
        """The program's value for one value of each cursor; see Note [Canonical values]."""
        if not all(isinstance(r, Ref) for r in refs):
            raise Unmergeable("an operand is of the graph on one way only")
        common = explanations(cursors[0], refs[0])
        for cursor, ref in zip(cursors[1:], refs[1:], strict=True):
            theirs = set(explanations(cursor, ref))
            common = [e for e in common if e in theirs]
        if not common:
            raise Unmergeable("a value of one way has no name that leads to it")
        chosen, *others = [self._explained(e) for e in common]
        for other in others:
            if not self._is_asserted(chosen, other):
                self._operations.append(_identity_check(chosen, other, cursors[0], refs[0]))
        return chosen

    def _is_asserted(self, one: Ref, other: Ref) -> bool:
        """Whether the block has already asserted that two values are one."""
        return any(
            isinstance(o, Operation) and o.target in _IDENTITIES and o.args == (one, other)
            for o in self._operations
        )

    def _whole_list(self, cursors: Sequence[Cursor], values: Sequence[Any]) -> Ref | None:
        """The variable that holds a list of any length, where the values are that list."""
        identities = [c.trace.lists.get(id(v)) for c, v in zip(cursors, values, strict=True)]
        bases = [base_of(c, i) for c, i in zip(cursors, identities, strict=True)]
        if all(b is None for b in bases):
            return None
        grown = self._grown(cursors, identities, [items_of(v) for v in values])
        assert grown.base is not None
        for element in grown.elements:
            self._operations.append(_append(grown.base, element, cursors[0]))
        for cursor, identity, value in zip(cursors, identities, values, strict=True):
            assert identity is not None
            cursor.appended[identity] = items_of(value)
        return grown.base

    def _grown(
        self, cursors: Sequence[Cursor], identities: Sequence[Any], items: Sequence[Any]
    ) -> Grown:
        """A list of any length: the variable that holds it, and what is new since."""
        bases = [base_of(c, i) for c, i in zip(cursors, identities, strict=True)]
        owner = same([b and b[:2] for b in bases], "a list comes from different places")
        added = []
        for base, one in zip(bases, items, strict=True):
            known = () if base is None else base[2]
            if one[: len(known)] != known:
                raise Unmergeable("a list of any length is changed otherwise than by `append`")
            added.append(one[len(known) :])
        elements = zip(*equal_lengths(added), strict=True)
        operands = tuple(self._operand(cursors, e) for e in elements)
        return Grown(None if owner is None else self._explained(owner), operands)

    def _explained(self, explanation: tuple[Any, ...]) -> Ref:
        owner, place = explanation
        if owner is None:
            return Ref(place)
        if place not in owner.paths:
            owner.paths.append(place)
            owner.cut.variables.append(self._new())
        variable: Ref = owner.cut.variables[owner.paths.index(place)]
        return variable

    # --------------------------------------------------------------- branches

    def _branch(self, cursors: list[Cursor]) -> Branch:
        joins = [c.joins_ahead() for c in cursors]
        decision = self._operation(cursors, is_decision=True)
        found = [(c, c.trace.operations[c.position - 1].expected) for c in cursors]
        arms: dict[object, list[Cursor]] = {}
        for cursor, expected in found:
            arms.setdefault(key(expected), []).append(cursor)
        outcomes = {key(expected): expected for _, expected in found}
        if len(outcomes) > _MOST_OUTCOMES and not all(type(o) in (int, bool) for _, o in found):
            raise Unmergeable("a value decides that is another one each time")
        for label in shared_labels(joins, [key(expected) for _, expected in found]):
            marks = [j.get(label) for j in joins]
            build = partial(self._joined, decision, arms, outcomes, cursors, marks, label)
            joined = self._attempt(build)
            if joined is not None:
                return joined
        return Branch(decision, tuple((outcomes[k], self._block(g)) for k, g in arms.items()))

    def _attempt(self, build: Callable[[], _T]) -> _T | None:
        """What `build` gives; `None`, and nothing changed, where it cannot be built."""
        self._attempts -= 1
        if self._attempts < 0:
            return None
        before = [v.extent() for v in self._cuts]
        ways = [len(exits.ways) for exits in self._loops]
        count = len(self._operations)
        try:
            return build()
        except Unmergeable as error:
            _log.debug("not joined: %s", error)
            del self._cuts[len(before) :], self._loops[len(ways) :], self._operations[count:]
            for exits, number in zip(self._loops, ways, strict=True):
                del exits.ways[number:]
            for variables, extent in zip(self._cuts, before, strict=True):
                variables.truncate(extent)
            return None

    def _joined(
        self,
        decision: Operation,
        arms: dict[object, list[Cursor]],
        outcomes: dict[object, object],
        cursors: Sequence[Cursor],
        marks: Sequence[Mark | None],
        label: str,
    ) -> Branch:
        variables = self._cut(label)
        copies = {id(c): c.copy() for c in cursors}
        for cursor, mark in zip(cursors, marks, strict=True):
            if mark is not None:
                copy = copies[id(cursor)]
                copy.stops = (*copy.stops, Stop(mark, variables, cursor, len(cursor.loops)))
        blocks = [
            (outcomes[key], self._block([copies[id(c)] for c in group]))
            for key, group in arms.items()
        ]
        if len(variables.gotos) < 2:
            raise Unmergeable("one way alone goes on")
        then = self._after(variables)
        return Branch(decision, tuple(blocks), variables.cut, then)

    def _after(self, variables: Variables) -> Block:
        """What runs after a cut; the ways that go to it are told what to bring along."""
        arrived = [c for _, group in variables.gotos for c in group]
        block = self._block(self._past(variables, arrived))
        self._settle()
        return block

    def _past(self, variables: Variables, arrived: Sequence[Cursor]) -> list[Cursor]:
        """Cursors behind a cut, for those that arrived there."""
        passed = [c.pass_mark() for c in arrived]
        variables.is_built = True
        behind = scopes(variables, arrived, [state for state, _ in passed])
        then = []
        for cursor, (state, before), scope in zip(arrived, passed, behind, strict=True):
            require_owned_changes(cursor, before, state)
            new = cursor.copy()
            new.values = dict(before.values)
            new.stops, new.loops = before.stops, before.loops
            new.enter(scope, before.scopes)
            then.append(new)
        return then

    def _cut(self, label: str) -> Variables:
        variables = Variables(label)
        self._cuts.append(variables)
        return variables

    def _settle(self) -> None:
        """Tell every way what to bring along; that may call for more variables of earlier cuts."""
        is_settled = False
        while not is_settled:
            is_settled = True
            for variables in self._cuts:
                if not variables.is_built:
                    continue
                for goto, group in variables.gotos:
                    while len(goto.values) < len(variables.paths):
                        is_settled = False
                        self._bring(goto, group, variables.paths[len(goto.values)])

    def _bring(self, goto: Goto, group: Sequence[Cursor], path: Path) -> None:
        """Tell one way what to bring along for a variable, and what to assert of it."""
        plans: list[Any] = [follow(c.at_cut, path) for c in group]
        checks: list[Step] = []
        outer, self._operations = self._operations, checks
        try:
            if isinstance(plans[0], Built):
                pairs = zip(group, plans, strict=True)
                identities = [c.at_cut.identities[id(p)] for c, p in pairs]
                value: object = self._grown(group, identities, [p.items for p in plans])
            else:
                value = self._operand(group, plans)
        finally:
            self._operations = outer
        goto.values.append(value)
        goto.checks.append(tuple(checks))

    # ------------------------------------------------------------------ loops

    def _loop_or_none(self, cursors: list[Cursor]) -> Loop | None:
        """The loop whose head the cursors stand at; `None` when this round is to be unrolled."""
        for are_exits_joined in (True, False):
            loop = self._attempt(partial(self._loop, cursors, are_exits_joined=are_exits_joined))
            if loop is not None:
                return loop
        for cursor in cursors:
            cursor.unroll()
        return None

    def _loop(self, cursors: Sequence[Cursor], *, are_exits_joined: bool) -> Loop:
        label = cursors[0].at.label
        head = self._cut(label)
        joined = self._cut(label) if are_exits_joined else None
        exits = Exits(label, [])
        self._loops.append(exits)
        entering = [c.copy() for c in cursors]
        start = Goto(head.cut)
        head.gotos.append((start, entering))
        usual = cursors[0].at.state
        turns = [r for c in entering for r in rounds(c, head, joined or exits, exits, usual)]
        states = [r.trace.marks[r.mark - 1].state for r in turns]
        for one, scope in zip(turns, scopes(head, turns, states), strict=True):
            one.enter(scope, one.scopes)
        body = self._block(turns)
        if len(head.gotos) < 2:
            raise Unmergeable("no round of the loop was seen")
        self._close(head)
        if joined is not None:
            if len(joined.gotos) < 1:
                raise Unmergeable("no way leads out of the loop")
            exits.ways.append((joined.cut, self._after(joined)))
        self._settle()
        return Loop(head.cut, start, body, tuple(exits.ways))

    def _close(self, head: Variables) -> None:
        """The ways that go back to a loop's head have passed it."""
        for _, group in head.gotos[1:]:  # the first one enters
            for cursor in group:
                state, before = cursor.pass_mark()
                require_owned_changes(cursor, before, state)
        head.is_built = True

    def _exit(self, exits: Exits, cursors: list[Cursor]) -> Goto:
        """A way out of a loop that goes on by itself."""
        cut = Cut(exits.label)
        for cursor in cursors:
            _, before = cursor.pass_mark()
            cursor.stops, cursor.loops = before.stops, before.loops
        exits.ways.append((cut, self._block(cursors)))
        return Goto(cut)

    # ------------------------------------------------------------------ plans

    def _plan(self, cursors: Sequence[Cursor], plans: Sequence[Any]) -> Any:
        """The program's plan for one plan of each cursor."""
        return self._plans(cursors).plan(plans)

    def _plans(self, cursors: Sequence[Cursor]) -> Plans:
        return Plans(partial(self._operand, cursors), partial(self._whole_list, cursors))

    def _effect(self, cursors: Sequence[Cursor]) -> Effect:
        """The program's effect for the next one of each cursor, which then move on."""
        effects = [c.trace.effects[c.effect] for c in cursors]
        for cursor in cursors:
            cursor.effect += 1
        first = effects[0]
        same([type(e) for e in effects], "effects differ")
        planner = self._plans(cursors)
        if isinstance(first, HostCall):
            calls = [e for e in effects if isinstance(e, HostCall)]
            same([c.function for c in calls], "host calls differ")
            same([tuple(c.kwargs) for c in calls], "host calls differ")
            args = zip(*equal_lengths([c.args for c in calls]), strict=True)
            kwargs = {k: planner.plan([c.kwargs[k] for c in calls]) for k in first.kwargs}
            return replace(first, args=tuple(map(planner.plan, args)), kwargs=kwargs)
        stores = [e for e in effects if isinstance(e, Store)]
        if not all(is_settled(s) for s in stores):
            raise Unmergeable("an object that was stored goes on changing")
        same([(s.kind, key_of(s.owner)) for s in stores], "stores differ")
        same([key(s.key) for s in stores], "stores differ")
        values = zip(*equal_lengths([s.values for s in stores]), strict=True)
        return replace(first, values=tuple(map(planner.plan, values)), early=())


def _append(base: Ref, element: object, cursor: Cursor) -> Operation:
    """`base.append(element)` of a list of the program."""
    return Operation(list.append, (base, element), {}, None, site=cursor.site)


def _identity_check(one: Ref, other: Ref, cursor: Cursor, ref: Ref) -> Operation:
    """The assertion that two values are one object, or one number."""
    return Operation(
        same_number if cursor.is_number(ref) else operator.is_,
        (one, other),
        {},
        None,
        OperationKind.ASSERT,
        expected=True,
        site=cursor.site,
    )


def same_number(one: float, other: float) -> bool:
    """Whether two numbers cannot be told apart."""
    return repr(one) == repr(other)  # tells -0.0 from 0.0 and 1 from 1.0, NaN equals NaN


_IDENTITIES = (operator.is_, same_number)
