"""The threads backend: streams as worker threads of the CPU, with real overlap.

In: a `Schedule` made from `thread_scope`. Out: an `Executable`; opt-in, because it pays only
where tasks take tens of microseconds and torch's own intra-op threads find nothing to share.

Stream 0 is the calling thread; every other stream is a worker that waits for its next run.
Each stream is a generated straight-line function. An event is one lock per waiter, held until
it is recorded: recording releases it, waiting acquires it, which arms it for the next run.

Note [Bits depend on the number of threads]
    Some kernels split their sums by the number of intra-op threads. Every worker therefore runs
    with the caller's number, checked at the start of each run.

Note [Nobody waits for ever]
    A stream that raises sets a flag and releases every lock. Whoever wakes up looks at the flag
    and stops. The caller waits for all workers, then raises what was raised first.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch

from nimble_lite.backends.straight import Names, compile_source, task_lines
from nimble_lite.plan.planner import Schedule
from nimble_lite.plan.schedule import (
    FORK,
    Drop,
    Launch,
    Record,
    Step,
    Wait,
    argument_values,
    output_values,
)
from nimble_lite.tasks.graph import Ref


class _Abandoned(Exception):  # noqa: N818 - a signal between threads, not an error
    """Another stream failed; this one stops."""


@dataclass(slots=True)
class _Run:
    """One call: what the workers need to know."""

    inputs: Sequence[torch.Tensor]
    cells: list[Any]
    intra_op: int
    is_inference: bool


@dataclass(slots=True)
class _Crew:
    """What caller and workers share. Workers hold this, never the executable."""

    streams: list[Callable[..., None]]
    go: list[threading.Lock]
    done: list[threading.Lock]
    run: _Run | None = None
    failures: list[BaseException] = field(default_factory=list)
    release_all: Callable[[], None] = lambda: None
    is_closed: bool = False


class ThreadsExecutable:
    """Runs each stream of a schedule on a thread of its own.

    Args:
        schedule: planned with `thread_scope`, so that host order is enforced by events too.
    """

    has_frozen_kernels = False

    def __init__(self, schedule: Schedule) -> None:
        self._graph = schedule.graph
        self._plan = _StreamSources(schedule)
        self._constants = {c.value: c.tensor for c in self._graph.constants}
        self.pinned = frozenset(self._constants)
        self._inputs = sorted({i.value for i in self._graph.inputs if isinstance(i, Ref)})
        self._mutex = threading.Lock()
        count = schedule.plan.streams
        self._crew = _Crew(
            streams=[],
            go=[_held_lock() for _ in range(count)],
            done=[_held_lock() for _ in range(count)],
        )
        self._arm()
        for stream in range(1, count):
            threading.Thread(
                target=_work, args=(self._crew, stream), name=f"nimble-stream-{stream}", daemon=True
            ).start()
        self._finalizer = weakref.finalize(self, _dismiss, self._crew)

    @property
    def source(self) -> str:
        """The generated functions, one per stream."""
        return self._plan.source

    def run(self, inputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Run once; calls from several threads take turns."""
        with self._mutex:
            crew = self._crew
            cells: list[Any] = [None] * len(self._plan.cells)
            crew.run = _Run(
                inputs=inputs,
                cells=cells,
                intra_op=torch.get_num_threads(),
                is_inference=torch.is_inference_mode_enabled(),
            )
            for lock in crew.go[1:]:
                lock.release()
            _run_stream(crew, 0)
            for lock in crew.done[1:]:
                lock.acquire()
            crew.run = None
            if crew.failures:
                self._raise_first()
            outside = dict(zip(self._inputs, inputs, strict=True)) | self._constants
            slots = self._plan.cells
            return [
                outside[value] if value in outside else cells[slots[value]]
                for value in output_values(self._graph)
            ]

    def rebind(self, constants: Mapping[int, torch.Tensor]) -> None:
        """Use other tensors for some constants."""
        self._constants.update(constants)
        self._arm()

    def close(self) -> None:
        """End the workers."""
        self._finalizer()

    def _arm(self) -> None:
        """Bind the functions to fresh locks and to the constants."""
        locks = [_held_lock() for _ in range(self._plan.lock_count)]
        failures: list[BaseException] = []
        self._crew.failures = failures
        self._crew.streams = self._plan.bind(self._constants, locks, failures, _Abandoned)
        self._crew.release_all = lambda: _release(locks)

    def _raise_first(self) -> None:
        error = self._crew.failures[0]
        self._arm()
        raise error


def _held_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


def _release(locks: Sequence[threading.Lock]) -> None:
    for lock in locks:
        # Open already, or opened by another stream right now: both are what is wanted.
        with suppress(RuntimeError):
            lock.release()


def _work(crew: _Crew, stream: int) -> None:
    while True:
        crew.go[stream].acquire()
        if crew.is_closed:
            return
        try:
            _run_stream(crew, stream)
        finally:
            crew.done[stream].release()


def _run_stream(crew: _Crew, stream: int) -> None:
    run = crew.run
    failures = crew.failures
    if run is None:
        return
    try:
        if torch.get_num_threads() != run.intra_op:
            # See Note [Bits depend on the number of threads].
            torch.set_num_threads(run.intra_op)
        with torch.inference_mode(run.is_inference), torch.no_grad():
            crew.streams[stream](run.inputs, run.cells)
    except _Abandoned:
        return
    except BaseException as error:
        failures.append(error)
        crew.release_all()


def _dismiss(crew: _Crew) -> None:
    if not crew.is_closed:
        crew.is_closed = True
        for lock in crew.go[1:]:
            lock.release()


