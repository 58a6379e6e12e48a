"""A schedule: one flat program of launches, events and drops, and how it is built.

In: a `TaskGraph` and a `StreamPlan`. Out: a `Schedule`, a frozen value with a text form.
Invariants: host order is respected by the order of the program, device order by streams and
waits; a stream is forked before anything happens on it and joined at the end; a reference is
dropped only where its home stream has waited for every user of the bytes
(Note [References die by clock]).

Note [References die by clock]
    A caching allocator hands freed bytes to the stream that allocated them, at once and without
    asking other streams. Dropping the last reference when the last *launch* was issued, as a
    Python program does, is therefore a race: a reader on another stream may not have run. Here a
    storage is dropped when its home stream is known, by vector clock, to come after every user.
    A later drop is always safe, an earlier one never.

Example of a program's text:
    s0 record fork
    s0 launch conv2d
    s0 record conv2d
    s1 wait fork
    s1 wait conv2d
    s1 launch relu
    s1 record join 1
    s0 wait join 1
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from nimble_lite.plan.streams import StreamPlan, StreamProblem
from nimble_lite.tasks.cost import Cost
from nimble_lite.tasks.graph import Ref, StorageKind, Task, TaskGraph, references

FORK = -1
"""Event that the origin records before everything else; a task's own event is its id."""


def join_event(stream: int) -> int:
    """Event by which a side stream tells the origin that it is done."""
    return -2 - stream


@dataclass(frozen=True, slots=True)
class Launch:
    """Run a task on a stream: a kernel, or the host work of a zero task."""

    stream: int
    task: int


@dataclass(frozen=True, slots=True)
class Record:
    """Record an event after all work issued to the stream so far."""

    stream: int
    event: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Let all later work of the stream wait for an event."""

    stream: int
    event: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Give up the values on one storage; its bytes may be used again by the stream."""

    stream: int
    storage: int
    values: tuple[int, ...]


Step = Launch | Record | Wait | Drop
Program = tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scope:
    """The tasks that are placed on streams, and the edges between them, densely numbered.

    Attributes:
        members: task ids, ascending; place in this tuple is the planner's number.
        hazards: predecessors that the stream must wait for.
        host: predecessors that must have been issued before, hazards included.
    """

    members: tuple[int, ...]
    hazards: tuple[tuple[int, ...], ...]
    host: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HappensBefore:
    """Which launch is complete before which other starts, exactly as the program enforces it.

    Attributes:
        position: place of each launched task on its stream, from 1.
        stream_of: its stream.
        clock: for each launched task, how many launches of each stream are complete before it.
    """

    position: Mapping[int, int]
    stream_of: Mapping[int, int]
    clock: Mapping[int, tuple[int, ...]]

    def ordered(self, u: int, v: int) -> bool:
        """Tell whether task `u` is complete before task `v` starts."""
        return self.clock[v][self.stream_of[u]] >= self.position[u]

    def matrix(self, tasks: Sequence[int]) -> npt.NDArray[np.bool_]:
        """`matrix[i, j]`: whether `tasks[i]` is complete before `tasks[j]` starts."""
        clocks = np.array([self.clock[v] for v in tasks], dtype=np.int64)
        streams = [self.stream_of[u] for u in tasks]
        positions = np.array([self.position[u] for u in tasks])
        if not len(tasks):
            return np.zeros((0, 0), dtype=np.bool_)
        ordered: npt.NDArray[np.bool_] = positions[:, None] <= clocks[:, streams].T
        return ordered


def device_scope(graph: TaskGraph) -> Scope:
    """Kernel tasks, ordered by hazards: for devices that run what one host thread issues."""
    members = graph.kernel_tasks
    return Scope(members=members, hazards=graph.hazards, host=_contract(graph, members))


