"""Places in traces that are walked side by side, and what their values are in the program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from janus_lite.errors import Site
from janus_lite.program.alike import Unmergeable
from janus_lite.program.regions import Block, Cut, Goto
from janus_lite.program.states import Path, are_alike, follow, paths_of, require_same_states, walk
from janus_lite.record.outputs import Built
from janus_lite.record.torch_table import VIEWS, name_of
from janus_lite.record.trace import (
    Mark,
    MarkKind,
    Operation,
    OperationKind,
    Ref,
    State,
    Trace,
    refs_in,
)

# Operations whose result may be a view of their first argument.
_LOOKS = VIEWS | frozenset(
    """
    __getitem__ select narrow unbind chunk split tensor_split unsafe_chunk unfold diagonal detach
    real imag view_as_real view_as_complex as_strided contiguous to type_as float double half
    adjoint mH H expand_dims atleast_1d atleast_2d atleast_3d ravel swapaxes hsplit vsplit dsplit
    """.split()
)
_TRIED_ROUNDS = 2  # rounds of a loop that may differ from the rest
OPERATION, EFFECT, END = "an operation", "an effect", "the end"  # no label of a loop


class Variables:
    """A cut while the program is built: which paths became variables."""

    def __init__(self, label: str) -> None:
        self.cut = Cut(label)
        self.paths: list[Path] = []
        self.gotos: list[tuple[Goto, list[Cursor]]] = []
        self.is_built = False  # whoever goes to the cut has passed it

    def extent(self) -> tuple[int, list[int]]:
        """How far it is built: its paths, and for each way what that way already brings along."""
        return len(self.paths), [len(goto.values) for goto, _ in self.gotos]

    def truncate(self, extent: tuple[int, list[int]]) -> None:
        """Forget what is later than that."""
        paths, brought = extent
        del self.paths[paths:], self.cut.variables[paths:], self.gotos[len(brought) :]
        # A way may have been told of an earlier path since, in terms of later ones.
        for (goto, _), count in zip(self.gotos, brought, strict=True):
            del goto.values[count:], goto.checks[count:]


@dataclass(frozen=True, slots=True, eq=False)
class Exits:
    """The ways out of a loop: a cut to go to, and what runs after the loop then."""

    label: str
    ways: list[tuple[Cut, Block]]


@dataclass(frozen=True, slots=True, eq=False)
class Stop:
    """A mark at which a block ends.

    Attributes:
        mark: in the cursor's trace.
        target: where the block then goes.
        before: the cursor as it was where the region began.
        depth: how many loops are around the mark.
    """

    mark: Mark
    target: Variables | Exits
    before: Cursor
    depth: int


@dataclass(slots=True)
class Scope:
    """A cut that a cursor has passed, and what its trace had at hand there."""

    variables: Variables
    state: State
    paths: dict[int, list[Path]]
    lists: dict[int, Path]  # lists that are of different length on different ways, by their ids
    is_mixed: bool  # the ways differ in which outside memory their tensors share


class Cursor:
    """A place in one trace."""

    __slots__ = (
        "appended",
        "defined",
        "effect",
        "loops",
        "mark",
        "position",
        "scopes",
        "skipped",
        "stops",
        "trace",
        "values",
    )

    def __init__(self, trace: Trace, values: dict[int, int]) -> None:
        self.trace = trace
        self.values = values
        self.position = 0
        self.mark = 0
        self.effect = 0
        self.scopes: tuple[Scope, ...] = ()
        self.stops: tuple[Stop, ...] = ()
        self.loops: tuple[Exits, ...] = ()  # the rolled loops around, outermost first
        self.skipped: frozenset[int] = frozenset()  # loops that are not to be rolled
        self.defined = _definitions(trace)
        self.appended: dict[int, tuple[Any, ...]] = {}  # what lists of any length hold by now

    def copy(self) -> Cursor:
        """A cursor at the same place that goes its own way."""
        new = object.__new__(Cursor)
        new.trace, new.defined = self.trace, self.defined
        new.values, new.appended = dict(self.values), dict(self.appended)
        new.position, new.mark, new.effect = self.position, self.mark, self.effect
        new.scopes, new.stops, new.skipped = self.scopes, self.stops, self.skipped
        new.loops = self.loops
        return new

    @property
    def site(self) -> Site | None:
        """A line of the user's program nearby."""
        operations = self.trace.operations
        return operations[min(self.position, len(operations) - 1)].site if operations else None

    @property
    def at(self) -> Mark:
        """The mark that the cursor stands at."""
        return self.trace.marks[self.mark]

    @property
    def operation(self) -> Operation:
        """The next operation."""
        return self.trace.operations[self.position]

    @property
    def at_cut(self) -> State:
        """What the trace had at hand at the mark just passed."""
        return self.trace.marks[self.mark - 1].state

    def enter(self, scope: Scope, outer: tuple[Scope, ...]) -> None:
        """Go on behind a cut."""
        self.scopes = (*outer, scope)
        for identity in scope.lists:
            self.appended.pop(identity, None)

    def is_number(self, ref: Ref) -> bool:
        """Whether a value is a Python number."""
        made = self.defined.get(ref.index)
        return made is not None and self.trace.operations[made].kind is OperationKind.NUMBER

    def event(self) -> Variables | Exits | str:
        """What comes next: the end of the block, a loop, an operation, the end of the trace."""
        marks, effects = self.trace.marks, self.trace.effects
        while self.mark < len(marks) and marks[self.mark].position <= self.position:
            mark = marks[self.mark]
            if self.effect < mark.effects:
                return EFFECT
            for stop in self.stops:
                if stop.mark is mark:
                    return stop.target
            if mark.kind is MarkKind.HEAD and mark.region not in self.skipped:
                return mark.label
            self.mark += 1
        if self.effect < len(effects) and effects[self.effect].position <= self.position:
            return EFFECT
        return OPERATION if self.position < len(self.trace.operations) else END

    def loops_left(self) -> tuple[Exits, ...]:
        """The loops that end where the cursor stands, at the end of a block."""
        depth = next(s.depth for s in self.stops if s.mark is self.at)
        return self.loops[depth:]

    def joins_ahead(self) -> dict[str, Mark]:
        """Where the decision about to be made may come together again, from the inside out."""
        found: dict[str, Mark] = {}
        for mark in self.trace.marks[self.mark :]:
            if any(stop.mark is mark for stop in self.stops):
                break  # the block ends there
            if mark.since <= self.position < mark.position and mark.kind is MarkKind.JOIN:
                found.setdefault(mark.label, mark)
        return found

    def unroll(self) -> None:
        """Go past a loop's head; after two rounds, past all of them."""
        mark = self.at
        self.mark += 1
        tried = [m for m in self.trace.marks[: self.mark] if _is_head(m, mark.region)]
        if len(tried) > _TRIED_ROUNDS:
            self.skipped |= {mark.region}

    def pass_mark(self) -> tuple[State, Cursor]:
        """Go past the mark that ended a block: the state there, the cursor before the region."""
        mark = self.at
        before = next(s.before for s in self.stops if s.mark is mark)
        self.mark += 1
        if mark.state.failure is not None:
            raise Unmergeable(mark.state.failure)
        return mark.state, before


