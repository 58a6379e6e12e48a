"""The recorder: run a schedule in any order it allows, on memory that punishes mistakes.

In: a `Schedule`. Out: an `Executable` that behaves like eager if, and only if, the schedule is
right. It needs no GPU and is the double of one in the tests.

Every tensor that a task makes lives at its planned offset of one shared arena. Each launch is
two events: at START its results are poisoned, at END the real kernel runs and its results are
copied into place. Between the two, any other stream may run. An adversary picks what happens
next among everything that stream order, events and waits allow. A missing wait, a lifetime that
is too short or two slots that overlap therefore change results, and a run can be repeated from
its seed. The happens-before checker stays the judge: values cannot show a race on a dead result.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import torch

from nimble_lite.backends.straight import callable_of
from nimble_lite.errors import ScheduleError, StaleValueError
from nimble_lite.plan.arena import ArenaPlan
from nimble_lite.plan.planner import Schedule
from nimble_lite.plan.schedule import Launch, Program, Record, Step, Wait
from nimble_lite.tasks.alias import bytes_of
from nimble_lite.tasks.graph import Ref, StorageKind, Task, TaskGraph, TensorMeta, map_leaves

POISONS = (0xFF, 0x00)
"""NaN, -1 and True; or zero, which alone shows a race that a mask or a comparison hides."""


class Move(NamedTuple):
    """One thing that could happen next: a launch starts or ends."""

    task: int
    is_end: bool


class Adversary(Protocol):
    """Picks one of the legal moves."""

    def pick(self, moves: Sequence[Move]) -> int:
        """Return the index of the move to make; `moves` is never empty."""


class RandomOrder:
    """Every legal move is equally likely."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - an order to test, not a secret

    def pick(self, moves: Sequence[Move]) -> int:
        """Pick at random."""
        return self._rng.randrange(len(moves))