def thread_scope(graph: TaskGraph) -> Scope:
    """Every task but pure views, ordered by host edges too: for streams that are threads.

    A thread cannot even name a tensor that another thread has not made yet.
    """
    members = tuple(task.id for task in graph.tasks if not is_pure_view(graph, task))
    edges = _contract(graph, members)
    return Scope(members=members, hazards=edges, host=edges)


def is_pure_view(graph: TaskGraph, task: Task) -> bool:
    """Tell whether running a zero task twice does no harm: it only makes views."""
    if not task.is_zero or task.births:
        return False
    inside = {graph.values[value].storage for _, value in task.results}
    # `t_` and the like return the very object that they changed; `__getitem__` does not.
    name = getattr(task.target, "__name__", "_")
    return bool(inside) and (name.endswith("__") or not name.endswith("_"))


def _contract(graph: TaskGraph, members: Sequence[int]) -> tuple[tuple[int, ...], ...]:
    """Host edges between members, through the tasks in between."""
    number = {task: index for index, task in enumerate(members)}
    through: list[frozenset[int]] = []
    edges: list[tuple[int, ...]] = []
    for task, sources in enumerate(graph.host):
        reached: set[int] = set()
        for source in sources:
            reached |= {number[source]} if source in number else through[source]
        through.append(frozenset() if task in number else frozenset(reached))
        if task in number:
            edges.append(tuple(sorted(reached)))
    return tuple(edges)


def stream_problem(
    graph: TaskGraph, scope: Scope, costs: Sequence[Cost], sync_us: float
) -> StreamProblem:
    """State the planning problem of a scope; `costs` belong to `graph.kernel_tasks`."""
    cost_of = dict(zip(graph.kernel_tasks, costs, strict=True))
    tainted = _tasks_that_need_inputs(graph)
    return StreamProblem.from_edges(
        scope.hazards,
        host=scope.host,
        cost_us=[cost_of[task].us if task in cost_of else 0.0 for task in scope.members],
        is_foldable=[task not in tainted for task in scope.members],
        sync_us=sync_us,
    )


def _tasks_that_need_inputs(graph: TaskGraph) -> set[int]:
    tainted = {
        number for number, storage in enumerate(graph.storages) if storage.kind is StorageKind.INPUT
    }
    tasks: set[int] = set()
    for task in graph.tasks:
        if task.reads & tainted or task.tokens:
            tasks.add(task.id)
            tainted |= task.writes
    return tasks


def build_program(graph: TaskGraph, scope: Scope, plan: StreamPlan) -> Program:
    """Turn a plan into steps: fork, waits, lazily issued views, launches, drops, joins."""
    return _Builder(graph, scope, plan).build()