def shared_labels(joins: Sequence[dict[str, Mark]], ways: Sequence[object]) -> list[str]:
    """Labels of cuts that at least two ways pass, from the inside out."""
    passing: dict[str, set[object]] = {}
    for found, way in zip(joins, ways, strict=True):
        for label in found:
            passing.setdefault(label, set()).add(way)
    return [label for label, by in passing.items() if len(by) > 1]


def _is_head(mark: Mark, region: int) -> bool:
    return mark.kind is MarkKind.HEAD and mark.region == region


def rounds(
    entering: Cursor, head: Variables, out: Variables | Exits, exits: Exits, usual: State
) -> list[Cursor]:
    """A cursor for each round of the loop at which `entering` stands, which passes its head.

    Where the head finds another kind of state than usual, the round before it goes on.
    """
    region, marks = entering.at.region, entering.trace.marks
    heads = [n for n in range(entering.mark, len(marks)) if _is_head(marks[n], region)]
    looked = entering.trace.looked
    heads = [n for n in heads if n == entering.mark or are_alike(usual, marks[n].state, looked)]
    ends = [m for m in marks if m.kind is MarkKind.EXIT and m.region == region]
    rounds = []
    for number, later in zip(heads, [*heads[1:], None], strict=True):
        state = marks[number].state
        if state.failure is not None:
            raise Unmergeable(state.failure)
        one = entering.copy()
        one.position, one.mark = marks[number].position, number + 1
        one.effect = marks[number].effects
        one.loops = (*entering.loops, exits)
        stops = [Stop(m, out, entering, len(one.loops)) for m in ends]
        if later is not None:
            stops.append(Stop(marks[later], head, entering, len(one.loops)))
        one.stops = (*one.stops, *stops)
        one.skipped |= {region}
        rounds.append(one)
    entering.mark += 1
    return rounds