class _StreamSources:
    """The generated functions of all streams and what they share.

    Attributes:
        source: text of the module.
        cells: slot of each value that crosses streams or is returned.
        lock_count: one lock for each wait.
    """

    def __init__(self, schedule: Schedule) -> None:
        self._graph = schedule.graph
        self._makers = _first_streams(schedule)
        self._steps = [
            [step for step in schedule.program if step.stream == stream]
            for stream in range(schedule.plan.streams)
        ]
        self.cells = {value: slot for slot, value in enumerate(self._crossing_values())}
        self._locks = _locks_of_events(schedule)
        self.lock_count = sum(len(locks) for locks in self._locks.values())
        self._names = Names()
        bodies = [self._stream_lines(stream) for stream in range(len(self._steps))]
        self.source = self._module_text(bodies)
        self._bind = compile_source(self.source, "threads")

    def bind(
        self,
        constants: Mapping[int, torch.Tensor],
        locks: Sequence[threading.Lock],
        failures: Sequence[BaseException],
        abandoned: type[Exception],
    ) -> list[Callable[..., None]]:
        """Return one function per stream, taking the inputs and the cells."""
        streams: list[Callable[..., None]] = self._bind(
            constants, locks, failures, abandoned, **self._names.objects
        )
        return streams

    def _crossing_values(self) -> list[int]:
        crossing = {v for v in output_values(self._graph) if v in self._makers}
        for stream, steps in enumerate(self._steps):
            for step in steps:
                if isinstance(step, Launch):
                    crossing |= self._foreign(step, stream)
        return sorted(crossing)

    def _foreign(self, step: Launch, stream: int) -> set[int]:
        """Arguments that another stream made and this one does not make itself."""
        values = argument_values(self._graph.tasks[step.task])
        return {v for v in values if v in self._makers and stream not in self._makers[v]}

    def _stream_lines(self, stream: int) -> list[str]:
        steps = self._steps[stream]
        last = self._last_uses(steps)
        bound: set[int] = set()
        lines: list[str] = []
        for index, step in enumerate(steps):
            match step:
                case Launch(_, number):
                    task = self._graph.tasks[number]
                    for value in sorted(self._foreign(step, stream) - bound):
                        lines.append(f"v{value} = cells[{self.cells[value]}]")
                        bound.add(value)
                    lines += task_lines(task, self._names)
                    bound.update(value for _, value in task.results)
                    lines += [
                        f"cells[{self.cells[value]}] = v{value}"
                        for _, value in task.results
                        if value in self.cells
                    ]
                    dead = [value for value in last[index] if value in bound]
                    bound.difference_update(dead)
                    lines += [f"del {', '.join(f'v{value}' for value in dead)}"] if dead else []
                case Record(_, event):
                    lines += [f"locks[{lock}].release()" for lock in self._locks.get(event, ())]
                case Wait(_, event) if event != FORK:
                    lines.append(f"locks[{self._locks[event][self._turn(step)]}].acquire()")
                    lines.append("if failures: raise abandoned")
                case Drop(_, _, values):
                    slots = [self.cells[value] for value in values if value in self.cells]
                    lines += [f"cells[{slot}] = None" for slot in slots]
                case _:
                    continue
        return lines or ["pass"]

    def _turn(self, wait: Wait) -> int:
        """Which of the locks of an event belongs to this wait."""
        waits = [s for steps in self._steps for s in steps if isinstance(s, Wait)]
        same = [s for s in waits if s.event == wait.event]
        return next(index for index, s in enumerate(same) if s is wait)

    def _last_uses(self, steps: Sequence[Step]) -> list[list[int]]:
        """Values that a stream no longer names after each of its steps."""
        last: dict[int, int] = {}
        for index, step in enumerate(steps):
            if isinstance(step, Launch):
                task = self._graph.tasks[step.task]
                for value in task.values:
                    if value in self._makers:
                        last[value] = index
        dead: list[list[int]] = [[] for _ in steps]
        for value, index in last.items():
            dead[index].append(value)
        return dead

    def _module_text(self, bodies: Sequence[Sequence[str]]) -> str:
        graph = self._graph
        inputs = sorted({leaf.value for leaf in graph.inputs if isinstance(leaf, Ref)})
        objects = "".join(f", {name}" for name in self._names.objects)
        lines = [f"def bind(constants, locks, failures, abandoned{objects}):"]
        lines += [f"    v{c.value} = constants[{c.value}]" for c in graph.constants]
        for stream, body in enumerate(bodies):
            lines.append(f"    def stream_{stream}(inputs, cells):")
            if inputs:
                lines.append(f"        {', '.join(f'v{value}' for value in inputs)}, = inputs")
            lines += [f"        {line}" for line in body]
        names = ", ".join(f"stream_{stream}" for stream in range(len(bodies)))
        return "\n".join([*lines, f"    return [{names}]", ""])


def _first_streams(schedule: Schedule) -> dict[int, set[int]]:
    """Streams on which each value is made; views can be made on several."""
    makers: dict[int, set[int]] = {}
    for step in schedule.program:
        if isinstance(step, Launch):
            for _, value in schedule.graph.tasks[step.task].results:
                makers.setdefault(value, set()).add(step.stream)
    return makers


def _locks_of_events(schedule: Schedule) -> dict[int, list[int]]:
    """Numbers of the locks of each event: one for each wait, in program order by stream."""
    locks: dict[int, list[int]] = {}
    number = 0
    for stream in range(schedule.plan.streams):
        for step in schedule.program:
            if isinstance(step, Wait) and step.stream == stream and step.event != FORK:
                locks.setdefault(step.event, []).append(number)
                number += 1
    return locks