class _Builder:
    """Emits steps in launch order and keeps the clocks that decide drops and joins."""

    def __init__(self, graph: TaskGraph, scope: Scope, plan: StreamPlan) -> None:
        self._graph = graph
        self._scope = scope
        self._plan = plan
        self._members = set(scope.members)
        self._steps: list[Step] = []
        self._forked = {0}
        self._issued: set[int] = set()
        # A view is issued once, or once per stream where streams are threads.
        self._per_stream = scope.hazards is scope.host

    def build(self) -> Program:
        plan, members = self._plan, self._scope.members
        awaited: dict[int, list[int]] = {}
        for wait in plan.waits:
            awaited.setdefault(wait.task, []).append(wait.on)
        recorded = {wait.on for wait in plan.waits}
        if plan.streams > 1:
            self._steps.append(Record(0, FORK))
        for number in plan.order:
            task, stream = members[number], plan.stream_of[number]
            self._fork(stream)
            self._steps += [Wait(stream, members[u]) for u in awaited.get(number, ())]
            self._issue_views(task, stream)
            self._steps.append(Launch(stream, task))
            if number in recorded:
                self._steps.append(Record(stream, task))
        self._join()
        self._issue_rest()
        return _with_drops(self._graph, tuple(self._steps))

    def _fork(self, stream: int) -> None:
        if stream not in self._forked:
            self._forked.add(stream)
            self._steps.append(Wait(stream, FORK))

    def _issue_views(self, task: int, stream: int) -> None:
        """Issue the zero tasks that a launch needs, oldest first, on its own stream."""
        needed: set[int] = set()
        stack = [task]
        while stack:
            for source in self._graph.host[stack.pop()]:
                if source not in self._members and source not in needed:
                    needed.add(source)
                    stack.append(source)
        for zero in sorted(needed):
            key = zero if not self._per_stream else zero * self._plan.streams + stream
            if key not in self._issued:
                self._issued.add(key)
                self._steps.append(Launch(stream, zero))

    def _join(self) -> None:
        """Let the origin wait for every stream whose end no other stream has waited for."""
        clocks = _Clocks(self._steps)
        for step in self._steps:
            clocks.advance(step)
        now = clocks.now
        for stream in sorted(self._forked - {0}):
            end = now[stream][stream]
            if not any(now[s][stream] >= end for s in self._forked if s != stream):
                self._steps.append(Record(stream, join_event(stream)))
                self._steps.append(Wait(0, join_event(stream)))

    def _issue_rest(self) -> None:
        """Views that no kernel needs are outputs: issue them on the origin, after the joins."""
        zeros = [task.id for task in self._graph.tasks if task.id not in self._members]
        launched = {step.task for step in self._steps if isinstance(step, Launch)}
        self._steps += [Launch(0, zero) for zero in zeros if zero not in launched]


class _Clocks:
    """Vector clocks of all streams while a program runs.

    A task that is launched several times (views in threads) is dated by its first launch.
    Waiting for an event that was never recorded orders nothing.
    """

    def __init__(self, program: Sequence[Step]) -> None:
        count = max((step.stream for step in program), default=0) + 1
        self.now = [(0,) * count for _ in range(count)]
        self._events: dict[int, tuple[int, ...]] = {}
        self._launched: set[int] = set()

    def advance(self, step: Step) -> bool:
        """Run one step; True for the first launch of a task."""
        now = self.now[step.stream]
        match step:
            case Launch(stream, task) if task not in self._launched:
                self._launched.add(task)
                self.now[stream] = (*now[:stream], now[stream] + 1, *now[stream + 1 :])
                return True
            case Record(_, event):
                self._events[event] = now
            case Wait(stream, event) if event in self._events:
                self.now[stream] = tuple(map(max, now, self._events[event]))
            case _:
                pass
        return False


def happens_before(program: Sequence[Step]) -> HappensBefore:
    """Date every launch of a program by what is complete before it."""
    clocks = _Clocks(program)
    position: dict[int, int] = {}
    stream_of: dict[int, int] = {}
    clock: dict[int, tuple[int, ...]] = {}
    for step in program:
        before = clocks.now[step.stream]
        if clocks.advance(step) and isinstance(step, Launch):
            position[step.task] = before[step.stream] + 1
            stream_of[step.task], clock[step.task] = step.stream, before
    return HappensBefore(position=position, stream_of=stream_of, clock=clock)