def _definitions(trace: Trace) -> dict[int, int]:
    """For each value the position of the operation that makes it."""
    known = {i.ref.index for i in trace.inputs}
    made: dict[int, int] = {}
    for position, operation in enumerate(trace.operations):
        for ref in refs_in(operation.output):
            if ref.index not in known:
                known.add(ref.index)
                made[ref.index] = position
    return made


def _shared(cursor: Cursor, state: State) -> object:
    """Which outside memory the tensors at a cut share."""
    return tuple(
        (path, tuple(cursor.values.get(r.index) for r in state.tensors[ref].shares))
        for name, plan in state.names.items()
        for path, ref in walk(plan, (name,), set())
        if ref in state.tensors
    )


def scopes(variables: Variables, cursors: Sequence[Cursor], states: Sequence[State]) -> list[Scope]:
    """What each cursor has at hand behind a cut.

    Raises:
        Unmergeable: Python code could tell the ways apart.
    """
    looked = frozenset().union(*(c.trace.looked for c in cursors))
    grown = require_same_states(states, looked)
    is_mixed = len({_shared(c, s) for c, s in zip(cursors, states, strict=True)}) > 1
    scopes = []
    for state in states:
        lists = {state.identities[id(follow(state, path))]: path for path in reversed(grown)}
        scopes.append(Scope(variables, state, paths_of(state, grown), lists, is_mixed))
    return scopes


def require_owned_changes(cursor: Cursor, before: Cursor, state: State) -> None:
    """What a region changed in place is an outside tensor, its own, or at hand at the cut."""
    outside = {i.ref for i in cursor.trace.inputs}
    for position in range(before.position, cursor.position):
        operation = cursor.trace.operations[position]
        if not operation.mutates:
            continue
        for ref in refs_in(operation.args):
            base = _base_tensor(cursor, ref)
            made = cursor.defined.get(base.index, -1)
            if made < before.position and base not in outside and base not in state.tensors:
                raise Unmergeable("changes a tensor in place that no name here leads to")


def _base_tensor(cursor: Cursor, ref: Ref) -> Ref:
    """The tensor that a view looks at."""
    while ref.index in cursor.defined:
        operation = cursor.trace.operations[cursor.defined[ref.index]]
        if name_of(operation.target) not in _LOOKS or not isinstance(operation.args[0], Ref):
            break
        ref = operation.args[0]
    return ref


def explanations(cursor: Cursor, ref: Ref) -> list[tuple[Any, ...]]:
    """What a value of a trace may be in the program, best first."""
    found: list[tuple[Any, ...]] = []
    known = cursor.values.get(ref.index)
    if known is not None:
        found.append((None, known))
    for scope in reversed(cursor.scopes):
        found += [(scope.variables, path) for path in scope.paths.get(ref.index, ())]
    return found


def items_of(value: Any) -> tuple[Any, ...]:
    """Elements of a list, or of the plan of one."""
    return value.items if isinstance(value, Built) else tuple(value)


def base_of(cursor: Cursor, identity: Any) -> Any:
    """The variable that holds a list of any length, and what it holds; `None` for other lists."""
    for scope in reversed(cursor.scopes):
        if identity in scope.lists:
            path = scope.lists[identity]
            plan: Any = follow(scope.state, path)
            known = cursor.appended.get(identity, plan.items)
            return scope.variables, path, known
    return None