class RandomPriorities:
    """Every start and every end has a random priority: long, unfair detours are likely."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)  # noqa: S311 - an order to test, not a secret
        self._priority: dict[Move, float] = {}

    def pick(self, moves: Sequence[Move]) -> int:
        """Pick the most urgent move."""
        for move in moves:
            if move not in self._priority:
                self._priority[move] = self._rng.random()
        return max(range(len(moves)), key=lambda index: self._priority[moves[index]])


class Delay:
    """Holds one move back for as long as any other is possible, the rest at random."""

    def __init__(self, delayed: Move, seed: int = 0) -> None:
        self._delayed = delayed
        self._rng = random.Random(seed)  # noqa: S311 - an order to test, not a secret

    def pick(self, moves: Sequence[Move]) -> int:
        """Pick anything else if there is anything else."""
        others = [index for index, move in enumerate(moves) if move != self._delayed]
        return self._rng.choice(others) if others else 0


def adversary(seed: int) -> Adversary:
    """Alternate between uniform and priority-driven orders."""
    return RandomOrder(seed) if seed % 2 else RandomPriorities(seed)


class RecorderExecutable:
    """Runs a program under an adversary; each run takes the next seed.

    Args:
        schedule: what to run.
        program: instead of the schedule's own; for tests that break it.
        arena: instead of the schedule's own; for tests that break it.
        seed: of the first run.
        opponent: instead of the one that the seed gives.
    """

    has_frozen_kernels = False

    def __init__(
        self,
        schedule: Schedule,
        *,
        program: Program | None = None,
        arena: ArenaPlan | None = None,
        seed: int = 0,
        opponent: Adversary | None = None,
    ) -> None:
        self._graph = schedule.graph
        self._program = schedule.program if program is None else program
        self._arena = schedule.arena if arena is None else arena
        self._constants = {c.value: c.tensor for c in self._graph.constants}
        self.pinned = frozenset(self._constants)
        self._opponent = opponent
        self.seed = seed

    def run(self, inputs: Sequence[torch.Tensor]) -> Sequence[torch.Tensor]:
        """Run once, in an order of the adversary's choice."""
        values = sorted({leaf.value for leaf in self._graph.inputs if isinstance(leaf, Ref)})
        outside = dict(zip(values, inputs, strict=True)) | self._constants
        poison = POISONS[self.seed // 2 % len(POISONS)]
        memory = _Memory(self._graph, self._arena, outside, poison)
        _interleave(self._program, memory, self._opponent or adversary(self.seed))
        self.seed += 1
        return memory.outputs()

    def rebind(self, constants: Mapping[int, torch.Tensor]) -> None:
        """Use other tensors for some constants."""
        self._constants.update(constants)

    def close(self) -> None:
        """Let go of the constants."""
        self._constants = {}


def _interleave(program: Program, memory: _Memory, opponent: Adversary) -> None:
    """Run all streams to their ends, one move at a time."""
    streams = max((step.stream for step in program), default=-1) + 1
    queues: list[list[Step]] = [[] for _ in range(streams)]
    for step in program:
        if not isinstance(step, Launch) or not memory.graph.tasks[step.task].is_zero:
            queues[step.stream].append(step)
    for queue in queues:
        queue.reverse()
    running: list[int | None] = [None] * streams
    fired: set[int] = set()
    while moves := _legal_moves(queues, running, fired):
        stream, move = moves[opponent.pick([move for _, move in moves])]
        if move.is_end:
            memory.end(move.task)
            running[stream] = None
        else:
            memory.start(move.task)
            queues[stream].pop()
            running[stream] = move.task
    if any(queues):
        raise ScheduleError(
            "NL0301",
            what="a schedule waits for an event that is never recorded",
            found=str([queue[-1] for queue in queues if queue]),
            hint="check the program with nimble_lite.plan.races.find_races",
        )


def _legal_moves(
    queues: Sequence[list[Step]], running: Sequence[int | None], fired: set[int]
) -> list[tuple[int, Move]]:
    """What each stream could do next: end what runs, or start what comes."""
    _pass_events(queues, running, fired)
    moves: list[tuple[int, Move]] = []
    for stream, queue in enumerate(queues):
        task = running[stream]
        if task is not None:
            moves.append((stream, Move(task, is_end=True)))
        elif queue and isinstance(queue[-1], Launch):
            moves.append((stream, Move(queue[-1].task, is_end=False)))
    return moves


def _pass_events(
    queues: Sequence[list[Step]], running: Sequence[int | None], fired: set[int]
) -> None:
    """Let idle streams run over records, drops, and waits whose event has fired."""
    is_moving = True
    while is_moving:
        is_moving = False
        for stream, queue in enumerate(queues):
            while queue and running[stream] is None and not isinstance(queue[-1], Launch):
                step = queue[-1]
                if isinstance(step, Wait) and step.event not in fired:
                    break
                if isinstance(step, Record):
                    fired.add(step.event)
                queue.pop()
                is_moving = True


class _Memory:
    """The arena and every tensor on it, for one run."""

    def __init__(
        self,
        graph: TaskGraph,
        arena: ArenaPlan,
        outside: Mapping[int, torch.Tensor],
        poison: int,
    ) -> None:
        self.graph = graph
        self._outside = outside
        self._poison = poison
        self._bytes = torch.full((arena.nbytes,), poison, dtype=torch.uint8)
        # Storage number -> its bytes, and where they begin relative to the recorded ones.
        self._places: dict[int, tuple[torch.UntypedStorage, int]] = {}
        for value, tensor in outside.items():
            meta = graph.values[value]
            shift = (int(tensor.storage_offset()) - meta.offset) * meta.dtype.itemsize
            self._places[meta.storage] = (tensor.untyped_storage(), shift)
        for number, storage in enumerate(graph.storages):
            if storage.kind is StorageKind.BORN:
                offset = arena.offsets.get(number, 0)
                self._places[number] = (self._bytes.untyped_storage(), offset)

    def start(self, task: int) -> None:
        """Poison what the task will make."""
        for number in self.graph.tasks[task].births:
            self._slot(number).fill_(self._poison)

    def end(self, number: int) -> None:
        """Run the kernel on what the arena holds now and put its results into place."""
        task = self.graph.tasks[number]
        # Within one call a value is one object: kernels ask whether query *is* key.
        seen: dict[int, torch.Tensor] = {}
        args, kwargs = map_leaves(
            (task.args, task.kwargs),
            lambda leaf: self._argument(leaf, seen) if isinstance(leaf, Ref) else leaf,
        )
        result = callable_of(task)(*args, **kwargs)
        for path, value in task.results:
            meta = self.graph.values[value]
            if meta.storage in task.births:
                found = result
                for key in path:
                    found = found[key]
                _require_same_layout(task, meta, found)
                slot = self._slot(meta.storage)
                slot.copy_(bytes_of(found)[: slot.numel()])

    def outputs(self) -> list[torch.Tensor]:
        """Tensors for the caller: own memory, shared among them as in eager."""
        copies: dict[int, torch.Tensor] = {}
        found: list[torch.Tensor] = []
        for leaf in self.graph.outputs:
            if not isinstance(leaf, Ref):
                continue
            meta = self.graph.values[leaf.value]
            if leaf.value in self._outside:
                found.append(self._outside[leaf.value])
            elif self.graph.storages[meta.storage].kind is not StorageKind.BORN:
                found.append(self._tensor(leaf.value))
            else:
                if meta.storage not in copies:
                    copies[meta.storage] = self._slot(meta.storage).clone()
                found.append(tensor_on(copies[meta.storage].untyped_storage(), meta, 0))
        return found

    def _argument(self, ref: Ref, seen: dict[int, torch.Tensor]) -> torch.Tensor:
        if ref.value not in seen:
            seen[ref.value] = self._tensor(ref.value)
        return seen[ref.value]

    def _tensor(self, value: int) -> torch.Tensor:
        if value in self._outside:
            return self._outside[value]
        meta = self.graph.values[value]
        storage, offset = self._places[meta.storage]
        return tensor_on(storage, meta, offset)

    def _slot(self, number: int) -> torch.Tensor:
        _, offset = self._places[number]
        return self._bytes[offset : offset + self.graph.storages[number].nbytes]


def tensor_on(storage: torch.UntypedStorage, meta: TensorMeta, byte_offset: int) -> torch.Tensor:
    """Make a tensor with recorded metadata on given bytes."""
    empty = torch.empty(0, dtype=meta.dtype, device=storage.device)
    offset = meta.offset + byte_offset // meta.dtype.itemsize
    return empty.set_(storage, offset, meta.shape, meta.stride).requires_grad_(meta.requires_grad)


def _require_same_layout(task: Task, meta: TensorMeta, found: torch.Tensor) -> None:
    if (found.dtype, tuple(found.shape), tuple(found.stride())) != (
        meta.dtype,
        meta.shape,
        meta.stride,
    ):
        raise StaleValueError(
            "NL0206",
            what=f"{task.name} at {task.origin} returned another layout",
            found=f"{found.dtype} {list(found.shape)} stride {list(found.stride())}",
            expected=str(meta),
            hint="call the function itself for such inputs",
        )