def _with_drops(graph: TaskGraph, program: Program) -> Program:
    """Insert a drop after the first step at which a storage is dead on host and device."""
    pending = _storages_to_drop(graph, program, happens_before(program))
    waiting: dict[int, list[_Lifetime]] = {}
    clocks = _Clocks(program)
    steps: list[Step] = []
    for index, step in enumerate(program):
        steps.append(step)
        clocks.advance(step)
        lives = pending.get(index, ())
        for life in lives:
            waiting.setdefault(life.home, []).append(life)
        homes = {life.home for life in lives}
        if isinstance(step, Wait):
            homes.add(step.stream)
        for home in sorted(homes):
            steps += _drop_dead(waiting, home, clocks.now[home])
    return tuple(steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lifetime:
    storage: int
    home: int
    values: tuple[int, ...]
    needed: tuple[tuple[int, int], ...]


def _drop_dead(
    waiting: dict[int, list[_Lifetime]], stream: int, now: tuple[int, ...]
) -> list[Step]:
    dead: list[Step] = []
    alive: list[_Lifetime] = []
    for life in waiting.get(stream, ()):
        if all(now[other] >= position for other, position in life.needed):
            dead.append(Drop(stream, life.storage, life.values))
        else:
            alive.append(life)
    waiting[stream] = alive
    return dead


def _next_dated_launch(program: Program, order: HappensBefore) -> dict[int, int | None]:
    """For each repeated launch of a view, the launch after it on its stream that has a date."""
    following: dict[int, int | None] = {}
    after: dict[int, int | None] = {}
    seen = {step.task: i for i, step in reversed(list(enumerate(program)))
            if isinstance(step, Launch)}  # fmt: skip
    for index in range(len(program) - 1, -1, -1):
        step = program[index]
        if isinstance(step, Launch):
            if seen[step.task] == index and order.stream_of[step.task] == step.stream:
                after[step.stream] = step.task
            else:
                following[index] = after.get(step.stream)
    return following


def _storages_to_drop(
    graph: TaskGraph, program: Program, order: HappensBefore
) -> dict[int, list[_Lifetime]]:
    """Lifetimes by the step after which Python no longer needs the values of the storage."""
    values_of: dict[int, list[int]] = {}
    for value, meta in enumerate(graph.values):
        values_of.setdefault(meta.storage, []).append(value)
    last_use: dict[int, int] = {}
    users: dict[int, set[int]] = {}
    kept: set[int] = set()
    following = _next_dated_launch(program, order)
    for index, step in enumerate(program):
        if not isinstance(step, Launch):
            continue
        task = graph.tasks[step.task]
        named = {graph.values[value].storage for value in task.values}
        last_use.update(dict.fromkeys(named, index))
        dated = following.get(index, step.task)
        if dated is None:
            kept |= named
            continue
        # A zero task uses the object, if not the bytes: its thread must be done with it too.
        for number in named | task.touches:
            users.setdefault(number, set()).add(dated)
    lifetimes: dict[int, list[_Lifetime]] = {}
    for number, storage in enumerate(graph.storages):
        is_alive = storage.is_output or number in kept
        if storage.birth is None or is_alive or number not in last_use:
            continue
        latest: dict[int, int] = {}
        for user in users[number]:
            stream = order.stream_of[user]
            latest[stream] = max(latest.get(stream, 0), order.position[user])
        life = _Lifetime(
            storage=number,
            home=order.stream_of[storage.birth],
            values=tuple(values_of[number]),
            needed=tuple(latest.items()),
        )
        lifetimes.setdefault(last_use[number], []).append(life)
    return lifetimes


def program_text(program: Program, graph: TaskGraph) -> str:
    """One line per step, readable and comparable."""

    def event(number: int) -> str:
        if number >= 0:
            return graph.tasks[number].name
        return "fork" if number == FORK else f"join {-2 - number}"

    lines = []
    for step in program:
        match step:
            case Launch(stream, task):
                lines.append(f"s{stream} launch {graph.tasks[task].name}")
            case Record(stream, number):
                lines.append(f"s{stream} record {event(number)}")
            case Wait(stream, number):
                lines.append(f"s{stream} wait {event(number)}")
            case Drop(stream, storage, _):
                lines.append(f"s{stream} drop storage {storage}")
    return "\n".join(lines)


def output_values(graph: TaskGraph) -> tuple[int, ...]:
    """Values that are returned."""
    return tuple(leaf.value for leaf in graph.outputs if isinstance(leaf, Ref))


def argument_values(task: Task) -> tuple[int, ...]:
    """Values that a task takes."""
    return tuple(ref.value for ref in references((task.args, task.kwargs)))
